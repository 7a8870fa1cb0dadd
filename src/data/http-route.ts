import { bracketed, formatAddress, isAddress, type OriginalDestination } from '../address.js';
import { addressBytes } from '../protocol/address-bytes.js';
import { type Refused, type RequestHead, refuse } from '../protocol/http.js';
import { replaceField } from '../protocol/http-fields.js';
import { type Authority, absoluteTarget, readAuthority } from '../protocol/http-target.js';
import type { HttpLink } from './http-relay.js';
import type { Site } from './site.js';

/** Where one request goes. */
export interface Route {
  readonly kind: 'route';
  /** The request target for an upstream: absolute-form, or an authority with CONNECT. */
  readonly target: string;
  /** The access log's word for what was done. */
  readonly what: string;
  /** Offers another protocol: through a tunnel to this origin, with this target; null: as any request. */
  readonly origin: { readonly host: string; readonly port: number; readonly target: string } | null;
  /** The client wrote to a proxy, and knows what to do with its 407. */
  readonly knowsProxy: boolean;
}

/** The Host's addresses are being looked up: ask again when they are there. */
export interface Pending {
  readonly kind: 'pending';
}

const PENDING: Pending = { kind: 'pending' };
const DEFAULT_PORT = 80;
const URL_PARTS = /^http:\/\/([^/?#]*)(.*)$/is;
const ANY_URL_PARTS = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)(.*)$/is;

/**
 * Chooses the route of a request, and makes its Host agree with it (RFC 9112 section 3.2.2).
 * `then` is called when a Pending route can be asked for again.
 */
export const routeOf = (head: RequestHead, link: HttpLink, then: () => void): Route | Refused | Pending => {
  const { site, original } = link;
  const { http } = site.service;
  const knowsProxy = head.method === 'CONNECT' || !(head.target.startsWith('/') || head.target === '*');
  if (http.force !== null && head.referer !== http.force.url && head.method !== 'CONNECT') {
    replaceField(head.fields, 'Host', http.force.host);
    return { kind: 'route', target: http.force.url, what: 'Forced', origin: null, knowsProxy };
  }
  // A link-local address means something on this host's interface only, and can't be written in a URL.
  const outcome = absoluteTarget(head, original?.ip.includes('%') ? null : original);
  if (outcome.kind === 'refused') return outcome;
  let { target, host } = outcome;
  let what = target === head.target ? 'Transparent' : outcome.looked ? 'Request' : 'Request_NoDNS';

  if (http.verifyHost !== 'off' && original !== null && !outcome.looked && head.method !== 'CONNECT') {
    // Of any scheme: an upstream may well answer a request for https: or ftp: from its cache.
    const parts = ANY_URL_PARTS.exec(target);
    const authority = parts === null ? null : readAuthority(parts[1] as string);
    const belongs = authority !== null && belongsTo(authority, site, original, then);
    if (belongs === null) return PENDING;
    if (!belongs) {
      const claim = `Host ${authority?.host ?? '-'} is not at the original destination ${formatAddress(original)}`;
      link.log('warn', claim);
      if (http.verifyHost === 'strict') return refuse(409, `${claim}.`);
      host = original.port === DEFAULT_PORT ? bracketed(original.ip) : formatAddress(original);
      target = `http://${host}${parts?.[2]}`;
      what = 'Request';
    }
  }
  if (host !== null) replaceField(head.fields, 'Host', host);
  const origin = http.upgrade === 'connect' && head.upgrade ? originOf(target) : null;
  return { kind: 'route', target, what, origin, knowsProxy };
};

/**
 * Whether a name has the address that the client connected to; null while that is being found out. Without this a page's
 * script could have any host's content cached under another's name (CVE-2009-0801).
 */
const belongsTo = (
  { host }: Authority,
  site: Site,
  original: OriginalDestination,
  then: () => void,
): boolean | null => {
  const bare = host.startsWith('[') ? host.slice(1, -1) : host;
  // As bytes: an IPv6 address has many spellings.
  if (isAddress(bare)) return addressBytes(bare).equals(addressBytes(original.ip));
  const ips = site.thread.names.lookup(bare.toLowerCase(), site.loop.now, then);
  return ips === null ? null : ips.includes(original.ip);
};

const originOf = (target: string): Route['origin'] => {
  const parts = URL_PARTS.exec(target);
  const authority = parts === null ? null : readAuthority(parts[1] as string);
  if (authority === null) return null;
  const { host, port } = authority;
  const path = parts?.[2] as string;
  return {
    host: host.startsWith('[') ? host.slice(1, -1) : host,
    port: port === null ? DEFAULT_PORT : Number(port),
    target: path.startsWith('/') ? path : `/${path}`,
  };
};
