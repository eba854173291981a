// What is written for Node's sockets runs over far ones: http with its agents, both sides, and TLS on top.

'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const { test } = require('node:test');

const { LOOPBACKS, event, listening, pattern, settled, within, withAgent } = require('./harness');

const held = withAgent();

/** The whole answer to a request. */
function get(options) {
  return within(
    'an answer',
    new Promise((resolve, reject) => {
      const request = http.get(options, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode, body: Buffer.concat(chunks), headers: response.headers }),
        );
        response.on('error', reject);
      });
      request.on('error', reject);
    }),
  );
}

/** An http.Agent whose connections are made by the far host. */
function agentOver(net, options) {
  return Object.assign(new http.Agent(options), { createConnection: net.createConnection });
}

test('http.get from the far host, with an agent that keeps connections', async () => {
  const { net } = held.agent.host();
  for (const host of LOOPBACKS) {
    let connections = 0;
    const server = http.createServer((request, response) => response.end(`you asked for ${request.url}`));
    server.on('connection', () => (connections += 1));
    const port = await listening(server, host);
    const agent = agentOver(net, { keepAlive: true, maxSockets: 2 });
    for (let number = 0; number < 5; number += 1) {
      const { status, body } = await get({ host, port, agent, path: `/${number}` });
      assert.deepEqual([status, body.toString()], [200, `you asked for /${number}`]);
    }
    assert.equal(connections, 1, 'one connection for all of them');
    const many = await Promise.all(
      Array.from({ length: 20 }, (_, number) => get({ host, port, agent, path: `/many/${number}` })),
    );
    assert.ok(many.every(({ status }) => status === 200));
    assert.ok(connections <= 3, `${connections} connections`);
    agent.destroy();
    server.close();
    await event(server, 'close');
  }
});

test('an http.Server on a far listener', async () => {
  const { net } = held.agent.host();
  for (const host of LOOPBACKS) {
    const body = pattern(3_000_000, 4);
    const server = http.createServer((request, response) => {
      if (request.url === '/echo') request.pipe(response);
      else response.end(body);
    });
    const door = net.createServer((socket) => server.emit('connection', socket));
    const port = await listening(door, host);
    const agent = new http.Agent({ keepAlive: true });
    for (let round = 0; round < 3; round += 1) {
      const answer = await get({ host, port, agent, path: '/body' });
      assert.ok(answer.body.equals(body));
    }
    const echoed = await within(
      'an echo',
      new Promise((resolve, reject) => {
        const request = http.request({ host, port, agent, path: '/echo', method: 'POST' }, (response) => {
          const chunks = [];
          response.on('data', (chunk) => chunks.push(chunk));
          response.on('end', () => resolve(Buffer.concat(chunks)));
        });
        request.on('error', reject);
        request.end(body);
      }),
    );
    assert.ok(echoed.equals(body));
    agent.destroy();
    server.closeAllConnections();
    door.close();
    await event(door, 'close');
  }
});

test('both sides far', async () => {
  const { net } = held.agent.host();
  const server = http.createServer((_request, response) => response.end('from far to far'));
  const door = net.createServer((socket) => server.emit('connection', socket));
  const port = await listening(door);
  const { body } = await get({ host: 'localhost', port, agent: agentOver(net) });
  assert.equal(body.toString(), 'from far to far');
  door.close();
  await event(door, 'close');
});

test('nobody listens: the request fails as it does with Node', async () => {
  const { net } = held.agent.host();
  const server = net.createServer();
  const port = await listening(server, '127.0.0.1');
  server.close();
  await event(server, 'close');
  await assert.rejects(get({ host: '127.0.0.1', port, agent: agentOver(net) }), {
    code: 'ECONNREFUSED',
    syscall: 'connect',
    message: `connect ECONNREFUSED 127.0.0.1:${port}`,
  });
});

test('a server that takes its time is timed out', async () => {
  const { net } = held.agent.host();
  const server = http.createServer(() => {});
  const port = await listening(server, '127.0.0.1');
  const request = http.get({ host: '127.0.0.1', port, agent: agentOver(net), timeout: 50 });
  await event(request, 'timeout');
  request.on('error', () => {});
  request.destroy();
  await settled(request, 'close');
  server.closeAllConnections();
  server.close();
  await event(server, 'close');
});
