import { isIPv4, isIPv6 } from '../address.js';
import { addressBytes } from './address-bytes.js';
import type { Connected, Handshake, Send } from './handshake.js';
import { INCOMPLETE, type Incomplete, type Refused, refuse } from './http.js';

/** Where a SOCKS proxy is to connect: an address (IPv6 without brackets) or a name that the proxy looks up. */
export interface SocksTarget {
  readonly host: string;
  readonly port: number;
}

/** Each of 1 to 255 bytes in UTF-8 (RFC 1929 section 2). */
export interface SocksCredentials {
  readonly user: string;
  readonly password: string;
}

const VERSION = 5;

/** RFC 1928 section 3 */
const NO_AUTHENTICATION = 0;
const USER_AND_PASSWORD = 2;
const NO_METHOD = 0xff;

/** RFC 1929 section 2 */
const AUTHENTICATION_VERSION = 1;

/** RFC 1928 section 4 */
const CONNECT = 1;

/** RFC 1928 section 5 */
const IPV4 = 1;
const DOMAIN = 3;
const IPV6 = 4;

/** What the codes of a reply mean (RFC 1928 section 6), with the HTTP status that says the same to a client. */
const REPLIES: Readonly<Record<number, readonly [status: number, words: string]>> = {
  1: [502, 'it failed'],
  2: [403, 'its rules do not allow the connection'],
  3: [502, 'the network is unreachable'],
  4: [502, 'the host is unreachable'],
  5: [502, 'the connection was refused'],
  6: [504, 'the time to live expired'],
  7: [502, 'it does not support the command'],
  8: [502, 'it does not support this type of address'],
};

const bad = (reason: string): Refused => refuse(502, reason);

const NO_SOCKS = bad('The upstream does not speak SOCKS 5.');
const NO_COMMON_METHOD = bad('The SOCKS upstream accepts no way to authenticate that was offered.');
const METHOD_NOT_OFFERED = bad('The SOCKS upstream chose a way to authenticate that was not offered.');
const NOT_AUTHENTICATED = bad('The SOCKS upstream did not accept the user name and password.');
const NO_ADDRESS_TYPE = bad('The SOCKS upstream answered with an unknown type of address.');

/** Throws RangeError if it has not 1 to 255 bytes. */
const counted = (text: string, what: string): Buffer => {
  const bytes = Buffer.from(text);
  if (bytes.length < 1 || bytes.length > 255) throw new RangeError(`${what} must have 1 to 255 bytes`);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
};

const writeAuthentication = ({ user, password }: SocksCredentials): Buffer =>
  Buffer.concat([Buffer.of(AUTHENTICATION_VERSION), counted(user, 'a user name'), counted(password, 'a password')]);

const writeRequest = ({ host, port }: SocksTarget): Buffer => {
  const kind = isIPv4(host) ? 4 : isIPv6(host) ? 6 : 0;
  const address = kind === 0 ? counted(host, 'a host name') : addressBytes(host);
  const type = kind === 0 ? DOMAIN : kind === 4 ? IPV4 : IPV6;
  return Buffer.concat([Buffer.of(VERSION, CONNECT, 0, type), address, Buffer.of(port >> 8, port & 0xff)]);
};

/** A tunnel through a SOCKS 5 proxy (RFC 1928), with or without a user name and password (RFC 1929). */
export class Socks5Handshake implements Handshake {
  readonly #request: Buffer;
  readonly #authentication: Buffer | null;
  #awaits: 'method' | 'authentication' | 'reply' = 'method';

  /** Throws RangeError for a name, user or password that SOCKS can't carry. */
  constructor(target: SocksTarget, credentials: SocksCredentials | null) {
    this.#request = writeRequest(target);
    this.#authentication = credentials === null ? null : writeAuthentication(credentials);
  }

  first(): Buffer {
    return this.#authentication === null
      ? Buffer.of(VERSION, 1, NO_AUTHENTICATION)
      : Buffer.of(VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD);
  }

  next(bytes: Buffer, start: number, end: number): Incomplete | Refused | Send | Connected {
    switch (this.#awaits) {
      case 'method':
        return this.#onMethod(bytes, start, end);
      case 'authentication':
        return this.#onAuthentication(bytes, start, end);
      case 'reply':
        return readReply(bytes, start, end);
    }
  }

  #onMethod(bytes: Buffer, start: number, end: number): Incomplete | Refused | Send {
    if (start < end && bytes[start] !== VERSION) return NO_SOCKS;
    if (end - start < 2) return INCOMPLETE;
    const method = bytes[start + 1];
    if (method === NO_METHOD) return NO_COMMON_METHOD;
    if (method === NO_AUTHENTICATION) {
      this.#awaits = 'reply';
      return { kind: 'send', bytes: this.#request, size: 2 };
    }
    if (method !== USER_AND_PASSWORD || this.#authentication === null) return METHOD_NOT_OFFERED;
    this.#awaits = 'authentication';
    return { kind: 'send', bytes: this.#authentication, size: 2 };
  }

  #onAuthentication(bytes: Buffer, start: number, end: number): Incomplete | Refused | Send {
    // The first byte is not looked at: it should be RFC 1929's version, and proxies send SOCKS' own in its place.
    if (end - start < 2) return INCOMPLETE;
    if (bytes[start + 1] !== 0) return NOT_AUTHENTICATED;
    this.#awaits = 'reply';
    return { kind: 'send', bytes: this.#request, size: 2 };
  }
}

/** RFC 1928 section 6. The address that the proxy connected from is skipped. */
const readReply = (bytes: Buffer, start: number, end: number): Incomplete | Refused | Connected => {
  if (start < end && bytes[start] !== VERSION) return NO_SOCKS;
  if (end - start < 2) return INCOMPLETE;
  const code = bytes[start + 1] as number;
  // Known from here on: some proxies close behind a reply without an address.
  if (code !== 0) {
    const [status, words] = REPLIES[code] ?? [502, `it says ${code}, which has no meaning`];
    return refuse(status, `The SOCKS upstream did not connect: ${words}.`);
  }
  if (end - start < 4) return INCOMPLETE;
  const type = bytes[start + 3];
  let length: number;
  if (type === IPV4) length = 4;
  else if (type === IPV6) length = 16;
  else if (type !== DOMAIN) return NO_ADDRESS_TYPE;
  else if (end - start < 5) return INCOMPLETE;
  else length = 1 + (bytes[start + 4] as number);
  const size = 4 + length + 2;
  return end - start < size ? INCOMPLETE : { kind: 'connected', size };
};
