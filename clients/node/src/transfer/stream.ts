// A far connection as frames: bytes out within the agent's credit, bytes in within ours.

import {
  type TransferCreate,
  type TransferOpen,
  type TransferOpened,
  TransferSocketRequest,
  TransferSocketResponse,
} from '../gen/farsock/v1/transfer';
import type { SocketError } from '../gen/farsock/v1/call';
import type { SocketClosed } from '../gen/farsock/v1/socket';
import type { Call } from '../rpc/call';
import type { Connection } from '../rpc/connection';
import { AgentError } from '../rpc/status';
import { duration } from '../time';
import { DATA_SIZE, type Frame, type Mistake, Transfer, type Verdict } from './machine';

const PATH = '/farsock.v1.SocketService/TransferSocket';

/** `data` as protobuf writes it: field 3, with a length. The same in both directions. */
const DATA_TAG = (3 << 3) | 2;

/** Who is told what comes. */
export interface Handler {
  /** The connection is there, or could not be made. */
  opened(opened: TransferOpened): void;
  /** Bytes of the peer. */
  data(bytes: Buffer): void;
  /** The peer has ended its direction. */
  end(): void;
  /** What the kernel objects to. */
  error(error: SocketError): void;
  /** The end of the stream, once, last: with the end of the socket, if that has come, and with what broke the stream, if anything has. */
  done(closed: SocketClosed | undefined, failure: AgentError | undefined): void;
}

/** How a stream begins. */
export type Beginning =
  | { $case: 'open'; value: Partial<TransferOpen> }
  | { $case: 'create'; value: Partial<Omit<TransferCreate, 'tcp'>> & { tcp: Partial<NonNullable<TransferCreate['tcp']>> } };

/** Bytes that wait for credit. */
interface Waiting {
  bytes: Uint8Array;
  sent: (error?: Error) => void;
}

/** One TransferSocket stream. */
export class TransferStream {
  readonly #machine = new Transfer('client');
  readonly #handler: Handler;
  readonly #call: Call;
  readonly #waiting: Waiting[] = [];
  #closed: SocketClosed | undefined;
  #opened = false;
  #endWanted = false;
  #closeWanted: number | undefined;

