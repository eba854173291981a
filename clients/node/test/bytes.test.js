// Bytes through far connections: whole, in order, and no more of them than somebody wants.

'use strict';

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const net = require('node:net');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { test } = require('node:test');

const { LOOPBACKS, event, listening, pattern, readAll, settled, until, within, withAgent } = require('./harness');

const held = withAgent();

/** A far connection to a socket of this process: [far, near]. */
async function line(far, host, options = {}) {
  const server = net.createServer({ allowHalfOpen: true, ...options });
  const port = await listening(server, host);
  const client = far.net.connect({ port, host, allowHalfOpen: true });
  const [[near]] = await Promise.all([event(server, 'connection'), event(client, 'connect')]);
  server.close();
  return [client, near];
}

test('many bytes both ways at once, between two far sockets', async () => {
  const far = held.agent.host();
  for (const host of LOOPBACKS) {
    const [out, back] = [pattern(9_000_001, 1), pattern(7_000_003, 2)];
    const server = far.net.createServer({ allowHalfOpen: true });
    const port = await listening(server, host);
    const client = far.net.connect({ port, host, allowHalfOpen: true });
    const [accepted] = await event(server, 'connection');
    const [there, here] = await within(
      'all bytes',
      Promise.all([
        readAll(accepted),
        readAll(client),
        pipeline(Readable.from([out]), client),
        pipeline(Readable.from([back]), accepted),
      ]),
    );
    assert.ok(there.equals(out) && here.equals(back));
    assert.deepEqual([client.bytesRead, client.bytesWritten], [back.length, out.length]);
    server.close();
    await event(server, 'close');
  }
  await far.close();
});

test('writes of every size arrive as they were written', async () => {
  const far = held.agent.host();
  const [client, near] = await line(far, '127.0.0.1');
  const sizes = [1, 2, 1000, 16_383, 16_384, 16_385, 65_536, 262_144, 262_145, 1_000_000, 3];
  const all = pattern(
    sizes.reduce((sum, size) => sum + size),
    5,
  );
  const received = readAll(near);
  let at = 0;
  for (const size of sizes) {
    // The bytes belong to the program again as soon as it is called back.
    const bytes = Buffer.from(all.subarray(at, at + size));
    at += size;
    await within(
      'the callback',
      new Promise((resolve, reject) => client.write(bytes, (error) => (error ? reject(error) : resolve()))),
    );
    bytes.fill(0);
  }
  client.end();
  assert.ok((await within('all bytes', received)).equals(all));
  near.end();
  client.resume();
  await settled(client, 'close');
  await far.close();
});

test('a far socket that is not read closes the window of its peer', async () => {
  const far = held.agent.host();
  for (const host of LOOPBACKS) {
    const [client, near] = await line(far, host);
    const bytes = pattern(1 << 16, 3);
    let written = 0;
    let stuck;
    let isFull = false;
    // Without a reader: the peer writes until its kernel takes no more for a while.
    const full = new Promise((resolve) => {
      const more = () => {
        if (isFull) return;
        clearTimeout(stuck);
        stuck = setTimeout(resolve, 500);
        written += bytes.length;
        near.write(bytes, more);
      };
      more();
    });
    await within('a closed window', full);
    isFull = true;
    assert.ok(written > 1 << 19, `${written} bytes: the window was never open`);
    assert.ok(client.readableLength + client.bytesRead <= 2 * (1 << 20), 'what waits here is bounded');
    const read = client.bytesRead;
    const sessionId = await far.sessionId();
    const { sockets } = await far.api.sockets.listSockets({ sessionId });
    const socket = sockets.find((each) => each.remote?.port === near.localPort);
    assert.ok(socket.queues.receiveBytes > 0, 'the rest waits in the kernel of the far host');
    assert.equal(socket.bytesRead, read);
    // Read on, and everything comes.
    let size = 0;
    client.on('data', (chunk) => {
      size += chunk.length;
    });
    near.end();
    await within('the rest', event(client, 'end'));
    assert.equal(size, near.bytesWritten);
    client.end();
    await settled(client, 'close');
  }
  await far.close();
});

