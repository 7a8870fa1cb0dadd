import { bracketed, isIPv6, type OriginalDestination } from '../address.js';
import { type Refused, type RequestHead, refuse } from './http.js';

/** An authority without user information: the host as written (IPv6 in brackets), the port's digits if there are any. */
export interface Authority {
  readonly host: string;
  readonly port: string | null;
}

/**
 * uri-host of RFC 3986 section 3.2.2, without percent-encoding: no host on the network has it in its name, and readers
 * differ in when they decode it.
 */
const AUTHORITY = /^(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._~!$&'()*+,;=-]+)(?::([0-9]{0,5}))?$/;

/** `host`, `host:` or `host:port`; null: it is none of these. */
export const readAuthority = (text: string): Authority | null => {
  if (text !== lastText) {
    last = parseAuthority(text);
    lastText = text;
  }
  return last;
};

/** The one that was read last: the same Host is asked for several times a request, and comes again with the next. */
let lastText = '';
let last: Authority | null = null;

const parseAuthority = (text: string): Authority | null => {
  const match = AUTHORITY.exec(text);
  if (match === null) return null;
  const [, ipv6, port] = match;
  if (ipv6 !== undefined && !isIPv6(ipv6)) return null;
  if (port === undefined) return { host: text, port: null };
  const host = text.slice(0, text.length - port.length - 1);
  if (port === '') return { host, port: null };
  const number = Number(port);
  return number > 0 && number <= 65535 ? { host, port } : null;
};

const written = ({ host, port }: Authority): string => (port === null ? host : `${host}:${port}`);

/** What a request line says toward an HTTP proxy. */
export interface Target {
  readonly kind: 'target';
  /** The request target: absolute-form, or authority-form for CONNECT. */
  readonly target: string;
  /** What the Host field has to say to agree with it; null: what it says already, or there is none. */
  readonly host: string | null;
  /** The request named no host: this is the original destination. */
  readonly looked: boolean;
}

const NO_HOST = refuse(
  400,
  'The request names no host, and it is not known which address it was sent to before it was redirected.',
);
const BAD_URL = refuse(400, 'The request is for a URL without a host, or with one that is not valid.');
const USER_IN_URL = refuse(400, 'The request is for a URL with a user name in it, which HTTP does not allow.');
const BAD_CONNECT = refuse(400, 'CONNECT needs a host and a port, such as CONNECT example.com:443.');
const BAD_TARGET = refuse(400, 'The request target is neither a path that begins with / nor a URL.');

const DEFAULT_PORT = 80;

/** The origin's authority by the Host field, else by the address that the client connected to. */
const originOf = (head: RequestHead, original: OriginalDestination | null): Authority | null => {
  const portOf = (address: OriginalDestination): string | null =>
    address.port === DEFAULT_PORT ? null : String(address.port);
  if (head.host === null || head.host === '') {
    return original === null ? null : { host: bracketed(original.ip), port: portOf(original) };
  }
  const named = readAuthority(head.host);
  if (named === null || named.port !== null || original === null) return named;
  return { host: named.host, port: portOf(original) };
};

/** origin-form and asterisk-form (RFC 9112 sections 3.2.1 and 3.2.4); `path` is empty for the latter. */
const fromOrigin = (head: RequestHead, original: OriginalDestination | null, path: string): Target | Refused => {
  const origin = originOf(head, original);
  if (origin === null) return NO_HOST;
  const authority = written(origin);
  return {
    kind: 'target',
    target: `http://${authority}${path}`,
    host: head.host === null || head.host === authority ? null : authority,
    looked: head.host === null || head.host === '',
  };
};

const URL_PARTS = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)/;

/** absolute-form: the Host field is made from it, whatever it was (RFC 9112 section 3.2.2). */
const fromUrl = (head: RequestHead): Target | Refused => {
  const match = URL_PARTS.exec(head.target);
  if (match === null) return BAD_TARGET;
  const [, scheme = '', withUser = ''] = match;
  const host = withUser.slice(withUser.lastIndexOf('@') + 1);
  // RFC 9110 section 4.2.4; in an ftp URL it is how one logs in.
  if (host !== withUser && /^https?$/i.test(scheme)) return USER_IN_URL;
  if (readAuthority(host) === null) return BAD_URL;
  return {
    kind: 'target',
    target: head.target,
    host: head.host === null || head.host === host ? null : host,
    looked: false,
  };
};

/** authority-form (RFC 9112 section 3.2.3). */
const fromConnect = (head: RequestHead): Target | Refused => {
  const authority = readAuthority(head.target);
  if (authority === null || authority.port === null) return BAD_CONNECT;
  return { kind: 'target', target: head.target, host: null, looked: false };
};

/**
 * The target of a request as an HTTP proxy wants it. The original destination's port is added where it is not 80 and
 * Host has none; a request without a host goes to the original destination by its address.
 */
export const absoluteTarget = (head: RequestHead, original: OriginalDestination | null): Target | Refused => {
  if (head.method === 'CONNECT') return fromConnect(head);
  if (head.target.startsWith('/')) return fromOrigin(head, original, head.target);
  if (head.target === '*' && head.method === 'OPTIONS') return fromOrigin(head, original, '');
  return fromUrl(head);
};
