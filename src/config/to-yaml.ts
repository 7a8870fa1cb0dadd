import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { bracketed, type Cidr } from '../address.js';
import {
  type AccessList,
  type ClientPattern,
  DEFAULT_LIMITS,
  DEFAULT_PLAN,
  DEFAULT_SERVICE,
  type HostPort,
  isUnix,
  type Listen,
  type Plan,
  type Service,
  type Target,
  type UnixAddress,
  type Upstream,
} from '../plan.js';
import { CLIENTS } from './rinetd-rules.js';
import { COMMON, halfClosedOf, idleOf, unknownOf, viaOf } from './yaml-rule.js';
import { misplaced } from './yaml-sense.js';
import { algorithmName, ORIGINAL, type RuleKey } from './yaml-words.js';

/** What a file says, before it is text; undefined is what it doesn't say. */
type Words<K extends string = string> = Readonly<Partial<Record<K, unknown>>>;

interface Style {
  /** With what a file needn't say, and without passwords: for reading. */
  readonly whole: boolean;
}

/**
 * A plan as a file that means the same, passwords of upstreams among it. `whole` is for reading, and not for a program:
 * it has all that the file might leave out, and no passwords.
 */
export const toYaml = (plan: Plan, { whole }: Style): string => {
  const shared = sharedAccess(plan.services);
  const global = { access: shared === null ? undefined : accessWords(shared), ...globalWords(plan, whole) };
  const rules = plan.services.map((service) => ruleWords(service, plan.ident, shared === null ? 0 : 1, whole));
  const words = { ...(isEmpty(global) ? {} : { global }), rules };
  // To readers of YAML 1.1, off would be false.
  return stringify(words, { lineWidth: 0, aliasDuplicateObjects: false, compat: 'yaml-1.1' });
};

const isEmpty = (words: Words): boolean => Object.values(words).every((value) => value === undefined);

/** Leaves out what says nothing that would not be so without it. */
const unless = <T>(whole: boolean, value: T, otherwise: T): T | undefined =>
  !whole && isDeepStrictEqual(value, otherwise) ? undefined : value;

/** null: there is no word for it, and none is needed. */
const orNothing = <T>(value: T | null): T | undefined => value ?? undefined;

const seconds = (milliseconds: number): number => (Number.isFinite(milliseconds) ? milliseconds / 1000 : 0);
const interval = (milliseconds: number | null): number => (milliseconds ?? 0) / 1000;

const globalWords = (plan: Plan, whole: boolean): Words => {
  const { accessLog, status } = plan;
  const isGiven = plan.services.some(({ listen }) => listen.length === 0);
  return {
    user: orNothing(plan.user),
    pid_file: orNothing(plan.pidFile),
    foreground: unless(whole, plan.foreground, DEFAULT_PLAN.foreground),
    workers: orNothing(plan.workers),
    drain: unless(whole, seconds(plan.drain), seconds(DEFAULT_PLAN.drain)),
    exit_idle: isGiven ? unless(whole, seconds(plan.exitIdle), seconds(DEFAULT_PLAN.exitIdle)) : undefined,
    log_file: orNothing(accessLog?.path),
    log_format: orNothing(accessLog?.format),
    log_level: unless(whole, plan.logLevel, DEFAULT_PLAN.logLevel),
    log_to: orNothing(plan.logTo),
    ident: unless(whole, plan.ident, DEFAULT_PLAN.ident),
    status:
      status === null ? undefined : { file: status.path, interval: seconds(status.interval), format: status.format },
    stats_log_interval: unless(whole, interval(plan.statsInterval), interval(DEFAULT_PLAN.statsInterval)),
  };
};

