// dgram.Socket over a UDP socket on a far host.
//
// What Node does at once, such as setting an option, is done there in the order in which it was asked for; what the kernel objects to then
// is an `error` event.

import { EventEmitter } from 'node:events';
import { isIP, isIPv6 } from 'node:net';

import { abandoned, errnoException, exceptionWithHostPort, lookupException, nodeError, syscallOf } from '../errors';
import { Family } from '../gen/farsock/v1/address';
import { Operation, type Report } from '../gen/farsock/v1/call';
import type { DatagramReceivedEvent, Event } from '../gen/farsock/v1/event';
import type { SocketOption } from '../gen/farsock/v1/option';
import { ANSWER_TIMEOUT, type Host } from '../host';
import { type Address, join, lookUp, show } from '../net/address';
import { notFar, validateFunction, validateNumber, validatePort, validateString } from '../net/args';
import { flag, number, text } from '../net/option';
import type { AgentError } from '../rpc/status';
import type { Session, Subscriber } from '../session';
import { type Bytes, gather, notConnected, slice, zoneOrAddress } from './args';
import { type Outgoing, Sender, type Sent } from './sender';

/** What createSocket() takes. */
export interface DgramOptions {
  type: 'udp4' | 'udp6';
  reuseAddr?: boolean;
  reusePort?: boolean;
  ipv6Only?: boolean;
  recvBufferSize?: number;
  sendBufferSize?: number;
  lookup?: Lookup;
  signal?: AbortSignal;
}

/** Who sent a datagram. */
export interface RemoteInfo {
  address: string;
  family: 'IPv4' | 'IPv6';
  port: number;
  size: number;
}

type Lookup = (host: string, family: number, callback: (error: Error | null, address: string, family: number) => void) => void;

