// net.Server over a listener on a far host.

import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import { getDefaultHighWaterMark } from 'node:stream';

import { abandoned, errnoException, listenException, nodeError, type SystemError } from '../errors';
import type { SocketError } from '../gen/farsock/v1/call';
import type { AcceptedEvent, Event } from '../gen/farsock/v1/event';
import type { SocketOption } from '../gen/farsock/v1/option';
import { DeliveryMode, HalfOpenPolicy } from '../gen/farsock/v1/socket';
import { ANSWER_TIMEOUT, type Host } from '../host';
import type { AgentError } from '../rpc/status';
import type { Session, Subscriber } from '../session';
import { type Address, join, lookUp, show } from './address';
import { invalidType, isPipeName, normalizeArgs, notFar, toNumber, validateNumber, validatePort } from './args';
import { flag } from './option';
import type { Accepted, FarSocket, SocketOptions } from './socket';

/** How many connections may wait to be accepted where the caller does not say: Node's number. */
const BACKLOG = 511;

/** What new net.Server() takes. */
export interface ServerOptions {
  allowHalfOpen?: boolean;
  pauseOnConnect?: boolean;
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
  highWaterMark?: number;
}

/** Makes the sockets of accepted connections. */
export type Accept = (options: SocketOptions, accepted: Accepted) => FarSocket;

/** Where to listen: on `host`, or on whatever Node means without one. */
interface Where {
  host: string | undefined;
  port: number;
  backlog: number;
  ipv6Only: boolean;
}

/** A listener from the moment on in which it is asked for. */
interface Listener {
  session?: Session;
  socketId?: string;
  /** Once it listens. */
  local?: Address;
  /** The server was closed, or the listener is gone. */
  closed: boolean;
  /** The highest number of a connection of which an event has told. Events tell of them in order. */
  told: number;
  /** Connections that were taken and may be told of again: by a list that is on its way, or by an event that a list was faster than. */
  readonly taken: Set<number>;
  /** Lists that are on their way. */
  lists: number;
}

/** A server on a far host. */
export class FarServer extends EventEmitter {
  maxConnections: number | undefined;
  allowHalfOpen: boolean;
  pauseOnConnect: boolean;
  noDelay: boolean;
  keepAlive: boolean;
  keepAliveInitialDelay: number;
  highWaterMark: number;
  readonly #host: Host;
  readonly #accept: Accept;
  #listener: Listener | null = null;
  /** Its connections that are open, by their names on the far host. */
  readonly #open = new Set<string>();
  /** Closes that the agent has not answered yet. */
  #closing = 0;
  #held = true;

  constructor(host: Host, accept: Accept, options?: ServerOptions | Listening, listener?: Listening) {
    super();
    this.#host = host;
    this.#accept = accept;
    if (typeof options === 'function') this.on('connection', options);
    else if (options != null && typeof options !== 'object') throw invalidType('options', 'of type object', options);
    if (typeof listener === 'function') this.on('connection', listener);
    const given: ServerOptions = typeof options === 'object' && options !== null ? options : {};
    if (given.keepAliveInitialDelay !== undefined) validateNumber(given.keepAliveInitialDelay, 'options.keepAliveInitialDelay');
    if (given.highWaterMark !== undefined) validateNumber(given.highWaterMark, 'options.highWaterMark');
    this.allowHalfOpen = given.allowHalfOpen || false;
    this.pauseOnConnect = Boolean(given.pauseOnConnect);
    this.noDelay = Boolean(given.noDelay);
    this.keepAlive = Boolean(given.keepAlive);
    this.keepAliveInitialDelay = Math.max(0, given.keepAliveInitialDelay ?? 0);
    const highWaterMark = given.highWaterMark ?? -1;
    this.highWaterMark = highWaterMark < 0 ? getDefaultHighWaterMark(false) : highWaterMark;
  }

  // === Listening ===

