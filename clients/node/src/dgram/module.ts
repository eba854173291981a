// Node's `dgram`, for one host.

import type dgram from 'node:dgram';

import type { Host } from '../host';
import { callable } from '../net/module';
import { type DgramOptions, FarDgram, type RemoteInfo } from './socket';

type Listener = (message: Buffer, from: RemoteInfo) => void;

/** Makes what `require('dgram')` is on that host, with the types of Node's own. */
export function makeDgram(host: Host): typeof dgram {
  class Socket extends FarDgram {
    constructor(type: DgramOptions | 'udp4' | 'udp6', listener?: Listener) {
      super(host, type, listener);
    }
  }

  const module = {
    createSocket: (type: DgramOptions | 'udp4' | 'udp6', listener?: Listener): FarDgram => new Socket(type, listener),
    Socket: callable(Socket),
  };
  return module as unknown as typeof dgram;
}
