// net.Socket over a connection on a far host: the same kind of stream, with the same events in the same order.

import { isIP } from 'node:net';
import { Duplex, type DuplexOptions } from 'node:stream';

import { abandoned, errnoException, nodeError, syscallOf } from '../errors';
import type { SocketError } from '../gen/farsock/v1/call';
import type { SocketOption } from '../gen/farsock/v1/option';
import { CloseReason, type Socket as FarSide, type SocketClosed } from '../gen/farsock/v1/socket';
import type { Host } from '../host';
import type { AgentError } from '../rpc/status';
import type { Session } from '../session';
import { type Handler, TransferStream } from '../transfer/stream';
import { type Address, show } from './address';
import { invalidType, normalizeArgs, notFar, validateBoolean, validateFunction, validateNumber, validatePort } from './args';
import { autoSelect } from './auto_select';
import { type Connecting, connect } from './connect';
import { flag, keepAlive, setOptions } from './option';
import type { FarServer } from './server';

/** How many bytes of the peer may be on their way here, or wait here for their reader. What goes beyond closes the window of the peer. */
const CREDIT = 512 * 1024;

/** How long bytes that were written may take to find room on the far host after the socket is closed here, in milliseconds. */
const CLOSE_TIMEOUT = 120_000;

/** Writes that wait together are sent together, up to so many bytes. */
const GATHERED = 64 * 1024;

/** What a caller may fill by itself: `onread` of net.Socket. */
interface OnRead {
  buffer: Uint8Array | (() => Uint8Array);
  callback(size: number, buffer: Uint8Array): boolean;
}

/** What new net.Socket() takes. */
export interface SocketOptions extends DuplexOptions {
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
  onread?: OnRead;
  timeout?: number;
}

/** A connection that a listener has accepted. */
export interface Accepted {
  session: Session;
  socketId: string;
  socketUid: number;
  local: Address;
  remote: Address;
  paused: boolean;
  server: FarServer;
}

/** A socket on a far host. */
export class FarSocket extends Duplex implements Connecting {
  connecting = false;
  /** How long it may be silent before `timeout`, in milliseconds. */
  timeout: number | undefined;
  /** The server that has accepted it. Whoever takes the socket over, such as an http.Server, puts itself here. */
  server: FarServer | null = null;
  autoSelectFamilyAttemptedAddresses?: string[];
  readonly handler: Handler;
  readonly #host: Host;
  readonly #onread: OnRead | undefined;
  /** What a full buffer of the caller has left over. */
  #unread: Buffer | undefined;
  #stream: TransferStream | undefined;
  #far: { sessionId: string; socketId: string } | undefined;
  #giveUp: (() => void) | undefined;
  #local: Address | undefined;
  #remote: Address | undefined;
  #timer: NodeJS.Timeout | undefined;
  #held = true;
  #noDelay: boolean;
  #keepAlive: { enabled: boolean; delay: number };
  #begun: string | undefined;
  #bytesRead = 0;
  #bytesWritten = 0;
  #resetting = false;
  #gone: (() => void) | undefined;
  #acceptedBy: FarServer | undefined;

  constructor(host: Host, options: SocketOptions = {}, accepted?: Accepted) {
    checkOptions(options);
    const { onread, noDelay, keepAlive, keepAliveInitialDelay, ...duplex } = options;
    // As Node's own: `close` is emitted by itself, with whether there was an error.
    super({ ...duplex, allowHalfOpen: Boolean(options.allowHalfOpen), emitClose: false, autoDestroy: true });
    this.#host = host;
    this.#onread = isOnRead(onread) ? onread : undefined;
    this.#noDelay = Boolean(noDelay);
    this.#keepAlive = { enabled: Boolean(keepAlive), delay: ~~((keepAliveInitialDelay ?? 0) / 1000) };
    this.handler = {
      opened: () => {},
      data: (bytes) => this.#received(bytes),
      end: () => this.#peerEnded(),
      error: (error) => this.#failed(error),
      done: (closed, failure) => this.#over(closed, failure),
    };
    this.on('end', () => {
      if (!this.allowHalfOpen) this.write = writeAfterFin as typeof this.write;
    });
    if (accepted) this.#adopt(accepted);
  }

  // === Connecting ===

