// Addresses as Node shows them, and as the agent takes them.

import { isIPv6 } from 'node:net';

import { lookupException } from '../errors';
import { Family } from '../gen/farsock/v1/address';
import type { Endpoint } from '../gen/farsock/v1/address';
import { ANSWER_TIMEOUT, type Host } from '../host';
import { AgentError } from '../rpc/status';

/** An address as Node shows it. */
export interface Address {
  address: string;
  family: string;
  port: number;
}

/** One answer of a lookup. */
export interface Found {
  address: string;
  family: number;
}

export function show({ address, zone, family, port }: Endpoint): Address {
  const whole = zone === '' ? address : `${address}%${zone}`;
  return { address: whole, family: family === Family.IPV6 ? 'IPv6' : 'IPv4', port };
}

/** `10.0.0.1:80`, `[::1]:80`; without an address, `:80`. */
export function join(address: string, port: number): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Looks a name up on the far host: dns.lookup there. */
export async function lookUp(host: Host, name: string, family: unknown): Promise<Found[]> {
  const wanted = family === 4 ? Family.IPV4 : family === 6 ? Family.IPV6 : Family.UNSPECIFIED;
  const request = { query: { $case: 'host' as const, value: name }, family: wanted };
  const answer = await host.api.agent.resolve(request, { timeout: ANSWER_TIMEOUT }).catch((error: unknown) => {
    // What cannot be a name is one that nobody has.
    if (error instanceof AgentError && error.code === 'INVALID_FIELD') throw lookupException('EAI_NONAME', name);
    throw error;
  });
  if (answer.timedOut) throw lookupException('EAI_AGAIN', name);
  if (answer.error) throw lookupException(answer.error.name, name);
  return answer.addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
}
