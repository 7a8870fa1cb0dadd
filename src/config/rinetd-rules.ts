import { formatEnd } from '../address.js';
import { Failure } from '../failure.js';
import {
  type AccessList,
  type Affinity,
  DEFAULT_LIMITS,
  DEFAULT_SERVICE,
  type Health,
  type HostPort,
  isUnix,
  type Limits,
  type Listen,
  type Service,
  targetTo,
  type UnixAddress,
  type Upstream,
} from '../plan.js';
import { type Arguments, isSet, type Option, only } from './command-line.js';
import { commonTo } from './common.js';
import { parseHost } from './host.js';
import { parsePort } from './ports.js';
import type { Problems } from './problems.js';
import type { Located } from './rinetd-files.js';
import type { End, Statement, Word } from './rinetd-lines.js';
import { Properties, WORDS } from './rinetd-words.js';
import { readServing, readUpstreams, refuseContradictions } from './service.js';
import { labels } from './service-name.js';
import { readUnix } from './unix.js';
import { quoted, UsageError } from './usage-error.js';
import { parseInteger, parseName, parseOneOf, parseSeconds, parseTimeout } from './values.js';

/** rinetd's own. */
export const UDP_IDLE = 72_000;
const MOST_MODE = 0o7777;
export const MOST_BACKLOG = 65_535;
export const MOST_FLOWS = 1_000_000;
export const MOST_FAILURES = 1000;
export const MOST_CLIENTS = 1_000_000;
export const CLIENTS = 10_000;

/** What the file says for all of its rules, where a rule says nothing. Times in milliseconds. */
export interface Common {
  readonly connect: number;
  /** null: never. */
  readonly dnsRefresh: number | null;
  readonly backlog: number | null;
  readonly flows: number;
}

export const parseBacklog = (what: string, text: string): number => parseInteger(what, text, 1, MOST_BACKLOG);
export const parseFlows = (what: string, text: string): number => parseInteger(what, text, 1, MOST_FLOWS);

/** Seconds as milliseconds, or 0 for never. */
export const parseInterval = (what: string, text: string): number | null => {
  const interval = parseTimeout(what, text);
  return Number.isFinite(interval) ? interval : null;
};

type Rule = Extract<Statement, { kind: 'rule' }>;

export interface Context {
  readonly common: Common;
  readonly access: readonly AccessList[];
  /** Our name for TCP wrappers. */
  readonly ident: string;
  readonly problems: Problems;
}

/** The service that a rule means. null: `problems` was told why it means none. */
export const readRule = (rule: Rule, at: Located['at'], context: Context): Service | null => {
  const { problems } = context;
  const attempt = <T>(word: Word, read: () => T): T | null => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      problems.error(at(word), error.message);
      return null;
    }
  };
  const { bind, connect } = rule;
  const before = problems.count;
  const protocol = readProtocol(rule, at, problems);
  const portOf = (what: string, { port }: End): number =>
    port === null ? 0 : (attempt(port, () => parsePort(what, port.text, protocol)) ?? 0);
  const [listenPort, port] = [portOf('BINDPORT', bind), portOf('CONNECTPORT', connect)];
  const listen = attempt(bind.address, () => readListen(bind.address.text, listenPort));
  const far = attempt(connect.address, () => readFar(connect.address.text, port));
  const properties = new Properties(rule.properties, at, problems);
  const mode = properties.read((args) => only(args, WORDS.mode, parseOneOf('relay', 'http'))) ?? 'relay';
  if (listen === null || far === null) return null;

  const ends: Ends = { protocol, mode, listen, to: far === ORIGINAL ? null : far };
  const build = (args: Arguments): Service => readService(args, ends, context);
  const service = attempt(bind.address, () => properties.read(build));
  // What contradicts a mistake is none of its own.
  if (service === null || problems.count > before) return null;
  refuseMisplaced(properties, ends);
  attempt(bind.address, () =>
    properties.read((args) => {
      const without = build(args);
      refuseContradictions(args, WORDS, without, { relay: 'mode=relay', target: 'CONNECTADDRESS' });
      refuseMore(args, without);
    }),
  );
  const flaw = flawOf(service, ends);
  if (flaw !== null) problems.error(at(connect.address), flaw);
  return problems.count > before ? null : service;
};

