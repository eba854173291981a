// Where agents are: endpoints as text, and inventories that give them names.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { isIP, isIPv6 } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

import { parse } from 'yaml';

/** The port of agents, where none is named. */
const PORT = 7625;

/** Where an agent is reached. */
export interface Endpoint {
  /** As people write it: `lab-a:7625`, `unix:/run/agent.sock`. */
  readonly text: string;
  /** As Node's own sockets take it. */
  readonly address: { host: string; port: number } | { path: string };
  /** What the agent wants to be shown, as it is now; none for a Unix socket, or where there is none. */
  token(): string | undefined;
}

/** How an agent is found. */
export interface EndpointOptions {
  /** The agent's token. */
  token?: string;
  /** The file that has the agent's token. Absent: `FARSOCK_TOKEN_FILE`, or that of an agent of this user on this host. */
  tokenFile?: string;
  /** The file with the names of agents. Absent: `FARSOCK_INVENTORY`, or none. */
  inventory?: string;
}

/** What an inventory says of an agent. */
interface Entry {
  agent: string;
  token_file?: string;
}

/** Finds an agent by its name in the inventory, or takes the name for its endpoint. */
export function findEndpoint(name: string, options: EndpointOptions = {}): Endpoint {
  const file = options.inventory ?? (process.env.FARSOCK_INVENTORY || undefined);
  if (file === undefined) return parseEndpoint(name, options);
  const hosts = readInventory(file);
  const entry = hosts.get(name);
  if (entry) {
    const tokenFile = entry.token_file === undefined ? undefined : resolve(dirname(file), entry.token_file);
    return parseEndpoint(entry.agent, { tokenFile, ...options });
  }
  if (name.includes(':') || /^\d+$/.test(name)) return parseEndpoint(name, options);
  throw new Error(`there is no host \`${name}\` in ${file}: it has ${[...hosts.keys()].join(', ') || 'none'}`);
}

/** Reads `lab-a`, `lab-a:7625`, `[::1]:7625`, `7625`, `unix:/path`. */
export function parseEndpoint(text: string, options: EndpointOptions = {}): Endpoint {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '') throw new Error('unix: needs a path');
    return { text, address: { path }, token: () => undefined };
  }
  const { host, port } = parseAddress(text);
  const shown = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  return { text: shown, address: { host, port }, token: () => findToken(port, options) };
}

function parseAddress(text: string): { host: string; port: number } {
  const wrong = () => new Error(`\`${text}\` is no endpoint: HOST, HOST:PORT, PORT or unix:PATH is needed`);
  if (isAddress(text)) return { host: text, port: PORT };
  if (/^\d+$/.test(text)) return { host: '127.0.0.1', port: readPort(text, wrong) };
  const [, bracketed, name = '', digits] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d+))?$/.exec(text) ?? [];
  const port = digits === undefined ? PORT : readPort(digits, wrong);
  if (bracketed !== undefined) {
    if (!isIPv6(bracketed) || !isAddress(bracketed)) throw wrong();
    return { host: bracketed, port };
  }
  if (name === '' && digits !== undefined) return { host: '127.0.0.1', port };
  // `127.1` and its like are no addresses, and no names either.
  const isName = /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name) && !/^[\d.]+$/.test(name);
  if (!isName && !isAddress(name)) throw wrong();
  return { host: name, port };
}

/** An agent is not reached by a zone. */
function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}

function readPort(digits: string, wrong: () => Error): number {
  const port = Number(digits);
  if (port < 1 || port > 65535) throw wrong();
  return port;
}

function findToken(port: number, { token, tokenFile }: EndpointOptions): string | undefined {
  if (token !== undefined) return token;
  const named = tokenFile ?? (process.env.FARSOCK_TOKEN_FILE || undefined);
  const file = named ?? join(runtimeDir(), `${port}.token`);
  // An agent on another host, or one that was started with --no-auth.
  if (named === undefined && !existsSync(file)) return undefined;
  return readFileSync(file, 'utf8').trim();
}

/** Where this user's agents keep their tokens. */
function runtimeDir(): string {
  const user = process.getuid?.() ?? 0;
  if (process.env.XDG_RUNTIME_DIR) return join(process.env.XDG_RUNTIME_DIR, 'farsock');
  if (statSync(`/run/user/${user}`, { throwIfNoEntry: false })?.isDirectory()) return `/run/user/${user}/farsock`;
  return user === 0 ? '/run/farsock' : join(tmpdir(), `farsock-${user}`);
}

function readInventory(file: string): Map<string, Entry> {
  const wrong = (what: string) => new Error(`${file}: ${what}`);
  const read: unknown = parse(readFileSync(file, 'utf8'));
  const hosts = isObject(read) ? read.hosts : undefined;
  if (!isObject(hosts)) throw wrong('`hosts:` is needed, with an endpoint for each name');
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(hosts)) {
    const entry = typeof value === 'string' || typeof value === 'number' ? { agent: String(value) } : value;
    if (!isObject(entry)) throw wrong(`hosts.${name}: an endpoint is needed`);
    for (const key of Object.keys(entry)) {
      if (key !== 'agent' && key !== 'token_file') throw wrong(`hosts.${name}: there is no \`${key}\``);
    }
    const { agent, token_file } = entry;
    if (typeof agent !== 'string') throw wrong(`hosts.${name}.agent: HOST:PORT or unix:PATH is needed`);
    if (token_file !== undefined && typeof token_file !== 'string') throw wrong(`hosts.${name}.token_file: a path is needed`);
    entries.set(name, { agent, token_file });
  }
  return entries;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
