// An agent is a gRPC server like any other: @grpc/grpc-js calls it with the proto files alone, by nothing of this client.

'use strict';

const assert = require('node:assert/strict');
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { after, before, test } = require('node:test');

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { startLab, within } = require('./harness');

const directory = mkdtempSync(join(tmpdir(), 'farsock-test-'));
const [lab, other] = [join(directory, 'lab'), join(directory, 'other')];
const { farsock } = grpc.loadPackageDefinition(
  protoLoader.loadSync(['farsock/v1/agent_service.proto', 'farsock/v1/event_service.proto', 'farsock/v1/socket_service.proto'], {
    includeDirs: [join(__dirname, '../../../proto')],
  }),
);
let agent;

/** Credentials that trust the lab, and show this certificate, if any. */
function credentials(certificate) {
  const read = (file) => readFileSync(file);
  const shown = certificate ? [read(`${certificate}.key`), read(`${certificate}.pem`)] : [];
  return grpc.credentials.createSsl(read(join(lab, 'ca.pem')), ...shown);
}

/** Calls a method of one answer. */
function call(client, method, request) {
  const deadline = Date.now() + 20_000;
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function using(Service, certificate, act) {
  const address = agent.tcpEndpoint.replace('127.0.0.1', 'localhost');
  const client = new Service(address, credentials(certificate));
  try {
    return await act(client);
  } finally {
    client.close();
  }
}

before(async () => {
  agent = await startLab(directory);
});

after(async () => {
  await agent?.stop();
  rmSync(directory, { recursive: true });
});

test('a certificate of the lab lets grpc-js ask, act and watch', async () => {
  const alice = join(lab, 'alice');
  const told = await using(farsock.v1.AgentService, alice, (client) => call(client, 'getAgent', {}));
  assert.match(told.agent.instanceId, /^[0-9a-f]{32}$/);

  const kinds = await using(farsock.v1.EventService, alice, async (events) => {
    const watch = events.watchEvents({ socketIds: ['door'], fromNow: true });
    const seen = [];
    const closed = new Promise((resolve, reject) => {
      watch.on('error', reject);
      watch.on('data', async ({ opened, batch }) => {
        if (opened) {
          await using(farsock.v1.SocketService, alice, async (sockets) => {
            const answer = await call(sockets, 'createSocket', { socketId: 'door', tcp: { listen: '127.0.0.1:0' } });
            assert.match(answer.socket.local.text, /^127\.0\.0\.1:\d+$/);
            await call(sockets, 'closeSocket', { socketId: 'door' });
          }).catch(reject);
        }
        seen.push(...(batch?.events ?? []).map((event) => event.kind));
        if (seen.includes('closed')) resolve(seen);
      });
    });
    return within('the end of the socket', closed).finally(() => {
      watch.removeAllListeners('error').on('error', () => {});
      watch.cancel();
    });
  });
  assert.deepEqual(kinds, ['created', 'bound', 'listening', 'closed']);
});

test('without a certificate of the lab grpc-js gets no answer', async () => {
  const refusals = [
    [undefined, /alert certificate required/],
    [join(other, 'alice'), /alert unknown ca/],
  ];
  for (const [certificate, why] of refusals) {
    await assert.rejects(
      using(farsock.v1.AgentService, certificate, (client) => call(client, 'getAgent', {})),
      (error) => {
        assert.equal(error.code, grpc.status.UNAVAILABLE, error);
        assert.match(error.message, why);
        return true;
      },
    );
  }
});
