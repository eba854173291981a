// Times as protobuf has them.

import type { Duration } from './gen/google/protobuf/duration';
import type { Timestamp } from './gen/google/protobuf/timestamp';

/** A duration of so many milliseconds. */
export function duration(milliseconds: number): Duration {
  const seconds = Math.trunc(milliseconds / 1000);
  return { seconds, nanos: Math.round((milliseconds - seconds * 1000) * 1e6) };
}

/** A duration in milliseconds. */
export function milliseconds(duration: Duration): number {
  return duration.seconds * 1000 + duration.nanos / 1e6;
}

/** A moment of the agent's clock. To the millisecond: `Date` knows no less. */
export function date(timestamp: Timestamp): Date {
  return new Date(timestamp.seconds * 1000 + timestamp.nanos / 1e6);
}
