// From the lines of a run, a run of 100,000 events: `node enlarge.mjs <RUN >LARGE`.
import { readFileSync } from 'node:fs';

const lines = readFileSync(0, 'utf8').trim().split('\n').map(line => JSON.parse(line));
const events = lines.filter(line => line.type === 'event').map(({ caused_by, ...event }) => event);
const result = lines.pop();
const last = new Map();
for (const event of events) last.set(event.host, Math.max(last.get(event.host) ?? 0, event.event_seq));
const more = [];
for (let number = events.length; number < 100_000; number++) {
  const event = events[number % events.length];
  last.set(event.host, last.get(event.host) + 1);
  more.push({ ...event, event_seq: last.get(event.host), at_ns: result.elapsed_ns + number * 1000 });
}
process.stdout.write([...lines, ...more, result].map(line => `${JSON.stringify(line)}\n`).join(''));
