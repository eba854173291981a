// Reaching agents, calls, sessions, and programs that come to their end.

'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const { chmodSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const net = require('node:net');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { after, test } = require('node:test');

const { AgentError, duration, farsock, host } = require('@farsock/client');
const { parseEndpoint } = require('../dist/endpoint');
const { LOOPBACKS, event, listening, settled, within, withAgent } = require('./harness');

const held = withAgent();
const directory = mkdtempSync(join(tmpdir(), 'farsock-test-'));
after(() => rmSync(directory, { recursive: true }));

/** Runs a program to its end. */
function run(source, env = {}) {
  const program = new Promise((resolve) => {
    const options = { env: { ...process.env, ...env }, cwd: __dirname };
    execFile(process.execPath, ['-e', source], options, (error, out, err) => resolve({ code: error?.code ?? 0, out, err }));
  });
  return within('the end of the program', program);
}

test('endpoints are named as people name them', () => {
  const shown = (text) => parseEndpoint(text).text;
  assert.equal(shown('lab-a'), 'lab-a:7625');
  assert.equal(shown('lab-a:7000'), 'lab-a:7000');
  assert.equal(shown('7626'), '127.0.0.1:7626');
  assert.equal(shown(':7626'), '127.0.0.1:7626');
  assert.equal(shown('127.0.0.1'), '127.0.0.1:7625');
  assert.equal(shown('10.0.0.2:80'), '10.0.0.2:80');
  assert.equal(shown('lab-1'), 'lab-1:7625');
  assert.equal(shown('::1'), '[::1]:7625');
  assert.equal(shown('[::1]:7000'), '[::1]:7000');
  assert.equal(shown('unix:/run/a.sock'), 'unix:/run/a.sock');
  for (const bad of [
    '',
    'unix:',
    'lab-a:http',
    'lab-a:',
    'lab-a:70000',
    'fe80::1%eth0',
    'a b',
    '[::1',
    '127.1',
    '0',
    '[lab-a]:80',
    'lab-a:0',
  ]) {
    assert.throws(() => parseEndpoint(bad), undefined, bad);
  }
});

