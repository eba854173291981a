// Connections to one agent, and how calls are spread over them.
//
// Calls go over Node's own HTTP/2, not over a library for gRPC: none of them lets a program say `unref()` of a call, which sockets need
// (`http.Agent` says it of every idle one), or has the windows of a connection in its hands.

import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';

import type { Endpoint, Identity } from '../endpoint';
import { Call, type CallOptions, type Carrier, type Listener } from './call';
import { AgentError } from './status';

/** How much a call may receive before it is read. More than a TransferSocket stream is ever granted, so that none holds up others. */
const STREAM_WINDOW = 1024 * 1024;

/** The same for a connection. */
const CONNECTION_WINDOW = 16 * 1024 * 1024;

/** The largest frame that is taken. */
const FRAME_SIZE = 256 * 1024;

/** Megabytes that HTTP/2 may use for one connection: room for as many streams as an agent takes. */
const SESSION_MEMORY = 256;

/** A connection that has calls and is silent for so long, in milliseconds, is tried. When nothing comes for as long again, it is dead. */
const SILENCE = 15_000;

/** How many streams of sockets share a connection before another one is made. */
const STREAMS_PER_CONNECTION = 100;

/** How many connections are made for the streams of sockets. The agent takes 1,024 streams on each. */
const BULK_CONNECTIONS = 8;

/** A connection that is made when it is needed, and made anew when it is lost. */
export class Connection implements Carrier {
  readonly #endpoint: Endpoint;
  #session: http2.ClientHttp2Session | undefined;
  #token: string | undefined;
  #held = 0;
  #calls = 0;
  #heard = true;
  #closed = false;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  get place(): string {
    return `agent ${this.#endpoint.text}`;
  }

  /** How many calls it has. */
  get calls(): number {
    return this.#calls;
  }

  /** Begins a call of a method, by its path: `/farsock.v1.AgentService/GetAgent`. */
  open(path: string, listener: Listener, options: CallOptions = {}): Call {
    if (this.#closed) throw new AgentError('CANCELLED', `${this.place}: its host was closed here`);
    const stream = this.#request(path);
    this.#calls += 1;
    return new Call(this, stream, listener, options);
  }

  /** Ends it, and with it every call. */
  close(): void {
    this.#closed = true;
    this.#session?.destroy();
    this.#session = undefined;
  }

  hold(): void {
    this.#held += 1;
    if (this.#held === 1) this.#session?.ref();
  }

  release(): void {
    this.#held -= 1;
    if (this.#held === 0) this.#session?.unref();
  }

  heard(): void {
    this.#heard = true;
  }

  finished(): void {
    this.#calls -= 1;
  }

  #request(path: string): http2.ClientHttp2Stream {
    for (let again = true; ; again = false) {
      const session = this.#usable();
      const headers: http2.OutgoingHttpHeaders = {
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc+proto',
        te: 'trailers',
        'user-agent': 'farsock-node',
      };
      if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`;
      try {
        return session.request(headers);
      } catch (error) {
        // It has ended between two calls, and nobody has told yet.
        if (this.#session === session) this.#session = undefined;
        if (!again) throw new AgentError('UNAVAILABLE', `${this.place}: ${(error as Error).message}`, null, { cause: error });
      }
    }
  }

  #usable(): http2.ClientHttp2Session {
    const usable = this.#session && !this.#session.closed && !this.#session.destroyed;
    return usable && this.#session ? this.#session : this.#connect();
  }

  #connect(): http2.ClientHttp2Session {
    this.#token = this.#endpoint.token();
    const identity = this.#endpoint.identity();
    const session = http2.connect(identity ? 'https://localhost' : 'http://localhost', {
      createConnection: () => this.#dial(identity),
      maxSessionMemory: SESSION_MEMORY,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW, maxFrameSize: FRAME_SIZE },
    });
    // The calls are told themselves.
    session.on('error', () => {});
    const gone = () => {
      if (this.#session === session) this.#session = undefined;
    };
    session.on('goaway', gone);
    session.on('close', gone);
    session.on('connect', () => {
      // Node tells it in the next tick, and whoever closes the connection may have come first.
      if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW);
    });
    this.#watch(session);
    if (this.#held === 0) session.unref();
    this.#session = session;
    return session;
  }

  #dial(identity: Identity | undefined): net.Socket {
    const to = this.#endpoint.address;
    if ('path' in to) return net.connect(to);
    const socket = net.connect({ ...to, noDelay: true, keepAlive: true });
    if (!identity) return socket;
    // Names are told to the agent; addresses are not names. RFC 6066, section 3.
    const servername = net.isIP(to.host) === 0 ? to.host : undefined;
    return tls.connect({ ...identity, socket, host: to.host, servername, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' });
  }

  /**
   * Finds out that nobody is there any more, which TCP alone would not tell for many minutes.
   *
   * Only a silent connection is tried. A ping among bytes that go both ways can stop it for good: HTTP/2 of the agent reads nothing while it
   * owes an answer for which there is no room, and Node's reads nothing while its own writes wait for the agent to read.
   */
  #watch(session: http2.ClientHttp2Session): void {
    let asked = false;
    this.#heard = true;
    const timer = setInterval(() => {
      if (this.#heard || this.#calls === 0 || session.connecting || session.destroyed) asked = false;
      else if (asked) session.destroy(new Error(`no sign of life for ${SILENCE} ms`));
      else asked = session.ping(() => this.heard());
      this.#heard = false;
    }, SILENCE);
    timer.unref();
    session.on('close', () => clearInterval(timer));
  }
}

/** The connections to one agent: calls, events and bytes never wait for each other. */
export class Pool {
  /** For calls with one answer. */
  readonly calls: Connection;
  /** For watching events. */
  readonly events: Connection;
  readonly #endpoint: Endpoint;
  readonly #bulk: Connection[] = [];

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    this.calls = new Connection(endpoint);
    this.events = new Connection(endpoint);
  }

  /** For the bytes of one more socket: the connection that has the fewest. */
  bulk(): Connection {
    let best: Connection | undefined;
    for (const connection of this.#bulk) {
      if (!best || connection.calls < best.calls) best = connection;
    }
    if (best && (best.calls < STREAMS_PER_CONNECTION || this.#bulk.length >= BULK_CONNECTIONS)) return best;
    const another = new Connection(this.#endpoint);
    this.#bulk.push(another);
    return another;
  }

  close(): void {
    for (const connection of [this.calls, this.events, ...this.#bulk]) connection.close();
  }
}
