import { createRequire } from 'node:module';

// node:net brings all of Node's streams along, which a process for one connection of inetd has no use for.
const require = createRequire(import.meta.url);
const net = (): typeof import('node:net') => require('node:net') as typeof import('node:net');

/** What an address stands for; see the words in docs/design.md. */
type Role = 'client' | 'listen' | 'upstream' | 'original';

declare const role: unique symbol;

/**
 * An IP address and a TCP port.
 * `ip` is in the text form of inet_ntop(3) and RFC 5952; an IPv4-mapped IPv6 address is written as its IPv4 address,
 * so that one host has one spelling and addresses may be compared as text.
 */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** A socket address whose role the compiler checks: an upstream address cannot be handed where a client's is meant. */
type AddressOf<R extends Role> = SocketAddress & { readonly [role]?: R };
export type ClientAddress = AddressOf<'client'>;
export type ListenAddress = AddressOf<'listen'>;
export type UpstreamAddress = AddressOf<'upstream'>;
export type OriginalDestination = AddressOf<'original'>;

export const sameAddress = (a: SocketAddress, b: SocketAddress): boolean => a.port === b.port && a.ip === b.ip;

/** The host part of an authority (RFC 3986 section 3.2.2): IPv6 in brackets, anything else as it is. */
export const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** `192.0.2.1:80` or `[2001:db8::1]:80`. */
export const formatAddress = (address: SocketAddress): string => `${bracketed(address.ip)}:${address.port}`;

/** The far end of a connection, by name or by address. */
export interface End {
  readonly host: string;
  readonly port: number;
}

/** `www.example.org:443`, `[2001:db8::1]:80`. */
export const formatEnd = ({ host, port }: End): string => `${bracketed(host)}:${port}`;

/** A network: every address whose first `prefix` bits are those of `ip`. */
export interface Cidr {
  readonly ip: string;
  /** 0 to 32 for IPv4, 0 to 128 for IPv6. */
  readonly prefix: number;
}

/** Dotted decimal of four numbers up to 255 without leading zeros, as inet_pton(3) takes it. */
export const isIPv4 = (text: string): boolean =>
  /^(?:(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?!$)|$)){4}$/.test(text);

export const isIPv6 = (text: string): boolean => text.includes(':') && net().isIPv6(text);

export const isAddress = (text: string): boolean => isIPv4(text) || isIPv6(text);

/** Tells the two families of what is known to be an address. */
const hasColon = (ip: string): boolean => ip.includes(':');

const DOTTED_END = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/;

/** An IPv6 address without its interface, and in groups of hexadecimal digits only: the last four bytes may come dotted. */
export const hexGroups = (ip: string): string =>
  ip
    .replace(/%.*$/, '')
    .replace(DOTTED_END, (_, a: string, b: string, c: string, d: string) =>
      [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
    );

const padded = (groups: string): string =>
  groups === ''
    ? ''
    : groups
        .split(':')
        .map((group) => group.padStart(4, '0'))
        .join('');

/** The bits of what is known to be an address: 8 hexadecimal digits or 32, without the interface of a link-local one. */
export const addressDigits = (ip: string): string => {
  if (!hasColon(ip))
    return ip.split('.').reduce((digits, byte) => digits + Number(byte).toString(16).padStart(2, '0'), '');
  const [before = '', after] = hexGroups(ip).toLowerCase().split('::').map(padded);
  return after === undefined ? before : before.padEnd(32 - after.length, '0') + after;
};

/** The first `prefix` of an address' bits, as text that differs between networks of this prefix. */
const networkKey = (digits: string, prefix: number): string => {
  const whole = prefix >> 2;
  const left = prefix & 3;
  const key = digits.slice(0, whole);
  return left === 0 ? key : `${key}${Number.parseInt(digits.charAt(whole), 16) >> (4 - left)}`;
};

/**
 * A set of networks that is built once and asked for each accepted connection. A question takes as long as there are
 * different prefixes, however many networks there are.
 */
export class NetworkSet {
  // By family: 0.0.0.0/0 and ::/0 have nothing in common.
  readonly #ipv4 = new Map<number, Set<string>>();
  readonly #ipv6 = new Map<number, Set<string>>();

  constructor(networks: readonly Cidr[]) {
    for (const { ip, prefix } of networks) {
      const family = this.#family(ip);
      const keys = family.get(prefix) ?? new Set();
      family.set(prefix, keys.add(networkKey(addressDigits(ip), prefix)));
    }
  }

  has(ip: string): boolean {
    const family = this.#family(ip);
    if (family.size === 0) return false;
    const digits = addressDigits(ip);
    for (const [prefix, keys] of family) if (keys.has(networkKey(digits, prefix))) return true;
    return false;
  }

  #family(ip: string): Map<number, Set<string>> {
    return hasColon(ip) ? this.#ipv6 : this.#ipv4;
  }
}
