// What becomes of a session whose program is killed, and of one whose program only waits.

'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { test } = require('node:test');

const { event, listening, within, withAgent } = require('./harness');

/** The shortest that an agent takes, in milliseconds. */
const LEASE = 5000;

const held = withAgent();

test('a killed program leaves nothing once its lease is over, and one that waits keeps its sockets', async () => {
  const far = held.agent.host({ lease: LEASE });
  const server = far.net.createServer((socket) => socket.end('still here'));
  const port = await listening(server, '127.0.0.1');

  const program = `
    const far = require('@farsock/client').host(process.env.AT, { lease: ${LEASE} });
    const server = far.net.createServer().listen(0, '127.0.0.1', async () => console.log(await far.sessionId()));
  `;
  const child = spawn(process.execPath, ['-e', program], {
    cwd: __dirname,
    env: { ...process.env, AT: held.agent.endpoint },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = await event(child.stdout, 'data');
  const sessionId = String(said).trim();
  const begun = performance.now();
  child.kill('SIGKILL');
  const kinds = [];
  const ended = (async () => {
    for await (const value of far.watch({ sessionId })) {
      kinds.push(value.event.kind);
      if (value.event.kind === 'closed') return;
    }
  })();
  await within('the end of the lease', ended);
  assert.ok(performance.now() - begun > LEASE / 2, 'not before the lease is over');

  const client = far.net.connect(port, '127.0.0.1');
  assert.equal(String((await event(client, 'data'))[0]), 'still here');
  server.close();
  await event(server, 'close');
  await far.close();
});
