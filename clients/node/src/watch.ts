// Reading the events of a session, whatever happens to the connection meanwhile.

import type { Event } from './gen/farsock/v1/event';
import {
  type EventFilter,
  type EventGap,
  WatchEventsRequest,
  WatchEventsResponse,
  type WatchOpened,
} from './gen/farsock/v1/event_service';
import type { PayloadView } from './gen/farsock/v1/payload';
import type { Call } from './rpc/call';
import type { Connection } from './rpc/connection';
import type { AgentError } from './rpc/status';

const PATH = '/farsock.v1.EventService/WatchEvents';

/** How long to wait before a lost connection is made anew, in milliseconds: twice as long each time. */
const FIRST_PAUSE = 50;
const LAST_PAUSE = 2000;

/** How many events wait for the reader of an iterable before the agent has to. */
const WAITING_EVENTS = 1024;

/** What a watcher is told. */
export interface WatchHandler {
  event(event: Event): void;
  /** Events are missing: they are not kept any more. */
  gap(gap: EventGap): void;
  /** The agent was restarted: its numbers begin anew, and what was there before is gone. */
  restart(instanceId: string): void;
  /** The end. Without an error nothing more will ever come: the session was deleted. */
  done(error?: AgentError): void;
}

/** What to watch. */
export interface WatchRequest {
  sessionId: string;
  /** Begin after this number. Absent: with the oldest event that is kept. */
  afterEventSeq?: number;
  /** Begin with what happens from now on. */
  fromNow?: boolean;
  filter?: Partial<EventFilter>;
  view?: Partial<PayloadView>;
  /** Give up when the agent has not been reached for so long, in milliseconds. Absent: never. */
  patience?: number;
}

/** A watch that comes back where it was. */
export class Watch {
  readonly #connection: Connection;
  readonly #request: WatchRequest;
  readonly #handler: WatchHandler;
  #call: Call | undefined;
  #instanceId = '';
  #restarted = false;
  #after: number | undefined;
  #pause = FIRST_PAUSE;
  #lostAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;
  #held = true;

  constructor(connection: Connection, request: WatchRequest, handler: WatchHandler) {
    this.#connection = connection;
    this.#request = request;
    this.#handler = handler;
    this.#after = request.afterEventSeq;
    this.#begin();
  }

  /** The number of the last event that it has seen, or from which on it will go on. */
  get position(): number | undefined {
    return this.#after;
  }

  /** Watches no more. The handler is not told. */
  close(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#call?.cancel();
  }

  ref(): void {
    this.#held = true;
    this.#call?.ref();
    this.#timer?.ref();
  }

  unref(): void {
    this.#held = false;
    this.#call?.unref();
    this.#timer?.unref();
  }

  pause(): void {
    this.#call?.pause();
  }

  resume(): void {
    this.#call?.resume();
  }

  #begin(): void {
    const { sessionId, filter, view, fromNow } = this.#request;
    const listener = {
      message: (bytes: Buffer) => this.#take(bytes),
      done: (error?: AgentError) => this.#ended(error),
    };
    try {
      this.#call = this.#connection.open(PATH, listener);
    } catch (error) {
      this.#ended(error as AgentError);
      return;
    }
    if (!this.#held) this.#call.unref();
    const begun = this.#after !== undefined || this.#restarted || this.#instanceId !== '';
    const request = WatchEventsRequest.fromPartial({
      sessionId,
      filter,
      view,
      instanceId: this.#instanceId,
      afterEventSeq: this.#after,
      fromNow: !begun && fromNow === true,
    });
    this.#call.send(WatchEventsRequest.encode(request).finish());
    this.#call.end();
  }

  #take(bytes: Buffer): void {
    const { frame } = WatchEventsResponse.decode(bytes);
    if (this.#over) return;
    switch (frame?.$case) {
      case 'opened':
        this.#opened(frame.value);
        break;
      case 'batch':
        for (const event of frame.value.events) this.#handler.event(event);
        this.#after = frame.value.throughSeq;
        break;
      case 'gap':
        this.#after = frame.value.lastSeq;
        this.#handler.gap(frame.value);
    }
  }

  #opened({ instanceId, oldestSeq, headSeq }: WatchOpened): void {
    this.#pause = FIRST_PAUSE;
    this.#lostAt = undefined;
    this.#instanceId = instanceId;
    // Whoever is cut off before anything has come must come back to where this has begun.
    const fromNow = this.#request.fromNow && !this.#restarted;
    this.#after ??= fromNow || oldestSeq === 0 ? headSeq : oldestSeq - 1;
    if (this.#restarted) {
      this.#restarted = false;
      this.#handler.restart(instanceId);
    }
  }

  #ended(error: AgentError | undefined): void {
    if (this.#over) return;
    if (error?.code === 'INSTANCE_CHANGED') {
      this.#restarted = true;
      this.#instanceId = '';
      this.#after = undefined;
      return this.#again(0);
    }
    const lost = error === undefined || error.status === 'UNAVAILABLE' || error.status === 'INTERNAL';
    if (!lost) return this.#finish(error.code === 'SESSION_NOT_FOUND' && this.#instanceId !== '' ? undefined : error);
    this.#lostAt ??= Date.now();
    if (Date.now() - this.#lostAt > (this.#request.patience ?? Infinity)) return this.#finish(error);
    this.#again(this.#pause);
    this.#pause = Math.min(2 * this.#pause, LAST_PAUSE);
  }

  #again(pause: number): void {
    this.#timer = setTimeout(() => this.#begin(), pause);
    if (!this.#held) this.#timer.unref();
  }

  #finish(error: AgentError | undefined): void {
    this.#over = true;
    this.#handler.done(error);
  }
}

/** What an iterable of events yields. */
export type WatchValue =
  | { kind: 'event'; event: Event }
  | { kind: 'gap'; gap: EventGap }
  | { kind: 'restart'; instanceId: string };

/** Events as an async iterable. It ends when the session is deleted, and when the signal says so; a gap or a restart is a value of it. */
export async function* watchEvents(
  connection: Connection,
  request: WatchRequest,
  signal?: AbortSignal,
): AsyncGenerator<WatchValue, void> {
  const waiting: WatchValue[] = [];
  let over: { error?: AgentError } | undefined;
  let wake: (() => void) | undefined;
  const tell = (value: WatchValue) => {
    waiting.push(value);
    if (waiting.length >= WAITING_EVENTS) watch.pause();
    wake?.();
  };
  const finish = (error?: AgentError) => {
    over = { error };
    wake?.();
  };
  const watch = new Watch(connection, request, {
    event: (event) => tell({ kind: 'event', event }),
    gap: (gap) => tell({ kind: 'gap', gap }),
    restart: (instanceId) => tell({ kind: 'restart', instanceId }),
    done: finish,
  });
  const stop = () => finish();
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    while (!signal?.aborted) {
      const value = waiting.shift();
      if (value) {
        yield value;
      } else if (over) {
        if (over.error) throw over.error;
        return;
      } else {
        watch.resume();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    watch.close();
  }
}