/** A UDP socket on a far host. */
export class FarDgram extends EventEmitter {
  readonly type: 'udp4' | 'udp6';
  readonly #host: Host;
  readonly #options: DgramOptions;
  readonly #sender = new Sender(
    (datagrams) => this.#api.sendDatagrams({ ...this.#target, datagrams }, ANSWER),
    (error) => this.#tell(error),
  );
  /** What is done on the far host, one after the other. */
  #work: Promise<void> = Promise.resolve();
  #session: Session | undefined;
  #socketId: string | undefined;
  #bindState: 'unbound' | 'binding' | 'bound' = 'unbound';
  #connectState: 'disconnected' | 'connecting' | 'connected' = 'disconnected';
  /** What waits until the socket is bound. */
  #queue: (() => void)[] | undefined;
  #local: Address | undefined;
  #remote: Address | undefined;
  #sizes = new Map<string, number>();
  #closed = false;
  #held = true;

  constructor(host: Host, type: DgramOptions | string, listener?: (message: Buffer, from: RemoteInfo) => void) {
    super();
    this.#host = host;
    this.#options = (typeof type === 'object' && type !== null ? type : { type }) as DgramOptions;
    const { type: kind, lookup, recvBufferSize, sendBufferSize, signal } = this.#options;
    if (kind !== 'udp4' && kind !== 'udp6') {
      throw nodeError(TypeError, 'ERR_SOCKET_BAD_TYPE', 'Bad socket type specified. Valid types are: udp4, udp6');
    }
    if (lookup !== undefined) validateFunction(lookup, 'lookup');
    if (recvBufferSize) validateNumber(recvBufferSize, 'options.recvBufferSize');
    if (sendBufferSize) validateNumber(sendBufferSize, 'options.sendBufferSize');
    this.type = kind;
    if (typeof listener === 'function') this.on('message', listener);
    if (signal !== undefined) this.#closeOn(signal);
  }

  // === Binding ===

  bind(...args: unknown[]): this {
    this.#check();
    if (this.#bindState !== 'unbound') throw nodeError(Error, 'ERR_SOCKET_ALREADY_BOUND', 'Socket is already bound');
    const [first, second] = args;
    const options = (typeof first === 'object' && first !== null ? first : {}) as {
      port?: unknown;
      address?: string;
      fd?: unknown;
    };
    if (options.fd != null) throw notFar('a descriptor');
    this.#bindState = 'binding';
    const last = args[args.length - 1];
    if (typeof last === 'function') this.#onceBound(last as () => void);
    const port = typeof first === 'object' ? options.port : first;
    const address = typeof first === 'object' ? options.address : second;
    const wanted = typeof address === 'string' && address !== '' ? address : undefined;
    this.#begin(wanted, Number(typeof port === 'function' ? 0 : (port ?? 0)) || 0).catch((error) => this.#cannotBind(error));
    return this;
  }

  #onceBound(listener: () => void): void {
    const forget = () => {
      this.removeListener('error', forget);
      this.removeListener('listening', listening);
    };
    const listening = () => {
      forget();
      listener.call(this);
    };
    this.on('error', forget);
    this.on('listening', listening);
  }

  async #begin(address: string | undefined, port: number): Promise<void> {
    const any = this.type === 'udp6' ? '::' : '0.0.0.0';
    const ip = address === undefined && !this.#options.lookup ? undefined : await this.#lookUp(address ?? any);
    if (this.#closed) return;
    const { labAddresses } = await this.#host.session();
    // The agent's lab address, where it has one and nobody has asked for another.
    const lab = labAddresses.find((each) => isIPv6(each) === (this.type === 'udp6'));
    const local = ip ?? lab ?? any;
    const udp = { bind: join(local, port), family: this.#family, options: this.#beginning() };
    const subscriber: Subscriber = {
      event: (event) => this.#happened(event),
      // As when the kernel drops datagrams: nobody is told.
      gap: () => {},
      lost: (cause) => this.#lost(cause),
    };
    const { session, socketId, answer } = await this.#host.makeSocket({ $case: 'udp', value: udp }, subscriber);
    this.#session = session;
    this.#socketId = socketId;
    if (!this.#held) session.release(socketId);
    const error = answer.report?.error;
    if (error) {
      this.#forget();
      throw exceptionWithHostPort(error.name, syscallOf(error), local, port, { number: error.number });
    }
    if (this.#closed) return this.#forget();
    await this.#readSizes();
    if (this.#closed) return this.#forget();
    this.#local = answer.socket?.local && show(answer.socket.local);
    // Outside of any promise, so that what a listener throws is the program's.
    process.nextTick(() => this.#bound());
  }

  #bound(): void {
    this.#bindState = 'bound';
    this.emit('listening');
    const queue = this.#queue ?? [];
    this.#queue = undefined;
    for (const act of queue) act();
  }

  #cannotBind(error: Error): void {
    if (this.#closed) return;
    this.#bindState = 'unbound';
    this.#connectState = 'disconnected';
    this.#queue = undefined;
    process.nextTick(() => this.emit('error', error));
  }

  get #family(): Family {
    return this.type === 'udp6' ? Family.IPV6 : Family.IPV4;
  }

  #beginning(): SocketOption[] {
    const { reuseAddr, reusePort, ipv6Only, recvBufferSize, sendBufferSize } = this.#options;
    const options: SocketOption[] = [];
    if (this.type === 'udp6') options.push(flag('IPV6_V6ONLY', Boolean(ipv6Only)));
    if (reuseAddr) options.push(flag('SO_REUSEADDR', true));
    if (reusePort) options.push(flag('SO_REUSEPORT', true));
    if (recvBufferSize) options.push(number('SO_RCVBUF', recvBufferSize));
    if (sendBufferSize) options.push(number('SO_SNDBUF', sendBufferSize));
    return options;
  }

  /** The first look-up of what Node asks the kernel for at any time. */
  async #readSizes(): Promise<void> {
    const { options } = await this.#api.getSocketOptions({ ...this.#target, names: ['SO_RCVBUF', 'SO_SNDBUF'] }, ANSWER);
    for (const { effective } of options) {
      if (effective?.value?.$case === 'number') this.#sizes.set(effective.name, effective.value.value);
    }
  }

  // === Receiving ===

  #happened(event: Event): void {
    switch (event.body?.$case) {
      case 'datagramReceived':
        if (!this.#closed) this.#received(event.body.value);
        break;
      case 'failed': {
        const { error } = event.body.value;
        if (!this.#closed && error?.operation === Operation.RECEIVE)
          this.emit('error', errnoException(error.name, 'recvmsg', { number: error.number }));
        break;
      }
      case 'closed':
        this.#session?.unsubscribe(event.socketId);
        if (!this.#closed) this.#lost(undefined);
    }
  }

  #received({ source, payload, size }: DatagramReceivedEvent): void {
    if (!source) return;
    const bytes = payload?.content?.$case === 'data' ? payload.content.value : new Uint8Array();
    const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const { address, family, port } = show(source);
    this.emit('message', message, { address, family, port, size: message.length || (size ?? 0) });
  }

  #lost(cause: AgentError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#host.leaving) this.emit('error', abandoned('recvmsg', cause ?? new Error('the agent has closed the socket')));
    this.emit('close');
  }

  // === Sending ===

  send(buffer: Bytes | Bytes[], ...rest: unknown[]): void {
    let [offset, length, port, address, callback] = rest;
    let list = buffer;
    const connected = this.#connectState === 'connected';
    if (!connected) {
      if (address || (port && typeof port !== 'function')) list = slice(buffer as Bytes, Number(offset), Number(length));
      else [port, address, callback] = [offset, length, port];
    } else {
      if (typeof length === 'number') {
        list = slice(buffer as Bytes, Number(offset), length);
        if (typeof port === 'function') [callback, port] = [port, null];
      } else {
        callback = offset;
      }
      if (port || address) throw nodeError(Error, 'ERR_SOCKET_DGRAM_IS_CONNECTED', 'Already connected');
    }
    const bytes = gather(list);
    const to = connected ? 0 : validatePort(port, 'Port', false);
    if (typeof address === 'function') [callback, address] = [address, undefined];
    else if (address != null) validateString(address, 'address');
    this.#check();
    const sent = typeof callback === 'function' ? (callback as Sent) : undefined;
    this.#whenBound(() =>
      this.#send(bytes, connected ? undefined : { address: (address as string | undefined) ?? '', port: to }, sent),
    );
  }

  sendto(buffer: Bytes, offset: number, length: number, port: number, address: string, callback?: Sent): void {
    validateNumber(offset, 'offset');
    validateNumber(length, 'length');
    validateNumber(port, 'port');
    validateString(address, 'address');
    this.send(buffer, offset, length, port, address, callback);
  }

  /** Does something as soon as the socket has its address, which it gets now if nobody has asked for one. */
  #whenBound(act: () => void): void {
    if (this.#bindState === 'unbound') this.bind({ port: 0 });
    if (this.#bindState === 'bound') return act();
    this.#queue ??= [];
    this.#queue.push(act);
  }

  #send(bytes: Buffer, to: Outgoing['to'], sent: Sent | undefined): void {
    if (to && (this.#options.lookup || !isIP(to.address))) {
      this.#lookUp(to.address).then(
        (address) => this.#enqueue({ bytes, to: { address, port: to.port }, sent }),
        (error) => process.nextTick(() => (sent ? sent(error) : this.emit('error', error))),
      );
    } else {
      this.#enqueue({ bytes, to, sent });
    }
  }

  #enqueue(outgoing: Outgoing): void {
    if (this.#closed) return;
    // What else is sent until it is its turn goes along with it.
    if (this.#sender.add(outgoing)) this.#then(() => this.#sender.flush());
  }

  // === Connecting ===

  connect(port: number, ...rest: unknown[]): void {
    const to = validatePort(port, 'Port', false);
    const [first, second] = rest;
    const address = typeof first === 'function' || first === undefined ? '' : first;
    const callback = (typeof first === 'function' ? first : second) as ((error?: Error) => void) | undefined;
    validateString(address, 'address');
    if (this.#connectState !== 'disconnected') throw nodeError(Error, 'ERR_SOCKET_DGRAM_IS_CONNECTED', 'Already connected');
    this.#check();
    this.#connectState = 'connecting';
    this.#whenBound(() => {
      if (callback) this.once('connect', callback);
      this.#then(() => this.#connect(address as string, to, callback));
    });
  }

  async #connect(address: string, port: number, callback: ((error?: Error) => void) | undefined): Promise<void> {
    try {
      const ip = await this.#lookUp(address);
      const { socket, report } = await this.#api.connectSocket({ ...this.#target, remote: join(ip, port) }, ANSWER);
      if (report?.error)
        throw exceptionWithHostPort(report.error.name, 'connect', address, port, { number: report.error.number });
      if (this.#closed) return;
      this.#local = socket?.local && show(socket.local);
      this.#remote = socket?.remote && show(socket.remote);
      this.#connectState = 'connected';
      process.nextTick(() => this.emit('connect'));
    } catch (error) {
      this.#connectState = 'disconnected';
      if (callback) {
        this.removeListener('connect', callback);
        process.nextTick(callback, error);
      } else {
        this.#tell(error);
      }
    }
  }

  disconnect(): void {
    if (this.#connectState !== 'connected') throw notConnected();
    this.#connectState = 'disconnected';
    this.#remote = undefined;
    this.#change('connect', () => this.#api.disconnectSocket(this.#target, ANSWER));
  }

  remoteAddress(): Address {
    this.#check();
    if (this.#connectState !== 'connected' || !this.#remote) throw notConnected();
    return { ...this.#remote };
  }

  // === Options and groups ===

  setBroadcast(enabled: boolean): void {
    this.#setOption('setBroadcast', flag('SO_BROADCAST', Boolean(enabled)));
  }

  setTTL(ttl: number): number {
    validateNumber(ttl, 'ttl');
    if (ttl < 1 || ttl > 255) throw errnoException('EINVAL', 'setTTL');
    this.#setOption('setTTL', number(this.#named('IP_TTL', 'IPV6_UNICAST_HOPS'), ttl));
    return ttl;
  }

  setMulticastTTL(ttl: number): number {
    validateNumber(ttl, 'ttl');
    if (ttl < 0 || ttl > 255) throw errnoException('EINVAL', 'setMulticastTTL');
    this.#setOption('setMulticastTTL', number(this.#named('IP_MULTICAST_TTL', 'IPV6_MULTICAST_HOPS'), ttl));
    return ttl;
  }

  setMulticastLoopback(enabled: boolean): boolean {
    this.#setOption('setMulticastLoopback', flag(this.#named('IP_MULTICAST_LOOP', 'IPV6_MULTICAST_LOOP'), Boolean(enabled)));
    return enabled;
  }

  setMulticastInterface(address: string): void {
    this.#check();
    validateString(address, 'interfaceAddress');
    this.#change('setMulticastInterface', async () => {
      const name = this.#named('IP_MULTICAST_IF', 'IPV6_MULTICAST_IF');
      const options = [text(name, await this.#interfaceOf(address))];
      return this.#api.setSocketOptions({ ...this.#target, options }, ANSWER);
    });
  }

  addMembership(group: string, interfaceAddress?: string): void {
    if (!group) throw nodeError(TypeError, 'ERR_MISSING_ARGS', 'The "multicastAddress" argument must be specified');
    this.#changeGroup('addMembership', { group, interface: interfaceAddress ?? '', source: '' });
  }

  dropMembership(group: string, interfaceAddress?: string): void {
    if (!group) throw nodeError(TypeError, 'ERR_MISSING_ARGS', 'The "multicastAddress" argument must be specified');
    this.#changeGroup('dropMembership', { group, interface: interfaceAddress ?? '', source: '' });
  }

  addSourceSpecificMembership(source: string, group: string, interfaceAddress?: string): void {
    validateString(source, 'sourceAddress');
    validateString(group, 'groupAddress');
    this.#changeGroup('addSourceSpecificMembership', { group, interface: interfaceAddress ?? '', source });
  }

  dropSourceSpecificMembership(source: string, group: string, interfaceAddress?: string): void {
    validateString(source, 'sourceAddress');
    validateString(group, 'groupAddress');
    this.#changeGroup('dropSourceSpecificMembership', { group, interface: interfaceAddress ?? '', source });
  }

  #changeGroup(syscall: string, what: { group: string; interface: string; source: string }): void {
    this.#check();
    // As libuv does it: a membership gives the socket an address.
    this.#whenBound(() => {
      const join = syscall.startsWith('add') ? this.#api.joinGroup : this.#api.leaveGroup;
      this.#change(syscall, () => join({ ...this.#target, ...what, interface: zoneOrAddress(what.interface) }, ANSWER));
    });
  }

  /** The name of the interface that `::%eth0` or an address of it means; none for the wildcard address. */
  async #interfaceOf(address: string): Promise<string> {
    if (address === '0.0.0.0' || address === '::') return '';
    const wanted = zoneOrAddress(address);
    const { interfaces } = await this.#host.api.agent.listInterfaces({}, ANSWER);
    const fits = interfaces.find(
      (each) => each.name === wanted || String(each.index) === wanted || each.addresses.some((ip) => ip.address === wanted),
    );
    if (!fits) throw errnoException('EADDRNOTAVAIL', 'setMulticastInterface');
    return fits.name;
  }

  setRecvBufferSize(size: number): void {
    this.#setSize('SO_RCVBUF', size);
  }

  setSendBufferSize(size: number): void {
    this.#setSize('SO_SNDBUF', size);
  }

  /** As the kernel had it when it was told last: at `listening`, and after each change. */
  getRecvBufferSize(): number {
    return this.#size('SO_RCVBUF');
  }

  getSendBufferSize(): number {
    return this.#size('SO_SNDBUF');
  }

  getSendQueueSize(): number {
    return this.#sender.bytes;
  }

  getSendQueueCount(): number {
    return this.#sender.count;
  }

  #setSize(name: string, size: number): void {
    if (size >>> 0 !== size) throw nodeError(TypeError, 'ERR_SOCKET_BAD_BUFFER_SIZE', 'Buffer size must be a positive integer');
    this.#size(name);
    // Linux doubles it; what it really is comes with the answer.
    this.#sizes.set(name, 2 * size);
    this.#change('setsockopt', async () => {
      const answer = await this.#api.setSocketOptions({ ...this.#target, options: [number(name, size)] }, ANSWER);
      const effective = answer.options[0]?.effective?.value;
      if (effective?.$case === 'number') this.#sizes.set(name, effective.value);
      return answer;
    });
  }

  #size(name: string): number {
    const size = this.#sizes.get(name);
    if (size === undefined || this.#closed) {
      const syscall = name === 'SO_RCVBUF' ? 'uv_recv_buffer_size' : 'uv_send_buffer_size';
      const text = `Could not get or set buffer size: ${syscall} returned EBADF (bad file descriptor)`;
      throw nodeError(Error, 'ERR_SOCKET_BUFFER_SIZE', text);
    }
    return size;
  }

  #named(ipv4: string, ipv6: string): string {
    return this.type === 'udp6' ? ipv6 : ipv4;
  }

  #setOption(syscall: string, option: SocketOption): void {
    if (this.#bindState !== 'bound' || this.#closed) throw errnoException('EBADF', syscall);
    this.#change(syscall, () => this.#api.setSocketOptions({ ...this.#target, options: [option] }, ANSWER));
  }

  /** Changes the socket in its turn. What the kernel objects to is an error event. */
  #change(syscall: string, act: () => Promise<{ report: Report | undefined }>): void {
    this.#then(async () => {
      try {
        const { report } = await act();
        if (report?.error) throw errnoException(report.error.name, syscall, { number: report.error.number });
      } catch (error) {
        this.#tell(error);
      }
    });
  }

  #tell(error: unknown): void {
    process.nextTick(() => this.#closed || this.emit('error', error));
  }

  #then(act: () => Promise<void>): void {
    this.#work = this.#work.then(act);
  }

  // === Ending ===

  close(callback?: () => void): this {
    if (typeof callback === 'function') this.on('close', callback);
    if (this.#queue !== undefined) {
      this.#queue.push(() => this.close());
      return this;
    }
    this.#check();
    this.#closed = true;
    const ended = this.#work.then(() => this.#forget());
    ended.then(() => process.nextTick(() => this.emit('close')));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    await new Promise<void>((resolve) => this.close(resolve));
  }

  /** Closes the socket on the far host, if there is one. */
  async #forget(): Promise<void> {
    const [session, socketId] = [this.#session, this.#socketId];
    this.#socketId = undefined;
    if (!session || socketId === undefined) return;
    session.unsubscribe(socketId);
    const request = { sessionId: session.id, socketId, allowMissing: true };
    // An agent that is gone has closed it as well.
    await this.#api.closeSocket(request, ANSWER).catch(() => {});
  }

  #closeOn(signal: AbortSignal): void {
    const close = () => {
      if (!this.#closed) this.close();
    };
    if (signal.aborted) return close();
    signal.addEventListener('abort', close, { once: true });
    this.once('close', () => signal.removeEventListener('abort', close));
  }

  // === As Node has it ===

  address(): Address {
    this.#check();
    if (!this.#local) throw errnoException('EBADF', 'getsockname');
    return { ...this.#local };
  }

  ref(): this {
    this.#held = true;
    if (this.#socketId !== undefined) this.#session?.hold(this.#socketId);
    return this;
  }

  unref(): this {
    this.#held = false;
    if (this.#socketId !== undefined) this.#session?.release(this.#socketId);
    return this;
  }

  get #api() {
    return this.#host.api.sockets;
  }

  get #target(): { sessionId: string; socketId: string } {
    return { sessionId: this.#session?.id ?? '', socketId: this.#socketId ?? '' };
  }

  #check(): void {
    if (this.#closed) throw nodeError(Error, 'ERR_SOCKET_DGRAM_NOT_RUNNING', 'Not running');
  }

  /** An address of the socket's IP version; of the far host itself, where there is none. */
  async #lookUp(address: string): Promise<string> {
    const family = this.type === 'udp6' ? 6 : 4;
    if (address === '') return family === 6 ? '::1' : '127.0.0.1';
    const { lookup } = this.#options;
    if (lookup) {
      return new Promise((resolve, reject) => lookup(address, family, (error, ip) => (error ? reject(error) : resolve(ip))));
    }
    if (isIP(address)) return address;
    const [found] = await lookUp(this.#host, address, family);
    if (!found) throw lookupException('EAI_NONAME', address);
    return found.address;
  }
}

/** How calls are bounded that wait for nothing there. */
const ANSWER = { timeout: ANSWER_TIMEOUT };
