// One call: messages in length-prefixed frames on a stream of HTTP/2, as gRPC has it.

import http2 from 'node:http2';

import { AgentError, errorOf } from './status';

/** Up to so many bytes, a message is copied behind its prefix: cheaper than two writes, and its buffer is free at once. */
const COPIED = 16 * 1024;

/** A message begins with a flag and its size. */
const PREFIX = 5;

/** The largest message that is taken: that of the agent's limit for requests, with room to spare. */
const MESSAGE_SIZE = 64 * 1024 * 1024;

/** How a call is bounded. */
export interface CallOptions {
  /** How long it may take, in milliseconds, until it fails with DEADLINE_EXCEEDED. Absent: for ever. What the agent has begun goes on. */
  timeout?: number;
  /** Cancels it. What the agent has begun goes on. */
  signal?: AbortSignal;
}

/** Who is told what comes. */
export interface Listener {
  /** A message. The bytes are the listener's. */
  message(bytes: Buffer): void;
  /** The end, once, last. */
  done(error?: AgentError): void;
}

/** What a call needs of its connection. */
export interface Carrier {
  /** Where it leads to, for people. */
  readonly place: string;
  /** The process stays alive for it. */
  hold(): void;
  /** It does not any more. */
  release(): void;
  /** Something has come. */
  heard(): void;
  /** A call is over. */
  finished(): void;
}

/** A call that is under way. */
export class Call {
  readonly #carrier: Carrier;
  readonly #stream: http2.ClientHttp2Stream;
  readonly #listener: Listener;
  readonly #messages = new Messages();
  #status: AgentError | 'ok' | undefined;
  #failure: AgentError | undefined;
  #over = false;
  #held = true;
  #forget: (() => void) | undefined;

