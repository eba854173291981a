// A session of the agent's: what one host() owns there.

import type { Event } from './gen/farsock/v1/event';
import type { EventGap } from './gen/farsock/v1/event_service';
import { PayloadForm } from './gen/farsock/v1/payload';
import type { AgentError } from './rpc/status';
import type { Connection } from './rpc/connection';
import { Watch } from './watch';

/** What sockets want to know. */
const KINDS = ['accepted', 'connection_dropped', 'accept_failed', 'datagram_received', 'failed', 'closed'];

/** How long an agent may be away before its listeners and UDP sockets are given up, in milliseconds. */
const PATIENCE = 30_000;

/** Who is told what happens to a socket. */
export interface Subscriber {
  event(event: Event, session: Session): void;
  /** Events of the session are missing, perhaps some of this socket. */
  gap(gap: EventGap, session: Session): void;
  /** No more will come: the agent or the session is gone. */
  lost(cause: AgentError | undefined): void;
}

/** A session, and the one watch that all of its sockets share. */
export class Session {
  readonly #connection: Connection;
  readonly #subscribers = new Map<string, Subscriber>();
  readonly #held = new Set<string>();
  #watch: Watch | undefined;
  /** How far its events have been read. */
  #position = 0;
  #minted = 0;
  #renewal: NodeJS.Timeout | undefined;

  constructor(
    /** Its name. */
    readonly id: string,
    /** The addresses that sockets without one get. */
    readonly labAddresses: readonly string[],
    connection: Connection,
  ) {
    this.#connection = connection;
  }

  /** A name for a socket. */
  mint(): string {
    this.#minted += 1;
    return `n${this.#minted}`;
  }

  /** Tells what happens to a socket from its very first event on. To be called before the socket is made. */
  subscribe(socketId: string, subscriber: Subscriber): void {
    this.#subscribers.set(socketId, subscriber);
    this.#held.add(socketId);
    this.#watch ??= new Watch(
      this.#connection,
      {
        sessionId: this.id,
        afterEventSeq: this.#position,
        filter: { kinds: KINDS },
        view: { form: PayloadForm.DATA },
        patience: PATIENCE,
      },
      {
        event: (event) => this.#subscribers.get(event.socketId)?.event(event, this),
        gap: (gap) => this.#each((each) => each.gap(gap, this)),
        restart: () => this.#lost(undefined),
        done: (error) => this.#lost(error),
      },
    );
    this.#watch.ref();
  }

  unsubscribe(socketId: string): void {
    this.#subscribers.delete(socketId);
    this.release(socketId);
    if (this.#subscribers.size === 0) this.#stopWatching();
  }

  /** The process stays alive for a socket. */
  hold(socketId: string): void {
    if (!this.#subscribers.has(socketId)) return;
    this.#held.add(socketId);
    this.#watch?.ref();
  }

  /** It does not any more. */
  release(socketId: string): void {
    this.#held.delete(socketId);
    if (this.#held.size === 0) this.#watch?.unref();
  }

  /**
   * Renews the lease three times within `ttl` milliseconds. `gone` is called when the agent does not have the session any more, or may not
   * have it because no renewal was answered for so long.
   */
  keepAlive(ttl: number, renew: () => Promise<unknown>, gone: (error?: unknown) => void): void {
    let renewed = performance.now();
    this.#renewal = setInterval(() => {
      const asked = performance.now();
      if (asked - renewed >= ttl) return gone();
      renew().then(() => {
        renewed = asked;
      }, gone);
    }, ttl / 3);
    this.#renewal.unref();
  }

  /** Nothing is heard of it any more. */
  close(): void {
    clearInterval(this.#renewal);
    this.#lost(undefined);
  }

  #stopWatching(): void {
    this.#position = this.#watch?.position ?? this.#position;
    this.#watch?.close();
    this.#watch = undefined;
  }

  #lost(cause: AgentError | undefined): void {
    this.#stopWatching();
    this.#held.clear();
    const subscribers = [...this.#subscribers.values()];
    this.#subscribers.clear();
    for (const subscriber of subscribers) subscriber.lost(cause);
  }

  #each(tell: (subscriber: Subscriber) => void): void {
    for (const subscriber of [...this.#subscribers.values()]) tell(subscriber);
  }
}
