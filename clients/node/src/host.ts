// A far host: its sockets, its events, its whole API.

import type dgram from 'node:dgram';
import type net from 'node:net';

import { type EndpointOptions, type Endpoint, findEndpoint } from './endpoint';
import { makeDgram } from './dgram/module';
import { AgentServiceDefinition } from './gen/farsock/v1/agent_service';
import { EventServiceDefinition } from './gen/farsock/v1/event_service';
import { Retention, SessionServiceDefinition } from './gen/farsock/v1/session_service';
import { type CreateSocketRequest, type CreateSocketResponse, SocketServiceDefinition } from './gen/farsock/v1/socket_service';
import { enter, leave } from './leaving';
import { makeNet } from './net/module';
import { type Client, client } from './rpc/client';
import { Pool } from './rpc/connection';
import { AgentError } from './rpc/status';
import { Session, type Subscriber } from './session';
import { duration, milliseconds } from './time';
import { type WatchRequest, type WatchValue, watchEvents } from './watch';

/** How long an answer of the agent's may take that waits for nothing there, in milliseconds. */
export const ANSWER_TIMEOUT = 30_000;

/** How a host is reached. */
export interface HostOptions extends EndpointOptions {
  /** Work in this session, which is there already and stays: `default`, for instance. Absent: in one of its own. */
  session?: string;
  /** How long the session outlives this program, in milliseconds, 5,000 or more: what is left on the far host is closed then. Absent: what
   * the agent has for it. */
  lease?: number;
}

/** A socket that was made, or could not be. */
export interface Made {
  session: Session;
  socketId: string;
  answer: CreateSocketResponse;
}

/** The whole API of an agent, by service. */
export interface Api {
  readonly agent: Client<typeof AgentServiceDefinition>;
  readonly sessions: Client<typeof SessionServiceDefinition>;
  readonly sockets: Client<typeof SocketServiceDefinition>;
  readonly events: Client<typeof EventServiceDefinition>;
}

/** A host with an agent. */
export class Host {
  /** Its name, as it was asked for. */
  readonly name: string;
  /** Where its agent is. */
  readonly endpoint: Endpoint;
  /** Node's `net`, with sockets there. */
  readonly net: typeof net;
  /** Node's `dgram`, with sockets there. */
  readonly dgram: typeof dgram;
  /** Every call of the agent's API. */
  readonly api: Api;
  /** @internal */
  readonly pool: Pool;
  /** Whatever closes its sockets now, closes them because this program wants it: nobody is told of an error. @internal */
  leaving = false;
  readonly #options: HostOptions;
  #session: Promise<Session> | undefined;
  #closed = false;

  constructor(name: string, options: HostOptions = {}) {
    this.name = name;
    this.endpoint = findEndpoint(name, options);
    this.pool = new Pool(this.endpoint);
    this.#options = options;
    const connections = { calls: this.pool.calls, streams: this.pool.events };
    this.api = {
      agent: client(AgentServiceDefinition, connections),
      sessions: client(SessionServiceDefinition, connections),
      sockets: client(SocketServiceDefinition, connections),
      events: client(EventServiceDefinition, connections),
    };
    this.net = makeNet(this);
    this.dgram = makeDgram(this);
  }

  /** The name of its session, which is made when it is first needed. */
  async sessionId(): Promise<string> {
    return (await this.session()).id;
  }

  /** Reads the events of its session, and comes back where it was when the connection is lost. */
  async *watch(options: Partial<WatchRequest> & { signal?: AbortSignal } = {}): AsyncGenerator<WatchValue, void> {
    const { signal, ...request } = options;
    const sessionId = request.sessionId ?? (await this.sessionId());
    yield* watchEvents(this.pool.events, { ...request, sessionId }, signal);
  }