const readProtocol = ({ bind, connect }: Rule, at: Located['at'], problems: Problems): Service['protocol'] => {
  const said = bind.protocol ?? connect.protocol;
  if (bind.protocol && connect.protocol && bind.protocol.text !== connect.protocol.text) {
    const what = `/${connect.protocol.text} contradicts /${bind.protocol.text} of BINDPORT`;
    problems.error(at(connect.protocol), `${what}: nothing is relayed between the two`);
  }
  if (said?.text !== 'udp') return 'tcp';
  const [other, silent] = bind.protocol === null ? (['BINDPORT', bind] as const) : (['CONNECTPORT', connect] as const);
  if (silent.port !== null && silent.protocol === null) {
    problems.warn(at(said), `${other} is taken for udp too, where rinetd takes it for tcp`);
  }
  return 'udp';
};

const ORIGINAL = '*';

/** rinetd's short word for every address of IPv4. */
const readHost = (what: string, text: string): string => (text === '0' ? '0.0.0.0' : parseHost(what, text));

const readListen = (text: string, port: number): Listen => {
  const unix = readUnix('BINDADDRESS', text);
  if (unix !== null) return { ...unix, mode: null };
  const host = readHost('BINDADDRESS', text);
  // rinetd leaves IPV6_V6ONLY as Linux has it, off: the socket takes IPv4 too (ipv6(7)).
  return { host: host.includes(':') && /^[0:]+$/.test(host) ? null : host, port };
};

const readFar = (text: string, port: number): HostPort | UnixAddress | typeof ORIGINAL => {
  if (text === ORIGINAL) return ORIGINAL;
  return readUnix('CONNECTADDRESS', text) ?? { host: readHost('CONNECTADDRESS', text), port };
};

interface Ends {
  readonly protocol: Service['protocol'];
  readonly mode: Service['mode'];
  readonly listen: Listen;
  /** null: the original destination, or with http no more proxies than `upstream` has. */
  readonly to: HostPort | UnixAddress | null;
}

const readService = (args: Arguments, ends: Ends, { common: ofAll, access, ident }: Context): Service => {
  const { protocol, mode, to } = ends;
  const common = commonTo(protocol, ofAll);
  const proxy: Upstream | null =
    mode === 'relay' || to === null || isUnix(to) ? null : { scheme: 'http', ...to, credentials: null };
  const upstreams = readUpstreams(args, WORDS, proxy);
  const listen = withMode(ends.listen, only(args, WORDS.socketMode, parseMode) ?? null);
  const name = only(args, WORDS.name, parseName) ?? nameOf(ends, upstreams);
  // An HTTP client keeps its connection open for the next request, however long that is in coming.
  const idle = mode === 'http' ? DEFAULT_LIMITS.idle : Number.POSITIVE_INFINITY;
  const serving = readServing(args, WORDS, { mode, upstreams, ident, identity: ['rinetd', name], idle });
  const dnsRefresh = only(args, WORDS.dnsRefresh, parseInterval);
  return {
    ...serving,
    name,
    listen: [listen],
    protocol,
    targets: mode === 'http' || to === null ? [] : [targetTo(to)],
    affinity: readAffinity(args),
    health: readHealth(args),
    dnsRefresh: dnsRefresh === undefined ? common.dnsRefresh : dnsRefresh,
    // A client of a unix socket has no address that could be in a list.
    access: isUnix(listen) ? [] : access,
    backlog: only(args, WORDS.backlog, parseBacklog) ?? common.backlog,
    keepalive: only(args, WORDS.keepalive, parseOneOf('on', 'off')) !== 'off',
    limits: readLimits(args, protocol, serving.limits, common),
  };
};

const readLimits = (args: Arguments, protocol: Service['protocol'], limits: Limits, common: Common): Limits => {
  const udpTimeout = only(args, WORDS.udpTimeout, parseTimeout);
  return {
    ...limits,
    // 0 is rinetd's way to say its default.
    ...(protocol === 'udp' && { idle: Number.isFinite(udpTimeout) ? (udpTimeout as number) : UDP_IDLE }),
    connect: only(args, WORDS.connectTimeout, parseTimeout) ?? common.connect,
    flows: only(args, WORDS.flows, parseFlows) ?? common.flows,
  };
};

const readHealth = (args: Arguments): Health => ({
  threshold:
    only(args, WORDS.healthThreshold, (what, text) => parseInteger(what, text, 1, MOST_FAILURES)) ??
    DEFAULT_SERVICE.health.threshold,
  recovery: only(args, WORDS.recoveryTimeout, parseSeconds) ?? DEFAULT_SERVICE.health.recovery,
});

