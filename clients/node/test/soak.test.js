// Many connections, many bytes, given up at any moment, and an agent that dies under them: nothing is lost in silence, and nothing stays
// behind, neither here nor there. FARSOCK_LONG=1 for the long form.

'use strict';

const assert = require('node:assert/strict');
const { createHash, randomInt } = require('node:crypto');
const { readdirSync } = require('node:fs');
const { test } = require('node:test');
const { setFlagsFromString } = require('node:v8');
const { runInNewContext } = require('node:vm');

const { EmbeddedAgent } = require('@farsock/client/testing');
const { event, listening, pattern, settled, within } = require('./harness');

const LONG = Boolean(process.env.FARSOCK_LONG);
const CONNECTIONS = LONG ? 1000 : 100;
const BYTES = (LONG ? 100 : 10) << 20;
const ROUNDS = 5;
const PATIENCE = 300_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

/** Writes so many bytes as fast as they are taken, and ends; answers their hash. */
async function pour(socket, size) {
  const hash = createHash('sha256');
  const block = pattern(1 << 16, size);
  for (let left = size; left > 0; left -= block.length) {
    const bytes = block.subarray(0, Math.min(left, block.length));
    hash.update(bytes);
    if (!socket.write(bytes)) await event(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/** Reads to the end; answers the hash. */
function drink(socket) {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    socket.on('data', (bytes) => hash.update(bytes));
    socket.on('end', () => resolve(hash.digest('hex')));
    socket.on('error', reject);
  });
}

/** A server on one host of the agent and a way to connect from another one: each session has its own limit of sockets. */
async function twoHosts(agent) {
  const [here, there] = [agent.host(), agent.host()];
  const server = there.net.createServer({ allowHalfOpen: true });
  const port = await listening(server, '127.0.0.1');
  return { here, there, server, connect: () => here.net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }) };
}

/** What keeps this process busy, but for what is done in its next turn anyway. */
const resources = () => process.getActiveResourcesInfo().filter((kind) => kind !== 'Immediate');

/** What the agent still has open, sockets of the kernel included. */
const descriptors = (agent) => readdirSync(`/proc/${agent.pid}/fd`).length;

test(`${BYTES >> 20} MiB each way at once`, async () => {
  const agent = await EmbeddedAgent.start();
  const { server, connect } = await twoHosts(agent);
  const client = connect();
  const [accepted] = await event(server, 'connection');
  const hashes = await within(
    'all bytes',
    Promise.all([pour(client, BYTES), drink(accepted), pour(accepted, BYTES), drink(client)]),
    PATIENCE,
  );
  assert.equal(hashes[1], hashes[0]);
  assert.equal(hashes[3], hashes[2]);
  await agent.stop();
});

test(`${CONNECTIONS} connections, ${ROUNDS} times: nothing stays behind`, async () => {
  const agent = await EmbeddedAgent.start();
  const { here, there, server, connect } = await twoHosts(agent);
  let accepted = [];
  server.on('connection', (socket) => {
    socket.on('error', (error) => assert.fail(error));
    pour(socket, 20_000);
    socket.resume();
    accepted.push(settled(socket, 'close'));
  });
  const round = async () => {
    const clients = Array.from({ length: CONNECTIONS }, connect);
    const went = clients.map(async (client) => {
      const [sent, received] = await Promise.all([pour(client, 30_000), drink(client)]);
      await settled(client, 'close');
      return `${sent} ${received}`;
    });
    assert.equal(new Set(await within('all connections', Promise.all(went), PATIENCE)).size, 1);
    assert.equal(accepted.length, CONNECTIONS);
    await within('their other ends', Promise.all(accepted), PATIENCE);
    accepted = [];
  };
  await round();
  collect();
  const before = {
    descriptors: descriptors(agent),
    resources: resources().length,
    heap: process.memoryUsage().heapUsed,
  };
  for (let number = 0; number < ROUNDS; number += 1) await round();
  // What is closed goes in later turns, some of it only after another collection: what stays behind never does.
  const grown = () => {
    collect();
    return (process.memoryUsage().heapUsed - before.heap) / (ROUNDS * CONNECTIONS);
  };
  let last = grown();
  for (let turn = 0; turn < 100 && last >= 2000; turn += 1) {
    await new Promise(setImmediate);
    last = grown();
  }
  // Each host may make a few more connections for streams, and keeps them.
  assert.ok(
    descriptors(agent) <= before.descriptors + 16,
    `${descriptors(agent)} descriptors in the agent, ${before.descriptors} before`,
  );
  const kinds = resources();
  assert.ok(kinds.length <= before.resources + 16, `${kinds.join(', ')}; ${before.resources} before`);
  assert.ok(last < 2000, `${Math.round(last)} bytes of heap stay behind with each connection`);
  for (const far of [here, there]) {
    const { sockets } = await far.api.sockets.listSockets({ sessionId: await far.sessionId() });
    assert.ok(sockets.length <= 1, `${sockets.length} sockets are left`);
  }
  await agent.stop();
});