  /** Closes every socket of its session, and then the connections to the agent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.endSession();
    this.pool.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // === For sockets ===

  /** @internal */
  session(): Promise<Session> {
    if (this.#closed) return Promise.reject(new AgentError('CANCELLED', `host ${this.name} was closed`));
    if (!this.#session) {
      const making = this.#makeSession();
      this.#session = making;
      making.catch(() => {
        if (this.#session === making) this.#session = undefined;
      });
    }
    return this.#session;
  }

  /** Does something in the session; in a new one, if the agent does not know it any more. @internal */
  async inSession<T>(act: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.session();
    try {
      return await act(session);
    } catch (error) {
      if (!isSessionGone(error)) throw error;
      await this.forgetSession(session);
      return act(await this.session());
    }
  }

  /** Makes a socket, and tells from its very first event on what happens to it. @internal */
  makeSocket(kind: CreateSocketRequest['kind'] | object, subscriber: Subscriber): Promise<Made> {
    return this.inSession(async (session) => {
      const socketId = session.mint();
      session.subscribe(socketId, subscriber);
      try {
        const request = { sessionId: session.id, socketId, kind: kind as CreateSocketRequest['kind'] };
        return { session, socketId, answer: await this.api.sockets.createSocket(request, { timeout: ANSWER_TIMEOUT }) };
      } catch (error) {
        session.unsubscribe(socketId);
        throw error;
      }
    });
  }

  /** Makes a new session the next time. @internal */
  async forgetSession(gone: Session): Promise<void> {
    const current = this.#session;
    if (current && (await current.catch(() => undefined)) === gone && this.#session === current) {
      this.#session = undefined;
      gone.close();
    }
  }

  /** Deletes the session, if there is one. @internal */
  async endSession(): Promise<void> {
    leave(this);
    this.leaving = true;
    const session = await this.#session?.catch(() => undefined);
    this.#session = undefined;
    if (!session) return;
    session.close();
    if (this.#options.session !== undefined) return;
    const request = { sessionId: session.id, allowMissing: true };
    // An agent that is gone has forgotten it as well.
    await this.api.sessions.deleteSession(request, { timeout: ANSWER_TIMEOUT }).catch(() => {});
  }

  async #makeSession(): Promise<Session> {
    this.leaving = false;
    const options = { timeout: ANSWER_TIMEOUT };
    const { session: named, lease } = this.#options;
    const { agent } = await this.api.agent.getAgent({}, options);
    // Before anything is made that an old agent would make without it.
    if (agent) checkCapabilities(agent, this.name);
    if (named !== undefined) {
      return new Session(named === 'default' ? '' : named, agent?.labAddresses ?? [], this.pool.events);
    }
    // Who reads events here takes them as they come. A log that nobody acknowledges must not stop the sockets.
    const request = { leaseTtl: lease === undefined ? undefined : duration(lease), retention: Retention.RING };
    const made = await this.api.sessions.createSession(request, options);
    const { sessionId, leaseTtl } = made.session ?? { sessionId: '', leaseTtl: undefined };
    const session = new Session(sessionId, agent?.labAddresses ?? [], this.pool.events);
    if (leaseTtl) this.#renew(session, milliseconds(leaseTtl));
    enter(this);
    return session;
  }

  #renew(session: Session, ttl: number): void {
    const renew = () => this.api.sessions.renewSession({ sessionId: session.id }, { timeout: ttl });
    session.keepAlive(ttl, renew, (error) => {
      // That the agent was not reached once does not matter yet.
      if (error === undefined || isSessionGone(error)) void this.forgetSession(session);
    });
  }
}

/** What this package relies on, and an agent that is too old leaves out of a request without a word. */
const NEEDED = { leases: 'sessions that end with their program', transfer: 'connections as byte streams' };

/** Makes sure that an agent has all of that. @internal */
export function checkCapabilities(agent: { version: string; capabilities: string[] }, name: string): void {
  for (const [capability, purpose] of Object.entries(NEEDED)) {
    if (agent.capabilities.includes(capability)) continue;
    const lacks = `it is farsock ${agent.version}, which lacks \`${capability}\` (${purpose}): install a newer one there`;
    throw new AgentError('UNIMPLEMENTED', `agent ${name}: ${lacks}`);
  }
}

/** Whether the agent does not have the session any more: it was restarted, or nobody renewed it in time. @internal */
export function isSessionGone(error: unknown): boolean {
  return error instanceof AgentError && (error.code === 'SESSION_NOT_FOUND' || error.code === 'LEASE_EXPIRED');
}

/** A host by its name in the inventory, or by its endpoint: `lab-a`, `lab-a:7625`, `7625`, `unix:/run/agent.sock`. */
export function host(name: string, options?: HostOptions): Host {
  return new Host(name, options);
}
