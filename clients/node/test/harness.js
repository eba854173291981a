// What the tests share: an agent for each file, and waiting with an end.

'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { after, before } = require('node:test');

const { EmbeddedAgent } = require('../dist/testing');

/** How long anything may take before a test gives up, in milliseconds. */
const PATIENCE = Number(process.env.FARSOCK_PATIENCE ?? 20_000);

/** An agent from the first test of the file to its last. `ready` is called when it is there. */
function withAgent(options, ready = () => {}) {
  const held = { agent: undefined };
  before(async () => {
    held.agent = await EmbeddedAgent.start(options);
    ready(held.agent);
  });
  after(() => held.agent?.stop());
  return held;
}

/**
 * The agent's program in a network namespace of its own, where that can be made: there, every port is free. It is reached by its Unix
 * socket all the same.
 */
function ownNetwork() {
  const may = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up']).status === 0;
  const binary = process.env.FARSOCK_BIN || 'farsock';
  if (!may) return { binary };
  const directory = mkdtempSync(join(tmpdir(), 'farsock-test-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'farsock');
  writeFileSync(file, `#!/bin/sh\nexec unshare -rn sh -c 'ip link set lo up && exec ${binary} "$@"' sh "$@"\n`, { mode: 0o755 });
  return { binary: file };
}

/** Makes certificates as people do. */
function pki(dir, ...words) {
  execFileSync(process.env.FARSOCK_BIN || 'farsock', ['pki', '--dir', dir, ...words]);
}

/** The certificates of a lab and of another one, each with a controller `alice`; and an agent with the lab's. */
async function startLab(directory) {
  const [lab, other] = [join(directory, 'lab'), join(directory, 'other')];
  for (const dir of [lab, other]) {
    pki(dir, 'init');
    pki(dir, 'issue', '--controller', 'alice');
  }
  pki(lab, 'issue', 'localhost', '127.0.0.1');
  return EmbeddedAgent.start({ args: ['--tls-cert', join(lab, 'localhost.pem')] });
}

/** Waits for a promise, and names what did not come. */
async function within(what, promise, patience = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${patience} ms`)), patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for an event; an `error` event meanwhile is the test's failure. */
async function event(emitter, name) {
  return within(`'${name}'`, once(emitter, name));
}

/** Waits for an event of an emitter that may fail on its way there. */
function settled(emitter, name) {
  return within(`'${name}'`, new Promise((resolve) => emitter.once(name, (...args) => resolve(args))));
}

/** Listens on any port of an address. */
async function listening(server, host) {
  server.listen(0, host);
  await event(server, 'listening');
  return server.address().port;
}

/** Asks again and again until something is so. */
async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what} did not come within ${PATIENCE} ms`);
  }
}

/** Bytes that are the same everywhere, and differ at each place. */
function pattern(size, seed = 1) {
  const bytes = Buffer.allocUnsafe(size);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < size; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

/** All that a stream brings until its end. Its other direction stays as it is. */
function readAll(stream) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
  });
}

/** Both loopback addresses. */
const LOOPBACKS = ['127.0.0.1', '::1'];

module.exports = { LOOPBACKS, event, listening, ownNetwork, pattern, pki, readAll, settled, startLab, until, within, withAgent };
