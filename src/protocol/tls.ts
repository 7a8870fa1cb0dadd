import { INCOMPLETE, type Incomplete } from './http.js';

/** What a TLS client says first that tells where it wants to go. */
export interface ClientHello {
  readonly kind: 'hello';
  /** In lower case, without a dot at its end; null: the client names no server, or none that may be relied on. */
  readonly serverName: string | null;
  /** Why a name, or the whole hello, is not relied on, as a sentence; null: nothing is wrong with it. */
  readonly fault: string | null;
  /**
   * An encrypted hello is within (RFC 9849), and `serverName` is then the name of who can decrypt it; or the client only
   * makes it look so (section 6.2), which nobody else can tell apart.
   */
  readonly ech: boolean;
  /** The protocols that the client offers (RFC 7301), each character one byte. */
  readonly alpn: readonly string[];
}

export interface NotTls {
  readonly kind: 'not-tls';
}

/** Within so many bytes from the start, records' headers included, a hello has to end; more must not be held for it. */
export const MAX_CLIENT_HELLO = 16 * 1024;

const NOT_TLS: NotTls = { kind: 'not-tls' };

const without = (fault: string): ClientHello => ({ kind: 'hello', serverName: null, fault, ech: false, alpn: [] });

const TOO_LONG = without(`The ClientHello does not end within ${MAX_CLIENT_HELLO} bytes.`);
const BROKEN_OFF = without('The ClientHello is broken off by a record that is no part of it.');
const MALFORMED = without('The ClientHello is malformed.');

/** RFC 8446 section 5.1 */
const RECORD_HEADER = 5;
const HANDSHAKE = 22;
const MAX_FRAGMENT = 2 ** 14;

/** RFC 8446 section 4: the type and a length of 24 bits. */
const MESSAGE_HEADER = 4;
const CLIENT_HELLO = 1;

/** Of every record and hello since SSL 3.0; the minor one means nothing (section 5.1). */
const MAJOR_VERSION = 3;
const RANDOM = 32;

/** Types of extensions. */
const SERVER_NAME = 0;
const ALPN = 16;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

const HOST_NAME = 0;
const MAX_NAME = 253;
const ECH_OUTER = 0;

const MALFORMED_NAME = 'The server name in the ClientHello is malformed.';
const INVALID_NAME = 'The server name in the ClientHello is not a host name.';
const SEVERAL_NAMES = 'The ClientHello has several server names.';

/**
 * Reads a ClientHello from `start` on, which may come in several records, cut anywhere. The outcome is that of the first
 * byte that decides it, so that it does not depend on how the bytes were cut on their way.
 * What begins as TLS does but can't be read is a hello all the same, without a name.
 * Source: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3.
 */
export const readClientHello = (bytes: Buffer, start: number, end: number): Incomplete | NotTls | ClientHello => {
  const limit = start + MAX_CLIENT_HELLO;
  let have = 0;
  let length = MESSAGE_HEADER;
  let p = start;
  for (let records = 0; have < length; records++) {
    const notOurs = records === 0 ? NOT_TLS : BROKEN_OFF;
    if (p + RECORD_HEADER + length - have > limit) return TOO_LONG;
    if (p < end && bytes[p] !== HANDSHAKE) return notOurs;
    if (p + 1 < end && bytes[p + 1] !== MAJOR_VERSION) return notOurs;
    if (p + RECORD_HEADER > end) return INCOMPLETE;
    const size = bytes.readUInt16BE(p + 3);
    if (size === 0 || size > MAX_FRAGMENT) return notOurs;
    p += RECORD_HEADER;
    const recordEnd = p + size;
    for (; have < MESSAGE_HEADER && p < recordEnd; have++, p++) {
      if (p === end) return INCOMPLETE;
      const c = bytes[p] as number;
      if (have === 0 && c !== CLIENT_HELLO) return NOT_TLS;
      if (have > 0) length += c * 256 ** (MESSAGE_HEADER - 1 - have);
    }
    if (have < MESSAGE_HEADER) continue;
    const take = Math.min(recordEnd - p, length - have);
    if (p + length - have > limit) return TOO_LONG;
    if (p + take > end) return INCOMPLETE;
    have += take;
    p += take;
  }

  const first = start + RECORD_HEADER;
  if (p - first === length) return readHello(bytes, first + MESSAGE_HEADER, p);
  const whole = gather(bytes, start, length);
  return readHello(whole, MESSAGE_HEADER, length);
};

