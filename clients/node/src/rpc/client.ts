// The whole API as functions with the types of its messages.

import type { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';

import type { Call, CallOptions } from './call';
import type { Connection } from './connection';
import type { AgentError } from './status';

/** How many messages of a stream wait for their reader before the agent has to. */
const WAITING_MESSAGES = 64;

/** What the generated code has for a message. */
interface MessageType<T> {
  encode(message: T, writer?: BinaryWriter): BinaryWriter;
  decode(input: BinaryReader | Uint8Array, length?: number): T;
  // biome-ignore lint/suspicious/noExplicitAny: each generated type takes its own partial form.
  fromPartial(object: any): T;
}

interface MethodDefinition {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: any message.
  readonly requestType: MessageType<any>;
  readonly requestStream: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: any message.
  readonly responseType: MessageType<any>;
  readonly responseStream: boolean;
}

/** What the generated code has for a service. */
export interface ServiceDefinition {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, MethodDefinition>>;
}

type Request<M extends MethodDefinition> = Parameters<M['requestType']['fromPartial']>[0];
type Response<M extends MethodDefinition> = ReturnType<M['responseType']['decode']>;

/** A stream of messages both ways. */
export interface Duplex<Q, R> extends AsyncIterable<R> {
  /** Sends a message. */
  send(request: Q): void;
  /** Sends no more. */
  end(): void;
  /** Gives the stream up. */
  cancel(): void;
}

/** The functions of a service: a promise for one answer, an async iterable for many. */
export type Client<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods']]: D['methods'][K] extends { requestStream: true }
    ? (options?: CallOptions) => Duplex<Request<D['methods'][K]>, Response<D['methods'][K]>>
    : D['methods'][K] extends { responseStream: true }
      ? (request?: Request<D['methods'][K]>, options?: CallOptions) => AsyncIterable<Response<D['methods'][K]>>
      : (request?: Request<D['methods'][K]>, options?: CallOptions) => Promise<Response<D['methods'][K]>>;
};

/** Makes the functions of a service. */
export function client<D extends ServiceDefinition>(
  service: D,
  connections: { calls: Connection; streams: Connection },
): Client<D> {
  const functions: Record<string, unknown> = {};
  for (const [key, method] of Object.entries(service.methods)) {
    const path = `/${service.fullName}/${method.name}`;
    if (method.requestStream) {
      functions[key] = (options?: CallOptions) => new Stream(method, path, connections.streams, options);
    } else if (method.responseStream) {
      functions[key] = (request: unknown, options?: CallOptions) => {
        const stream = new Stream(method, path, connections.streams, options);
        stream.send(request);
        stream.end();
        return stream;
      };
    } else {
      functions[key] = (request: unknown, options?: CallOptions) => unary(method, path, connections.calls, request, options);
    }
  }
  return functions as Client<D>;
}

function unary(
  method: MethodDefinition,
  path: string,
  connection: Connection,
  request: unknown,
  options?: CallOptions,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let answer: Buffer | undefined;
    const message = (bytes: Buffer) => {
      answer = bytes;
    };
    const done = (error?: AgentError) => {
      if (error) reject(error);
      else resolve(method.responseType.decode(answer ?? new Uint8Array()));
    };
    const call = connection.open(path, { message, done }, options);
    call.send(encode(method, request));
    call.end();
  });
}

function encode(method: MethodDefinition, request: unknown): Uint8Array {
  return method.requestType.encode(method.requestType.fromPartial(request ?? {})).finish();
}

/** A stream whose reader is one loop. Whoever leaves the loop gives the stream up. */
class Stream implements Duplex<unknown, unknown> {
  readonly #method: MethodDefinition;
  readonly #call: Call;
  readonly #waiting: unknown[] = [];
  #wake: (() => void) | undefined;
  #done: { error: AgentError | undefined } | undefined;

  constructor(method: MethodDefinition, path: string, connection: Connection, options?: CallOptions) {
    this.#method = method;
    const message = (bytes: Buffer) => {
      this.#waiting.push(method.responseType.decode(bytes));
      if (this.#waiting.length >= WAITING_MESSAGES) this.#call.pause();
      this.#wake?.();
    };
    const done = (error?: AgentError) => {
      this.#done = { error };
      this.#wake?.();
    };
    this.#call = connection.open(path, { message, done }, options);
  }

  send(request: unknown): void {
    this.#call.send(encode(this.#method, request));
  }

  end(): void {
    this.#call.end();
  }

  cancel(): void {
    this.#call.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<unknown> {
    try {
      for (;;) {
        while (this.#waiting.length > 0) yield this.#waiting.shift();
        if (this.#done?.error) throw this.#done.error;
        if (this.#done) return;
        this.#call.resume();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      this.#call.cancel();
    }
  }
}
