// Node's `net`, for one host.

import net from 'node:net';

import type { Host } from '../host';
import { normalizeArgs, validateBoolean, validateNumber } from './args';
import { autoSelect } from './auto_select';
import { FarServer, type Listening, type ServerOptions } from './server';
import { type Accepted, FarSocket, type SocketOptions } from './socket';

/** Makes what `require('net')` is on that host. Its type is that of Node's own, so that whatever takes a `net.Socket` takes these. */
export function makeNet(host: Host): typeof net {
  class Socket extends FarSocket {
    constructor(options?: SocketOptions, accepted?: Accepted) {
      super(host, options, accepted);
    }
  }

  class Server extends FarServer {
    constructor(options?: ServerOptions | Listening, listener?: Listening) {
      super(host, (socket, accepted) => new Socket(socket, accepted), options, listener);
    }
  }

  function connect(...args: unknown[]): FarSocket {
    const [options, listener] = normalizeArgs(args);
    const socket = new Socket(options as SocketOptions);
    if (options.timeout) socket.setTimeout(Number(options.timeout));
    return listener ? socket.connect(options, listener) : socket.connect(options);
  }

  function createServer(options?: ServerOptions | Listening, listener?: Listening): FarServer {
    return new Server(options, listener);
  }

  const module = {
    BlockList: net.BlockList,
    SocketAddress: net.SocketAddress,
    isIP: net.isIP,
    isIPv4: net.isIPv4,
    isIPv6: net.isIPv6,
    connect,
    createConnection: connect,
    createServer,
    Server: callable(Server),
    Socket: callable(Socket),
    Stream: callable(Socket),
    getDefaultAutoSelectFamily: () => autoSelect.enabled,
    setDefaultAutoSelectFamily(value: boolean): void {
      validateBoolean(value, 'value');
      autoSelect.enabled = value;
    },
    getDefaultAutoSelectFamilyAttemptTimeout: () => autoSelect.attemptTimeout,
    setDefaultAutoSelectFamilyAttemptTimeout(value: number): void {
      validateNumber(value, 'value');
      autoSelect.attemptTimeout = Math.max(value, 10);
    },
  };
  return module as unknown as typeof net;
}

/** A class that old programs may call without `new`, as they may Node's own. */
export function callable<C extends new (...args: never[]) => object>(Class: C): C {
  return new Proxy(Class, { apply: (Target, _this, args) => new Target(...(args as never[])) });
}