  listen(...args: unknown[]): this {
    const [options, listener] = normalizeArgs(args);
    if (this.#listener) {
      throw nodeError(Error, 'ERR_SERVER_ALREADY_LISTEN', 'Listen method has been called more than once without closing.');
    }
    if (listener) this.once('listening', listener as () => void);
    const where = whereToListen(args, options);
    this.#closeOn(options.signal as AbortSignal | undefined);
    const wanted: Listener = { closed: false, told: 0, taken: new Set(), lists: 0 };
    this.#listener = wanted;
    this.#begin(wanted, where).catch((error) => {
      this.#release(wanted);
      if (this.#listener !== wanted) return;
      this.#listener = null;
      // Outside of any promise, so that what a listener throws is the program's.
      process.nextTick(() => this.emit('error', error));
    });
    return this;
  }

  async #begin(wanted: Listener, where: Where): Promise<void> {
    const { host } = where;
    const resolved = host === undefined || isIP(host) ? host : (await lookUp(this.#host, host, 0))[0]?.address;
    if (wanted.closed) return;
    const { labAddresses } = await this.#host.session();
    if (resolved !== undefined || labAddresses.length > 0) return this.#create(wanted, where, resolved ?? '');
    try {
      await this.#create(wanted, where, '::');
    } catch (error) {
      // As Node does: without IPv6, all addresses of IPv4.
      const { syscall, code } = error as SystemError;
      if (syscall !== 'listen' || code === 'EADDRINUSE') throw error;
      await this.#create(wanted, where, '0.0.0.0');
    }
  }

  /** Makes the listener. Without an address, the agent's lab address is meant. */
  async #create(wanted: Listener, where: Where, address: string): Promise<void> {
    const { port, backlog, ipv6Only } = where;
    const options: SocketOption[] = isIP(address) === 6 ? [flag('IPV6_V6ONLY', ipv6Only)] : [];
    const tcp = {
      role: { $case: 'listen', value: join(address, port) },
      backlog,
      halfOpen: HalfOpenPolicy.ALLOW,
      delivery: { mode: DeliveryMode.TRANSFER },
      options,
    };
    const subscriber: Subscriber = {
      event: (event, session) => this.#happened(wanted, session, event),
      gap: (_gap, session) => this.#catchUp(wanted, session),
      lost: (cause) => this.#lost(wanted, cause),
    };
    const { session, socketId, answer } = await this.#host.makeSocket({ $case: 'tcp', value: tcp }, subscriber);
    wanted.session = session;
    wanted.socketId = socketId;
    if (!this.#held) session.release(socketId);
    const error = answer.report?.error;
    if (error) {
      this.#release(wanted);
      throw listenException(error.name, error.number, address || answer.socket?.local?.address, port);
    }
    if (wanted.closed) return this.#release(wanted);
    wanted.local = answer.socket?.local && show(answer.socket.local);
    process.nextTick(() => !wanted.closed && this.emit('listening'));
  }

  #happened(wanted: Listener, session: Session, event: Event): void {
    switch (event.body?.$case) {
      case 'accepted':
        this.#told(wanted, session, event.body.value);
        break;
      case 'acceptFailed':
        if (!wanted.closed) this.emit('error', acceptException(event.body.value.error));
        break;
      case 'closed':
        session.unsubscribe(event.socketId);
        if (!wanted.closed) this.#lost(wanted, undefined);
    }
  }

  #told(wanted: Listener, session: Session, event: AcceptedEvent): void {
    const number = childNumber(event.acceptedId);
    wanted.told = Math.max(wanted.told, number);
    this.#accepted(wanted, session, number, event);
    if (wanted.lists > 0) return;
    for (const taken of wanted.taken) if (taken <= number) wanted.taken.delete(taken);
  }

  #accepted(wanted: Listener, session: Session, number: number, event: AcceptedEvent): void {
    const socket = { sessionId: session.id, socketId: event.acceptedId, socketUid: event.acceptedUid, allowMissing: true };
    if (!event.local || !event.remote || wanted.taken.has(number)) return;
    wanted.taken.add(number);
    if (wanted.closed) {
      // Nobody will take it: as the kernel does with what waits at a listener that is closed.
      this.#host.api.sockets.abortSocket(socket, { timeout: ANSWER_TIMEOUT }).catch(() => {});
      return;
    }
    const [local, remote] = [show(event.local), show(event.remote)];
    if (this.maxConnections && this.#open.size >= this.maxConnections) {
      this.#host.api.sockets.closeSocket(socket, { timeout: ANSWER_TIMEOUT }).catch(() => {});
      this.emit('drop', {
        localAddress: local.address,
        localPort: local.port,
        localFamily: local.family,
        remoteAddress: remote.address,
        remotePort: remote.port,
        remoteFamily: remote.family,
      });
      return;
    }
    const { allowHalfOpen, noDelay, keepAlive, keepAliveInitialDelay, highWaterMark } = this;
    const accepted = {
      session,
      socketId: event.acceptedId,
      socketUid: event.acceptedUid,
      local,
      remote,
      paused: this.pauseOnConnect,
      server: this,
    };
    const made = this.#accept(
      {
        allowHalfOpen,
        noDelay,
        keepAlive,
        keepAliveInitialDelay,
        readableHighWaterMark: highWaterMark,
        writableHighWaterMark: highWaterMark,
      },
      accepted,
    );
    this.#open.add(event.acceptedId);
    this.emit('connection', made);
  }

  /** Events are missing: takes the connections of which they may have told. */
  #catchUp(wanted: Listener, session: Session): void {
    const { socketId, told } = wanted;
    wanted.lists += 1;
    const asked = this.#host.api.sockets.listSockets({ sessionId: session.id }, { timeout: ANSWER_TIMEOUT });
    asked
      .then(
        ({ sockets }) => {
          for (const { parentId, socketId: acceptedId, socketUid: acceptedUid, local, remote } of sockets) {
            const number = childNumber(acceptedId);
            // Those up to here have been taken before, and may be closing still.
            if (parentId !== socketId || number <= told) continue;
            process.nextTick(() => this.#accepted(wanted, session, number, { acceptedId, acceptedUid, local, remote }));
          }
        },
        // An agent that cannot be asked cannot be watched either, and that is told.
        () => {},
      )
      .then(() => process.nextTick(() => (wanted.lists -= 1)));
  }

  /** A connection of this server is over. */
  left(socketId: string): void {
    this.#open.delete(socketId);
    this.#emitCloseIfDrained();
  }

  // === Ending ===

  close(listener?: (error?: Error) => void): this {
    const wanted = this.#listener;
    if (typeof listener === 'function') {
      const notRunning = nodeError(Error, 'ERR_SERVER_NOT_RUNNING', 'Server is not running.');
      if (wanted) this.once('close', listener);
      else this.once('close', () => listener(notRunning));
    }
    this.#listener = null;
    // One that is still being made is closed once it is there.
    if (wanted?.local) this.#release(wanted);
    else if (wanted) wanted.closed = true;
    this.#emitCloseIfDrained();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#listener) return;
    await new Promise<void>((resolve) => this.close(() => resolve()));
  }

  /** Closes the listener on the far host. Only then its address is free, and `close` may come. */
  #release(wanted: Listener): void {
    const { session, socketId } = wanted;
    wanted.closed = true;
    if (!session || !socketId) return;
    this.#closing += 1;
    const request = { sessionId: session.id, socketId, allowMissing: true };
    const closed = this.#host.api.sockets.closeSocket(request, { timeout: ANSWER_TIMEOUT });
    closed
      .catch(() => session.unsubscribe(socketId))
      .then((answer) => {
        // Without a socket there is no event to wait for.
        if (!answer?.socket) session.unsubscribe(socketId);
        this.#closing -= 1;
        this.#emitCloseIfDrained();
      });
  }

  /** The listener is gone, and nobody has closed it here. */
  #lost(wanted: Listener, cause: AgentError | undefined): void {
    if (wanted.closed) return;
    wanted.closed = true;
    if (this.#listener === wanted) this.#listener = null;
    if (!this.#host.leaving) this.emit('error', abandoned('accept', cause ?? new Error('the agent has closed the listener')));
    this.#emitCloseIfDrained();
  }

  #emitCloseIfDrained(): void {
    if (this.#listener || this.#open.size > 0 || this.#closing > 0) return;
    process.nextTick(() => this.emit('close'));
  }

  #closeOn(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    const close = () => this.close();
    if (signal.aborted) return process.nextTick(close);
    signal.addEventListener('abort', close, { once: true });
    this.once('close', () => signal.removeEventListener('abort', close));
  }

  // === As Node has it ===

  address(): Address | null {
    const local = this.#listener?.local;
    return local ? { ...local } : null;
  }

  get listening(): boolean {
    return this.#listener !== null;
  }

  getConnections(callback: (error: Error | null, count: number) => void): this {
    process.nextTick(callback, null, this.#open.size);
    return this;
  }

  ref(): this {
    this.#held = true;
    const { session, socketId } = this.#listener ?? {};
    if (session && socketId) session.hold(socketId);
    return this;
  }

  unref(): this {
    this.#held = false;
    const { session, socketId } = this.#listener ?? {};
    if (session && socketId) session.release(socketId);
    return this;
  }
}