  connect(...args: unknown[]): this {
    const [options, listener] = normalizeArgs(args);
    if (listener) this.once('connect', listener as () => void);
    if (options.port === undefined && options.path == null) {
      throw nodeError(TypeError, 'ERR_MISSING_ARGS', 'The "options" or "port" or "path" argument must be specified');
    }
    if (options.path) throw notFar('a path');
    const { localAddress, localPort, lookup, hints } = options;
    if (localAddress && !isIP(String(localAddress))) {
      throw nodeError(TypeError, 'ERR_INVALID_IP_ADDRESS', `Invalid IP address: ${localAddress}`);
    }
    if (localPort) validateNumber(localPort, 'options.localPort');
    if (options.port !== undefined && typeof options.port !== 'number' && typeof options.port !== 'string') {
      throw invalidType('options.port', 'one of type number or string', options.port);
    }
    const port = validatePort(options.port ?? 0);
    if (options.autoSelectFamily != null) validateBoolean(options.autoSelectFamily, 'options.autoSelectFamily');
    if (lookup != null) validateFunction(lookup, 'options.lookup');
    const attemptTimeout = options.autoSelectFamilyAttemptTimeout ?? autoSelect.attemptTimeout;
    validateNumber(attemptTimeout, 'options.autoSelectFamilyAttemptTimeout');
    if (Object.hasOwn(this, 'write')) delete (this as { write?: unknown }).write;
    if (this.destroyed || this.#stream) this.#renew();
    this._unrefTimer();
    this.connecting = true;
    const wanted = {
      host: options.host ? String(options.host) : undefined,
      port,
      localAddress: localAddress ? String(localAddress) : undefined,
      localPort: localPort ? Number(localPort) : undefined,
      family: options.family,
      hints: Number(hints ?? 0),
      lookup: lookup as ((...args: never[]) => void) | undefined,
      autoSelectFamily: (options.autoSelectFamily as boolean | undefined) ?? autoSelect.enabled,
      attemptTimeout: Math.max(Number(attemptTimeout), 10),
    };
    connect(this.#host, this, wanted).catch((error) => {
      if (this.connecting) this.destroy(error);
    });
    return this;
  }

  beginning(): SocketOption[] {
    const options: SocketOption[] = [];
    if (this.#noDelay) options.push(flag('TCP_NODELAY', true));
    if (this.#keepAlive.enabled) options.push(...keepAlive(true, this.#keepAlive.delay));
    this.#begun = JSON.stringify([this.#noDelay, this.#keepAlive]);
    return options;
  }

  trying(stream: TransferStream, giveUp: () => void): void {
    this.#giveUp = giveUp;
    if (!this.#held) stream.unref();
  }

  established(stream: TransferStream, socket: FarSide): void {
    this.#giveUp = undefined;
    this.#stream = stream;
    this.#far = { sessionId: socket.sessionId, socketId: socket.socketId };
    this.#local = socket.local && show(socket.local);
    this.#remote = socket.remote && show(socket.remote);
    this.connecting = false;
    if (this.#held) stream.ref();
    else stream.unref();
    if (this.#begun !== JSON.stringify([this.#noDelay, this.#keepAlive])) {
      const { enabled, delay } = this.#keepAlive;
      this.#set([flag('TCP_NODELAY', this.#noDelay), ...keepAlive(enabled, delay)]);
    }
    this._unrefTimer();
    this.emit('connect');
    this.emit('ready');
    if (!this.isPaused()) this.read(0);
  }

  #adopt({ session, socketId, socketUid, local, remote, paused, server }: Accepted): void {
    this.server = server;
    this.#acceptedBy = server;
    this.#far = { sessionId: session.id, socketId };
    this.#local = local;
    this.#remote = remote;
    const beginning = { $case: 'open' as const, value: { sessionId: session.id, socketId, socketUid, own: true } };
    try {
      this.#stream = new TransferStream(this.#host.pool.bulk(), beginning, this.handler);
    } catch (error) {
      this.destroy(abandoned('read', error));
      return;
    }
    const options = this.beginning();
    if (options.length > 0) this.#set(options);
    if (paused) this.pause();
    else this.read(0);
  }

  /** A socket that was closed may connect again. */
  #renew(): void {
    (this as unknown as { _undestroy(): void })._undestroy();
    this.#stream = undefined;
    this.#far = undefined;
    this.#local = undefined;
    this.#remote = undefined;
    this.#bytesRead = 0;
    this.#bytesWritten = 0;
    this.#unread = undefined;
  }

  // === Reading ===

  override _read(): void {
    if (this.connecting || !this.#stream) {
      this.once('connect', () => this._read());
      return;
    }
    this.#grant();
  }

  /** Lets as many bytes come as have room here. */
  #grant(): void {
    const stream = this.#stream;
    if (!stream || this.#unread) return;
    const room = CREDIT - this.readableLength - stream.granted;
    if (room >= CREDIT / 4) stream.grant(room);
  }

  #received(bytes: Buffer): void {
    this.#bytesRead += bytes.length;
    this._unrefTimer();
    if (this.destroyed) return;
    if (this.#onread) this.#fill(bytes);
    else this.push(bytes);
  }

  /** Gives bytes to a caller who has buffers of its own. */
  #fill(bytes: Buffer): void {
    const { buffer, callback } = this.#onread as OnRead;
    let at = 0;
    while (at < bytes.length) {
      const room = typeof buffer === 'function' ? buffer() : buffer;
      const size = bytes.copy(room, 0, at);
      at += size;
      if (callback.call(this, size, room) === false && !this.destroyed) {
        this.#unread = at < bytes.length ? bytes.subarray(at) : Buffer.alloc(0);
        return;
      }
    }
    this.#grant();
  }

  override resume(): this {
    const unread = this.#unread;
    if (unread) {
      this.#unread = undefined;
      this.#fill(unread);
    }
    return super.resume();
  }

  #peerEnded(): void {
    if (this.destroyed) return;
    this.push(null);
    this.read(0);
  }

