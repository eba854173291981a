// The oracle is Node itself: each scene is played on Node's own net and on that of a far host, and both must tell the same.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { LOOPBACKS, event, listening, settled, within, withAgent } = require('./harness');

const held = withAgent();

/** Notes what happens to an emitter, in its words. */
function note(log, who, emitter, names) {
  for (const name of names) {
    emitter.on(name, (...args) => log.push([who, name, ...args.map(plain)]));
  }
}

const CLIENT = [
  'lookup',
  'connectionAttempt',
  'connectionAttemptFailed',
  'connect',
  'ready',
  'data',
  'end',
  'finish',
  'timeout',
  'error',
  'close',
];
const ACCEPTED = ['data', 'end', 'finish', 'timeout', 'error', 'close'];
const SERVER = ['listening', 'drop', 'error', 'close'];

/** A value without what differs from one run to the next. */
function plain(value) {
  if (value instanceof Error) {
    const { code, errno, syscall, address, port, hostname } = value;
    return {
      error: value.constructor.name,
      message: scrub(value.message),
      code,
      errno,
      syscall,
      address,
      port: port && 'port',
      hostname,
    };
  }
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  if (typeof value === 'number' && value > 1023) return 'port';
  if (value && typeof value === 'object' && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
  }
  return value;
}

function scrub(text) {
  return text.replace(/:\d{4,5}\b/g, ':port');
}

/** What is known of one end: events of one end have an order, those of two have none. */
function sorted(log) {
  return log
    .map((entry, at) => ({ entry, at }))
    .sort((a, b) => (a.entry[0] < b.entry[0] ? -1 : a.entry[0] > b.entry[0] ? 1 : a.at - b.at))
    .map(({ entry }) => entry);
}

/** A server and a client, until both ends are closed. */
async function pair(
  { net, host, log },
  { options = {}, onConnection = () => {}, begin = () => {}, onConnect = () => {}, connect = {} },
) {
  const server = net.createServer(options);
  note(log, 'server', server, SERVER);
  const port = await listening(server, host);
  const accepted = new Promise((resolve) => {
    server.on('connection', (socket) => {
      note(log, 'accepted', socket, ACCEPTED);
      onConnection(socket, server);
      resolve(settled(socket, 'close'));
    });
  });
  const client = net.connect({ host, port, ...connect });
  note(log, 'client', client, CLIENT);
  begin(client);
  client.on('connect', () => onConnect(client));
  await settled(client, 'close');
  await within('the end of the accepted one', accepted);
  server.close();
  await event(server, 'close');
  return client;
}

