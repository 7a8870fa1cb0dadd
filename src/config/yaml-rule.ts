import { formatEnd } from '../address.js';
import {
  type AccessList,
  type Affinity,
  DEFAULT_LIMITS,
  DEFAULT_SERVICE,
  type Ftp,
  isUnix,
  type Limits,
  type Listen,
  type Service,
  type Shaping,
  type Target,
  type Upstream,
} from '../plan.js';
import { commonTo } from './common.js';
import { ownPseudonym } from './pseudonym.js';
import { CLIENTS, UDP_IDLE } from './rinetd-rules.js';
import { label, labels } from './service-name.js';
import { flawOf, readCredentials } from './upstream.js';
import { UsageError } from './usage-error.js';
import type { Rule, Said } from './yaml-words.js';

/** What the rules of a file have in common. Times in milliseconds. */
export interface Common {
  readonly access: readonly AccessList[];
  readonly dnsRefresh: number | null;
  readonly connect: number;
  readonly backlog: number | null;
  readonly flows: number;
  /** Our name for TCP wrappers. */
  readonly ident: string;
}

/** The times are those of the rinetd that has the words. */
export const COMMON: Omit<Common, 'ident'> = {
  access: [],
  dnsRefresh: 600_000,
  connect: DEFAULT_LIMITS.connect,
  backlog: null,
  flows: DEFAULT_LIMITS.flows,
};

/** Without a word of time-outs. An HTTP client keeps its connection open for the next request, however long that takes. */
export const idleOf = (mode: Service['mode'], protocol: Service['protocol']): number => {
  if (protocol === 'udp') return UDP_IDLE;
  return mode === 'http' ? DEFAULT_LIMITS.idle : Number.POSITIVE_INFINITY;
};

/** A half-closed connection has a bound in any case: its other end may be gone without a word. */
export const halfClosedOf = (protocol: Service['protocol'], idle: number): number =>
  protocol === 'tcp' && Number.isFinite(idle) ? idle : DEFAULT_LIMITS.halfClosed;

/** Of a rule that has none; it tells the rules of one host from each other. */
export const viaOf = (name: string, listen: readonly Listen[]): string =>
  ownPseudonym(['yaml', name, JSON.stringify(listen)]);

export const unknownOf = (mode: Service['mode'], proxyOnly: boolean): Service['unknown'] =>
  mode === 'http' && proxyOnly ? 'connect' : 'direct';

const nameOf = ({ listen, protocol, mode, targets, upstreams }: Omit<Service, 'name'>): string => {
  const from = listen
    .map((at) => (isUnix(at) ? `unix:${at.path}` : formatEnd({ ...at, host: at.host ?? '*' })))
    .join(', ');
  const ends = targets.map(({ to }) => (isUnix(to) ? `unix:${to.path}` : formatEnd(to))).join(', ');
  const to = mode === 'http' ? labels(upstreams) : ends || 'original destination';
  const through = mode === 'relay' && upstreams.length > 0 ? ` through ${labels(upstreams)}` : '';
  return `${from === '' ? '' : `${from}${protocol === 'udp' ? '/udp' : ''} to `}${to}${through}`;
};

const listOf = <T>(given: T | readonly T[] | undefined): readonly T[] =>
  given === undefined ? [] : Array.isArray(given) ? given : [given as T];

/**
 * The service that a rule means, whether it makes sense or not.
 * @throws Failure for the file of `proxy_auth`
 */
export const readRule = (rule: Rule, ofAll: Common): Service => {
  const mode = rule.mode === 'http' || rule.mode === 'auto' ? 'http' : 'relay';
  const listen = readListen(rule);
  const protocol = protocolsOf(rule).includes('udp') ? 'udp' : 'tcp';
  const common = commonTo(protocol, ofAll);
  const proxyOnly = rule.proxy_only ?? false;
  const balancing = rule.load_balancing ?? {};
  const relaying: Omit<Service, 'name' | 'http'> = {
    listen,
    mode,
    protocol,
    intercept: rule.intercept ?? DEFAULT_SERVICE.intercept,
    targets: readTargets(rule),
    upstreams: readUpstreams(rule),
    balance: balancing.algorithm ?? DEFAULT_SERVICE.balance,
    affinity: readAffinity(balancing),
    health: {
      threshold: balancing.health_threshold ?? DEFAULT_SERVICE.health.threshold,
      recovery: balancing.recovery_timeout ?? DEFAULT_SERVICE.health.recovery,
    },
    dnsRefresh: readDnsRefresh(rule, common.dnsRefresh),
    check: rule.check ?? null,
    proxyOnly,
    proxyProtocol: rule.proxy_protocol ?? null,
    source: rule.src ?? null,
    spoof: rule.spoof ?? false,
    ftp: readFtp(rule),
    shaping: readShaping(rule),
    tls: rule.tls ?? DEFAULT_SERVICE.tls,
    ech: rule.ech ?? DEFAULT_SERVICE.ech,
    unknown: rule.unknown ?? unknownOf(mode, proxyOnly),
    access: [...common.access, ...listOf(rule.access).map(accessList)],
    tcpWrappers: rule.tcp_wrappers === true ? common.ident : rule.tcp_wrappers || null,
    logConnections: rule.log_connections ?? DEFAULT_SERVICE.logConnections,
    backlog: rule.listen_backlog ?? common.backlog,
    keepalive: rule.keepalive ?? DEFAULT_SERVICE.keepalive,
    limits: readLimits(rule, protocol, rule.timeout ?? idleOf(mode, protocol), common),
  };
  const name = rule.name ?? nameOf({ ...DEFAULT_SERVICE, ...relaying });
  return { ...relaying, name, http: readHttp(rule, mode === 'http' ? viaOf(name, listen) : null) };
};

