import type { Connected, Handshake } from './handshake.js';
import { type Incomplete, type Refused, refuse } from './http.js';
import { readResponseHead } from './http-response.js';
import { readAuthority } from './http-target.js';

/** The upstream will not tunnel: the status that it answered with, and its head's size. */
export interface Declined {
  readonly kind: 'declined';
  readonly status: number;
  readonly size: number;
}

/**
 * A CONNECT request for a host and a port, with IPv6 in brackets (RFC 9110 section 9.3.6). HTTP/1.1, so that a proxy may
 * answer with a version of its own. `authorization` is the value of Proxy-Authorization, if any.
 * Throws RangeError for what is no authority: it would become something else in the request.
 */
export const writeConnect = (authority: string, authorization: string | null): Buffer => {
  const parts = readAuthority(authority);
  if (parts === null || parts.port === null) throw new RangeError(`${authority} is not a host and a port`);
  const credentials = authorization === null ? '' : `Proxy-Authorization: ${authorization}\r\n`;
  return Buffer.from(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`, 'latin1');
};

const hasControl = (text: string): boolean => [...text].some((c) => c < ' ' || c === '\x7f');

/**
 * The value of Proxy-Authorization for a user and a password (RFC 7617 section 2).
 * Throws RangeError for a user with a colon, which could not be told from the password, and for control characters.
 */
export const basicAuthorization = (user: string, password: string): string => {
  if (user.includes(':')) throw new RangeError('a user name cannot have a colon in it');
  if (hasControl(user + password)) throw new RangeError('user name and password cannot have control characters');
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
};

const UPGRADED = refuse(502, 'The upstream proxy answered CONNECT with a protocol that nobody asked for.');

/**
 * Reads the answer to CONNECT from `start` on, behind interim answers (RFC 9110 section 15.2), all within `maxBytes`.
 * Any 2xx is a tunnel; whatever fields it has say nothing of a body (section 9.3.6).
 */
export const readConnectResponse = (
  bytes: Buffer,
  start: number,
  end: number,
  maxBytes: number,
): Incomplete | Refused | Connected | Declined => {
  for (let at = start; ; ) {
    const outcome = readResponseHead(bytes, at, end, start + maxBytes - at, 'CONNECT');
    if (outcome.kind !== 'head') return outcome;
    const { status } = outcome.head;
    at += outcome.head.size;
    if (status === 101) return UPGRADED;
    if (status >= 300) return { kind: 'declined', status, size: at - start };
    if (status >= 200) return { kind: 'connected', size: at - start };
  }
};

/** What the client may be told as it is; everything else, a demand for credentials above all, is between us and the upstream. */
const FOR_THE_CLIENT = new Set([403, 503, 504]);

/** A tunnel through an HTTP proxy. */
export class ConnectHandshake implements Handshake {
  readonly #request: Buffer;
  readonly #authorized: boolean;
  readonly #maxBytes: number;

  /** As `writeConnect`; `maxBytes` bounds what the upstream may say before the tunnel stands. */
  constructor(authority: string, authorization: string | null, maxBytes: number) {
    this.#request = writeConnect(authority, authorization);
    this.#authorized = authorization !== null;
    this.#maxBytes = maxBytes;
  }

  first(): Buffer {
    return this.#request;
  }

  next(bytes: Buffer, start: number, end: number): Incomplete | Refused | Connected {
    const outcome = readConnectResponse(bytes, start, end, this.#maxBytes);
    if (outcome.kind !== 'declined') return outcome;
    const { status } = outcome;
    return refuse(
      FOR_THE_CLIENT.has(status) ? status : 502,
      `The upstream proxy answered CONNECT with status ${status}${status === 407 ? this.#wish : ''}.`,
    );
  }

  get #wish(): string {
    return this.#authorized ? ': it wants another user or password' : ': it wants a user and a password';
  }
}