const SCENES = {
  'a greeting, and the client ends': (stage) =>
    pair(stage, {
      onConnection: (socket) => {
        socket.on('end', () => {});
        socket.write('hola que tal\r\n');
      },
      onConnect: (client) => {
        client.write('hola server TCP\r\n');
        client.once('data', () => client.end());
      },
    }),

  'the server ends': (stage) =>
    pair(stage, {
      onConnection: (socket) => socket.resume() && socket.end('bye'),
    }),

  'half open on both ends: nothing is answered by itself': (stage) =>
    pair(stage, {
      options: { allowHalfOpen: true },
      connect: { allowHalfOpen: true },
      onConnection: (socket) => {
        socket.on('end', () => {
          stage.log.push(['accepted', 'writable after end', socket.writable, socket.readyState]);
          socket.end('the answer');
        });
        socket.resume();
      },
      onConnect: (client) => {
        client.resume();
        client.end('the question');
        stage.log.push(['client', 'state', client.readyState, client.writable]);
      },
    }),

  'the client resets': (stage) =>
    pair(stage, {
      onConnection: (socket) => {
        socket.on('error', () => {});
        socket.write('x');
        socket.resume();
      },
      onConnect: (client) => client.once('data', () => client.resetAndDestroy()),
    }),

  'the server destroys': (stage) =>
    pair(stage, {
      onConnection: (socket) => {
        socket.write('last words');
        socket.destroy();
      },
      onConnect: (client) => client.resume(),
    }),

  'destroyed with an error of the program': (stage) =>
    pair(stage, {
      onConnection: (socket) => socket.resume(),
      onConnect: (client) => {
        client.on('error', () => {});
        client.destroy(new RangeError('enough'));
      },
    }),

  'destroySoon lets everything out': async (stage) => {
    await pair(stage, {
      onConnection: (socket) => socket.resume(),
      onConnect: (client) => {
        client.resume();
        client.write('one ');
        client.write('two');
        client.destroySoon();
      },
    });
    // Two writes may come as one read, or as two.
    const [data, others] = [true, false].map((is) => stage.log.filter(([, name]) => (name === 'data') === is));
    stage.log.splice(0, Infinity, ...others, ['accepted', 'all data', data.map(([, , text]) => text).join('')]);
  },

  'writes before the connection is there': async (stage) => {
    const client = await pair(stage, {
      onConnection: (socket) => socket.pipe(socket),
      begin: (client) => {
        stage.log.push(['client', client.write('one '), client.write('two'), client.bytesWritten, client.writableLength]);
        let size = 0;
        client.on('data', (more) => {
          size += more.length;
          if (size === 7) client.end();
        });
      },
    });
    // Two writes may come back as one read, or as two.
    stage.log.splice(0, Infinity, ...stage.log.filter(([, name]) => name !== 'data'));
    stage.log.push([client.destroyed, client.bytesRead, client.bytesWritten, client.readyState, client.address()]);
  },

  'bytes are counted': async (stage) => {
    const client = await pair(stage, {
      onConnection: (socket) => {
        socket.on('data', () => stage.log.push(['accepted', 'bytesRead', socket.bytesRead]));
        socket.on('end', () => socket.end());
        socket.write('ñandú', 'utf8', () => stage.log.push(['accepted', 'written', socket.bytesWritten]));
      },
      onConnect: (client) => {
        client.once('data', () => client.end(Buffer.from('hola')));
      },
    });
    stage.log.push(['after', client.bytesRead, client.bytesWritten]);
  },

  encodings: (stage) =>
    pair(stage, {
      onConnection: (socket) => {
        socket.setEncoding('hex');
        socket.on('end', () => socket.end('00ff10', 'hex'));
      },
      onConnect: (client) => {
        client.setEncoding('base64');
        client.end('€', 'utf16le');
      },
    }),

  addresses: (stage) =>
    pair(stage, {
      onConnection: (socket) => {
        const { address, family } = socket.address();
        const { localAddress, localFamily, remoteAddress, remoteFamily } = socket;
        stage.log.push([
          'accepted',
          Object.keys(socket.address()),
          address,
          family,
          localAddress,
          localFamily,
          remoteAddress,
          remoteFamily,
        ]);
        stage.log.push([
          'accepted',
          typeof socket.localPort,
          typeof socket.remotePort,
          socket.pending,
          socket.connecting,
          socket.readyState,
        ]);
        socket.end();
      },
      onConnect: (client) => {
        const { localAddress, localFamily, remoteAddress, remoteFamily } = client;
        stage.log.push(['client', Object.keys(client.address()), localAddress, localFamily, remoteAddress, remoteFamily]);
        client.resume();
      },
    }),

  'silence times out, and nothing is closed': (stage) =>
    pair(stage, {
      onConnection: (socket) => socket.resume(),
      onConnect: (client) => {
        client.setTimeout(20, () => {
          stage.log.push(['client', 'callback', client.timeout]);
          client.end();
        });
        client.resume();
      },
    }),

  pauseOnConnect: (stage) =>
    pair(stage, {
      options: { pauseOnConnect: true },
      onConnection: (socket) => {
        stage.log.push(['accepted', socket.isPaused(), socket.readableFlowing]);
        setImmediate(() => socket.resume());
      },
      onConnect: (client) => client.resume() && client.end('x'),
    }),

  'written after its end': (stage) =>
    pair(stage, {
      onConnection: (socket) => socket.resume(),
      onConnect: (client) => {
        client.resume();
        client.on('error', () => {});
        client.end();
        client.write('x', (error) => stage.log.push(['client', 'callback', plain(error)]));
      },
    }),

  'written after the other end has ended': (stage) =>
    pair(stage, {
      onConnection: (socket) => socket.end() && socket.resume(),
      onConnect: (client) => {
        client.resume();
        client.on('error', () => {});
        client.on('finish', () => client.write('x', (error) => stage.log.push(['client', 'callback', plain(error)])));
      },
    }),

  'nobody listens': async ({ net, host, log }) => {
    const server = net.createServer();
    const port = await listening(server, host);
    server.close();
    await event(server, 'close');
    const client = net.connect(port, host, () => log.push(['client', 'never']));
    note(log, 'client', client, CLIENT);
    log.push(['client', client.connecting, client.pending, client.readyState, client.address()]);
    await settled(client, 'close');
    log.push(['client', client.connecting, client.pending, client.destroyed, client.readyState]);
  },

  'an address that is taken': async ({ net, host, log }) => {
    const first = net.createServer();
    const port = await listening(first, host);
    const second = net.createServer();
    note(log, 'second', second, SERVER);
    second.listen(port, host);
    await settled(second, 'error');
    log.push(['second', second.listening, second.address()]);
    second.listen(0, host);
    await event(second, 'listening');
    second.close();
    first.close();
    await Promise.all([event(first, 'close'), event(second, 'close')]);
  },

  'an address of somebody else': async ({ net, host, log }) => {
    const server = net.createServer();
    note(log, 'server', server, SERVER);
    server.listen(0, host === '::1' ? '2001:db8::1' : '192.0.2.1');
    await settled(server, 'error');
  },

  'a bound client': async (stage) => {
    const { net, host, log } = stage;
    const server = net.createServer((socket) => socket.resume().end());
    const port = await listening(server, host);
    const client = net.connect({ port, host, localAddress: host });
    client.resume();
    const closed = settled(client, 'close');
    await event(client, 'connect');
    log.push([client.localAddress]);
    const second = net.connect({ port, host, localAddress: host, localPort: port });
    note(log, 'second', second, CLIENT);
    await settled(second, 'close');
    client.end();
    await closed;
    server.close();
    await event(server, 'close');
  },

  'given up before it is connected': async ({ net, host, log }) => {
    const server = net.createServer((socket) => socket.on('error', () => {}).resume());
    const port = await listening(server, host);
    const client = net.connect(port, host);
    note(log, 'client', client, CLIENT);
    client.write('x', (error) => log.push(['client', 'callback', plain(error)]));
    client.destroy();
    await settled(client, 'close');
    server.close();
    await event(server, 'close');
  },

  'more connections than allowed': async ({ net, host, log }) => {
    const server = net.createServer();
    server.maxConnections = 1;
    note(log, 'server', server, SERVER);
    const port = await listening(server, host);
    const first = net.connect(port, host);
    const [accepted] = await event(server, 'connection');
    accepted.resume();
    const dropped = settled(server, 'drop');
    const second = net.connect(port, host);
    second.resume();
    note(log, 'second', second, ['connect', 'end', 'error', 'close']);
    await Promise.all([dropped, settled(second, 'close')]);
    const count = await within(
      'a count',
      new Promise((resolve) => server.getConnections((error, count) => resolve([error, count]))),
    );
    log.push(['server', ...count]);
    first.end();
    first.resume();
    await settled(first, 'close');
    server.close();
    await settled(server, 'close');
  },

  'a server that is closed waits for its connections': async ({ net, host, log }) => {
    const server = net.createServer();
    const port = await listening(server, host);
    const client = net.connect(port, host);
    client.resume();
    const [accepted] = await event(server, 'connection');
    accepted.resume();
    accepted.on('close', () => log.push(['close of the connection']));
    server.close((error) => log.push(['close of the server', error]));
    log.push([server.listening, server.address()]);
    client.end();
    await Promise.all([settled(server, 'close'), settled(client, 'close'), settled(accepted, 'close')]);
    server.close((error) => log.push(['again', plain(error)]));
    await settled(server, 'close');
  },

  'a server is listened to twice': async ({ net, host, log }) => {
    const server = net.createServer();
    await listening(server, host);
    try {
      server.listen(0, host);
    } catch (error) {
      log.push([plain(error)]);
    }
    server.close();
    await event(server, 'close');
    server.listen(0, host, () => log.push(['once more']));
    await event(server, 'listening');
    server.close();
    await event(server, 'close');
  },

  'a server with a signal': async ({ net, host, log }) => {
    const controller = new AbortController();
    const server = net.createServer();
    note(log, 'server', server, SERVER);
    server.listen({ port: 0, host, signal: controller.signal });
    await event(server, 'listening');
    controller.abort();
    await settled(server, 'close');
  },

  'a socket that connects again': async ({ net, host, log }) => {
    const server = net.createServer((socket) => socket.resume().end('hello'));
    const port = await listening(server, host);
    const client = new net.Socket();
    note(log, 'client', client, CLIENT);
    for (let round = 0; round < 2; round += 1) {
      client.connect(port, host);
      await settled(client, 'close');
      log.push(['client', client.destroyed, client.bytesRead]);
    }
    server.close();
    await event(server, 'close');
  },

  'a buffer of the caller': async ({ net, host, log }) => {
    const server = net.createServer((socket) => socket.end('0123456789'));
    const port = await listening(server, host);
    const buffer = Buffer.alloc(4);
    let text = '';
    const onread = {
      buffer,
      callback(size, bytes) {
        text += bytes.toString('latin1', 0, size);
        return true;
      },
    };
    const client = net.connect({ port, host, onread });
    client.on('data', () => log.push('never'));
    client.resume();
    await settled(client, 'close');
    log.push(text);
    server.close();
    await event(server, 'close');
  },

  'a name that there is not': async ({ net, log }) => {
    const client = net.connect(80, 'no such name');
    note(log, 'client', client, CLIENT);
    await settled(client, 'close');
  },

  'a lookup of the program': async ({ net, host, log }) => {
    const server = net.createServer((socket) => socket.resume().end());
    const port = await listening(server, host);
    const family = host === '::1' ? 6 : 4;
    const lookup = (name, { all }, answer) => {
      log.push(['lookup', name, all]);
      process.nextTick(() => (all ? answer(null, [{ address: host, family }]) : answer(null, host, family)));
    };
    for (const options of [{}, { family }]) {
      const client = net.connect({ port, host: 'of-mine', lookup, ...options });
      note(log, 'client', client, CLIENT);
      client.resume();
      await settled(client, 'close');
    }
    server.close();
    await event(server, 'close');
  },

  'several addresses, none of which answers': async ({ net, log }) => {
    const server = net.createServer();
    const port = await listening(server, '127.0.0.1');
    server.close();
    await event(server, 'close');
    const found = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
    const lookup = (_name, _options, answer) => process.nextTick(answer, null, found);
    const client = net.connect({ port, host: 'of-mine', lookup });
    note(log, 'client', client, [...CLIENT, 'connectionAttemptTimeout']);
    const [[error]] = await Promise.all([settled(client, 'error'), settled(client, 'close')]);
    log.push([error.errors.map(plain)]);
  },
};

