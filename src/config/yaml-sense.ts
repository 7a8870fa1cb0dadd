import { isAddress, isIPv4 } from '../address.js';
import { isUnix, type Service } from '../plan.js';
import { label } from './service-name.js';
import { binds, connects, destOf, protocolsOf } from './yaml-rule.js';
import type { Rule, RuleKey } from './yaml-words.js';

const OF_HTTP: readonly RuleKey[] = [
  'tls',
  'ech',
  'unknown',
  'force',
  'via',
  'forwarded_for',
  'trust',
  'upgrade',
  'verify_host',
  'first_byte',
  'head_timeout',
  'head_bytes',
];

const OF_RELAYS: readonly RuleKey[] = ['connect', 'ftp', 'ftp_ports'];

const OF_TCP: readonly RuleKey[] = [
  'upstreams',
  'proxy_auth',
  'proxy_only',
  'check',
  'tcp_wrappers',
  'ftp',
  'ftp_ports',
  'max_bandwidth',
  'random_wait',
  'wait_in_out',
  'bufsize',
  'half_closed_timeout',
];

/** rinetd and its kin take these for both protocols, and so may what a file says of all rules. */
const WITHOUT_EFFECT: Readonly<Record<Service['protocol'], readonly RuleKey[]>> = {
  tcp: ['max_udp_connections'],
  udp: ['keepalive', 'connect_timeout', 'listen_backlog'],
};

const OF_ADDRESSED_CLIENTS: readonly RuleKey[] = ['spoof', 'tcp_wrappers', 'intercept', 'trust'];
const OF_ADDRESSED_TARGETS: readonly RuleKey[] = ['src', 'spoof', 'upstreams', 'ftp'];

/** Why a rule that means this service can't say a thing; null if it can. */
export const misplaced = (key: RuleKey, service: Service): string | null => {
  const { mode, protocol, listen, targets, upstreams, ftp, shaping, spoof, http } = service;
  if (mode === 'relay' && OF_HTTP.includes(key)) return 'is for mode: http';
  if (mode === 'http' && OF_RELAYS.includes(key)) {
    return `is for mode: relay${key === 'connect' ? '; the proxies of mode: http are its upstreams' : ''}`;
  }
  if (protocol === 'udp' && OF_TCP.includes(key)) return 'is for tcp';
  if (listen.some(isUnix) && OF_ADDRESSED_CLIENTS.includes(key)) return 'is for clients that have an address';
  if (targets.some(({ to }) => isUnix(to)) && OF_ADDRESSED_TARGETS.includes(key)) {
    return 'is for targets that have an address';
  }
  switch (key) {
    case 'check':
    case 'proxy_auth':
      return upstreams.length === 0 ? 'needs upstreams' : null;
    case 'proxy_only':
    case 'proxy_protocol':
    case 'load_balancing': {
      const why = key === 'proxy_protocol' ? 'which does not expect it' : 'and there is no other';
      return upstreams.length + targets.length === 0 ? `is not for the original destination, ${why}` : null;
    }
    case 'src':
      return spoof ? "contradicts spoof, which takes the client's address" : null;
    case 'ftp_ports':
      return ftp === null ? 'needs ftp' : null;
    case 'wait_in_out':
      return shaping === null || (shaping.maxBandwidth === null && shaping.randomWait === 0)
        ? 'needs max_bandwidth or random_wait'
        : null;
    case 'trust':
      return http.forwardedFor ? null : 'needs forwarded_for';
    default:
      return null;
  }
};

/** What a rule says of its service to no effect. */
export const idleWords = (rule: Rule, { protocol }: Service): RuleKey[] =>
  WITHOUT_EFFECT[protocol].filter((key) => rule[key] !== undefined);

export interface Flaw {
  /** Below the rule. */
  readonly path: readonly PropertyKey[];
  readonly what: string;
}

/** What contradicts itself in a rule, and why its service could serve nobody. */
export function* flawsOf(rule: Rule, service: Service): Generator<Flaw> {
  for (const key of Object.keys(rule) as RuleKey[]) {
    const what = rule[key] === undefined ? null : misplaced(key, service);
    if (what !== null) yield { path: [key], what };
  }
  yield* flawsOfBind(rule, service);
  yield* service.mode === 'http' ? flawsOfHttp(service) : flawsOfRelay(rule, service);
  yield* flawsOfUpstreams(service);
  yield* flawsOfSource(service);
  const { affinity_ttl, affinity_max_entries } = rule.load_balancing ?? {};
  if (affinity_max_entries !== undefined && !affinity_ttl) {
    yield { path: ['load_balancing', 'affinity_max_entries'], what: 'needs affinity_ttl' };
  }
}