type Bind = Exclude<Rule['bind'], readonly unknown[]>;
type Connect = Exclude<NonNullable<Rule['connect']>, readonly unknown[]>;

export const binds = (rule: Rule): readonly Bind[] => listOf<Bind>(rule.bind);
export const connects = (rule: Rule): readonly Connect[] => listOf<Connect>(rule.connect);

const addressOf = (bind: Bind): Said<Listen> => ('address' in bind ? bind.address : bind);
export const destOf = (connect: Connect) => ('dest' in connect ? connect.dest : connect);

/** What a rule says of protocols: by where it listens, or else by where it connects to. */
export const protocolsOf = (rule: Rule): Service['protocol'][] => {
  const saidOf = (ends: readonly Said<unknown>[]) =>
    ends.flatMap(({ end, protocol }) => (isEnd(end) ? [protocol ?? 'tcp'] : []));
  const listening = saidOf(binds(rule).map(addressOf));
  return listening.length > 0 ? listening : saidOf(connects(rule).map(destOf));
};

const isEnd = (end: unknown): boolean => typeof end === 'object' && end !== null && !isUnix(end);

const readListen = (rule: Rule): Listen[] =>
  binds(rule).map((bind) => {
    const { end } = addressOf(bind);
    if (!isUnix(end)) return end;
    const common = typeof rule.mode === 'number' && !end.path.startsWith('@') ? rule.mode : null;
    return { path: end.path, mode: ('address' in bind ? bind.mode : undefined) ?? common };
  });

const readTargets = (rule: Rule): Target[] =>
  connects(rule).flatMap((connect) => {
    const to = destOf(connect).end;
    if (to === null) return [];
    return 'dest' in connect
      ? [{ to, weight: connect.weight ?? 1, source: connect.src ?? null }]
      : [{ to, weight: 1, source: null }];
  });

const readUpstreams = ({ upstreams, proxy_auth }: Rule): readonly Upstream[] => {
  const given = listOf(upstreams);
  if (proxy_auth === undefined) return given;
  const shared = readCredentials('', proxy_auth);
  return given.map((upstream) => {
    if (upstream.credentials !== null) return upstream;
    const flaw = flawOf(shared, upstream.scheme);
    if (flaw !== null) throw new UsageError(`the user name and password ${flaw} (for upstream ${label(upstream)})`);
    return { ...upstream, credentials: shared };
  });
};

const readAffinity = (balancing: NonNullable<Rule['load_balancing']>): Affinity | null =>
  balancing.affinity_ttl ? { ttl: balancing.affinity_ttl, entries: balancing.affinity_max_entries ?? CLIENTS } : null;

/** What targets say for themselves goes before the rule's: names are looked up together, as often as one of them needs. */
const readDnsRefresh = (rule: Rule, common: number | null): number | null => {
  const own = connects(rule).flatMap((connect) => ('dest' in connect ? (connect.dns_refresh ?? []) : []));
  const said = connects(rule).some((connect) => 'dest' in connect && connect.dns_refresh !== undefined);
  if (own.length > 0) return Math.min(...own);
  if (said) return null;
  return rule.dns_refresh === undefined ? common : rule.dns_refresh;
};

const readFtp = ({ ftp, ftp_ports }: Rule): Ftp | null =>
  ftp === undefined ? null : { active: ftp !== 'pasv', passive: ftp !== 'port', ports: ftp_ports ?? null };

const readShaping = ({ max_bandwidth, random_wait = 0, wait_in_out = 3, bufsize }: Rule): Shaping | null =>
  max_bandwidth === undefined && random_wait === 0 && bufsize === undefined
    ? null
    : {
        toClient: (wait_in_out & 1) !== 0,
        toUpstream: (wait_in_out & 2) !== 0,
        maxBandwidth: max_bandwidth ?? null,
        randomWait: random_wait,
        bufferSize: bufsize ?? null,
      };

/** `via` is our name where the rule says nothing. */
const readHttp = (rule: Rule, via: string | null): Service['http'] => ({
  force: rule.force ?? null,
  via: rule.via === false ? null : (rule.via ?? via),
  forwardedFor: rule.forwarded_for ?? false,
  trust: rule.trust ?? [],
  upgrade: rule.upgrade ?? DEFAULT_SERVICE.http.upgrade,
  verifyHost: rule.verify_host ?? DEFAULT_SERVICE.http.verifyHost,
});

export const accessList = ({ allow, deny }: Extract<Rule['access'], { deny?: unknown }>): AccessList => ({
  allow: allow ?? null,
  deny: deny ?? [],
});

const readLimits = (rule: Rule, protocol: Service['protocol'], idle: number, common: Common): Limits => ({
  firstByte: rule.first_byte ?? DEFAULT_LIMITS.firstByte,
  head: rule.head_timeout ?? DEFAULT_LIMITS.head,
  connect: rule.connect_timeout ?? common.connect,
  idle,
  halfClosed: rule.half_closed_timeout ?? halfClosedOf(protocol, idle),
  headBytes: rule.head_bytes ?? DEFAULT_LIMITS.headBytes,
  flows: rule.max_udp_connections ?? common.flows,
});