for (const [name, scene] of Object.entries(SCENES)) {
  test(name, async () => {
    for (const host of LOOPBACKS) {
      const logs = [];
      const far = held.agent.host();
      for (const net of [require('node:net'), far.net]) {
        const log = [];
        await scene({ net, host, log });
        logs.push(sorted(log));
      }
      await far.close();
      assert.ok(logs[0].length > 0, 'something has happened');
      assert.deepEqual(logs[1], logs[0]);
    }
  });
}

test('what must not be asked for is refused in the same words', () => {
  const wrong = [
    (net) => net.connect(),
    (net) => net.connect({ port: 70000 }),
    (net) => net.connect({ port: 'x1' }),
    (net) => net.connect({ port: true }),
    (net) => net.connect({ port: 1, localAddress: 'here' }),
    (net) => net.connect({ port: 1, localPort: 'x' }),
    (net) => net.connect({ port: 1, host: 'x', lookup: 1 }),
    (net) => net.connect({ port: 1, autoSelectFamily: 1 }),
    (net) => net.createServer('x'),
    (net) => net.createServer({ keepAliveInitialDelay: 'x' }),
    (net) => net.createServer().listen(70000),
    (net) => net.createServer().listen({ port: -1 }),
    (net) => new net.Socket({ objectMode: true }),
    (net) => new net.Socket().setTimeout('x'),
    (net) => net.setDefaultAutoSelectFamily(1),
  ];
  const said = (net, ask) => {
    try {
      ask(net);
      return 'nothing';
    } catch (error) {
      return `${error.constructor.name} ${error.code}: ${error.message}`;
    }
  };
  for (const ask of wrong) {
    const expected = said(require('node:net'), ask);
    assert.notEqual(expected, 'nothing', `${ask}`);
    assert.equal(said(held.agent.host().net, ask), expected, `${ask}`);
  }
});

test('everything that net exports is there', () => {
  const mine = held.agent.host().net;
  const own = Object.keys(require('node:net')).filter((name) => !name.startsWith('_'));
  assert.deepEqual(Object.keys(mine).sort(), own.sort());
  for (const Class of ['Socket', 'Server']) {
    const members = (object) => Object.getOwnPropertyNames(object).filter((name) => !name.startsWith('_'));
    const prototype = mine[Class].prototype;
    const there = new Set();
    for (let at = prototype; at !== Object.prototype; at = Object.getPrototypeOf(at))
      for (const name of members(at)) there.add(name);
    const missing = members(require('node:net')[Class].prototype).filter((name) => !there.has(name));
    assert.deepEqual(missing, [], Class);
  }
  assert.ok(mine.Server() instanceof mine.Server, 'without new, as old programs do it');
  assert.ok(mine.Socket() instanceof mine.Socket);
});