/** The first `length` bytes that the records from `at` on carry. */
const gather = (bytes: Buffer, at: number, length: number): Buffer => {
  const whole = Buffer.allocUnsafe(length);
  let p = at;
  for (let filled = 0; filled < length; ) {
    const size = bytes.readUInt16BE(p + 3);
    p += RECORD_HEADER;
    filled += bytes.copy(whole, filled, p, p + size);
    p += size;
  }
  return whole;
};

/** Where what has its length before it, in `width` bytes at `at`, ends; -1: not within `to`. */
const vectorEnd = (bytes: Buffer, at: number, width: 1 | 2, to: number): number => {
  if (at < 0 || at + width > to) return -1;
  const end = at + width + bytes.readUIntBE(at, width);
  return end <= to ? end : -1;
};

/** Reads the message behind its header. */
const readHello = (bytes: Buffer, start: number, end: number): ClientHello => {
  if (end - start < 2 + RANDOM || bytes[start] !== MAJOR_VERSION) return MALFORMED;
  const session = vectorEnd(bytes, start + 2 + RANDOM, 1, end);
  const ciphers = vectorEnd(bytes, session, 2, end);
  const compression = vectorEnd(bytes, ciphers, 1, end);
  if (compression < 0) return MALFORMED;
  let serverName: string | null = null;
  let fault: string | null = null;
  let names = 0;
  let ech = false;
  let alpn: string[] = [];
  if (compression < end && vectorEnd(bytes, compression, 2, end) !== end) return MALFORMED;
  for (let p = compression + 2; p < end; ) {
    const from = p + 4;
    const to = vectorEnd(bytes, p + 2, 2, end);
    if (to < 0) return MALFORMED;
    // Every other type is skipped, those that clients make up so that nobody relies on them too (RFC 8701).
    const type = bytes.readUInt16BE(p);
    if (type === SERVER_NAME) {
      const name = readServerName(bytes, from, to);
      const good = name !== null && isServerName(name);
      serverName = good ? name : null;
      if (!good) fault = name === null ? MALFORMED_NAME : INVALID_NAME;
      if (++names > 1) fault = SEVERAL_NAMES;
    } else if (type === ALPN) {
      const protocols = readProtocols(bytes, from, to);
      if (protocols === null) return MALFORMED;
      alpn = protocols;
    } else if (type === ENCRYPTED_CLIENT_HELLO) {
      // An inner hello's is not encrypted (RFC 9849 section 5); it is what a server decrypted for another one.
      ech ||= bytes[from] === ECH_OUTER && from < to;
    }
    p = to;
  }
  return { kind: 'hello', serverName: fault === null ? serverName : null, fault, ech, alpn };
};

/** The one name of a server_name extension (RFC 6066 section 3); null: it has none or several, or is malformed. */
const readServerName = (bytes: Buffer, from: number, to: number): string | null => {
  if (vectorEnd(bytes, from, 2, to) !== to) return null;
  let name: string | null = null;
  for (let p = from + 2; p < to; ) {
    const end = vectorEnd(bytes, p + 1, 2, to);
    if (end < 0) return null;
    if (bytes[p] === HOST_NAME) {
      if (name !== null) return null;
      name = bytes
        .toString('latin1', p + 3, end)
        .toLowerCase()
        .replace(/\.$/, '');
    }
    p = end;
  }
  return name;
};

/** Letters, digits, hyphens, and underscores, which hosts on the network have in their names. */
const LABELS = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;

/** A name that ends like this is read as an IPv4 address by inet_aton(3) and URL parsers, and no top-level domain does. */
const NUMBER_AT_END = /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/;

/** Not an address, which RFC 6066 section 3 forbids; of a length that DNS can carry (RFC 1035 section 2.3.4). */
const isServerName = (name: string): boolean =>
  name.length <= MAX_NAME && LABELS.test(name) && !NUMBER_AT_END.test(name);

/** RFC 7301 section 3.1; null: malformed. */
const readProtocols = (bytes: Buffer, from: number, to: number): string[] | null => {
  if (vectorEnd(bytes, from, 2, to) !== to) return null;
  const protocols: string[] = [];
  for (let p = from + 2; p < to; ) {
    const end = vectorEnd(bytes, p, 1, to);
    if (end < 0) return null;
    protocols.push(bytes.toString('latin1', p + 1, end));
    p = end;
  }
  return protocols;
};
