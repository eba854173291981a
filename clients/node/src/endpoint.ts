// Where agents are: endpoints as text, and inventories that give them names.

import { closeSync, existsSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { isIP, isIPv6 } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, parse as parsePath, resolve } from 'node:path';

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
  /** What is shown by TLS, as it is now; none where TLS is not spoken. */
  identity(): Identity | undefined;
}

/** A certificate, its key, and the CA that the agent's is signed by: PEM, as Node's `tls` takes them. */
export interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

/** How an agent is found. */
export interface EndpointOptions {
  /** The agent's token. */
  token?: string;
  /** The file that has the agent's token, which nobody else may read. Absent: `FARSOCK_TOKEN_FILE`, or that of an agent of this user on this host. */
  tokenFile?: string;
  /**
   * The file of a certificate that an agent by TCP is shown, as `farsock pki` makes it. Absent: `FARSOCK_TLS_CERT`, unless there is a token or a file
   * for it; without either, TLS is not spoken.
   */
  tlsCert?: string;
  /** The certificate's key, which nobody else may read. Absent: `FARSOCK_TLS_KEY`, or the file beside `tlsCert` that ends with .key. */
  tlsKey?: string;
  /** The CA that signs the agents' certificates. Absent: `FARSOCK_TLS_CA`, or ca.pem beside `tlsCert`. */
  tlsCa?: string;
  /** The file with the names of agents. Absent: `FARSOCK_INVENTORY`, or none. */
  inventory?: string;
}

/** What an inventory says of an agent. */
interface Entry {
  agent: string;
  token_file?: string;
  token_env?: string;
  tls_cert?: string;
  tls_key?: string;
  tls_ca?: string;
}

/** What a host of an inventory may have as text. `program`, labels, groups and addresses are for `farsock run`. */
const TEXTS = ['agent', 'token_file', 'token_env', 'tls_cert', 'tls_key', 'tls_ca', 'program'] as const;
const OTHERS = ['labels', 'groups', 'addresses'];

/** Finds an agent by its name in the inventory, or takes the name for its endpoint. */
export function findEndpoint(name: string, options: EndpointOptions = {}): Endpoint {
  const file = options.inventory ?? (process.env.FARSOCK_INVENTORY || undefined);
  if (file === undefined) return parseEndpoint(name, options);
  const hosts = readInventory(file);
  const entry = hosts.get(name);
  if (entry) {
    const beside = (path: string | undefined) => (path === undefined ? undefined : resolve(dirname(file), path));
    const files = {
      tokenFile: beside(entry.token_file),
      tlsCert: beside(entry.tls_cert),
      tlsKey: beside(entry.tls_key),
      tlsCa: beside(entry.tls_ca),
    };
    return parseEndpoint(entry.agent, { token: tokenIn(entry.token_env), ...files, ...options });
  }
  if (name.includes(':') || /^\d+$/.test(name)) return parseEndpoint(name, options);
  throw new Error(`there is no host \`${name}\` in ${file}: it has ${[...hosts.keys()].join(', ') || 'none'}`);
}

/** The token that an inventory says is in a variable. */
function tokenIn(variable: string | undefined): string | undefined {
  const token = variable === undefined ? undefined : process.env[variable];
  if (variable !== undefined && token === undefined) {
    throw new Error(`there is no variable ${variable} in the environment, which \`token_env\` says has the token`);
  }
  return token;
}

/** Reads `lab-a`, `lab-a:7625`, `[::1]:7625`, `7625`, `unix:/path`. */
export function parseEndpoint(text: string, options: EndpointOptions = {}): Endpoint {
  if (text.startsWith('ssh://')) {
    throw new Error(`${text}: only farsock run goes by ssh: name a port or a Unix socket, or forward one of them by ssh -L`);
  }
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '') throw new Error('unix: needs a path');
    return { text, address: { path }, token: () => undefined, identity: () => undefined };
  }
  const { host, port } = parseAddress(text);
  const shown = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const certificate = findCertificate(options);
  return {
    text: shown,
    address: { host, port },
    token: () => (certificate === undefined ? findToken(port, options) : undefined),
    identity: () => (certificate === undefined ? undefined : readIdentity(certificate, options)),
  };
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
  return readPrivate(file).toString().trim();
}

/** The certificate that is shown: the one that was asked for, or that of the environment where there is no token to show. */
function findCertificate({ token, tokenFile, tlsCert }: EndpointOptions): string | undefined {
  if (tlsCert !== undefined) return tlsCert;
  return token === undefined && tokenFile === undefined ? process.env.FARSOCK_TLS_CERT || undefined : undefined;
}

function readIdentity(certificate: string, { tlsKey, tlsCa }: EndpointOptions): Identity {
  const { dir, name } = parsePath(certificate);
  const key = tlsKey ?? (process.env.FARSOCK_TLS_KEY || join(dir, `${name}.key`));
  const ca = tlsCa ?? (process.env.FARSOCK_TLS_CA || join(dir, 'ca.pem'));
  return { cert: readFileSync(certificate), key: readPrivate(key), ca: readFileSync(ca) };
}

/** Reads a secret that nobody else may read. */
function readPrivate(file: string): Buffer {
  const fd = openSync(file, 'r');
  try {
    if (fstatSync(fd).mode & 0o077) throw new Error(`${file} can be read by others: make it private (chmod 600 ${file})`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
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
    const entry = typeof value === 'string' || typeof value === 'number' ? { agent: String(value) } : (value ?? {});
    if (!isObject(entry)) throw wrong(`hosts.${name}: an endpoint is needed`);
    for (const key of Object.keys(entry)) {
      if (![...TEXTS, ...OTHERS].includes(key)) throw wrong(`hosts.${name}: there is no \`${key}\``);
    }
    // A host whose agent is not named is where its own name says.
    const texts: Entry = { agent: name };
    for (const key of TEXTS) {
      const text = typeof entry[key] === 'number' ? String(entry[key]) : (entry[key] ?? undefined);
      if (text !== undefined && typeof text !== 'string') throw wrong(`hosts.${name}.${key}: text is needed`);
      if (text !== undefined && key !== 'program') texts[key] = text;
    }
    entries.set(name, texts);
  }
  return entries;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