/** A listener of connections. */
export type Listening = (socket: FarSocket) => void;

/** 3, of `door.3`. */
function childNumber(socketId: string): number {
  return Number(socketId.slice(socketId.lastIndexOf('.') + 1));
}

function acceptException(error: SocketError | undefined): Error {
  return errnoException(error?.name ?? 'ECONNABORTED', 'accept', { number: error?.number });
}

/** What listen() was asked for, in any of its forms. */
function whereToListen(args: readonly unknown[], options: Record<string, unknown>): Where {
  const backlog = (args.length > 1 && toNumber(args[1])) || (args.length > 2 && toNumber(args[2])) || undefined;
  if (options.fd != null || options._handle != null || options.handle != null) throw notFar('a descriptor');
  const anyPort = args.length === 0 || typeof args[0] === 'function' || ('port' in options && options.port == null);
  const port = anyPort ? 0 : options.port;
  if (typeof port === 'number' || typeof port === 'string') {
    return {
      host: options.host ? String(options.host) : undefined,
      port: validatePort(port, 'options.port'),
      backlog: Number(options.backlog || backlog || BACKLOG),
      ipv6Only: Boolean(options.ipv6Only),
    };
  }
  if (isPipeName(options.path)) throw notFar('a path');
  const what = 'port' in options || 'path' in options ? 'is invalid' : 'must have the property "port" or "path"';
  throw nodeError(TypeError, 'ERR_INVALID_ARG_VALUE', `The argument 'options' ${what}.`);
}
