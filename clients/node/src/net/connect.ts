// How a socket comes to its connection: the name is looked up on the far host, and its addresses are tried there, in the order and with
// the events of Node.

import { isIP } from 'node:net';

import { errnoException, exceptionWithHostPort, nodeError, type SystemError } from '../errors';
import { Operation, type SocketError } from '../gen/farsock/v1/call';
import type { SocketOption } from '../gen/farsock/v1/option';
import { HalfOpenPolicy, type Socket as FarSide } from '../gen/farsock/v1/socket';
import type { TransferOpened } from '../gen/farsock/v1/transfer';
import { ANSWER_TIMEOUT, type Host, isSessionGone } from '../host';
import { AgentError } from '../rpc/status';
import type { Session } from '../session';
import { duration } from '../time';
import { type Handler, TransferStream } from '../transfer/stream';
import { type Found, join, lookUp } from './address';

/** How long one connect may take, in milliseconds: longer than any kernel tries, so that it is the kernel that gives up. */
const CONNECT_TIMEOUT = 600_000;

/** What a connect is asked for, once it has been checked. */
export interface ConnectOptions {
  host: string | undefined;
  port: number;
  localAddress: string | undefined;
  localPort: number | undefined;
  family: unknown;
  hints: number;
  /** The caller's own lookup, which runs in this process. */
  lookup: ((...args: never[]) => void) | undefined;
  autoSelectFamily: boolean;
  attemptTimeout: number;
}

/** What a socket has for whoever connects it. */
export interface Connecting {
  readonly connecting: boolean;
  emit(event: string, ...args: unknown[]): boolean;
  destroy(error: Error): unknown;
  /** The options that it begins with. */
  beginning(): SocketOption[];
  /** The stream of the attempt that is under way. */
  trying(stream: TransferStream, giveUp: () => void): void;
  established(stream: TransferStream, socket: FarSide): void;
  /** What the stream tells once it is established. */
  readonly handler: Handler;
  autoSelectFamilyAttemptedAddresses?: string[];
}

/** Where one attempt goes to. */
interface Target {
  address: string;
  port: number;
  family: number;
}

/** How one attempt went wrong: `late` when the next address is tried because it takes too long. */
type Failed = (error: Error, late: boolean) => void;

/** Connects a socket. All that goes wrong destroys it. */
export async function connect(host: Host, socket: Connecting, options: ConnectOptions): Promise<void> {
  const session = await host.session();
  if (!socket.connecting) return;
  const to = new Attempts(host, session, socket, options);
  // Without a host, this machine is meant: where the agent has a lab address, that is what its listeners without a host have.
  if (options.host === undefined && session.labAddresses.length > 0) {
    const [address] = session.labAddresses as [string];
    return to.single({ address, port: options.port, family: isIP(address) });
  }
  const name = options.host ?? 'localhost';
  const family = isIP(name);
  if (family) return to.single({ address: name, port: options.port, family });
  const wanted = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : options.family;
  const several = wanted !== 4 && wanted !== 6 && options.localAddress === undefined && options.autoSelectFamily;
  let found: Found[];
  try {
    found = await lookedUp(host, name, wanted, several, options);
  } catch (error) {
    if (!socket.connecting) return;
    socket.emit('lookup', error, undefined, undefined, name);
    throw error;
  }
  if (!socket.connecting) return;
  const usable = several ? found : found.slice(0, 1);
  for (const { address, family } of usable) {
    socket.emit('lookup', null, address, family, name);
    if (!socket.connecting) return;
  }
  const targets = alternate(usable).map((each) => ({ ...each, port: options.port }));
  const [first] = targets;
  if (!first) throw nodeError(TypeError, 'ERR_INVALID_IP_ADDRESS', `Invalid IP address: ${usable[0]?.address}`);
  if (targets.length === 1) to.single(first);
  else to.several(targets);
}

/** The addresses of a name: of the far host's resolver, or of the caller's function. */
function lookedUp(host: Host, name: string, family: unknown, all: boolean, { lookup, hints }: ConnectOptions): Promise<Found[]> {
  if (!lookup) return lookUp(host, name, family);
  return new Promise((resolve, reject) => {
    const answered = (error: Error | null, addresses: string | Found[], family: number) => {
      if (error) reject(error);
      else resolve(Array.isArray(addresses) ? addresses : [{ address: addresses, family }]);
    };
    (lookup as (...args: unknown[]) => void)(name, { family, hints, ...(all ? { all } : {}) }, answered);
  });
}

/** Each address once, the families by turns, that of the first one first. */
function alternate(found: Found[]): Found[] {
  const groups: [Map<string, Found>, Map<string, Found>] = [new Map(), new Map()];
  const valid = found.filter(({ address, family }) => isIP(address) && (family === 4 || family === 6));
  for (const each of valid) groups[each.family === valid[0]?.family ? 0 : 1].set(each.address, each);
  const [first, second] = groups.map((group) => [...group.values()]) as [Found[], Found[]];
  const order: Found[] = [];
  for (let at = 0; at < Math.max(first.length, second.length); at += 1) {
    for (const each of [first[at], second[at]]) if (each) order.push(each);
  }
  return order;
}

/** The attempts of one connect. */
class Attempts {
  readonly #host: Host;
  readonly #socket: Connecting;
  readonly #options: ConnectOptions;
  readonly #errors: Error[] = [];
  #session: Session;

  constructor(host: Host, session: Session, socket: Connecting, options: ConnectOptions) {
    this.#host = host;
    this.#session = session;
    this.#socket = socket;
    this.#options = options;
  }

