// Agents that ask for a certificate.

'use strict';

const assert = require('node:assert/strict');
const { chmodSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { after, before, test } = require('node:test');

const { AgentError, host } = require('@farsock/client');
const { listening, startLab, within } = require('./harness');

const directory = mkdtempSync(join(tmpdir(), 'farsock-test-'));
const [lab, other] = [join(directory, 'lab'), join(directory, 'other')];
const alice = join(lab, 'alice.pem');
let agent;

before(async () => {
  agent = await startLab(directory);
});

after(async () => {
  await agent?.stop();
  rmSync(directory, { recursive: true });
});

/** Sends a few bytes over a connection of the far host's. */
async function greet(far) {
  const server = far.net.createServer((guest) => guest.end('hola'));
  const line = far.net.connect(await listening(server, '127.0.0.1'), '127.0.0.1');
  let text = '';
  for await (const bytes of line) text += bytes;
  assert.equal(text, 'hola');
  server.close();
}

async function using(far, act) {
  try {
    await within('what is done there', act(far));
  } finally {
    await far.close();
  }
}

test('a certificate opens the agent, by address and by name', async () => {
  await using(host(agent.tcpEndpoint, { tlsCert: alice }), greet);
  await using(host(agent.tcpEndpoint.replace('127.0.0.1', 'localhost'), { tlsCert: alice }), greet);
  const inventory = join(directory, 'lab.yaml');
  writeFileSync(inventory, `hosts:\n  lab-a: { agent: "${agent.tcpEndpoint}", tls_cert: lab/alice.pem }\n`);
  await using(host('lab-a', { inventory }), greet);
  process.env.FARSOCK_TLS_CERT = alice;
  try {
    await using(host(agent.tcpEndpoint), greet);
  } finally {
    delete process.env.FARSOCK_TLS_CERT;
  }
});

test('who is not believed is told so', async () => {
  const refused = (options, words) =>
    using(host(agent.tcpEndpoint, options), (far) =>
      assert.rejects(far.api.agent.getAgent({}), (error) => {
        assert.ok(error instanceof AgentError, error);
        assert.equal(error.code, 'UNAVAILABLE');
        assert.match(error.message, words);
        return true;
      }),
    );
  const strange = join(other, 'alice.pem');
  await refused({ tlsCert: strange }, /unable to (verify|get)/);
  await refused({ tlsCert: strange, tlsCa: join(lab, 'ca.pem') }, /unknown ca/i);
  await refused({}, /./);
});

test('a key that others can read is not used', async () => {
  const key = join(lab, 'alice.key');
  chmodSync(key, 0o644);
  await using(host(agent.tcpEndpoint, { tlsCert: alice }), (far) =>
    assert.rejects(async () => far.api.agent.getAgent({}), /alice\.key can be read by others/),
  );
  chmodSync(key, 0o600);
});
