import { createRequire } from 'node:module';
import { type Cidr, isIPv4, isIPv6 } from '../address.js';
import { quoted, UsageError } from './usage-error.js';

const require = createRequire(import.meta.url);

/**
 * One network of clients that may connect: `10.0.0.0/8`, `10.1/16` (padded with zeros), `192.168.1.7`, `2001:db8::/32`,
 * `2001:db8::7`. An IPv4 address without bits is read as transproxy reads it: the network of its class (A /8, B /16,
 * C /24; RFC 791 section 3.2) when its host part is zero, else one host. Bits beyond the prefix are of no account.
 * `what` is the argument's name in messages. Throws UsageError.
 */
export const parseAcl = (what: string, text: string): Cidr => {
  const refuse = (why: string): never => {
    throw new UsageError(`${what}: ${quoted(text)} ${why}`);
  };
  const [address = '', bits, ...rest] = text.split('/');
  const isIpv6 = isIPv6(address) && !address.includes('%');
  const padded = padWithZeros(address);
  if (rest.length > 0 || !(isIpv6 || isIPv4(padded))) return refuse('is not an address or a network (ADDRESS/BITS)');

  if (bits !== undefined) {
    const most = isIpv6 ? 128 : 32;
    if (!/^\d{1,3}$/.test(bits) || Number(bits) > most) return refuse(`needs a number from 0 to ${most} behind its /`);
    return isIpv6 ? ipv6Network(address, Number(bits)) : { ip: padded, prefix: Number(bits) };
  }
  if (isIpv6) return ipv6Network(address, 128);

  const prefix = classfulPrefix(padded);
  if (prefix < 32 && padded.startsWith('0.')) return refuse('is no network of clients: say 0.0.0.0/0 for all of IPv4');
  if (prefix === 32 && padded !== address) return refuse('is not a network of its class: say how many bits it has');
  return { ip: padded, prefix };
};

/** `10.1` is `10.1.0.0`. */
const padWithZeros = (address: string): string => {
  const given = address.split('.');
  return [...given, '0', '0', '0'].slice(0, Math.max(4, given.length)).join('.');
};

const classfulPrefix = (ip: string): number => {
  const octets = ip.split('.').map(Number) as [number, number, number, number];
  const prefix = octets[0] < 128 ? 8 : octets[0] < 192 ? 16 : 24;
  return octets.slice(prefix / 8).every((octet) => octet === 0) ? prefix : 32;
};

const ipv6Network = (address: string, prefix: number): Cidr => {
  const { SocketAddress } = require('node:net') as typeof import('node:net');
  const ip = new SocketAddress({ address, family: 'ipv6' }).address;
  // A client with an IPv4-mapped address is known by its IPv4 address here, so its network has to be IPv4 too.
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(ip)?.[1];
  return mapped !== undefined && prefix >= 96 ? { ip: mapped, prefix: prefix - 96 } : { ip, prefix };
};