test('a peer that is not read stops the writes of a far socket', async () => {
  const far = held.agent.host();
  const [client, near] = await line(far, '127.0.0.1');
  near.pause();
  const bytes = Buffer.alloc(1 << 18);
  let called = 0;
  let full = false;
  while (!full) {
    let wait;
    const more = new Promise((resolve) => client.write(bytes, resolve));
    const late = new Promise((resolve) => {
      wait = setTimeout(() => resolve('full'), 500);
    });
    full = (await Promise.race([more, late])) === 'full';
    called += 1;
    clearTimeout(wait);
  }
  assert.ok(client.writableNeedDrain && called > 1);
  const read = createHash('sha256');
  const received = (async () => {
    let size = 0;
    for await (const chunk of near) {
      read.update(chunk);
      size += chunk.length;
    }
    return size;
  })();
  await event(client, 'drain');
  client.end();
  assert.equal(await within('all bytes', received), client.bytesWritten);
  near.end();
  client.resume();
  await settled(client, 'close');
  await far.close();
});

test('pause() and resume()', async () => {
  const far = held.agent.host();
  const [client, near] = await line(far, '::1');
  client.pause();
  client.on('data', () => assert.ok(!client.isPaused()));
  near.end(pattern(100_000, 9));
  setTimeout(() => client.resume(), 50);
  await event(client, 'end');
  assert.equal(client.bytesRead, 100_000);
  client.end();
  await settled(client, 'close');
  await far.close();
});

test('a reset of the peer is ECONNRESET, a FIN is not', async () => {
  const far = held.agent.host();
  for (const host of LOOPBACKS) {
    for (const written of ['', 'unread']) {
      const [client, near] = await line(far, host);
      client.resume();
      if (written) {
        client.write(written);
        await event(near, 'readable');
      }
      near.resetAndDestroy();
      const [error] = await settled(client, 'error');
      assert.equal(error.message, 'read ECONNRESET');
      assert.deepEqual([error.code, error.errno, error.syscall], ['ECONNRESET', -104, 'read']);
      const [hadError] = await settled(client, 'close');
      assert.equal(hadError, true);
    }
  }
  await far.close();
});

test('a far reset is a RST for the peer, and a destroyed socket a FIN', async () => {
  const far = held.agent.host();
  for (const host of LOOPBACKS) {
    for (const reset of [true, false]) {
      const [client, near] = await line(far, host);
      near.resume();
      const ended = reset ? settled(near, 'error') : settled(near, 'end');
      if (reset) client.resetAndDestroy();
      else client.destroy();
      const [error] = await ended;
      assert.equal(error?.code, reset ? 'ECONNRESET' : undefined);
      near.destroy();
    }
  }
  await far.close();
});

test('noDelay and keepAlive reach the far socket', async () => {
  const far = held.agent.host();
  const server = net.createServer((socket) => socket.resume());
  const port = await listening(server, '127.0.0.1');
  const client = far.net.connect({ port, host: '127.0.0.1', noDelay: true, keepAlive: true, keepAliveInitialDelay: 7000 });
  await event(client, 'connect');
  const sessionId = await far.sessionId();
  const { sockets } = await far.api.sockets.listSockets({ sessionId });
  const read = async () => {
    const names = ['TCP_NODELAY', 'SO_KEEPALIVE', 'TCP_KEEPIDLE'];
    const { options } = await far.api.sockets.getSocketOptions({ sessionId, socketId: sockets[0].socketId, names });
    return options.map(({ effective }) => effective.value.value);
  };
  assert.deepEqual(await read(), [true, true, { seconds: 7, nanos: 0 }]);
  client.setNoDelay(false).setKeepAlive(false);
  // As with Node's own, nobody is told when.
  await until('both options', async () => (await read()).slice(0, 2).every((enabled) => enabled === false));
  client.end();
  await settled(client, 'close');
  server.close();
  await far.close();
});