  constructor(connection: Connection, beginning: Beginning, handler: Handler) {
    this.#handler = handler;
    this.#call = connection.open(PATH, {
      message: (bytes) => this.#take(bytes),
      done: (failure) => this.#done(failure),
    });
    this.#machine.send({ kind: 'open' });
    this.#send(beginning as TransferSocketRequest['frame']);
  }

  /** How many bytes the agent may still send. */
  get granted(): number {
    return this.#machine.granted;
  }

  /** Whether both directions have ended. */
  get ended(): boolean {
    return this.#machine.hasEnded('client') && this.#machine.hasEnded('agent');
  }

  /** Whether the stream is over. */
  get over(): boolean {
    return this.#call.over;
  }

  /** Lets the agent send so many bytes more. */
  grant(size: number): void {
    if (this.#isLeft()) return;
    this.#machine.send({ kind: 'window', size });
    this.#send({ $case: 'window', value: size });
  }

  /** Sends bytes, as credit allows. `sent` is called when all of them are on their way and may be changed again. */
  write(bytes: Uint8Array, sent: (error?: Error) => void): void {
    this.#waiting.push({ bytes, sent });
    this.#pump();
  }

  /** Sends a FIN after all bytes. */
  end(): void {
    this.#endWanted = true;
    this.#pump();
  }

  /** Closes the socket. The kernel gets what was sent before within this time, in milliseconds; what waits for credit is discarded. */
  close(timeout: number): void {
    // There is no credit before the connection is there, and so nothing that was written has been sent.
    if (this.#opened || this.#waiting.length === 0) this.#close(timeout);
    else this.#closeWanted = timeout;
  }

  #close(timeout: number): void {
    this.#leave({ $case: 'close', value: { timeout: duration(timeout) } });
  }

  /** Resets the connection. */
  abort(): void {
    this.#leave({ $case: 'abort', value: {} });
  }

  /** Gives the stream up. The socket is reset if the stream has made it or owns it. */
  cancel(): void {
    this.#call.cancel();
  }

  ref(): void {
    this.#call.ref();
  }

  unref(): void {
    this.#call.unref();
  }

  /** Whether nothing of this end's means anything any more. */
  #isLeft(): boolean {
    return this.#machine.aborted || this.#machine.closed || this.#call.over;
  }

  #leave(frame: NonNullable<TransferSocketRequest['frame']>): void {
    if (this.#isLeft()) return;
    this.#machine.send({ kind: 'abort' });
    this.#send(frame);
    this.#call.end();
    this.#discard();
  }

  #send(frame: TransferSocketRequest['frame']): void {
    this.#call.send(TransferSocketRequest.encode(TransferSocketRequest.fromPartial({ frame } as never)).finish());
  }

  #pump(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (this.#isLeft()) return this.#discard();
      const credit = Math.min(this.#machine.credit, DATA_SIZE);
      if (next.bytes.length > 0 && credit === 0) return;
      const last = next.bytes.length <= credit;
      const piece = last ? next.bytes : next.bytes.subarray(0, credit);
      if (last) this.#waiting.shift();
      else next.bytes = next.bytes.subarray(credit);
      this.#sendData(piece, last ? next.sent : undefined);
    }
    if (this.#endWanted && !this.#isLeft() && !this.#machine.hasEnded('client')) {
      this.#machine.send({ kind: 'end' });
      this.#send({ $case: 'end', value: {} });
    }
  }

  #sendData(bytes: Uint8Array, sent: (() => void) | undefined): void {
    if (bytes.length === 0) return sent?.();
    this.#machine.send({ kind: 'data', size: bytes.length });
    this.#call.sendParts(dataHead(bytes.length), bytes, sent && (() => sent()));
  }

  /** What waits will never be sent. */
  #discard(): void {
    for (const { sent } of this.#waiting.splice(0)) sent(new AgentError('CANCELLED', 'the stream is over'));
  }

  #take(message: Buffer): void {
    const bytes = readData(message);
    const frame = bytes ? undefined : TransferSocketResponse.decode(message).frame;
    const kind = bytes ? { kind: 'data' as const, size: bytes.length } : frameOf(frame);
    let verdict: Verdict = 'drop';
    try {
      if (kind) verdict = this.#machine.receive(kind);
    } catch (mistake) {
      return this.#call.cancel(
        new AgentError('INTERNAL', `the agent has sent what it must not: ${(mistake as Mistake).message}`),
      );
    }
    if (verdict === 'drop') return;
    if (bytes) this.#handler.data(bytes);
    else this.#takeFrame(frame);
  }

  #takeFrame(frame: TransferSocketResponse['frame']): void {
    switch (frame?.$case) {
      case 'opened':
        this.#opened = true;
        this.#handler.opened(frame.value);
        this.#pump();
        if (this.#closeWanted !== undefined) this.#close(this.#closeWanted);
        return;
      case 'window':
        return this.#pump();
      case 'end':
        return this.#handler.end();
      case 'error':
        return this.#handler.error(frame.value);
      case 'closed':
        this.#closed = frame.value;
    }
  }

  #done(failure: AgentError | undefined): void {
    this.#discard();
    this.#handler.done(this.#closed, failure);
  }
}

/** What the state machine needs to know of a frame of the agent's; nothing of one that is newer than this client. */
function frameOf(frame: TransferSocketResponse['frame']): Frame | undefined {
  switch (frame?.$case) {
    case 'opened':
      return { kind: 'opened', size: frame.value.window };
    case 'window':
      return { kind: 'window', size: frame.value };
    case 'end':
    case 'error':
    case 'closed':
      return { kind: frame.$case };
    default:
      return undefined;
  }
}

/** What stands before the bytes of a `data` frame. */
function dataHead(size: number): Uint8Array {
  const head = [DATA_TAG];
  for (let rest = size; ; rest >>>= 7) {
    if (rest < 0x80) {
      head.push(rest);
      return Uint8Array.from(head);
    }
    head.push((rest & 0x7f) | 0x80);
  }
}

/** The bytes of a message that is a `data` frame, where they stand. */
function readData(message: Buffer): Buffer | undefined {
  if (message[0] !== DATA_TAG) return undefined;
  let size = 0;
  for (let at = 1, shift = 0; at < message.length && shift < 28; at += 1, shift += 7) {
    const byte = message[at] as number;
    size |= (byte & 0x7f) << shift;
    if (byte < 0x80) return at + 1 + size === message.length ? message.subarray(at + 1) : undefined;
  }
  return undefined;
}
