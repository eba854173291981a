// The Node end of the exercise that all clients play with each other; clients/cross/run starts it.
//
// A server prints the addresses of a listener and of a UDP socket, serves one connection and one datagram, and ends. A client talks to both.

const assert = require('node:assert');
const { createHash } = require('node:crypto');
const { once } = require('node:events');

const { host } = require('../node');

const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const text = ({ address, port }) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
const parts = (address) => [address.slice(0, address.lastIndexOf(':')).replace(/[[\]]/g, ''), Number(address.slice(address.lastIndexOf(':') + 1))];

// Not `for await`, which destroys a stream whose other direction is still needed.
async function all(stream) {
  const pieces = [];
  stream.on('data', (piece) => pieces.push(piece));
  await once(stream, 'end');
  return Buffer.concat(pieces);
}

async function server({ net, dgram }, address) {
  const door = net.createServer({ allowHalfOpen: true });
  door.listen(0, address);
  await once(door, 'listening');
  const mail = dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4').bind(0, address);
  await once(mail, 'listening');
  const asked = once(mail, 'message');
  console.log(text(door.address()), text(mail.address()));

  const [line] = await once(door, 'connection');
  line.end(hash(await all(line)));
  door.close();

  const [message, from] = await asked;
  mail.send(message, from.port, from.address, () => mail.close());
}

async function client({ net, dgram }, tcp, udp) {
  const [address, port] = parts(tcp);
  const line = net.connect({ host: address, port, allowHalfOpen: true });
  const bytes = Buffer.alloc(1 << 20);
  for (let at = 0; at < bytes.length; at++) bytes[at] = at * 31 + Math.floor(at / 251);
  line.end(bytes);
  assert.strictEqual((await all(line)).toString(), hash(bytes));

  const [to, at] = parts(udp);
  const ask = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4');
  const answered = once(ask, 'message');
  ask.send('hola', at, to);
  const [message] = await answered;
  assert.strictEqual(message.toString(), 'hola');
  ask.close();
}

async function main([role, agent, ...addresses]) {
  const far = host(agent);
  if (role === 'server') await server(far, addresses[0]);
  else await client(far, ...addresses);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