function* flawsOfBind(rule: Rule, { protocol, listen }: Service): Generator<Flaw> {
  if (new Set(protocolsOf(rule)).size > 1) yield { path: ['bind'], what: 'is of tcp and of udp: make two rules of it' };
  if (protocol === 'udp' && listen.some(isUnix)) yield { path: ['bind'], what: 'a unix socket is for tcp' };
  for (const [i, bind] of binds(rule).entries()) {
    const at = listen[i];
    const isFile = at !== undefined && isUnix(at) && !at.path.startsWith('@');
    if ('address' in bind && bind.mode !== undefined && !isFile) {
      yield { path: ['bind', i, 'mode'], what: 'is for unix:/PATH' };
    }
  }
  const isOfFile = (at: Service['listen'][number]): boolean => isUnix(at) && !at.path.startsWith('@');
  if (typeof rule.mode === 'number' && !listen.some(isOfFile)) {
    yield { path: ['mode'], what: 'a number is for unix:/PATH to listen on' };
  }
}

function* flawsOfHttp({ protocol, upstreams, proxyOnly, tls, unknown }: Service): Generator<Flaw> {
  if (protocol === 'udp') yield { path: ['mode'], what: 'http is for tcp' };
  if (upstreams.every(({ scheme }) => scheme !== 'http')) {
    const what = upstreams.length === 0 ? 'are missing' : 'socks5:// takes other connections only';
    yield { path: ['upstreams'], what: `${what}: mode: http needs an HTTP proxy, as HOST:PORT` };
  }
  const past = 'direct contradicts proxy_only, which lets nothing past the proxy';
  if (proxyOnly && tls === 'direct') yield { path: ['tls'], what: past };
  if (proxyOnly && unknown === 'direct') yield { path: ['unknown'], what: past };
}

function* flawsOfRelay(rule: Rule, service: Service): Generator<Flaw> {
  const { protocol, listen, targets, upstreams, balance, intercept, ftp, proxyProtocol } = service;
  const ends = connects(rule).map(destOf);
  if (ends.length === 0) {
    yield { path: ['connect'], what: 'is missing: HOST:PORT, or "*" for the original destination' };
  }
  if (ends.length > 1 && ends.some(({ end }) => end === null)) {
    yield { path: ['connect'], what: '"*" is the original destination, and no one of several' };
  }
  for (const [i, { end, protocol: said }] of ends.entries()) {
    if (said !== null && said !== protocol) {
      yield {
        path: ['connect', i],
        what: `/${said} contradicts /${protocol} of bind: nothing is relayed between them`,
      };
    }
    if (protocol === 'udp' && end !== null && isUnix(end)) {
      yield { path: ['connect', i], what: 'a unix socket is for tcp' };
    }
  }
  if (ends.length > 0 && targets.length === 0) {
    if (listen.some(isUnix)) {
      yield { path: ['connect'], what: 'connections to a unix socket have no original destination' };
    }
    if (protocol === 'udp' && intercept === 'redirect') {
      yield { path: ['connect'], what: 'the original destination of udp is known with intercept: tproxy only' };
    }
  }
  if (balance === 'url-hash') yield { path: ['load_balancing', 'algorithm'], what: 'url-hash is for mode: http' };
  if (ftp?.active && upstreams.length > 0) {
    const what = 'takes connections that the server makes, which no proxy passes on: only pasv goes through one';
    yield { path: ['ftp'], what };
  }
  if (protocol === 'udp' && proxyProtocol === 'v1') yield { path: ['proxy_protocol'], what: 'v1 is for tcp' };
}

function* flawsOfUpstreams({ upstreams }: Service): Generator<Flaw> {
  const known = upstreams.map(label);
  for (const [i, name] of known.entries()) {
    if (known.indexOf(name) < i) yield { path: ['upstreams', i], what: `${name} is there twice` };
  }
}

function* flawsOfSource({ source, targets, upstreams }: Service): Generator<Flaw> {
  const isOther = (source: string, host: string): boolean => isAddress(host) && isIPv4(host) !== isIPv4(source);
  const what = (host: string): string => `is of another family than ${host}, where it connects to`;
  const hosts = targets.map(({ to }) => (isUnix(to) ? null : to.host));
  if (source !== null) {
    const ends = upstreams.length > 0 ? upstreams.map(({ host }) => host) : hosts;
    const other = ends.find((host) => host !== null && isOther(source, host));
    if (other) yield { path: ['src'], what: what(other) };
  }
  for (const [i, target] of targets.entries()) {
    const host = hosts[i];
    if (target.source === null) continue;
    if (host === null || host === undefined)
      yield { path: ['connect', i, 'src'], what: 'is for an end that has an address' };
    else if (isOther(target.source, host)) yield { path: ['connect', i, 'src'], what: what(host) };
  }
}
