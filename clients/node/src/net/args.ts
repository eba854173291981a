// What callers of net and dgram hand over, put in order as Node does it.

import { inspect } from 'node:util';

import { nodeError } from '../errors';

/** The forms that listen() and connect() take: options, a path, or a port and perhaps a host, and perhaps a function at the end. */
export function normalizeArgs(args: readonly unknown[]): [Record<string, unknown>, ((...args: never[]) => void) | null] {
  const [first, second] = args;
  let options: Record<string, unknown> = {};
  if (typeof first === 'object' && first !== null) options = first as Record<string, unknown>;
  else if (isPipeName(first)) options.path = first;
  else if (args.length > 0) {
    options.port = first;
    if (args.length > 1 && typeof second === 'string') options.host = second;
  }
  const last = args[args.length - 1];
  return [options, typeof last === 'function' ? (last as (...args: never[]) => void) : null];
}

/** Text that is no number is a path. */
export function isPipeName(value: unknown): value is string {
  return typeof value === 'string' && toNumber(value) === false;
}

export function toNumber(value: unknown): number | false {
  const number = Number(value);
  return number >= 0 ? number : false;
}

export function validatePort(port: unknown, name = 'Port', allowZero = true): number {
  const isText = typeof port === 'string' && port.trim().length > 0;
  const number = Number(port);
  const fits = (typeof port === 'number' || isText) && number === number >>> 0 && number <= 0xffff && (allowZero || number > 0);
  if (!fits) {
    const text = `${name} should be ${allowZero ? '>=' : '>'} 0 and < 65536. Received ${received(port)}.`;
    throw nodeError(RangeError, 'ERR_SOCKET_BAD_PORT', text);
  }
  return number;
}

export function validateFunction(value: unknown, name: string): void {
  if (typeof value !== 'function') throw invalidType(name, 'of type function', value);
}

export function validateNumber(value: unknown, name: string): void {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
}

export function validateString(value: unknown, name: string): void {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
}

export function validateBoolean(value: unknown, name: string): void {
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
}

export function invalidType(name: string, expected: string, value: unknown): NodeJS.ErrnoException {
  const what = name.includes('.') ? 'property' : 'argument';
  const text = `The "${name}" ${what} must be ${expected}. Received ${received(value)}`;
  return nodeError(TypeError, 'ERR_INVALID_ARG_TYPE', text);
}

/** A value as Node's messages describe it. */
function received(value: unknown): string {
  if (value === null || value === undefined) return `${value}`;
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object') return value.constructor?.name ? `an instance of ${value.constructor.name}` : inspect(value);
  const text = inspect(value);
  return `type ${typeof value} (${text.length > 28 ? `${text.slice(0, 25)}...` : text})`;
}

/** What belongs to a machine and not to the network: files and descriptors of the machine where the program runs. */
export function notFar(what: string): NodeJS.ErrnoException {
  const text = `${what} is of this machine: a far socket is reached by host and port`;
  return nodeError(TypeError, 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM', text);
}
