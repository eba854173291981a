// As net_like_node.test.js, for dgram.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { event, settled, within, withAgent } = require('./harness');

const held = withAgent();

/** Node's names for both IP versions, with the addresses that go with them. */
const FAMILIES = [
  { type: 'udp4', host: '127.0.0.1', any: '0.0.0.0', group: '239.77.1.2', foreign: '192.0.2.1' },
  { type: 'udp6', host: '::1', any: '::', group: 'ff15::7', foreign: '2001:db8::1' },
];

function plain(value) {
  if (value instanceof Error) {
    const { code, errno, syscall, address, port } = value;
    return {
      error: value.constructor.name,
      message: value.message.replace(/:\d{4,5}\b/g, ':port'),
      code,
      errno,
      syscall,
      address,
      port: port && 'port',
    };
  }
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  if (typeof value === 'number' && value > 1023) return 'port';
  if (value && typeof value === 'object' && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
  }
  return value;
}

function note(log, who, socket) {
  for (const name of ['listening', 'connect', 'message', 'error', 'close']) {
    socket.on(name, (...args) => log.push([who, name, ...args.map(plain)]));
  }
}

async function bound(socket, host) {
  socket.bind(0, host);
  await event(socket, 'listening');
  return socket.address().port;
}

async function close(...sockets) {
  await Promise.all(
    sockets.map((socket) => {
      const closed = settled(socket, 'close');
      socket.close();
      return closed;
    }),
  );
}

/** Sends, and waits for the callback. */
function sent(socket, ...args) {
  return within('the callback of send', new Promise((resolve) => socket.send(...args, (...told) => resolve(told.map(plain)))));
}

