import { hexGroups, isIPv6, type SocketAddress } from '../address.js';
import { addressBytes } from './address-bytes.js';

/**
 * The header before a connection's first byte that tells the upstream whose connection it is: the client and the
 * address that the client connected to. It is true for one client, so an upstream connection that has it is for one.
 * Source: haproxy.org, doc/proxy-protocol.txt.
 */

/** Both addresses as ones of the same family: IPv4 becomes IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2) beside IPv6. */
const family = (source: string, destination: string): { readonly v6: boolean; readonly ips: readonly string[] } => {
  const ips = [source, destination];
  if (!ips.some((ip) => isIPv6(ip))) return { v6: false, ips };
  return { v6: true, ips: ips.map((ip) => hexGroups(isIPv6(ip) ? ip : `::ffff:${ip}`)) };
};

/**
 * Version 1 (section 2.1), a line of text. Without both addresses: UNKNOWN, the upstream takes the connection's own.
 */
export const writeProxyV1 = (source: SocketAddress | null, destination: SocketAddress | null): Buffer => {
  if (source === null || destination === null) return Buffer.from('PROXY UNKNOWN\r\n');
  const { v6, ips } = family(source.ip, destination.ip);
  return Buffer.from(`PROXY ${v6 ? 'TCP6' : 'TCP4'} ${ips.join(' ')} ${source.port} ${destination.port}\r\n`);
};

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n');

/** Version and command; family and protocol; the length of what follows. */
const LOCAL = Buffer.of(0x20, 0x00, 0, 0);
const TCP4 = Buffer.of(0x21, 0x11, 0, 12);
const TCP6 = Buffer.of(0x21, 0x21, 0, 36);
const UDP4 = Buffer.of(0x21, 0x12, 0, 12);
const UDP6 = Buffer.of(0x21, 0x22, 0, 36);

/**
 * Version 2 (section 2.2), binary. Without both addresses: LOCAL, the upstream takes the connection's own.
 * `datagram`: it is for datagrams, and not for a stream.
 */
export const writeProxyV2 = (
  source: SocketAddress | null,
  destination: SocketAddress | null,
  datagram = false,
): Buffer => {
  if (source === null || destination === null) return Buffer.concat([SIGNATURE, LOCAL]);
  const { v6, ips } = family(source.ip, destination.ip);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const [v4Kind, v6Kind] = datagram ? [UDP4, UDP6] : [TCP4, TCP6];
  return Buffer.concat([SIGNATURE, v6 ? v6Kind : v4Kind, ...ips.map(addressBytes), ports]);
};
