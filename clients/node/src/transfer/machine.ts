// What the two ends of a TransferSocket stream may send, and when. proto/farsock/v1/transfer.proto has the rules,
// clients/vectors/transfer the sequences that this machine is held to.

/** The most bytes of one `data` frame. */
export const DATA_SIZE = 256 * 1024;

/** The most bytes that one end grants the other in all. */
const CREDIT = Number.MAX_SAFE_INTEGER;

/** One of the two ends of a stream. */
export type Side = 'client' | 'agent';

/** A frame, without its bytes. `create` is an `open`, and `close` an `abort`: either way the client is done with the connection. */
export type Frame =
  | { kind: 'open' | 'end' | 'abort' | 'error' | 'closed' }
  | { kind: 'opened' | 'data' | 'window'; size: number };

/** What is to be done with a frame that is in order: what it says, or nothing, because it has crossed one that makes it pointless. */
export type Verdict = 'take' | 'drop';

/** A frame that must not be sent, by the name that the vectors have for the reason. */
export class Mistake extends Error {
  constructor(readonly reason: string) {
    super(`TransferSocket: ${reason}`);
  }
}

interface Direction {
  granted: number;
  sent: number;
  ended: boolean;
}

/** What one end of a stream knows. It holds no bytes, only their number, and does nothing by itself. */
export class Transfer {
  readonly #side: Side;
  readonly #to: Record<Side, Direction> = {
    agent: { granted: 0, sent: 0, ended: false },
    client: { granted: 0, sent: 0, ended: false },
  };
  #asked = false;
  #open = false;
  #aborted = false;
  #failed = false;
  #closed = false;

  constructor(side: Side) {
    this.#side = side;
  }

  /** This end sends a frame. After a mistake nothing has changed, and it must not be sent. */
  send(frame: Frame): void {
    this.#step(this.#side, frame);
  }

  /** A frame of the other end has arrived. After a mistake the stream is to be ended. */
  receive(frame: Frame): Verdict {
    return this.#step(other(this.#side), frame);
  }

  /** How many bytes this end may send now. */
  get credit(): number {
    return this.#left(this.#side);
  }

  /** How many bytes the other end may still send. */
  get granted(): number {
    return this.#left(other(this.#side));
  }

  /** Whether this end has sent, or has got, the `end` of a side. */
  hasEnded(side: Side): boolean {
    return this.#to[other(side)].ended;
  }

  /** Whether the client is done with the connection. */
  get aborted(): boolean {
    return this.#aborted;
  }

  /** Whether the socket is gone. */
  get closed(): boolean {
    return this.#closed;
  }

  #left(from: Side): number {
    const { granted, sent, ended } = this.#to[other(from)];
    const failed = this.#failed && from === 'client';
    return this.#closed || this.#aborted || failed || ended ? 0 : granted - sent;
  }

  #step(from: Side, frame: Frame): Verdict {
    return from === 'client' ? this.#stepOfClient(frame) : this.#stepOfAgent(frame);
  }

  #stepOfClient(frame: Frame): Verdict {
    const own = this.#side === 'client';
    if (frame.kind === 'opened' || frame.kind === 'error' || frame.kind === 'closed') throw new Mistake('WRONG_SIDE');
    if (this.#aborted) throw new Mistake('AFTER_ABORT');
    if (this.#closed) {
      if (own) throw new Mistake('AFTER_CLOSED');
      return 'drop';
    }
    if (frame.kind === 'open') {
      if (this.#asked) throw new Mistake('OPEN_TWICE');
      this.#asked = true;
      return 'take';
    }
    if (!this.#asked) throw new Mistake('NOT_OPEN');
    switch (frame.kind) {
      case 'data':
        if (this.#failed && own) throw new Mistake('AFTER_ERROR');
        data(this.#to.agent, frame.size);
        return this.#failed ? 'drop' : 'take';
      case 'window':
        grant(this.#to.client, frame.size);
        return 'take';
      case 'end':
        end(this.#to.agent);
        return 'take';
      case 'abort':
        this.#aborted = true;
        return 'take';
    }
  }

  #stepOfAgent(frame: Frame): Verdict {
    const own = this.#side === 'agent';
    if (frame.kind === 'open' || frame.kind === 'abort') throw new Mistake('WRONG_SIDE');
    if (this.#closed) throw new Mistake('AFTER_CLOSED');
    if (frame.kind === 'opened') {
      if (this.#open) throw new Mistake('OPEN_TWICE');
      if (!this.#asked) throw new Mistake('NOT_OPEN');
      if (frame.size > 0) grant(this.#to.agent, frame.size);
      this.#open = true;
      return 'take';
    }
    if (!this.#open) throw new Mistake('NOT_OPEN');
    switch (frame.kind) {
      case 'data':
        if (this.#aborted && own) throw new Mistake('AFTER_ABORT');
        data(this.#to.client, frame.size);
        return this.#aborted ? 'drop' : 'take';
      case 'window':
        grant(this.#to.agent, frame.size);
        return 'take';
      case 'end':
        end(this.#to.client);
        return 'take';
      case 'error':
        this.#failed = true;
        return 'take';
      case 'closed':
        this.#closed = true;
        return 'take';
    }
  }
}

function other(side: Side): Side {
  return side === 'client' ? 'agent' : 'client';
}

function grant(to: Direction, size: number): void {
  if (size === 0) throw new Mistake('NO_WINDOW');
  if (size > CREDIT - to.granted) throw new Mistake('WINDOW_TOO_LARGE');
  to.granted += size;
}

function data(to: Direction, size: number): void {
  if (size === 0) throw new Mistake('NO_DATA');
  if (size > DATA_SIZE) throw new Mistake('DATA_TOO_LARGE');
  if (to.ended) throw new Mistake('AFTER_END');
  if (size > to.granted - to.sent) throw new Mistake('NO_CREDIT');
  to.sent += size;
}

function end(to: Direction): void {
  if (to.ended) throw new Mistake('AFTER_END');
  to.ended = true;
}
