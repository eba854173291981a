// Errors as Node's own sockets have them: code, errno, syscall, address, port, and the message word for word.

import { getSystemErrorMap } from 'node:util';

import { Operation, type SocketError } from './gen/farsock/v1/call';

/** What Node's errors of sockets carry. */
export interface SystemError extends NodeJS.ErrnoException {
  address?: string;
  port?: number;
  localAddress?: string;
  localPort?: number;
  hostname?: string;
}

/** A code with its number and words, as this Node has them. */
interface Known {
  errno: number;
  text: string;
}

const KNOWN = new Map<string, Known>();
for (const [errno, [code, text]] of getSystemErrorMap()) KNOWN.set(code, { errno, text });

/** What Node calls the operations. */
const SYSCALLS: Partial<Record<Operation, string>> = {
  [Operation.CREATE]: 'socket',
  [Operation.LOOK_UP]: 'getaddrinfo',
  [Operation.BIND]: 'bind',
  [Operation.LISTEN]: 'listen',
  [Operation.ACCEPT]: 'accept',
  [Operation.CONNECT]: 'connect',
  [Operation.DISCONNECT]: 'disconnect',
  [Operation.WRITE]: 'write',
  [Operation.SEND]: 'send',
  [Operation.SHUTDOWN]: 'shutdown',
  [Operation.CLOSE]: 'close',
  [Operation.SET_OPTION]: 'setsockopt',
  [Operation.GET_OPTION]: 'getsockopt',
};

/** What Node calls the operation of an error. */
export function syscallOf(error: SocketError, receive: 'read' | 'recvmsg' = 'read'): string {
  return SYSCALLS[error.operation] ?? (error.operation === Operation.RECEIVE ? receive : error.syscall);
}

/** The number that Node has for a code; the far host's own one for a code that is not known here. */
function errnoOf(code: string, number: number): number {
  return KNOWN.get(code)?.errno ?? -number;
}

function textOf(code: string): string {
  return KNOWN.get(code)?.text ?? 'unknown error';
}

/** `read ECONNRESET`. */
export function errnoException(code: string, syscall: string, options: { number?: number; cause?: unknown } = {}): SystemError {
  return make(`${syscall} ${code}`, { errno: errnoOf(code, options.number ?? 0), code, syscall }, options.cause);
}

/** `connect ECONNREFUSED 127.0.0.1:80`. */
export function exceptionWithHostPort(
  code: string,
  syscall: string,
  address: string | undefined,
  port: number | undefined,
  options: { number?: number; local?: string; cause?: unknown } = {},
): SystemError {
  const local = options.local === undefined ? '' : ` - Local (${options.local})`;
  const message = `${syscall} ${code}${place(address, port)}${local}`;
  const fields = { errno: errnoOf(code, options.number ?? 0), code, syscall, address, ...(port ? { port } : {}) };
  return make(message, fields, options.cause);
}

/** `listen EADDRINUSE: address already in use 127.0.0.1:80`. */
export function listenException(code: string, number: number, address: string | undefined, port: number): SystemError {
  const message = `listen ${code}: ${textOf(code)}${place(address, port)}`;
  const fields = { code, errno: errnoOf(code, number), syscall: 'listen', address, ...(port ? { port } : {}) };
  return make(message, fields);
}

/** `getaddrinfo ENOTFOUND lab-z`. */
export function lookupException(name: string, hostname: string): SystemError {
  const code = name === 'EAI_NONAME' || name === 'EAI_NODATA' ? 'ENOTFOUND' : name;
  const errno = code === 'ENOTFOUND' ? -3008 : errnoOf(code, 3000);
  return make(`getaddrinfo ${code} ${hostname}`, { errno, code, syscall: 'getaddrinfo', hostname });
}

/** An error of Node itself, such as ERR_SOCKET_CLOSED. */
export function nodeError(Base: ErrorConstructor | RangeErrorConstructor, code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Base(message), { code });
}

/** The connection to the agent broke, or the agent ended the socket: no word of the network. */
export function abandoned(syscall: string, cause: unknown): SystemError {
  return errnoException('ECONNABORTED', syscall, { cause });
}

function place(address: string | undefined, port: number | undefined): string {
  if (port && port > 0) return ` ${address}:${port}`;
  return address ? ` ${address}` : '';
}

function make(message: string, fields: object, cause?: unknown): SystemError {
  const error = cause === undefined ? new Error(message) : new Error(message, { cause });
  return Object.assign(error, fields);
}
