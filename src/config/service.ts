import {
  BALANCES,
  DEFAULT_LIMITS,
  DEFAULT_SERVICE,
  type HttpSettings,
  isUnix,
  type Limits,
  PASSAGES,
  type Service,
  type Upstream,
} from '../plan.js';
import { parseAcl } from './acl.js';
import { type Arguments, all, isSet, type Option, only, optionName } from './command-line.js';
import { ownPseudonym } from './pseudonym.js';
import { label } from './service-name.js';
import {
  authenticated,
  OF_RELAYING,
  type Refuse,
  readRelaying,
  readTimeouts,
  refuseIn,
  refuseContradictions as refuseInRelaying,
} from './shared.js';
import { parseUpstream } from './upstream.js';
import { UsageError } from './usage-error.js';
import { parseForcedUrl, parseInteger, parseOneOf, parsePseudonym, parseSeconds } from './values.js';

/** RFC 9112 section 3 wants room for a request line of 8000 octets. */
export const LEAST_HEAD_BYTES = 8 * 1024;
export const MOST_HEAD_BYTES = 1024 * 1024;

/** What can be said of a service, beside where it listens and what it is a relay to. */
export const OF_SERVICE = {
  ...OF_RELAYING,
  intercept: { long: 'intercept', takes: 'one' },
  proxyOnly: { long: 'proxy-only', takes: 'switch' },
  tls: { long: 'tls', takes: 'one' },
  ech: { long: 'ech', takes: 'one' },
  unknown: { long: 'unknown', takes: 'one' },
  upstream: { long: 'upstream', takes: 'many' },
  balance: { long: 'balance', takes: 'one' },
  check: { long: 'check', takes: 'one' },
  proxyProtocol: { long: 'proxy-protocol', takes: 'one' },
  force: { long: 'force', takes: 'one' },
  upgrade: { long: 'upgrade', takes: 'one' },
  via: { long: 'via', takes: 'one' },
  noVia: { long: 'no-via', takes: 'switch' },
  forwardedFor: { long: 'forwarded-for', takes: 'switch' },
  trust: { long: 'trust', takes: 'many' },
  verifyHost: { long: 'verify-host', takes: 'one' },
  logConnections: { long: 'log-connections', takes: 'switch' },
  connectTimeout: { long: 'connect-timeout', takes: 'one' },
  firstByte: { long: 'first-byte', takes: 'one' },
  headTimeout: { long: 'head-timeout', takes: 'one' },
  headBytes: { long: 'head-bytes', takes: 'one' },
} as const satisfies Record<string, Option>;

/** These options as a dialect names them. */
export type ServiceOptions = Readonly<Record<keyof typeof OF_SERVICE, Option>>;

interface Setting {
  readonly mode: Service['mode'];
  readonly upstreams: readonly Upstream[];
  /** Our name for TCP wrappers. */
  readonly ident: string;
  /** Tells this service from all others: our name in Via is made of it. */
  readonly identity: readonly string[];
  /** Milliseconds, where nothing is said. */
  readonly idle: number;
}

export const readServing = (
  args: Arguments,
  options: ServiceOptions,
  { mode, upstreams, ident, identity, idle }: Setting,
): Omit<Service, 'name' | 'listen'> => {
  const proxyOnly = isSet(args, options.proxyOnly);
  return {
    ...DEFAULT_SERVICE,
    ...readRelaying(args, options, ident),
    mode,
    intercept: only(args, options.intercept, parseOneOf('redirect', 'tproxy')) ?? 'redirect',
    upstreams,
    balance: only(args, options.balance, parseOneOf(...BALANCES)) ?? 'round-robin',
    check: only(args, options.check, parseSeconds) ?? null,
    proxyOnly,
    proxyProtocol: only(args, options.proxyProtocol, parseOneOf('v1', 'v2')) ?? null,
    tls: only(args, options.tls, parseOneOf(...PASSAGES)) ?? 'connect',
    ech: only(args, options.ech, parseOneOf('address', 'name')) ?? 'address',
    unknown:
      only(args, options.unknown, parseOneOf(...PASSAGES)) ?? (mode === 'http' && proxyOnly ? 'connect' : 'direct'),
    logConnections: isSet(args, options.logConnections),
    http: readHttpSettings(args, options, mode === 'http' ? identity : null),
    limits: readLimits(args, options, idle),
  };
};

/** All upstreams, `first` before the others. */
export const readUpstreams = (args: Arguments, options: ServiceOptions, first: Upstream | null): Upstream[] => {
  const given = all(args, options.upstream, parseUpstream);
  const upstreams = first === null ? given : [first, ...given];
  const known = upstreams.map(label);
  const twice = known.find((name, i) => known.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`the upstream ${twice} is given twice`);
  return authenticated(args, options, upstreams);
};

