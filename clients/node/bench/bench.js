// What a far socket costs: the same program on far sockets and on Node's own, by turns, and the ratio of both.
//
//     FARSOCK_BIN=target/release/farsock npm run bench
//
// One end of each connection is far, on an agent on this machine; the other one is this process. Figures are the medians of the rounds.

'use strict';

const { once } = require('node:events');
const dgram = require('node:dgram');
const net = require('node:net');

const { EmbeddedAgent } = require('@farsock/client/testing');

const ROUNDS = process.env.FARSOCK_BENCH_QUICK ? 1 : 5;
const SCALE = process.env.FARSOCK_BENCH_QUICK ? 0.1 : 1;
const BYTES = Math.round(256 * SCALE) << 20;
const TURNS = Math.round(5000 * SCALE);
const CONNECTS = Math.round(500 * SCALE);

const HOST = '127.0.0.1';

async function server(onConnection) {
  const server = net.createServer({ noDelay: true }, onConnection).listen(0, HOST);
  await once(server, 'listening');
  return server;
}

/** A client of a server of this process. */
async function line(far, onConnection) {
  const near = await server(onConnection);
  const client = far.net.connect({ port: near.address().port, host: HOST, noDelay: true });
  await Promise.all([once(client, 'connect'), once(near, 'connection')]);
  near.close();
  return client;
}

const CASES = {
  'download, MiB/s': async (far) => {
    const block = Buffer.alloc(1 << 16, 1);
    const client = await line(far, (socket) => {
      let left = BYTES;
      const more = () => {
        while (left > 0) {
          left -= block.length;
          if (!socket.write(block)) return socket.once('drain', more);
        }
        socket.end();
      };
      more();
    });
    const begun = performance.now();
    client.resume();
    await once(client, 'end');
    return (BYTES / (1 << 20) / (performance.now() - begun)) * 1000;
  },

  'upload, MiB/s': async (far) => {
    const block = Buffer.alloc(1 << 16, 1);
    let ended;
    const end = new Promise((resolve) => (ended = resolve));
    const client = await line(far, (socket) => socket.resume().on('end', ended));
    client.resume();
    const begun = performance.now();
    for (let left = BYTES; left > 0; left -= block.length) {
      if (!client.write(block)) await once(client, 'drain');
    }
    client.end();
    await end;
    return (BYTES / (1 << 20) / (performance.now() - begun)) * 1000;
  },

  'round trip of a byte, µs': async (far) => {
    const client = await line(far, (socket) => socket.pipe(socket));
    const times = [];
    await new Promise((resolve) => {
      let begun = performance.now();
      client.on('data', () => {
        times.push(performance.now() - begun);
        if (times.length === TURNS) return resolve();
        begun = performance.now();
        client.write('x');
      });
      client.write('x');
    });
    client.destroy();
    return median(times) * 1000;
  },

  'round trip of a datagram, µs': async (far) => {
    const near = dgram.createSocket('udp4').bind(0, HOST);
    await once(near, 'listening');
    near.on('message', (bytes, from) => near.send(bytes, from.port, from.address));
    const socket = far.dgram.createSocket('udp4').bind(0, HOST);
    await once(socket, 'listening');
    const times = [];
    await new Promise((resolve) => {
      let begun = performance.now();
      const send = () => socket.send('x', near.address().port, HOST);
      socket.on('message', () => {
        times.push(performance.now() - begun);
        if (times.length === TURNS) return resolve();
        begun = performance.now();
        send();
      });
      send();
    });
    near.close();
    socket.close();
    return median(times) * 1000;
  },

  'connections one after the other, /s': async (far) => {
    const near = await server((socket) => socket.resume());
    const begun = performance.now();
    for (let number = 0; number < CONNECTS; number += 1) {
      const client = far.net.connect(near.address().port, HOST);
      client.resume();
      client.on('connect', () => client.end());
      await once(client, 'close');
    }
    near.close();
    return (CONNECTS / (performance.now() - begun)) * 1000;
  },
};

function median(numbers) {
  return numbers.sort((a, b) => a - b)[numbers.length >> 1];
}

async function main() {
  const agent = await EmbeddedAgent.start();
  const far = agent.host();
  console.log(`${''.padEnd(40)}${'far'.padStart(10)}${'local'.padStart(10)}${'ratio'.padStart(8)}`);
  for (const [name, run] of Object.entries(CASES)) {
    const figures = [[], []];
    for (let round = 0; round < ROUNDS; round += 1) {
      figures[0].push(await run(far));
      figures[1].push(await run({ net, dgram }));
    }
    const [there, here] = figures.map(median);
    const ratio = name.endsWith('µs') ? here / there : there / here;
    console.log(
      `${name.padEnd(40)}${there.toFixed(0).padStart(10)}${here.toFixed(0).padStart(10)}${ratio.toFixed(2).padStart(8)}`,
    );
  }
  await agent.stop();
}

main();
