/**
 * Node's `net` and `dgram` on far machines.
 *
 * ```js
 * const { net, dgram } = require('@farsock/client').host('lab-a');
 * ```
 *
 * @packageDocumentation
 */

export type { Endpoint, EndpointOptions, Identity } from './endpoint';
export type { SystemError } from './errors';
export { type Api, Host, type HostOptions, host } from './host';
export type { CallOptions } from './rpc/call';
export type { Client, Duplex } from './rpc/client';
export { AgentError, type StatusName } from './rpc/status';
export { date, duration, milliseconds } from './time';
export type { WatchRequest, WatchValue } from './watch';
export * as farsock from './messages';
