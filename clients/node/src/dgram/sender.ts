// Datagrams on their way to the agent: in the order in which they were sent, as many in one call as wait.

import { exceptionWithHostPort } from '../errors';
import type { Report } from '../gen/farsock/v1/call';
import type { SendDatagramsResponse } from '../gen/farsock/v1/socket_service';
import { join } from '../net/address';

/** How many datagrams, and how many bytes of them, go in one call to the agent: half of its own limits. */
const DATAGRAMS_PER_CALL = 512;
const BYTES_PER_CALL = 512 * 1024;

/** Who is told how it went. */
export type Sent = (error: Error | null, bytes?: number) => void;

/** A datagram that waits to be sent. */
export interface Outgoing {
  bytes: Buffer;
  /** Absent: to the remote address of the socket. */
  to: { address: string; port: number } | undefined;
  sent: Sent | undefined;
}

/** A datagram as the agent takes it. */
interface Datagram {
  destination: string | undefined;
  payload: { content: { $case: 'data'; value: Uint8Array } } | undefined;
}

/** What one socket has to send. */
export class Sender {
  readonly #call: (datagrams: Datagram[]) => Promise<SendDatagramsResponse>;
  readonly #failed: (error: unknown) => void;
  readonly #waiting: Outgoing[] = [];
  #flushing = false;

  /** `call` sends datagrams; `failed` is told of an error that nobody else wants to know. */
  constructor(call: (datagrams: Datagram[]) => Promise<SendDatagramsResponse>, failed: (error: unknown) => void) {
    this.#call = call;
    this.#failed = failed;
  }

  get count(): number {
    return this.#waiting.length;
  }

  get bytes(): number {
    return this.#waiting.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** Takes one more; answers whether flush() is to be called for it. */
  add(outgoing: Outgoing): boolean {
    this.#waiting.push(outgoing);
    const first = !this.#flushing;
    this.#flushing = true;
    return first;
  }

  /** Sends all that waits. Never fails: whoever has sent a datagram is told. */
  async flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#next();
      try {
        const answer = await this.#call(batch.map(write));
        this.#waiting.splice(0, settle(batch, answer.datagramsSent ?? 0, answer.report));
      } catch (error) {
        this.#waiting.splice(0, batch.length);
        for (const { sent } of batch) if (sent) process.nextTick(sent, error);
        if (batch.every(({ sent }) => sent === undefined)) this.#failed(error);
      }
    }
    this.#flushing = false;
  }

  #next(): Outgoing[] {
    let size = 0;
    const batch: Outgoing[] = [];
    for (const outgoing of this.#waiting) {
      size += outgoing.bytes.length;
      if (batch.length > 0 && (batch.length >= DATAGRAMS_PER_CALL || size > BYTES_PER_CALL)) break;
      batch.push(outgoing);
    }
    return batch;
  }
}

function write({ bytes, to }: Outgoing): Datagram {
  const payload = bytes.length > 0 ? { content: { $case: 'data' as const, value: bytes } } : undefined;
  return { destination: to && join(to.address, to.port), payload };
}

/** Tells those of whom it is known how it went, and how many they are: what stands behind one that was not sent was not tried. */
function settle(batch: Outgoing[], count: number, report: Report | undefined): number {
  for (const { bytes, sent } of batch.slice(0, count)) if (sent) process.nextTick(sent, null, bytes.length);
  const failed = batch[count];
  if (!failed) return count;
  const code = report?.timedOut ? 'EAGAIN' : report?.error?.name;
  if (code !== undefined && failed.sent) {
    const { address, port } = failed.to ?? {};
    process.nextTick(failed.sent, exceptionWithHostPort(code, 'send', address, port, { number: report?.error?.number }));
  }
  return count + 1;
}