  // === Writing ===

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#writeAll(chunk, callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    const size = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0);
    if (size <= GATHERED)
      return this.#writeAll(
        Buffer.concat(
          chunks.map(({ chunk }) => chunk),
          size,
        ),
        callback,
      );
    const last = chunks.length - 1;
    let failure: Error | undefined;
    chunks.forEach(({ chunk }, at) => {
      this.#writeAll(chunk, (error) => {
        failure ??= error ?? undefined;
        if (at === last) callback(failure);
      });
    });
  }

  #writeAll(bytes: Buffer, callback: (error?: Error | null) => void): void {
    if (this.connecting) {
      const closed = () =>
        callback(nodeError(Error, 'ERR_SOCKET_CLOSED_BEFORE_CONNECTION', 'Socket closed before the connection was established'));
      this.once('connect', () => {
        this.off('close', closed);
        this.#writeAll(bytes, callback);
      });
      this.once('close', closed);
      return;
    }
    const stream = this.#stream;
    if (!stream || stream.over) return callback(nodeError(Error, 'ERR_SOCKET_CLOSED', 'Socket is closed'));
    this._unrefTimer();
    stream.write(bytes, (error) => {
      if (error) return callback(errnoException('ECANCELED', 'write', { cause: error }));
      this.#bytesWritten += bytes.length;
      callback();
    });
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.pending) {
      this.once('connect', () => this._final(callback));
      return;
    }
    this.#stream?.end();
    // As Node's shutdown: not at once.
    setImmediate(callback);
  }

  // === Ending ===

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.connecting = false;
    clearTimeout(this.#timer);
    this.#giveUp?.();
    this.#giveUp = undefined;
    this.#local = undefined;
    const stream = this.#stream;
    const close = () => this.emit('close', Boolean(error));
    if (stream && !stream.over) {
      this.#gone = close;
      if (this.#resetting) stream.abort();
      else stream.close(this.writableFinished ? CLOSE_TIMEOUT : 0);
      callback(error);
    } else {
      callback(error);
      // As Node: a socket that had a connection is closed a little later than one that had none.
      if (stream) setImmediate(close);
      else process.nextTick(close);
    }
    this.#resetting = false;
    this.#acceptedBy?.left(this.#far?.socketId ?? '');
    this.#acceptedBy = undefined;
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', this.destroy);
  }

  resetAndDestroy(): this {
    if (this.connecting) this.once('connect', () => this.#reset());
    else if (this.#stream && !this.destroyed) this.#reset();
    else this.destroy(nodeError(Error, 'ERR_SOCKET_CLOSED', 'Socket is closed'));
    return this;
  }

  #reset(): void {
    this.#resetting = true;
    this.destroy();
  }

  #failed(error: SocketError): void {
    if (!this.destroyed) this.destroy(errnoException(error.name, syscallOf(error), { number: error.number }));
  }

  #over(closed: SocketClosed | undefined, failure: AgentError | undefined): void {
    const gone = this.#gone;
    this.#gone = undefined;
    if (gone) return gone();
    if (this.destroyed) return;
    if (this.#host.leaving) return void this.destroy();
    if (failure?.code === 'SOCKET_CLOSED') return void this.destroy(errnoException('ECONNRESET', 'read', { cause: failure }));
    if (failure) return void this.destroy(abandoned('read', failure));
    const bothEnded = closed?.reason === CloseReason.CLOSED || closed?.reason === CloseReason.ENDED;
    if (bothEnded && this.#stream?.ended) return;
    const why = closed ? CloseReason[closed.reason] : 'it was given back';
    this.destroy(abandoned('read', new Error(`socket ${this.#far?.socketId} was closed by the agent: ${why}`)));
  }

  // === As Node has it ===

  setTimeout(milliseconds: number, listener?: () => void): this {
    if (this.destroyed) return this;
    validateNumber(milliseconds, 'msecs');
    if (listener !== undefined) validateFunction(listener, 'callback');
    this.timeout = milliseconds;
    clearTimeout(this.#timer);
    if (milliseconds === 0) {
      this.#timer = undefined;
      if (listener) this.removeListener('timeout', listener);
    } else {
      this.#timer = setTimeout(() => this.emit('timeout'), milliseconds);
      this.#timer.unref();
      if (listener) this.once('timeout', listener);
    }
    return this;
  }

  /** Something has happened: the silence begins anew. Node's http calls it, too. */
  _unrefTimer(): void {
    this.#timer?.refresh();
  }

  setNoDelay(enable = true): this {
    const changed = Boolean(enable) !== this.#noDelay;
    this.#noDelay = Boolean(enable);
    if (changed) this.#set([flag('TCP_NODELAY', this.#noDelay)]);
    return this;
  }

  setKeepAlive(enable = false, initialDelay = 0): this {
    const delay = ~~(initialDelay / 1000);
    const enabled = Boolean(enable);
    const changed = enabled !== this.#keepAlive.enabled || (enabled && delay !== this.#keepAlive.delay);
    this.#keepAlive = { enabled, delay };
    if (changed) this.#set(keepAlive(enabled, delay));
    return this;
  }

  #set(options: SocketOption[]): void {
    if (!this.#far || !this.#stream || this.#stream.over) return;
    setOptions(this.#host, this.#far.sessionId, this.#far.socketId, options);
  }

  ref(): this {
    this.#held = true;
    this.#stream?.ref();
    return this;
  }

  unref(): this {
    this.#held = false;
    this.#stream?.unref();
    return this;
  }

  address(): Address | Record<string, never> {
    return this.#local ?? {};
  }

  get pending(): boolean {
    return !this.#stream || this.connecting;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.connecting) return 'opening';
    if (this.readable) return this.writable ? 'open' : 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  get bufferSize(): number | undefined {
    return this.#stream ? this.writableLength : undefined;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Bytes that were sent, and those that wait here. */
  get bytesWritten(): number {
    return this.#bytesWritten + (this.destroyed ? 0 : this.writableLength);
  }

  get localAddress(): string | undefined {
    return this.#local?.address;
  }

  get localPort(): number | undefined {
    return this.#local?.port;
  }

  get localFamily(): string | undefined {
    return this.#local?.family;
  }

  get remoteAddress(): string | undefined {
    return this.#remote?.address;
  }

  get remotePort(): number | undefined {
    return this.#remote?.port;
  }

  get remoteFamily(): string | undefined {
    return this.#remote?.family;
  }
}

/** Says what has happened, where `write after end` would blame the caller for the end that Node's default has made. */
function writeAfterFin(this: FarSocket, chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
  const call = typeof encoding === 'function' ? encoding : callback;
  if (!this.writableEnded) {
    return Duplex.prototype.write.call(this, chunk, encoding as BufferEncoding, callback as () => void);
  }
  const error = nodeError(Error, 'EPIPE', 'This socket has been ended by the other party');
  if (typeof call === 'function') process.nextTick(call as (error: Error) => void, error);
  this.destroy(error);
  return false;
}

function checkOptions(options: SocketOptions & { fd?: unknown; handle?: unknown }): void {
  const { fd, handle, objectMode, readableObjectMode, writableObjectMode, keepAliveInitialDelay } = options;
  const modes = { objectMode, readableObjectMode, writableObjectMode };
  for (const [name, value] of Object.entries(modes)) {
    if (!value) continue;
    const text = `The property 'options.${name}' is not supported. Received ${value}`;
    throw nodeError(TypeError, 'ERR_INVALID_ARG_VALUE', text);
  }
  if (fd != null || handle != null) throw notFar('a descriptor');
  if (keepAliveInitialDelay !== undefined) validateNumber(keepAliveInitialDelay, 'options.keepAliveInitialDelay');
}

function isOnRead(onread: OnRead | undefined | null): onread is OnRead {
  if (typeof onread !== 'object' || onread === null || typeof onread.callback !== 'function') return false;
  return onread.buffer instanceof Uint8Array || typeof onread.buffer === 'function';
}
