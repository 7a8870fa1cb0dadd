import { INCOMPLETE, type Incomplete } from '../protocol/http.js';
import { looksLikeRequest } from '../protocol/http-request.js';
import { readClientHello } from '../protocol/tls.js';

/** What a client speaks, as far as we can do something with it. */
export type Detected =
  | { readonly kind: 'http' }
  /** `serverName` null: the client names none, or none that may be relied on. */
  | { readonly kind: 'tls'; readonly serverName: string | null; readonly ech: boolean }
  /** Another protocol, HTTP/2 with prior knowledge among them. */
  | { readonly kind: 'unknown' };

/** A request line is no longer; what still may become one is given to the reader of requests, which says so. */
const MOST_BYTES = 64 * 1024;

const HTTP: Detected = { kind: 'http' };
const UNKNOWN: Detected = { kind: 'unknown' };

/**
 * What a connection's first bytes say, or that they don't say it yet. The one place that chooses.
 */
export const detect = (bytes: Buffer, start: number, end: number): Detected | Incomplete => {
  const request = looksLikeRequest(bytes, start, end);
  if (request === 'yes') return HTTP;
  if (request === 'incomplete') return end - start < MOST_BYTES ? INCOMPLETE : HTTP;
  const hello = readClientHello(bytes, start, end);
  if (hello.kind === 'not-tls') return UNKNOWN;
  if (hello.kind === 'incomplete') return INCOMPLETE;
  return { kind: 'tls', serverName: hello.serverName, ech: hello.ech };
};
