import { createRequire } from 'node:module';
import type { BlockList } from 'node:net';

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

/** A socket of unix(7): an absolute path of the file system, or with `@` in front a name of the abstract kind. */
export interface UnixAddress {
  readonly path: string;
}

export const isUnix = (where: object): where is UnixAddress => 'path' in where;

/** A socket address whose role the compiler checks: an upstream address cannot be handed where a client's is meant. */
type AddressOf<R extends Role> = SocketAddress & { readonly [role]?: R };
export type ClientAddress = AddressOf<'client'>;
export type ListenAddress = AddressOf<'listen'>;
export type UpstreamAddress = AddressOf<'upstream'> | UnixAddress;
export type OriginalDestination = AddressOf<'original'>;

export const sameAddress = (a: SocketAddress | UnixAddress, b: SocketAddress | UnixAddress): boolean =>
  isUnix(a) ? isUnix(b) && a.path === b.path : !isUnix(b) && a.port === b.port && a.ip === b.ip;

/** The host part of an authority (RFC 3986 section 3.2.2): IPv6 in brackets, anything else as it is. */
export const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** `192.0.2.1:80`, `[2001:db8::1]:80`, `unix:/run/app.sock` or `unix:@app`. */
export const formatAddress = (address: SocketAddress | UnixAddress): string =>
  isUnix(address) ? `unix:${address.path}` : `${bracketed(address.ip)}:${address.port}`;

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

/** A set of networks that is built once and asked for each accepted connection. */
export class NetworkSet {
  // One list each: BlockList takes an IPv4 address for its IPv4-mapped one, so that ::/0 would have all of IPv4 in it.
  readonly #ipv4: BlockList;
  readonly #ipv6: BlockList;

  constructor(networks: readonly Cidr[]) {
    const { BlockList } = net();
    this.#ipv4 = new BlockList();
    this.#ipv6 = new BlockList();
    for (const { ip, prefix } of networks) {
      if (hasColon(ip)) this.#ipv6.addSubnet(ip, prefix, 'ipv6');
      else this.#ipv4.addSubnet(ip, prefix, 'ipv4');
    }
  }

  has(ip: string): boolean {
    return hasColon(ip) ? this.#ipv6.check(ip, 'ipv6') : this.#ipv4.check(ip, 'ipv4');
  }
}