const SCENES = {
  'every form of send': async ({ dgram, type, host, log }) => {
    const server = dgram.createSocket(type);
    const port = await bound(server, host);
    const client = dgram.createSocket({ type });
    const got = () =>
      settled(server, 'message').then(([bytes, { address, family, size }]) => [plain(bytes), address, family, size]);
    for (const args of [
      [Buffer.from('whole'), port, host],
      ['text ñ', port, host],
      [new Uint8Array([65, 66, 67]), port, host],
      [Buffer.from('0123456789'), 2, 3, port, host],
      ['0123456789', 2, 3, port, host],
      [[Buffer.from('one '), 'two ', new Uint16Array([0x4142])], port, host],
      [[], port, host],
      [Buffer.alloc(0), port, host],
      ['to this machine', port],
    ]) {
      const [told, message] = await Promise.all([sent(client, ...args), got()]);
      log.push([told, message]);
    }
    const message = got();
    client.sendto(Buffer.from('sendto'), 0, 6, port, host);
    log.push(await message);
    await close(server, client);
  },

  'bound, heard, answered, closed': async ({ dgram, type, host, log }) => {
    const server = dgram.createSocket(type, (bytes, from) =>
      server.send(bytes.toString().toUpperCase(), from.port, from.address),
    );
    note(log, 'server', server);
    await bound(server, host);
    const { address, family, port } = server.address();
    log.push(['server', Object.keys(server.address()), address, family, typeof port]);
    const client = dgram.createSocket(type);
    client.send('hello', port, host);
    const [bytes, from] = await settled(client, 'message');
    log.push(['client', plain(bytes), Object.keys(from), plain(from)]);
    log.push(['client', client.address().address]);
    await close(server, client);
    for (const act of [() => client.address(), () => client.send('x', 1, host), () => client.close(), () => client.bind()]) {
      try {
        act();
      } catch (error) {
        log.push(['client', plain(error)]);
      }
    }
  },

  'bound to any address': async ({ dgram, type, any, log }) => {
    for (const args of [[], [0], [{ port: 0 }], [{}], [null], [undefined, any]]) {
      const socket = dgram.createSocket(type);
      socket.bind(...args, () => log.push(['callback']));
      await event(socket, 'listening');
      log.push([socket.address().address]);
      await close(socket);
    }
  },

  'bound twice': async ({ dgram, type, host, log }) => {
    const socket = dgram.createSocket(type);
    await bound(socket, host);
    try {
      socket.bind(0, host);
    } catch (error) {
      log.push([plain(error)]);
    }
    await close(socket);
  },

  'an address that is taken': async ({ dgram, type, host, log }) => {
    const first = dgram.createSocket(type);
    const port = await bound(first, host);
    const second = dgram.createSocket(type);
    note(log, 'second', second);
    second.bind(port, host, () => log.push(['never']));
    await settled(second, 'error');
    await bound(second, host);
    await close(first, second);
  },

  'an address that is shared': async ({ dgram, type, host, log }) => {
    const first = dgram.createSocket({ type, reuseAddr: true });
    const port = await bound(first, host);
    const second = dgram.createSocket({ type, reuseAddr: true });
    second.bind(port, host);
    await event(second, 'listening');
    log.push(['both']);
    await close(first, second);
  },

  'an address of somebody else': async ({ dgram, type, foreign, log }) => {
    const socket = dgram.createSocket(type);
    note(log, 'socket', socket);
    socket.bind(0, foreign);
    await settled(socket, 'error');
    await close(socket);
  },

  'a datagram that is too large': async ({ dgram, type, host, log }) => {
    const socket = dgram.createSocket(type);
    log.push(await sent(socket, Buffer.alloc(65_536), 9, host));
    log.push(await sent(socket, 'goes on', 9, host));
    await close(socket);
  },

  'connected and disconnected': async ({ dgram, type, host, log }) => {
    const server = dgram.createSocket(type);
    const port = await bound(server, host);
    const socket = dgram.createSocket(type);
    note(log, 'socket', socket);
    socket.connect(port, host, () => log.push(['callback']));
    await event(socket, 'connect');
    const { address, family } = socket.remoteAddress();
    log.push([address, family, socket.address().address]);
    log.push([await sent(socket, 'one'), plain((await settled(server, 'message'))[0])]);
    for (const act of [() => socket.send('x', port, host), () => socket.connect(port, host)]) {
      try {
        act();
      } catch (error) {
        log.push([plain(error)]);
      }
    }
    socket.disconnect();
    for (const act of [() => socket.disconnect(), () => socket.remoteAddress()]) {
      try {
        act();
      } catch (error) {
        log.push([plain(error)]);
      }
    }
    log.push([await sent(socket, 'two', port, host)]);
    await close(server, socket);
  },

  'nobody is there': async ({ dgram, type, host, log }) => {
    const nobody = dgram.createSocket(type);
    const port = await bound(nobody, host);
    await close(nobody);
    const socket = dgram.createSocket(type);
    socket.connect(port, host);
    await event(socket, 'connect');
    const refused = settled(socket, 'error');
    await sent(socket, 'x');
    log.push(plain((await refused)[0]));
    await close(socket);
  },

  options: async ({ dgram, type, host, log }) => {
    const socket = dgram.createSocket({ type, recvBufferSize: 20_000, sendBufferSize: 30_000 });
    for (const act of [() => socket.setTTL(5), () => socket.setBroadcast(true), () => socket.getRecvBufferSize()]) {
      try {
        act();
      } catch (error) {
        log.push([error.code, error.message.replace(/ \(.*/, '')]);
      }
    }
    await bound(socket, host);
    log.push([socket.getRecvBufferSize() > 30_000, socket.getSendBufferSize() > 50_000]);
    socket.setRecvBufferSize(40_000);
    log.push([socket.getRecvBufferSize(), socket.getSendQueueSize(), socket.getSendQueueCount()]);
    log.push([socket.setTTL(5), socket.setMulticastTTL(7), socket.setMulticastLoopback(true), socket.setBroadcast(true)]);
    for (const act of [
      () => socket.setTTL(0),
      () => socket.setTTL('x'),
      () => socket.setMulticastTTL(1000),
      () => socket.setRecvBufferSize(-1),
    ]) {
      try {
        act();
      } catch (error) {
        log.push([plain(error)]);
      }
    }
    await close(socket);
  },

  'a group': async ({ dgram, type, any, group, log }) => {
    const member = dgram.createSocket(type);
    const port = await bound(member, any);
    const on = type === 'udp4' ? '127.0.0.1' : '::%lo';
    member.addMembership(group, on);
    const sender = dgram.createSocket(type);
    await bound(sender, any);
    sender.setMulticastInterface(on);
    sender.setMulticastLoopback(true);
    const message = new Promise((resolve) => member.once('message', resolve));
    const told = await sent(sender, 'to all', port, group);
    log.push(told);
    // Where no route leads to the group (IPv6 on a machine without a network), that is the answer.
    if (told[0] === null) log.push(plain(await within('the message', message)));
    member.dropMembership(group, on);
    await close(member, sender);
  },

  'with a signal': async ({ dgram, type, host, log }) => {
    const controller = new AbortController();
    const socket = dgram.createSocket({ type, signal: controller.signal });
    note(log, 'socket', socket);
    await bound(socket, host);
    const closed = settled(socket, 'close');
    controller.abort();
    await closed;
  },

  'closed before it is bound': async ({ dgram, type, host, log }) => {
    const socket = dgram.createSocket(type);
    note(log, 'socket', socket);
    socket.send('x', 9, host);
    socket.close();
    await settled(socket, 'close');
  },

  'a name, and a lookup of the program': async ({ dgram, type, host, log }) => {
    const server = dgram.createSocket(type);
    const port = await bound(server, host);
    const lookup = (name, family, answer) => {
      log.push([name, family]);
      process.nextTick(answer, null, host, family);
    };
    const socket = dgram.createSocket({ type, lookup });
    const message = settled(server, 'message');
    socket.send('x', port, 'of-mine');
    log.push(plain((await message)[0]));
    const other = dgram.createSocket(type);
    log.push(await sent(other, 'x', port, 'no such name'));
    await close(server, socket, other);
  },
};

for (const [name, scene] of Object.entries(SCENES)) {
  test(name, async () => {
    for (const family of FAMILIES) {
      const far = held.agent.host();
      const logs = [];
      for (const dgram of [require('node:dgram'), far.dgram]) {
        const log = [];
        await scene({ dgram, ...family, log });
        logs.push(log);
      }
      await far.close();
      assert.ok(logs[0].length > 0, 'something has happened');
      assert.deepEqual(logs[1], logs[0]);
    }
  });
}

test('what must not be asked for is refused in the same words', () => {
  const wrong = [
    (dgram) => dgram.createSocket('tcp'),
    (dgram) => dgram.createSocket(),
    (dgram) => dgram.createSocket({ type: 'udp4', lookup: 1 }),
    (dgram) => dgram.createSocket('udp4').send(1, 1, '127.0.0.1'),
    (dgram) => dgram.createSocket('udp4').send([1], 1, '127.0.0.1'),
    (dgram) => dgram.createSocket('udp4').send('x', 0, '127.0.0.1'),
    (dgram) => dgram.createSocket('udp4').send('x', 70000),
    (dgram) => dgram.createSocket('udp4').send('x', 1, 7),
    (dgram) => dgram.createSocket('udp4').send(Buffer.alloc(4), 5, 1, 1, '127.0.0.1'),
    (dgram) => dgram.createSocket('udp4').send(Buffer.alloc(4), 2, 3, 1, '127.0.0.1'),
    (dgram) => dgram.createSocket('udp4').sendto('x', 'y'),
    (dgram) => dgram.createSocket('udp4').connect(0),
    (dgram) => dgram.createSocket('udp4').addMembership(),
    (dgram) => dgram.createSocket('udp4').addSourceSpecificMembership(1),
    (dgram) => dgram.createSocket('udp4').disconnect(),
  ];
  const said = (dgram, ask) => {
    try {
      ask(dgram);
      return 'nothing';
    } catch (error) {
      return `${error.constructor.name} ${error.code}: ${error.message}`;
    }
  };
  for (const ask of wrong) {
    const expected = said(require('node:dgram'), ask);
    assert.notEqual(expected, 'nothing', `${ask}`);
    assert.equal(said(held.agent.host().dgram, ask), expected, `${ask}`);
  }
});

test('everything that a dgram.Socket has is there', () => {
  const { Socket } = held.agent.host().dgram;
  const names = Object.getOwnPropertyNames(require('node:dgram').Socket.prototype).filter((name) => !name.startsWith('_'));
  assert.deepEqual(
    names.filter((name) => !(name in Socket.prototype)),
    [],
  );
});