test('an inventory gives agents their names', async () => {
  const inventory = join(directory, 'inventory.yaml');
  const token = join(directory, 'token');
  writeFileSync(token, `${held.agent.token}\n`, { mode: 0o600 });
  writeFileSync(
    inventory,
    `hosts:\n  lab-a: "${held.agent.endpoint}"\n  lab-b: { agent: "${held.agent.tcpEndpoint}", token_file: token }\n  lab-c: { agent: "${held.agent.tcpEndpoint}" }
  lab-e: { agent: "${held.agent.tcpEndpoint}", token_env: LAB_E, labels: { site: madrid }, groups: [web], addresses: { front: 192.0.2.1 } }
  lab-f: { agent: "ssh://lab-f", program: /opt/farsock }\n  lab-g.example:\n`,
  );
  assert.throws(() => host('lab-e', { inventory }), /there is no variable LAB_E in the environment/);
  assert.throws(() => host('lab-f', { inventory }), /only farsock run goes by ssh/);
  process.env.LAB_E = held.agent.token;
  for (const name of ['lab-a', 'lab-b', 'lab-e']) {
    const far = host(name, { inventory });
    const { agent } = await far.api.agent.getAgent({});
    assert.equal(agent.instanceId, held.agent.instanceId, name);
    await far.close();
  }
  chmodSync(token, 0o640);
  const open = host('lab-b', { inventory });
  await assert.rejects(async () => open.api.agent.getAgent({}), /token can be read by others: make it private \(chmod 600/);
  await open.close();
  await assert.rejects(host('lab-c', { inventory }).api.agent.getAgent({}), { code: 'UNAUTHENTICATED' });
  assert.throws(() => host('lab-d', { inventory }), {
    message: `there is no host \`lab-d\` in ${inventory}: it has lab-a, lab-b, lab-c, lab-e, lab-f, lab-g.example`,
  });
  for (const [text, problem] of [
    ['nodes: {}', '`hosts:` is needed'],
    ['hosts: {a: {agent: x, port: 1}}', 'hosts.a: there is no `port`'],
    ['hosts: {a: {token_file: [x]}}', 'hosts.a.token_file: text is needed'],
    ['hosts: {a: [x]}', 'hosts.a: an endpoint is needed'],
  ]) {
    writeFileSync(inventory, text);
    assert.throws(
      () => host('a', { inventory }),
      (error) => error.message.startsWith(`${inventory}: ${problem}`),
    );
  }
});

test('by TCP with a token: sockets in both families', async () => {
  await using(host(held.agent.tcpEndpoint, { token: held.agent.token }), async (far) => {
    for (const address of LOOPBACKS) {
      const server = far.net.createServer((socket) => socket.pipe(socket));
      const port = await listening(server, address);
      const client = far.net.connect(port, address);
      client.end('hola');
      const [bytes] = await event(client, 'data');
      assert.equal(bytes.toString(), 'hola');
      server.close();
      await event(server, 'close');
      const [a, b] = [
        far.dgram.createSocket(address === '::1' ? 'udp6' : 'udp4'),
        far.dgram.createSocket(address === '::1' ? 'udp6' : 'udp4'),
      ];
      a.bind(0, address);
      await event(a, 'listening');
      b.send('hola', a.address().port, address);
      const [message] = await event(a, 'message');
      assert.equal(message.toString(), 'hola');
      a.close();
      b.close();
    }
  });
  const wrong = host(held.agent.tcpEndpoint, { token: 'wrong' });
  const client = wrong.net.connect(1, '127.0.0.1');
  const [error] = await settled(client, 'error');
  assert.ok(error instanceof AgentError);
  assert.deepEqual([error.code, error.status], ['UNAUTHENTICATED', 'UNAUTHENTICATED']);
  await wrong.close();
});

async function using(far, act) {
  try {
    await act(far);
  } finally {
    await far.close();
  }
}

test('an agent that is not there', async () => {
  const far = host(`unix:${join(directory, 'nobody.sock')}`);
  const client = far.net.connect(1, '127.0.0.1');
  const [[error]] = await Promise.all([settled(client, 'error'), settled(client, 'close')]);
  assert.deepEqual([error.name, error.code], ['AgentError', 'UNAVAILABLE']);
  assert.match(error.message, /^agent unix:.*nobody\.sock: connect ENOENT/);
  const server = far.net.createServer().listen(0);
  assert.equal((await settled(server, 'error'))[0].code, 'UNAVAILABLE');
  await far.close();
});

test('what an old agent lacks is said before anything is asked of it', async () => {
  await using(held.agent.host(), async (far) => {
    const agent = { version: '0.0.9', capabilities: ['tcp', 'ipv4', 'leases'], labAddresses: [] };
    far.api.agent.getAgent = () => Promise.resolve({ agent });
    await assert.rejects(far.sessionId(), {
      code: 'UNIMPLEMENTED',
      message: /it is farsock 0\.0\.9, which lacks `transfer` \(connections as byte streams\): install a newer one there/,
    });
  });
});

test('what the agent refuses says what, where and why', async () => {
  await using(held.agent.host(), async (far) => {
    const wrong = far.api.sockets.createSocket({ kind: { $case: 'tcp', value: { role: { $case: 'listen', value: ':70000' } } } });
    await assert.rejects(wrong, (error) => {
      assert.ok(error instanceof AgentError);
      assert.deepEqual(
        [error.status, error.code, error.domain, error.fields],
        ['INVALID_ARGUMENT', 'INVALID_FIELD', 'farsock.dev', ['tcp.listen']],
      );
      assert.equal(error.message, 'tcp.listen: port 70000 is out of range: ports go up to 65535');
      return true;
    });
    const failed = far.api.sockets.createSocket({
      sessionId: await far.sessionId(),
      kind: { $case: 'tcp', value: { role: { $case: 'connect', value: '127.0.0.1:1' } } },
      call: { failOnError: true },
    });
    await assert.rejects(failed, { code: 'ECONNREFUSED', domain: 'kernel.farsock.dev', status: 'FAILED_PRECONDITION' });
  });
});

test('the whole API is there, with deadlines and cancellation', async () => {
  await using(held.agent.host(), async (far) => {
    const sessionId = await far.sessionId();
    const waiting = { sessionId, filter: { kinds: ['closed'] }, timeout: duration(60_000) };
    await assert.rejects(far.api.events.waitEvent(waiting, { timeout: 50 }), { code: 'DEADLINE_EXCEEDED' });
    const controller = new AbortController();
    const cancelled = far.api.events.waitEvent(waiting, { signal: controller.signal });
    setImmediate(() => controller.abort(new Error('enough')));
    await assert.rejects(cancelled, { code: 'CANCELLED', cause: new Error('enough') });
    await assert.rejects(far.api.events.waitEvent(waiting, { signal: AbortSignal.abort() }), { code: 'CANCELLED' });
    // Many messages, and a loop that is left early.
    let seen = 0;
    const watch = far.api.events.watchEvents({ sessionId });
    const { socket } = await far.api.sockets.createSocket({ sessionId, kind: { $case: 'udp', value: { bind: '127.0.0.1:0' } } });
    for await (const { frame } of watch) {
      if (frame.$case === 'batch') seen += frame.value.events.length;
      if (seen >= 2) break;
    }
    assert.equal(socket.state, farsock.SocketState.BOUND);
    // Both ways.
    const server = net.createServer((peer) => peer.end('hola'));
    const port = await listening(server, '127.0.0.1');
    const stream = far.api.sockets.transferSocket();
    stream.send({
      frame: { $case: 'create', value: { sessionId, tcp: { role: { $case: 'connect', value: `127.0.0.1:${port}` } } } },
    });
    stream.send({ frame: { $case: 'window', value: 100 } });
    const frames = [];
    for await (const { frame } of stream) {
      frames.push(frame.$case);
      if (frame.$case === 'end') stream.send({ frame: { $case: 'end', value: {} } });
    }
    assert.deepEqual(frames, ['opened', 'data', 'end', 'closed']);
    server.close();
  });
});

test('a message of many megabytes, and many calls at once', async () => {
  await using(held.agent.host(), async (far) => {
    const answers = await Promise.all(Array.from({ length: 300 }, () => far.api.agent.getClock({})));
    assert.ok(answers.every(({ instanceId }) => instanceId === held.agent.instanceId));
    await assert.rejects(far.api.agent.parseAddress({ text: 'x'.repeat(10_000_000) }), (error) => error instanceof AgentError);
  });
});

test('each host works in a session of its own, and closing it leaves nothing', async () => {
  const observer = held.agent.host();
  const [a, b] = [held.agent.host(), held.agent.host()];
  const server = a.net.createServer();
  const port = await listening(server, '127.0.0.1');
  const client = b.net.connect(port, '127.0.0.1');
  const [accepted] = await event(server, 'connection');
  assert.notEqual(await a.sessionId(), await b.sessionId());
  const ends = [settled(client, 'close'), settled(accepted, 'close'), settled(server, 'close')];
  for (const each of [client, accepted, server]) each.on('error', (error) => assert.fail(error));
  client.resume();
  accepted.resume();
  await a.close();
  await b.close();
  await Promise.all(ends);
  const { sessions } = await observer.api.sessions.listSessions({});
  assert.equal(sessions.filter(({ socketCount }) => socketCount > 0).length, 0);
  await assert.rejects(a.sessionId(), { code: 'CANCELLED' });
  await observer.close();
});

test('a program whose sockets are closed ends by itself, and its session with it', async () => {
  const count = async () => (await observer.api.sessions.listSessions({})).sessions.length;
  const observer = held.agent.host();
  const before = await count();
  const program = `
    const { net, dgram } = require('@farsock/client').host(process.env.AT);
    const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1', () => {
      const client = net.connect(server.address().port, '127.0.0.1');
      client.on('data', (data) => { console.log(String(data)); client.end(); server.close(); udp(); });
      client.write('hola');
    });
    const udp = () => {
      const socket = dgram.createSocket('udp4');
      socket.bind(0, '127.0.0.1', () => socket.close());
    };
  `;
  assert.deepEqual(await run(program, { AT: held.agent.endpoint }), { code: 0, out: 'hola\n', err: '' });
  assert.equal(await count(), before);
  await observer.close();
});

test('unref lets a program end: sockets, servers, UDP, and what an http.Agent keeps', async () => {
  const program = `
    const { net, dgram } = require('@farsock/client').host(process.env.AT);
    const http = require('http');
    const server = net.createServer((socket) => socket.unref()).listen(0, '127.0.0.1', () => {
      server.unref();
      const client = net.connect(server.address().port, '127.0.0.1', () => {
        client.unref();
        console.log('connected');
        const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1', () => { socket.unref(); asked(); });
      });
    });
    function asked() {
      const near = http.createServer((request, response) => response.end('hola')).listen(0, '127.0.0.1', () => {
        near.unref();
        const agent = Object.assign(new http.Agent({ keepAlive: true }), { createConnection: net.createConnection });
        http.get({ host: '127.0.0.1', port: near.address().port, agent }, (response) => {
          response.on('data', (data) => console.log(String(data)));
          response.on('end', () => near.unref());
        });
        near.on('connection', (socket) => socket.unref());
      });
    }
  `;
  assert.deepEqual(await run(program, { AT: held.agent.endpoint }), { code: 0, out: 'connected\nhola\n', err: '' });
});

test('the lab address of an agent is that of sockets without one', async () => {
  const { EmbeddedAgent } = require('@farsock/client/testing');
  const agent = await EmbeddedAgent.start({ args: ['--lab-address', '127.0.0.2'] });
  const { net, dgram } = agent.host();
  const server = net.createServer((socket) => socket.end());
  const port = await listening(server);
  assert.equal(server.address().address, '127.0.0.2');
  const client = net.connect(port);
  client.resume();
  await event(client, 'connect');
  assert.deepEqual([client.localAddress, client.remoteAddress], ['127.0.0.2', '127.0.0.2']);
  await settled(client, 'close');
  server.close();
  const socket = dgram.createSocket('udp4').bind();
  await event(socket, 'listening');
  assert.equal(socket.address().address, '127.0.0.2');
  socket.close();
  await agent.stop();
});

test('more sockets than one connection to the agent has room for', async () => {
  await using(held.agent.host(), async (far) => {
    const server = far.net.createServer((socket) => socket.pipe(socket));
    const port = await listening(server, '127.0.0.1');
    const clients = Array.from({ length: 150 }, () => far.net.connect(port, '127.0.0.1'));
    await Promise.all(clients.map((client) => event(client, 'connect')));
    await Promise.all(
      clients.map(async (client, number) => {
        const echoed = event(client, 'data');
        client.write(`${number}`);
        assert.equal(String((await echoed)[0]), `${number}`);
        client.end();
        await settled(client, 'close');
      }),
    );
    server.close();
    await event(server, 'close');
  });
});

test('what a listener throws ends the program, as it does with Node', async () => {
  const far = `const { net, dgram } = require('@farsock/client').host(process.env.AT); const fail = (what) => () => { throw new Error('mine: ' + what) };`;
  const udp = `const socket = dgram.createSocket('udp4')`;
  for (const [what, program] of [
    ['listening', `net.createServer().listen(0, '127.0.0.1', fail('listening'))`],
    [
      'connection',
      `const server = net.createServer(fail('connection')).listen(0, '127.0.0.1', () => net.connect(server.address().port, '127.0.0.1'))`,
    ],
    [
      'connect',
      `const server = net.createServer().listen(0, '127.0.0.1', () => net.connect(server.address().port, '127.0.0.1', fail('connect')))`,
    ],
    [
      'data',
      `const server = net.createServer((s) => s.end('x')).listen(0, '127.0.0.1', () => net.connect(server.address().port, '127.0.0.1').on('data', fail('data')))`,
    ],
    ['error', `net.connect(1, '127.0.0.1').on('error', fail('error'))`],
    ['bind', `${udp}.bind(0, '127.0.0.1', fail('bind'))`],
    ['send', `${udp}; socket.send('x', 9, '127.0.0.1', fail('send'))`],
    [
      'message',
      `${udp}.on('message', fail('message')).bind(0, '127.0.0.1', () => socket.send('x', socket.address().port, '127.0.0.1'))`,
    ],
  ]) {
    const { code, err } = await run(`${far} ${program}`, { AT: held.agent.endpoint });
    assert.equal(code, 1, what);
    assert.match(err, new RegExp(`Error: mine: ${what}`));
    assert.doesNotMatch(err, /unhandled/i);
  }
  // Those that were not ended in good order are still there until their lease is over.
  const { agent } = held;
  const other = agent.host();
  for (const { sessionId } of (await other.api.sessions.listSessions({})).sessions) {
    if (sessionId !== 'default') await other.api.sessions.deleteSession({ sessionId, allowMissing: true });
  }
  await other.close();
});
