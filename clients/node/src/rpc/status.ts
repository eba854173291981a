// How calls end that the agent refuses, or that never reach it.

import { BinaryReader } from '@bufbuild/protobuf/wire';

/** The names of gRPC's status codes, by their number. */
const NAMES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

/** A status of gRPC, by its name. */
export type StatusName = (typeof NAMES)[number];

/** What a status says beside its message: google.rpc.ErrorInfo, and the fields of google.rpc.BadRequest. */
interface Details {
  reason?: string;
  domain?: string;
  metadata: Record<string, string>;
  fields: string[];
}

/** A call did not succeed: the agent refuses it, or cannot be reached. What the kernel answers to a socket is never this. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
  /** Why, for programs: the agent's reason (`SOCKET_NOT_FOUND`, `QUOTA_EXCEEDED`, …), or the status where it gives none. */
  readonly code: string;
  /** The status of gRPC. */
  readonly status: StatusName;
  /** Who gives the reason: `farsock.dev`, or `kernel.farsock.dev` for an errno. */
  readonly domain: string | undefined;
  /** What belongs to the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields of the request that are wrong. */
  readonly fields: readonly string[];

  constructor(status: StatusName, message: string, details?: Uint8Array | null, options?: ErrorOptions) {
    super(message, options);
    const { reason, domain, metadata, fields } = readDetails(details);
    this.status = status;
    this.code = reason ?? status;
    this.domain = domain;
    this.metadata = metadata;
    this.fields = fields;
  }
}

/** The error of a status as it stands in trailers; none for OK. */
export function errorOf(code: string, message: string | undefined, details: string | undefined): AgentError | undefined {
  const name = NAMES[Number(code)] ?? 'UNKNOWN';
  if (name === 'OK') return undefined;
  return new AgentError(name, unescapeMessage(message ?? name), details === undefined ? null : Buffer.from(details, 'base64'));
}

/** gRPC percent-encodes what is not printable ASCII. */
function unescapeMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Reads google.rpc.Status: of its details, those that a program may want. */
function readDetails(bytes: Uint8Array | null | undefined): Details {
  const found: Details = { metadata: {}, fields: [] };
  if (!bytes) return found;
  try {
    eachField(bytes, (field, reader) => {
      if (field !== 3) return false;
      let type = '';
      let value: Uint8Array = new Uint8Array();
      eachField(reader.bytes(), (inner, any) => {
        if (inner === 1) type = any.string();
        else if (inner === 2) value = any.bytes();
        else return false;
        return true;
      });
      if (type.endsWith('/google.rpc.ErrorInfo')) readErrorInfo(value, found);
      if (type.endsWith('/google.rpc.BadRequest')) readBadRequest(value, found);
      return true;
    });
  } catch {
    // The message says it all the same.
  }
  return found;
}

function readErrorInfo(bytes: Uint8Array, found: Details): void {
  eachField(bytes, (field, reader) => {
    if (field === 1) found.reason = reader.string();
    else if (field === 2) found.domain = reader.string();
    else if (field === 3) {
      const entry = readPair(reader.bytes());
      found.metadata[entry[0]] = entry[1];
    } else return false;
    return true;
  });
}

function readBadRequest(bytes: Uint8Array, found: Details): void {
  eachField(bytes, (field, reader) => {
    if (field !== 1) return false;
    found.fields.push(readPair(reader.bytes())[0]);
    return true;
  });
}

/** A message whose first two fields are text. */
function readPair(bytes: Uint8Array): [string, string] {
  const pair: [string, string] = ['', ''];
  eachField(bytes, (field, reader) => {
    if (field !== 1 && field !== 2) return false;
    pair[field - 1] = reader.string();
    return true;
  });
  return pair;
}

function eachField(bytes: Uint8Array, take: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (!take(field, reader)) reader.skip(type);
  }
}
