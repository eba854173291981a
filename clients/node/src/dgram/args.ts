// What callers of dgram hand over.

import { nodeError } from '../errors';
import { invalidType } from '../net/args';

/** What a datagram may be made of. */
export type Bytes = NodeJS.ArrayBufferView | string;

export function notConnected(): Error {
  return nodeError(Error, 'ERR_SOCKET_DGRAM_NOT_CONNECTED', 'Not connected');
}

/** `::%eth0` means the interface. */
export function zoneOrAddress(address: string): string {
  return address.includes('%') ? address.slice(address.indexOf('%') + 1) : address;
}

export function slice(buffer: Bytes, offset: number, length: number): Buffer {
  const bytes = view(buffer, 'buffer');
  const [from, size] = [offset >>> 0, length >>> 0];
  const outside = (name: string) => nodeError(RangeError, 'ERR_BUFFER_OUT_OF_BOUNDS', `"${name}" is outside of buffer bounds`);
  if (from > bytes.length) throw outside('offset');
  if (from + size > bytes.length) throw outside('length');
  return bytes.subarray(from, from + size);
}

/** One datagram of all the parts that the caller has. */
export function gather(list: Bytes | Bytes[]): Buffer {
  if (!Array.isArray(list)) return view(list, 'buffer');
  return Buffer.concat(list.map((each) => view(each, 'buffer list arguments', list)));
}

export function view(bytes: Bytes, name: string, whole: unknown = bytes): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes);
  if (ArrayBuffer.isView(bytes)) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  throw invalidType(name, 'of type string or an instance of Buffer, TypedArray, or DataView', whole);
}