/** `above`: how many of its access lists stand above the rules. */
const ruleWords = (service: Service, ident: string, above: number, whole: boolean): Words => {
  const { mode, protocol, listen, upstreams, proxyOnly, ftp, shaping, http, limits } = service;
  const lists = service.access.slice(above).map(accessWords);
  const words: Readonly<Record<Exclude<RuleKey, 'proxy_auth'>, unknown>> = {
    name: service.name,
    bind: oneOrAll(listen.map((at) => bindWords(at, protocol))),
    mode: unless(whole, mode, 'relay'),
    connect: oneOrAll(connectWords(service)),
    upstreams: upstreams.length === 0 ? undefined : upstreams.map((upstream) => upstreamUrl(upstream, whole)),
    proxy_only: unless(whole, proxyOnly, false),
    proxy_protocol: orNothing(service.proxyProtocol),
    check: service.check === null ? undefined : seconds(service.check),
    load_balancing: balancingWords(service, whole),
    dns_refresh: unless(whole, interval(service.dnsRefresh), interval(COMMON.dnsRefresh)),
    intercept: unless(whole, service.intercept, DEFAULT_SERVICE.intercept),
    src: orNothing(service.source),
    spoof: unless(whole, service.spoof, false),
    access: lists.length === 0 ? undefined : oneOrAll(lists),
    tcp_wrappers: unless(whole, service.tcpWrappers === ident ? true : (service.tcpWrappers ?? false), false),
    log_connections: unless(whole, service.logConnections, DEFAULT_SERVICE.logConnections),
    tls: unless(whole, service.tls, DEFAULT_SERVICE.tls),
    ech: unless(whole, service.ech, DEFAULT_SERVICE.ech),
    unknown: unless(whole, service.unknown, unknownOf(mode, proxyOnly)),
    force: http.force?.url,
    via: unless(whole, http.via, viaOf(service.name, listen)) === undefined ? undefined : (http.via ?? false),
    forwarded_for: unless(whole, http.forwardedFor, false),
    trust: http.trust.length === 0 ? undefined : http.trust.map(network),
    upgrade: unless(whole, http.upgrade, DEFAULT_SERVICE.http.upgrade),
    verify_host: unless(whole, http.verifyHost, DEFAULT_SERVICE.http.verifyHost),
    ftp: ftp === null ? undefined : ftp.active && ftp.passive ? 'both' : ftp.active ? 'port' : 'pasv',
    ftp_ports: ftp?.ports ? `${ftp.ports.low}-${ftp.ports.high}` : undefined,
    max_bandwidth: orNothing(shaping?.maxBandwidth),
    random_wait: shaping?.randomWait || undefined,
    wait_in_out:
      shaping === null ? undefined : unless(whole, (shaping.toClient ? 1 : 0) + (shaping.toUpstream ? 2 : 0), 3),
    bufsize: orNothing(shaping?.bufferSize),
    timeout: unless(whole, seconds(limits.idle), seconds(idleOf(mode, protocol))),
    half_closed_timeout: unless(whole, seconds(limits.halfClosed), seconds(halfClosedOf(protocol, limits.idle))),
    connect_timeout: unless(whole && protocol === 'tcp', seconds(limits.connect), seconds(COMMON.connect)),
    first_byte: unless(whole, seconds(limits.firstByte), seconds(DEFAULT_LIMITS.firstByte)),
    head_timeout: unless(whole, seconds(limits.head), seconds(DEFAULT_LIMITS.head)),
    head_bytes: unless(whole, limits.headBytes, DEFAULT_LIMITS.headBytes),
    max_udp_connections: unless(whole && protocol === 'udp', limits.flows, COMMON.flows),
    listen_backlog: orNothing(service.backlog),
    keepalive: unless(whole && protocol === 'tcp', service.keepalive, DEFAULT_SERVICE.keepalive),
  };
  return Object.fromEntries(Object.entries(words).filter(([key]) => misplaced(key as RuleKey, service) === null));
};

const oneOrAll = <T>(all: readonly T[]): T | readonly T[] => (all.length === 1 ? (all[0] as T) : all);

const suffix = (protocol: Service['protocol']): string => (protocol === 'udp' ? '/udp' : '');

const bindWords = (at: Listen, protocol: Service['protocol']): unknown => {
  if (!isUnix(at)) return `${at.host === null ? '' : bracketed(at.host)}:${at.port}${suffix(protocol)}`;
  const address = `unix:${at.path}`;
  return at.mode === null ? address : { address, mode: `0${at.mode.toString(8)}` };
};

/** What the sockets that are given are of is for the targets to say. */
const connectWords = ({ targets, protocol, listen }: Service): readonly unknown[] =>
  targets.length === 0
    ? [ORIGINAL]
    : targets.map((target) => targetWords(target, listen.length === 0 ? suffix(protocol) : ''));

const targetWords = ({ to, weight, source }: Target, protocol: string): unknown => {
  const dest = `${endText(to)}${isUnix(to) ? '' : protocol}`;
  return weight === 1 && source === null ? dest : { dest, weight, src: orNothing(source) };
};

const endText = (end: HostPort | UnixAddress): string =>
  isUnix(end) ? `unix:${end.path}` : `${bracketed(end.host)}:${end.port}`;

const upstreamUrl = (upstream: Upstream, whole: boolean): string => {
  const { scheme, credentials } = upstream;
  const secret = credentials === null ? '' : whole ? '***' : encodeURIComponent(credentials.password);
  const userinfo = credentials === null ? '' : `${encodeURIComponent(credentials.user)}:${secret}@`;
  return `${scheme}://${userinfo}${endText(upstream)}`;
};

const balancingWords = ({ balance, health, affinity }: Service, whole: boolean): Words | undefined => {
  const words = {
    algorithm: unless(whole, algorithmName(balance), algorithmName(DEFAULT_SERVICE.balance)),
    health_threshold: unless(whole, health.threshold, DEFAULT_SERVICE.health.threshold),
    recovery_timeout: health.recovery === null ? undefined : seconds(health.recovery),
    affinity_ttl: affinity === null ? undefined : seconds(affinity.ttl),
    affinity_max_entries: affinity === null ? undefined : unless(whole, affinity.entries, CLIENTS),
  };
  return isEmpty(words) ? undefined : words;
};

/** The list that every service's lists begin with; null for a service alone, where it belongs to that. */
const sharedAccess = (services: readonly Service[]): AccessList | null => {
  const first = services[0]?.access[0];
  if (services.length < 2 || first === undefined) return null;
  return services.every(({ access }) => isDeepStrictEqual(access[0], first)) ? first : null;
};

const accessWords = ({ allow, deny }: AccessList): Words => ({
  allow: allow?.map(pattern),
  deny: deny.length === 0 ? undefined : deny.map(pattern),
});

const pattern = (client: ClientPattern): string => ('glob' in client ? client.glob : network(client));

/** An address alone is one that stands alone, which to some readers a whole network of zeros at its end is not. */
const network = ({ ip, prefix }: Cidr): string => `${ip}/${prefix}`;
