// Watching events: resumed after a lost connection, gaps and restarts as values.

'use strict';

const assert = require('node:assert/strict');
const net = require('node:net');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { test } = require('node:test');

const { host } = require('@farsock/client');
const { EmbeddedAgent } = require('@farsock/client/testing');
const { event, listening, settled, within } = require('./harness');

/** A way to the agent that can be cut. */
async function cuttable(agent) {
  const path = join(tmpdir(), `farsock-cut-${process.pid}-${Math.random().toString(36).slice(2)}.sock`);
  const ways = new Set();
  let blocked = false;
  const server = net.createServer((near) => {
    if (blocked) return near.destroy();
    const far = net.connect(agent.endpoint.slice('unix:'.length));
    for (const socket of [near, far]) {
      ways.add(socket);
      socket.on('error', () => {}).on('close', () => ways.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  server.listen(path);
  await event(server, 'listening');
  const cut = () => {
    for (const socket of ways) socket.destroy();
  };
  const block = (now) => {
    blocked = now;
    if (now) cut();
  };
  const close = () => {
    cut();
    server.close();
  };
  return { endpoint: `unix:${path}`, block, cut, close };
}

/** Makes a UDP socket and closes it: three events. */
async function makeEvents(far, count) {
  const sessionId = await far.sessionId();
  for (let number = 0; number < count; number += 1) {
    const { socket } = await far.api.sockets.createSocket({ sessionId, kind: { $case: 'udp', value: { bind: '127.0.0.1:0' } } });
    await far.api.sockets.closeSocket({ sessionId, socketId: socket.socketId });
  }
}

test('a watch goes on where it was after its connection was cut', async () => {
  const agent = await EmbeddedAgent.start();
  const way = await cuttable(agent);
  const direct = agent.host();
  const watching = host(way.endpoint);
  const sessionId = await direct.sessionId();
  const seqs = [];
  const done = (async () => {
    for await (const value of watching.watch({ sessionId })) {
      assert.equal(value.kind, 'event');
      seqs.push(value.event.eventSeq);
      if (seqs.length % 7 === 0) way.cut();
      if (seqs.length === 60) return;
    }
  })();
  await makeEvents(direct, 20);
  await within('all events', done);
  assert.deepEqual(
    seqs,
    Array.from({ length: 60 }, (_, at) => at + 1),
  );
  await watching.close();
  way.close();
  await agent.stop();
});

test('what is not kept any more is a gap', async () => {
  const agent = await EmbeddedAgent.start({ args: ['--limit', 'log_events=16', '--limit', 'log_final_events=0'] });
  const far = agent.host();
  await makeEvents(far, 20);
  for await (const value of far.watch({ afterEventSeq: 0 })) {
    assert.equal(value.kind, 'gap');
    assert.deepEqual([value.gap.firstSeq, value.gap.lastSeq], [1, 44]);
    break;
  }
  await agent.stop();
});

test('a restart of the agent is told, and what it meant for sockets', async () => {
  const agent = await EmbeddedAgent.start();
  const far = agent.host({ session: 'default' });
  const values = far.watch({ fromNow: true });
  const first = values.next();
  const server = far.net.createServer();
  const port = await listening(server, '127.0.0.1');
  const client = far.net.connect(port, '127.0.0.1');
  const [accepted] = await event(server, 'connection');
  const socket = far.dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await event(socket, 'listening');
  assert.equal((await within('an event', first)).value.kind, 'event');

  const errors = Promise.all([client, accepted, server, socket].map((each) => settled(each, 'error')));
  const closes = Promise.all([client, accepted, server, socket].map((each) => settled(each, 'close')));
  await agent.restart();
  for (const [error] of await errors) {
    assert.equal(error.code, 'ECONNABORTED', error.message);
    assert.ok(error.cause, 'with what has happened');
  }
  await closes;
  for (;;) {
    const { value } = await within('a restart', values.next());
    if (value.kind !== 'restart') continue;
    assert.equal(value.instanceId, agent.instanceId);
    break;
  }
  await values.return();

  // And everything can begin anew.
  const again = far.net.createServer((socket) => socket.end('hola'));
  const second = far.net.connect(await listening(again, '127.0.0.1'), '127.0.0.1');
  assert.equal(String((await event(second, 'data'))[0]), 'hola');
  again.close();
  await event(again, 'close');
  await agent.stop();
});

test('a host whose agent was restarted makes a session again', async () => {
  const agent = await EmbeddedAgent.start();
  const far = agent.host();
  const before = await far.sessionId();
  assert.ok(before);
  await agent.restart();
  const server = far.net.createServer((socket) => socket.end('hola'));
  const client = far.net.connect(await listening(server, '127.0.0.1'), '127.0.0.1');
  assert.equal(String((await event(client, 'data'))[0]), 'hola');
  server.close();
  await Promise.all([event(client, 'close'), event(server, 'close')]);
  await agent.restart();
  const refused = far.net.connect(1, '127.0.0.1');
  assert.equal((await settled(refused, 'error'))[0].code, 'ECONNREFUSED');
  await agent.stop();
});

test('listeners and UDP sockets outlive a cut connection', async () => {
  const agent = await EmbeddedAgent.start();
  const way = await cuttable(agent);
  const far = host(way.endpoint);
  const near = agent.host();
  const server = far.net.createServer((socket) => socket.on('error', () => {}).resume());
  const port = await listening(server, '127.0.0.1');
  const socket = far.dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await event(socket, 'listening');
  for (let round = 0; round < 3; round += 1) {
    way.cut();
    const accepted = event(server, 'connection');
    const message = event(socket, 'message');
    const client = near.net.connect(port, '127.0.0.1');
    const sender = near.dgram.createSocket('udp4');
    sender.send('hola', socket.address().port, '127.0.0.1');
    await Promise.all([accepted, message]);
    client.destroy();
    sender.close();
  }
  server.close();
  socket.close();
  await far.close();
  way.close();
  await agent.stop();
});

test('connections that were accepted while events got lost are taken all the same', async () => {
  const agent = await EmbeddedAgent.start({ args: ['--limit', 'log_events=16', '--limit', 'log_final_events=0'] });
  const way = await cuttable(agent);
  const far = host(way.endpoint);
  const near = agent.host();
  const server = far.net.createServer((socket) => socket.end('hola'));
  const port = await listening(server, '127.0.0.1');
  way.block(true);
  const clients = Array.from({ length: 30 }, () => near.net.connect(port, '127.0.0.1'));
  await Promise.all(clients.map((client) => event(client, 'connect')));
  const answers = Promise.all(clients.map((client) => within('an answer', new Promise((resolve) => client.on('data', resolve)))));
  way.block(false);
  await answers;
  const counted = await new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));
  assert.ok(counted <= 30, 'each of them once');
  const closed = settled(server, 'close');
  server.close();
  await within('the close of the server', closed);
  await far.close();
  way.close();
  await agent.stop();
});

test('a list that comes late takes no connection twice', async () => {
  const agent = await EmbeddedAgent.start({ args: ['--limit', 'log_events=16', '--limit', 'log_final_events=0'] });
  const way = await cuttable(agent);
  const far = host(way.endpoint);
  const near = agent.host();
  const { sockets } = far.api;
  const list = sockets.listSockets.bind(sockets);
  const names = [];
  const server = far.net.createServer((socket) => {
    names.push(`${socket.remoteAddress}:${socket.remotePort}`);
    socket.on('close', () => server.emit('one is over')).end('hola');
  });
  const port = await listening(server, '127.0.0.1');
  const over = event(server, 'one is over');
  sockets.listSockets = async (...args) => {
    const answer = await list(...args);
    // Meanwhile, connections that are on it have been told by events, and have ended.
    await over;
    return answer;
  };
  way.block(true);
  const clients = Array.from({ length: 30 }, () => near.net.connect(port, '127.0.0.1'));
  await Promise.all(clients.map((client) => event(client, 'connect')));
  const closes = Promise.all(clients.map((client) => event(client.resume(), 'close')));
  way.block(false);
  await within('the end of all of them', closes);
  assert.equal(names.length, 30);
  assert.equal(new Set(names).size, 30, 'each of them once');
  const closed = settled(server, 'close');
  server.close();
  await within('the close of the server', closed);
  await far.close();
  way.close();
  await agent.stop();
});

test('a watch ends with its signal, and with its session', async () => {
  const agent = await EmbeddedAgent.start();
  const far = agent.host();
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  for await (const value of far.watch({ signal: controller.signal })) assert.fail(value);
  const sessionId = await far.sessionId();
  const ended = (async () => {
    let last;
    for await (const value of far.watch({ sessionId })) last = value;
    return last;
  })();
  await makeEvents(far, 1);
  await agent.host().api.sessions.deleteSession({ sessionId });
  assert.equal((await within('the end', ended)).event.kind, 'closed');
  await agent.stop();
});
