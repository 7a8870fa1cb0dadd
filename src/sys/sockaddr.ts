import { isUnix, type SocketAddress, type UnixAddress } from '../address.js';
import { E } from './errno.js';

/** Address families of sys/socket.h. */
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;

/** Room for a sockaddr_in (16 bytes) or a sockaddr_in6 (28 bytes). */
export const SOCKADDR_SIZE = 28;

/** sun_path of a sockaddr_un has 108 bytes, one of them for a NUL: behind a path, in front of an abstract name (unix(7)). */
const SUN_PATH_SIZE = 108;

/** Room for any of them. */
export const MOST_SOCKADDR_SIZE = 2 + SUN_PATH_SIZE;

/**
 * Writes the struct sockaddr_in, sockaddr_in6 or sockaddr_un of an address (ip(7), ipv6(7), unix(7)) and returns its size.
 * The family is stored in host order, which is little-endian on x64 and arm64 alike.
 * -ENAMETOOLONG for a path, or an abstract name without its `@`, of more than 107 bytes.
 */
export const writeSockaddr = (address: SocketAddress | UnixAddress, into: Buffer): number => {
  if (isUnix(address)) return writeUnix(address, into);
  into.fill(0, 0, SOCKADDR_SIZE);
  into.writeUInt16BE(address.port, 2);
  if (!address.ip.includes(':')) {
    into.writeUInt16LE(AF_INET, 0);
    writeIPv4(address.ip, into, 4);
    return 16;
  }
  into.writeUInt16LE(AF_INET6, 0);
  const [ip, zone] = address.ip.split('%') as [string, string?];
  writeIPv6(ip, into, 8);
  // A link-local address needs its interface (ipv6(7): sin6_scope_id); only the numeric form carries it here.
  if (zone !== undefined) into.writeUInt32LE(Number(zone) || 0, 24);
  return SOCKADDR_SIZE;
};

const writeUnix = (address: UnixAddress, into: Buffer): number => {
  const isAbstract = address.path.startsWith('@');
  const name = Buffer.from(isAbstract ? address.path.slice(1) : address.path);
  if (name.length >= SUN_PATH_SIZE) return -E.NAMETOOLONG;
  into.writeUInt16LE(AF_UNIX, 0);
  into[2 + (isAbstract ? 0 : name.length)] = 0;
  name.copy(into, isAbstract ? 3 : 2);
  // Every byte that is counted belongs to an abstract name, NULs at its end too.
  return 2 + 1 + name.length;
};

/** Reads the address of a socket of ip(7) or ipv6(7); null for a family that has no port (a unix socket). */
export const readSockaddr = (from: Buffer): SocketAddress | null => {
  const family = from.readUInt16LE(0);
  const port = from.readUInt16BE(2);
  if (family === AF_INET) return { ip: readIPv4(from, 4), port };
  if (family !== AF_INET6) return null;
  if (isMapped(from, 8)) return { ip: readIPv4(from, 20), port };
  const scope = from.readUInt32LE(24);
  const ip = readIPv6(from, 8);
  return { ip: scope === 0 ? ip : `${ip}%${scope}`, port };
};

/** Reads the unix address in the first `size` bytes of `from`; null for other families, and a socket without a name. */
export const readUnixSockaddr = (from: Buffer, size: number): UnixAddress | null => {
  if (from.readUInt16LE(0) !== AF_UNIX || size <= 2) return null;
  const isAbstract = from[2] === 0;
  const end = isAbstract ? -1 : from.subarray(0, size).indexOf(0, 2);
  const name = from.toString('utf8', isAbstract ? 3 : 2, end < 0 ? size : end);
  return { path: isAbstract ? `@${name}` : name };
};

const writeIPv4 = (ip: string, into: Buffer, at: number): void => {
  for (const part of ip.split('.')) into[at++] = Number(part);
};

const writeIPv6 = (ip: string, into: Buffer, at: number): void => {
  const [head = '', tail] = ip.split('::') as [string?, string?];
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((group) => {
          if (!group.includes('.')) return [Number.parseInt(group, 16)];
          const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
          return [(a << 8) | b, (c << 8) | d];
        });
  const first = groups(head);
  const last = groups(tail ?? '');
  for (let i = 0; i < first.length; i++) into.writeUInt16BE(first[i] as number, at + 2 * i);
  for (let i = 0; i < last.length; i++) into.writeUInt16BE(last[i] as number, at + 2 * (8 - last.length + i));
};

/** Most addresses come again soon, and to make their text anew costs more than the system call that told them. */
const texts: (string | undefined)[] = new Array(256).fill(undefined);
const textOf = new Uint32Array(256);

const readIPv4 = (from: Buffer, at: number): string => {
  const bits = from.readUInt32BE(at);
  const slot = (bits ^ (bits >>> 8) ^ (bits >>> 16)) & 0xff;
  const known = texts[slot];
  if (known !== undefined && textOf[slot] === bits) return known;
  const text = `${from[at]}.${from[at + 1]}.${from[at + 2]}.${from[at + 3]}`;
  texts[slot] = text;
  textOf[slot] = bits;
  return text;
};

/** ::ffff:0:0/96, the IPv4-mapped addresses of a dual-stack socket (RFC 4291 section 2.5.5.2). */
const isMapped = (from: Buffer, at: number): boolean => {
  for (let i = 0; i < 10; i++) if (from[at + i] !== 0) return false;
  return from[at + 10] === 0xff && from[at + 11] === 0xff;
};

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`. */
const readIPv6 = (from: Buffer, at: number): string => {
  let bestAt = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && from.readUInt16BE(at + 2 * (i + length)) === 0) length++;
    if (length > bestLength) {
      bestAt = i;
      bestLength = length;
    }
    i += length;
  }
  const hex = (first: number, end: number): string => {
    const groups = [];
    for (let i = first; i < end; i++) groups.push(from.readUInt16BE(at + 2 * i).toString(16));
    return groups.join(':');
  };
  return bestAt < 0 ? hex(0, 8) : `${hex(0, bestAt)}::${hex(bestAt + bestLength, 8)}`;
};