  /** The only address. */
  single(target: Target): void {
    this.#dial(target, undefined, (error) => {
      this.#tellFailed(target, error);
      this.#socket.destroy(error);
    });
  }

  /** One address after the other, the next one after a while even if the one before has not answered. */
  several(targets: Target[]): void {
    this.#socket.autoSelectFamilyAttemptedAddresses = [];
    this.#next(targets, 0);
  }

  #next(targets: Target[], at: number): void {
    const target = targets[at];
    if (!target) {
      const [first] = this.#errors as (Error & { code?: string })[];
      this.#socket.destroy(Object.assign(new AggregateError(this.#errors), { code: first?.code }));
      return;
    }
    this.#socket.autoSelectFamilyAttemptedAddresses?.push(`${target.address}:${target.port}`);
    const patience = at < targets.length - 1 ? this.#options.attemptTimeout : undefined;
    this.#dial(target, patience, (error, late) => {
      // An agent that does not do it does not do it for the next address either.
      if (error instanceof AgentError) return void this.#socket.destroy(error);
      this.#errors.push(error);
      if (late) this.#socket.emit('connectionAttemptTimeout', target.address, target.port, target.family);
      else this.#tellFailed(target, error);
      if (this.#socket.connecting) this.#next(targets, at + 1);
    });
  }

  /** Node binds first, and an attempt begins only then. */
  #tellBegun({ address, port, family }: Target): void {
    this.#socket.emit('connectionAttempt', address, port, family);
  }

  #tellFailed({ address, port, family }: Target, error: Error): void {
    if ((error as SystemError).syscall === 'bind' || error instanceof AgentError) return;
    this.#socket.emit('connectionAttemptFailed', address, port, family, error);
  }

  #dial(target: Target, patience: number | undefined, failed: Failed, again = true): void {
    const { address, port } = target;
    const bind = this.#bindAddress(target);
    if (bind === '' && again) this.#tellBegun(target);
    const socketId = this.#session.mint();
    const sessionId = this.#session.id;
    let timer: NodeJS.Timeout | undefined;
    let settled = false;
    let established = false;
    const settle = () => {
      clearTimeout(timer);
      const first = !settled;
      settled = true;
      return first && this.#socket.connecting;
    };
    const stream: TransferStream = new TransferStream(
      this.#host.pool.bulk(),
      {
        $case: 'create',
        value: {
          sessionId,
          socketId,
          tcp: {
            bind,
            role: { $case: 'connect', value: join(address, port) },
            halfOpen: HalfOpenPolicy.ALLOW,
            options: this.#socket.beginning(),
          },
          call: { timeout: duration(CONNECT_TIMEOUT) } as never,
        },
      },
      {
        opened: (opened) => {
          if (!settle()) return;
          const error = this.#objection(target, opened);
          if (bind !== '' && error?.syscall !== 'bind') this.#tellBegun(target);
          if (error) failed(error, false);
          else if (opened.socket) {
            established = true;
            this.#socket.established(stream, opened.socket);
          }
        },
        data: (bytes) => this.#socket.handler.data(bytes),
        end: () => this.#socket.handler.end(),
        error: (error) => this.#socket.handler.error(error),
        done: (closed, failure) => {
          if (established) return this.#socket.handler.done(closed, failure);
          if (!settle()) return;
          if (again && isSessionGone(failure)) void this.#renew(target, patience, failed);
          else failed(failure ?? new AgentError('INTERNAL', 'the agent has ended the stream without a word'), false);
        },
      },
    );
    const giveUp = () => {
      settle();
      stream.cancel();
      // Cancelling the stream alone would not stop the attempt.
      const request = { sessionId, socketId, allowMissing: true };
      this.#host.api.sockets.abortSocket(request, { timeout: ANSWER_TIMEOUT }).catch(() => {});
    };
    this.#socket.trying(stream, giveUp);
    if (patience === undefined) return;
    timer = setTimeout(() => {
      if (!settle()) return;
      giveUp();
      failed(this.#exception('ETIMEDOUT', target), true);
    }, patience);
  }

  /** The agent does not know the session any more: once more in a new one. */
  async #renew(target: Target, patience: number | undefined, failed: Failed): Promise<void> {
    try {
      await this.#host.forgetSession(this.#session);
      this.#session = await this.#host.session();
    } catch (error) {
      return failed(error as Error, false);
    }
    if (this.#socket.connecting) this.#dial(target, patience, failed, false);
  }

  #bindAddress({ family }: Target): string {
    const { localAddress, localPort } = this.#options;
    if (localAddress === undefined && !localPort) return '';
    return join(localAddress ?? anyAddress(family), localPort ?? 0);
  }

  #objection(target: Target, { report }: TransferOpened): SystemError | undefined {
    if (report?.timedOut) return this.#exception('ETIMEDOUT', target);
    return report?.error && this.#failure(report.error, target);
  }

  #failure(error: SocketError, target: Target): SystemError {
    const { localAddress, localPort } = this.#options;
    if (error.operation === Operation.BIND) {
      return exceptionWithHostPort(error.name, 'bind', localAddress ?? anyAddress(target.family), localPort, {
        number: error.number,
      });
    }
    if (error.operation === Operation.CREATE) return errnoException(error.name, 'connect', { number: error.number });
    return this.#exception(error.name, target, error.number);
  }

  #exception(code: string, { address, port }: Target, number?: number): SystemError {
    const { localAddress, localPort } = this.#options;
    const local = localAddress && localPort ? `${localAddress}:${localPort}` : undefined;
    const error = exceptionWithHostPort(code, 'connect', address, port, { local, number });
    return local === undefined ? error : Object.assign(error, { localAddress, localPort });
  }
}

function anyAddress(family: number): string {
  return family === 6 ? '::' : '0.0.0.0';
}
