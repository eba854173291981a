// The state machine of streams is held to the vectors that all clients share.

'use strict';

const assert = require('node:assert/strict');
const { readFileSync, readdirSync } = require('node:fs');
const { join } = require('node:path');
const { test } = require('node:test');

const { Mistake, Transfer } = require('../dist/transfer/machine');

const folder = join(__dirname, '../../vectors/transfer');

for (const file of readdirSync(folder).filter((name) => name.endsWith('.json'))) {
  const { about, at, frames, end } = JSON.parse(readFileSync(join(folder, file), 'utf8'));
  for (const side of at) {
    test(`${file} at the ${side}: ${about}`, () => {
      const machine = new Transfer(side);
      for (const [number, { from, frame, size, mistake, dropped }] of frames.entries()) {
        const step = { kind: frame, size: size ?? 0 };
        let went;
        try {
          went = from === side ? (machine.send(step) ?? 'take') : machine.receive(step);
        } catch (error) {
          assert.ok(error instanceof Mistake, error);
          went = error.reason;
        }
        assert.equal(went, mistake ?? (dropped ? 'drop' : 'take'), `frame ${number}`);
      }
      const [toAgent, toClient] = side === 'client' ? [machine.credit, machine.granted] : [machine.granted, machine.credit];
      assert.deepEqual(
        {
          to_agent: toAgent,
          to_client: toClient,
          client_ended: machine.hasEnded('client'),
          agent_ended: machine.hasEnded('agent'),
          aborted: machine.aborted,
          closed: machine.closed,
        },
        end,
      );
    });
  }
}
