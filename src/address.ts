import { BlockList, isIPv4, isIPv6 } from 'node:net';

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

/** A network: every address whose first `prefix` bits are those of `ip`. */
export interface Cidr {
  readonly ip: string;
  /** 0 to 32 for IPv4, 0 to 128 for IPv6. */
  readonly prefix: number;
}

/** Whether a text that is an IP address is an IPv6 one. Node's isIPv6 takes milliseconds to compile when it is first called. */
const hasColon = (text: string): boolean => text.includes(':');

export const isAddress = (text: string): boolean => (hasColon(text) ? isIPv6(text) : isIPv4(text));

/** A set of networks that is built once and asked for each accepted connection. */
export class NetworkSet {
  // One list each: BlockList takes an IPv4 address for its IPv4-mapped one, so that ::/0 would have all of IPv4 in it.
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  constructor(networks: readonly Cidr[]) {
    for (const { ip, prefix } of networks) {
      if (hasColon(ip)) this.#ipv6.addSubnet(ip, prefix, 'ipv6');
      else this.#ipv4.addSubnet(ip, prefix, 'ipv4');
    }
  }

  has(ip: string): boolean {
    return hasColon(ip) ? this.#ipv6.check(ip, 'ipv6') : this.#ipv4.check(ip, 'ipv4');
  }
}