/** Without an `identity` there is no HTTP, and no Via. */
const readHttpSettings = (
  args: Arguments,
  options: ServiceOptions,
  identity: readonly string[] | null,
): HttpSettings => ({
  force: only(args, options.force, parseForcedUrl) ?? null,
  via:
    identity === null || isSet(args, options.noVia)
      ? null
      : (only(args, options.via, parsePseudonym) ?? ownPseudonym(identity)),
  forwardedFor: isSet(args, options.forwardedFor),
  trust: all(args, options.trust, parseAcl),
  upgrade: only(args, options.upgrade, parseOneOf('connect', 'pass')) ?? 'connect',
  verifyHost: only(args, options.verifyHost, parseOneOf('address', 'strict')) ?? 'off',
});

const readLimits = (args: Arguments, options: ServiceOptions, idle: number): Limits => ({
  ...DEFAULT_LIMITS,
  ...readTimeouts(args, options, idle),
  firstByte: only(args, options.firstByte, parseSeconds) ?? DEFAULT_LIMITS.firstByte,
  head: only(args, options.headTimeout, parseSeconds) ?? DEFAULT_LIMITS.head,
  connect: only(args, options.connectTimeout, parseSeconds) ?? DEFAULT_LIMITS.connect,
  headBytes:
    only(args, options.headBytes, (what, text) => parseInteger(what, text, LEAST_HEAD_BYTES, MOST_HEAD_BYTES)) ??
    DEFAULT_LIMITS.headBytes,
});

/** Options that say something about HTTP, or about telling it from other protocols. */
const OF_HTTP = [
  'force',
  'tls',
  'ech',
  'unknown',
  'upgrade',
  'via',
  'noVia',
  'forwardedFor',
  'trust',
  'verifyHost',
  'firstByte',
  'headTimeout',
  'headBytes',
] as const satisfies readonly (keyof ServiceOptions)[];

/** Options that ask who the client is, or what it meant to reach, by its address. */
const OF_ADDRESSED_CLIENTS = [
  'intercept',
  'trust',
  'spoof',
  'ftp',
] as const satisfies readonly (keyof ServiceOptions)[];
/** And those that ask for the target's. */
const OF_ADDRESSED_TARGETS = ['source', 'spoof', 'ftp'] as const satisfies readonly (keyof ServiceOptions)[];

/** What makes nothing but a relay of a service in a dialect, and what gives it a target. */
interface Wording {
  readonly relay: string;
  readonly target: string;
}

/** Throws UsageError for options that have no effect beside the others, or take back what another says. */
export const refuseContradictions = (
  args: Arguments,
  options: ServiceOptions,
  service: Service,
  wording: Wording,
): void => {
  const refuse = refuseIn(args);
  refuseWithUnix(options, service, refuse);
  if (service.mode === 'http') refuseInHttp(options, service, refuse, wording);
  else refuseInRelay(options, service, refuse, wording);
  refuseInRelaying(args, options, service);
};

const refuseWithUnix = (options: ServiceOptions, { listen, targets }: Service, refuse: Refuse): void => {
  if (listen.length > 0 && listen.every(isUnix)) {
    for (const name of OF_ADDRESSED_CLIENTS)
      refuse(options[name], 'is for clients with an address, not for those of unix:');
  }
  if (!targets.some(({ to }) => isUnix(to))) return;
  for (const name of OF_ADDRESSED_TARGETS) refuse(options[name], 'is for targets with an address, not for unix:');
  refuse(options.upstream, 'can not go to unix:, which is a socket of this host');
};

const refuseInHttp = (
  options: ServiceOptions,
  { proxyOnly, tls, unknown, http }: Service,
  refuse: Refuse,
  { relay }: Wording,
): void => {
  refuse(options.ftp, `needs ${relay}`);
  const past = `direct contradicts ${optionName(options.proxyOnly)}, which lets nothing past the proxy`;
  if (proxyOnly && tls === 'direct') refuse(options.tls, past);
  if (proxyOnly && unknown === 'direct') refuse(options.unknown, past);
  if (http.via === null) refuse(options.via, `contradicts ${optionName(options.noVia)}`);
  if (!http.forwardedFor) refuse(options.trust, `needs ${optionName(options.forwardedFor)}`);
};

const refuseInRelay = (
  options: ServiceOptions,
  { upstreams, targets, balance }: Service,
  refuse: Refuse,
  { relay, target }: Wording,
): void => {
  for (const name of OF_HTTP) refuse(options[name], `is for HTTP, which ${relay} doesn't look at`);
  if (balance === 'url-hash') refuse(options.balance, `url-hash is for HTTP, which ${relay} doesn't look at`);
  if (upstreams.length > 0) return;
  const upstream = optionName(options.upstream);
  refuse(options.proxyAuth, `needs ${upstream} beside ${relay}`);
  if (targets.length > 0) return;
  const why = `needs ${target} or ${upstream} beside ${relay}: an origin has one address`;
  for (const option of [options.balance, options.check]) refuse(option, why);
  refuse(options.proxyOnly, `contradicts ${relay} without ${target} or ${upstream}, which has no proxy`);
  refuse(options.proxyProtocol, `needs ${target} or ${upstream} beside ${relay}: an origin does not expect it`);
};