const readAffinity = (args: Arguments): Affinity | null => {
  const ttl = only(args, WORDS.affinityTtl, parseSeconds);
  const entries = only(args, WORDS.affinityEntries, (what, text) => parseInteger(what, text, 1, MOST_CLIENTS));
  return ttl === undefined ? null : { ttl, entries: entries ?? CLIENTS };
};

/** Permissions as chmod(1) takes them. Those beyond 0777 mean nothing to a socket. */
const parseMode = (what: string, text: string): number => {
  const mode = /^0[0-7]*$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (mode <= MOST_MODE) return mode & 0o777;
  throw new UsageError(`${what}: ${quoted(text)} is not an octal number from 0 to 07777, with a 0 in front`);
};

const withMode = (listen: Listen, mode: number | null): Listen => (isUnix(listen) ? { ...listen, mode } : listen);

const nameOf = ({ listen, protocol, mode, to }: Ends, upstreams: readonly Upstream[]): string => {
  const from = `${formatEnd(isUnix(listen) ? listen : { ...listen, host: listen.host ?? '::' })}${protocol === 'udp' ? '/udp' : ''}`;
  if (mode === 'http') return `${from} to ${labels(upstreams)}`;
  const target = to === null ? 'original destination' : formatEnd(to);
  return `${from} to ${target}${upstreams.length > 0 ? ` through ${labels(upstreams)}` : ''}`;
};

const OF_UDP: readonly Option[] = [
  WORDS.udpTimeout,
  WORDS.source,
  WORDS.spoof,
  WORDS.intercept,
  WORDS.proxyProtocol,
  WORDS.balance,
  WORDS.dnsRefresh,
  WORDS.mode,
  WORDS.name,
  WORDS.flows,
  WORDS.healthThreshold,
  WORDS.recoveryTimeout,
  WORDS.affinityTtl,
  WORDS.affinityEntries,
];

/** rinetd and its kin take these for both protocols. */
const NOTHING_TO_UDP: readonly Option[] = [WORDS.keepalive, WORDS.connectTimeout, WORDS.backlog];

/** Tells of what is no matter of such ends. */
const refuseMisplaced = (properties: Properties, { protocol, listen }: Ends): void => {
  if (protocol === 'udp') {
    properties.warn(NOTHING_TO_UDP, 'has no effect on udp');
    properties.refuse((option) => !OF_UDP.includes(option) && !NOTHING_TO_UDP.includes(option), 'is for tcp');
  } else {
    properties.warn(
      [WORDS.udpTimeout],
      'has no effect on tcp, as with rinetd: what ends idle connections is tcp-timeout',
    );
    properties.refuse((option) => option === WORDS.flows, 'is for udp');
  }
  if (!isUnix(listen) || listen.path.startsWith('@')) {
    properties.refuse((option) => option === WORDS.socketMode, 'with a number is for unix:/PATH as BINDADDRESS');
  }
};

/** Throws UsageError for contradictions of what only this dialect has. */
const refuseMore = (args: Arguments, { protocol, affinity, proxyProtocol }: Service): void => {
  if (affinity === null && isSet(args, WORDS.affinityEntries)) {
    throw new UsageError('affinity-max-entries needs affinity-ttl');
  }
  if (protocol === 'udp' && proxyProtocol === 'v1') throw new UsageError('proxy-protocol v1 is for tcp');
};

/** Why connections could go nowhere. */
const flawOf = ({ protocol, mode, upstreams, targets, intercept }: Service, { listen, to }: Ends): string | null => {
  if (protocol === 'udp' && mode === 'http') return 'mode=http is for tcp';
  if (protocol === 'udp' && (isUnix(listen) || (to !== null && isUnix(to)))) return 'a unix socket is for tcp';
  if (mode === 'http') {
    if (to !== null && isUnix(to)) return 'mode=http needs an HTTP proxy, which a unix socket can not be';
    if (upstreams.some(({ scheme }) => scheme === 'http')) return null;
    return 'mode=http needs an HTTP proxy: CONNECTADDRESS CONNECTPORT, or upstream=HOST:PORT';
  }
  if (targets.length > 0) return null;
  if (isUnix(listen)) return 'connections to a unix socket have no original destination';
  const isLost = protocol === 'udp' && intercept === 'redirect';
  return isLost ? 'the original destination of udp is known with intercept=tproxy only' : null;
};
