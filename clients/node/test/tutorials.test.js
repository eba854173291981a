// The programs of the tutorials, as a reader runs them: each in a process of its own, with an inventory that knows `lab-a`.

'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { after, test } = require('node:test');

const { ownNetwork, within, withAgent } = require('./harness');

const directory = mkdtempSync(join(tmpdir(), 'farsock-tutorials-'));
const inventory = join(directory, 'inventory.yaml');

const held = withAgent(ownNetwork(), ({ endpoint }) => writeFileSync(inventory, `hosts:\n  lab-a: "${endpoint}"\n`));
after(() => rmSync(directory, { recursive: true }));

/** A program that runs, and what it says. */
class Program {
  said = '';
  #heard = () => {};

  constructor(name) {
    const file = join(__dirname, '../tutorials', `${name}.js`);
    const env = { ...process.env, FARSOCK_INVENTORY: inventory, NODE_NO_WARNINGS: '1' };
    this.child = spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.stdout.setEncoding('utf8').on('data', (text) => {
      this.said += text;
      this.#heard();
    });
    this.ended = new Promise((resolve) => this.child.once('close', (code, signal) => resolve(code ?? signal)));
  }

  /** Waits until it has said something. */
  async says(text) {
    await within(
      `"${text}" after "${this.said}"`,
      new Promise((resolve) => {
        this.#heard = () => this.said.includes(text) && resolve();
        this.#heard();
      }),
    );
  }

  /** Waits for its own end. */
  async ends() {
    return within('its end', this.ended);
  }

  /** Ends it as Ctrl-C does. */
  async interrupt() {
    this.child.kill('SIGINT');
    return this.ends();
  }
}

test('000: a greeting', async () => {
  const server = new Program('000-server');
  await server.says('server TCP escuchando.\n');
  const client = new Program('000-client');
  await client.says('El cliente se conectó\nhola que tal\r\n\n');
  // The server has no listener for data: as with Node's own net, it never comes to the end, and so the client does not either.
  assert.equal(server.said, 'server TCP escuchando.\nConexión recibida\n');
  assert.equal(await client.interrupt(), 'SIGINT');
  assert.equal(await server.interrupt(), 'SIGINT');
  // Nothing is left behind that would be in the way of the next one.
  const { sessions } = await held.agent.host().api.sessions.listSessions({});
  assert.deepEqual(
    sessions.map(({ socketCount }) => socketCount),
    [0],
  );
});

test('003: connections are counted, and the fourth one is dropped', async () => {
  const server = new Program('003-tcp-server');
  await server.says('Listen...\n');
  const clients = [];
  for (const count of [1, 2, 3]) {
    clients.push(new Program('003-tcp-client'));
    await server.says(`Connect...\n${count}\n`);
  }
  const fourth = new Program('003-tcp-client');
  // It is connected, and closed at once. Whether as an end or as a reset depends on how far its bytes have come.
  await fourth.ends();
  assert.equal(server.said, 'Listen...\nConnect...\n1\nConnect...\n2\nConnect...\n3\n');
  for (const program of [...clients, server]) await program.interrupt();
});

test('003: a server that tells its address, and a client', async () => {
  const server = new Program('003-tcp-data-server');
  const far = held.agent.host();
  // It says nothing when it listens.
  for (;;) {
    const socket = far.net.connect(3000, 'localhost');
    const there = await new Promise((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
    socket.destroy();
    if (there) break;
  }
  await server.says('has end\n');
  server.said = '';
  const client = new Program('003-tcp-client');
  const address = '{"address":"::","family":"IPv6","port":3000}';
  await client.says(`connect...\nthe data come from server is server address is ${address}\n`);
  await server.says('data is msg of client\nthe size of data is 13\n');
  await server.says(`server address is ${address} has end\nthe size of message is ${18 + address.length}\n`);
  await client.interrupt();
  await server.interrupt();
});

test('003: a UDP socket that is bound, and one that sends to it', async () => {
  const server = new Program('003-udp-bound');
  await server.says('bind 3000....\n');
  const client = new Program('003-udp-client');
  await client.says('client send 15message\n');
  await server.says('bind 3000....\nmsg from client\n');
  await client.interrupt();
  await server.interrupt();
});

test('003: a UDP server that answers', async () => {
  const server = new Program('003-udp-server');
  const far = held.agent.host();
  const sessions = async () => (await far.api.sessions.listSessions({})).sessions;
  // It says nothing when it is bound.
  const bound = async () => {
    for (const { sessionId } of await sessions()) {
      const { sockets } = await far.api.sockets.listSockets({ sessionId });
      if (sockets.some(({ local }) => local?.port === 3000)) return true;
    }
    return false;
  };
  while (!(await bound()));
  const client = new Program('003-udp-client');
  await client.says('msg from server\n');
  assert.equal(client.said, 'client send 15message\nmsg from server\n');
  await server.says('msg from client\nsend 17 message\n');
  await client.interrupt();
  await server.interrupt();
});

test('004: a server that shows its client', async () => {
  const server = new Program('004-server');
  await server.says('서버 열렸어용\n');
  const client = new Program('004-client');
  await client.says('server로부터 온 응답. client는 연결됨\n');
  await server.says('클라이언트 접속\n');
  assert.match(server.said, /Socket/);
  await client.interrupt();
  await server.interrupt();
});
