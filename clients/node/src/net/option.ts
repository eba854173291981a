// Options of sockets, as Node's own sockets set them.

import type { SocketOption } from '../gen/farsock/v1/option';
import { ANSWER_TIMEOUT, type Host } from '../host';
import { duration } from '../time';

export function flag(name: string, enabled: boolean): SocketOption {
  return { name, value: { $case: 'enabled', value: enabled } };
}

export function number(name: string, value: number): SocketOption {
  return { name, value: { $case: 'number', value } };
}

export function text(name: string, value: string): SocketOption {
  return { name, value: { $case: 'text', value } };
}

function seconds(name: string, value: number): SocketOption {
  return { name, value: { $case: 'duration', value: duration(value * 1000) } };
}

/** What setKeepAlive sets: libuv's intervals. */
export function keepAlive(enabled: boolean, delay: number): SocketOption[] {
  const options = [flag('SO_KEEPALIVE', enabled)];
  if (enabled && delay > 0) {
    options.push(seconds('TCP_KEEPIDLE', delay), seconds('TCP_KEEPINTVL', 1), number('TCP_KEEPCNT', 10));
  }
  return options;
}

/** Sets options of a socket that is there. Like Node's own functions, it tells nobody that one was refused. */
export function setOptions(host: Host, sessionId: string, socketId: string, options: SocketOption[]): void {
  host.api.sockets.setSocketOptions({ sessionId, socketId, options }, { timeout: ANSWER_TIMEOUT }).catch(() => {});
}