test(`${CONNECTIONS} connections that are given up at any moment, in any way`, async () => {
  const agent = await EmbeddedAgent.start();
  const { here, there, server, connect } = await twoHosts(agent);
  const end = (socket) => {
    const way = randomInt(4);
    if (way === 0) socket.destroy();
    else if (way === 1) socket.resetAndDestroy();
    else if (way === 2) socket.destroy(new Error('enough'));
    else socket.end();
  };
  const busy = (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => {});
    socket.on('end', () => socket.end());
    socket.write(pattern(randomInt(1, 200_000)));
    setTimeout(() => end(socket), randomInt(60)).unref();
    // Whoever only ends may be waiting for one that does not read any more.
    setTimeout(() => socket.destroy(), 500);
  };
  const accepted = [];
  server.on('connection', (socket) => {
    accepted.push(new Promise((resolve) => socket.once('close', resolve)));
    busy(socket);
  });
  const closes = Array.from({ length: CONNECTIONS }, async () => {
    await new Promise((resolve) => setTimeout(resolve, randomInt(300)));
    const socket = connect();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    busy(socket);
    await closed;
  });
  await within('every close', Promise.all(closes), PATIENCE);
  const ended = new Promise((resolve) => server.close(resolve));
  await within('the close of the server', ended, PATIENCE);
  await within('the close of what it had accepted', Promise.all(accepted), PATIENCE);
  for (const far of [here, there]) {
    const { sockets } = await far.api.sockets.listSockets({ sessionId: await far.sessionId() });
    assert.deepEqual(
      sockets.map(({ socketId, state }) => [socketId, state]),
      [],
    );
  }
  await agent.stop();
});

test('an agent that dies under its connections: each is told, and the next ones work', async () => {
  const agent = await EmbeddedAgent.start();
  for (let round = 0; round < ROUNDS + 1; round += 1) {
    const { here, there, server, connect } = await twoHosts(agent);
    const sockets = [];
    const grow = (socket) => {
      sockets.push(socket);
      socket.on('data', (bytes) => socket.write(bytes));
    };
    server.on('connection', grow);
    const clients = Array.from({ length: Math.min(CONNECTIONS, 100) }, connect);
    await Promise.all(clients.map((client) => event(client, 'connect')));
    for (const client of clients) {
      grow(client);
      client.write(pattern(1000));
    }
    const told = [...clients, server].map((each) => Promise.all([settled(each, 'error'), settled(each, 'close')]));
    for (const socket of sockets) socket.on('error', () => {});
    server.on('connection', (socket) => socket.on('error', () => {}));
    await agent.restart();
    for (const [[error]] of await within('every error', Promise.all(told), PATIENCE)) assert.equal(error.code, 'ECONNABORTED');
    await Promise.all([here.close(), there.close()]);
  }
  const { server, connect } = await twoHosts(agent);
  server.on('connection', (socket) => socket.end('hola'));
  const client = connect();
  assert.equal(String((await event(client, 'data'))[0]), 'hola');
  client.end();
  await settled(client, 'close');
  await agent.stop();
});