  constructor(carrier: Carrier, stream: http2.ClientHttp2Stream, listener: Listener, options: CallOptions) {
    this.#carrier = carrier;
    this.#stream = stream;
    this.#listener = listener;
    carrier.hold();
    stream.on('response', (headers) => this.#response(headers));
    stream.on('trailers', (headers) => this.#readStatus(headers));
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('end', () => this.#status !== undefined && this.#finish());
    stream.on('error', (error) => this.#fail(error));
    stream.on('close', () => this.#finish());
    this.#bound(options);
  }

  /** Whether it is over. */
  get over(): boolean {
    return this.#over;
  }

  /** Sends a message. */
  send(message: Uint8Array): void {
    this.sendParts(message, undefined, undefined);
  }

  /** Sends a message of two parts. `sent` is called when the bytes may be changed again. */
  sendParts(head: Uint8Array, body: Uint8Array | undefined, sent: (() => void) | undefined): void {
    const size = head.length + (body?.length ?? 0);
    const copied = size <= COPIED || body === undefined;
    const bytes = Buffer.allocUnsafe(PREFIX + (copied ? size : head.length));
    bytes[0] = 0;
    bytes.writeUInt32BE(size, 1);
    bytes.set(head, PREFIX);
    if (this.#over || this.#stream.writableEnded || this.#stream.destroyed) {
      if (sent) process.nextTick(sent);
    } else if (copied) {
      if (body) bytes.set(body, PREFIX + head.length);
      this.#stream.write(bytes);
      sent?.();
    } else {
      this.#stream.cork();
      this.#stream.write(bytes);
      this.#stream.write(body, sent && (() => sent()));
      this.#stream.uncork();
    }
  }

  /** Sends no more messages. */
  end(): void {
    if (!this.#over && !this.#stream.writableEnded) this.#stream.end();
  }

  /** Gives it up. The listener is told with CANCELLED, unless it is over already. */
  cancel(error = new AgentError('CANCELLED', 'the call was cancelled')): void {
    if (this.#over) return;
    this.#failure ??= error;
    this.#stream.close(http2.constants.NGHTTP2_CANCEL);
    this.#finish();
  }

  /** The process stays alive for it, as it does from the start. */
  ref(): void {
    if (!this.#over && !this.#held) {
      this.#held = true;
      this.#carrier.hold();
    }
  }

  /** The process need not stay alive for it. */
  unref(): void {
    if (!this.#over && this.#held) {
      this.#held = false;
      this.#carrier.release();
    }
  }

  /** Takes no more messages for now. Only for streams without credit of their own. */
  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #bound({ timeout, signal }: CallOptions): void {
    let timer: NodeJS.Timeout | undefined;
    if (timeout !== undefined) {
      // Kept here alone: the agent would answer its own end of it, with CANCELLED, at the same moment.
      const late = () =>
        this.cancel(new AgentError('DEADLINE_EXCEEDED', `${this.#carrier.place}: no answer within ${timeout} ms`));
      timer = setTimeout(late, timeout);
    }
    const cancelled = () => this.cancel(new AgentError('CANCELLED', 'the call was cancelled', null, { cause: signal?.reason }));
    if (signal?.aborted) process.nextTick(cancelled);
    else signal?.addEventListener('abort', cancelled, { once: true });
    this.#forget = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancelled);
    };
  }

  #response(headers: http2.IncomingHttpHeaders): void {
    if (headers['grpc-status'] !== undefined) this.#readStatus(headers);
    else if (headers[':status' as keyof typeof headers] !== (200 as unknown)) {
      const status = headers[':status' as keyof typeof headers];
      this.#failure ??= new AgentError('UNAVAILABLE', `${this.#carrier.place}: HTTP status ${status}: this is no agent`);
    }
  }

  #readStatus(headers: http2.IncomingHttpHeaders): void {
    const text = (name: string) => headers[name] as string | undefined;
    const code = text('grpc-status');
    if (code === undefined) return;
    this.#status = errorOf(code, text('grpc-message'), text('grpc-status-details-bin')) ?? 'ok';
  }

  #take(chunk: Buffer): void {
    this.#carrier.heard();
    // What a listener throws is the program's, as it is with Node's own streams.
    const malformed = this.#messages.take(chunk, (message) => this.#over || this.#listener.message(message));
    if (malformed !== undefined) this.cancel(new AgentError('INTERNAL', `${this.#carrier.place}: ${malformed}`));
  }

  #fail(error: Error): void {
    const cause = (error.cause as Error | undefined) ?? error;
    const message = `${this.#carrier.place}: ${cause.message || (cause as NodeJS.ErrnoException).code}`;
    this.#failure ??= new AgentError('UNAVAILABLE', message, null, { cause });
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#forget?.();
    if (this.#held) this.#carrier.release();
    this.#carrier.finished();
    // The agent may have ended a call whose messages go on.
    if (!this.#stream.writableEnded && !this.#stream.destroyed) this.#stream.close(http2.constants.NGHTTP2_CANCEL);
    const lost = () => new AgentError('UNAVAILABLE', `${this.#carrier.place}: the connection was lost`);
    this.#listener.done(this.#status === 'ok' ? undefined : (this.#status ?? this.#failure ?? lost()));
  }
}

/** Puts messages together; answers what is wrong with them. */
class Messages {
  #prefix = Buffer.alloc(PREFIX);
  #prefixed = 0;
  #body: Buffer | undefined;
  #filled = 0;

  take(chunk: Buffer, message: (bytes: Buffer) => void): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body) {
        const size = chunk.copy(this.#body, this.#filled, at);
        at += size;
        this.#filled += size;
        if (this.#filled < this.#body.length) return undefined;
        const whole = this.#body;
        this.#body = undefined;
        message(whole);
        continue;
      }
      const size = chunk.copy(this.#prefix, this.#prefixed, at);
      at += size;
      this.#prefixed += size;
      if (this.#prefixed < PREFIX) return undefined;
      this.#prefixed = 0;
      const length = this.#prefix.readUInt32BE(1);
      if (this.#prefix[0] !== 0) return 'a message is compressed, which nobody asked for';
      if (length > MESSAGE_SIZE) return `a message of ${length} bytes is too large`;
      if (at + length <= chunk.length) {
        message(chunk.subarray(at, at + length));
        at += length;
      } else {
        this.#body = Buffer.allocUnsafe(length);
        this.#filled = 0;
      }
    }
    return undefined;
  }
}
