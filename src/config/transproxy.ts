import { resolve } from 'node:path';
import {
  BALANCES,
  DEFAULT_LIMITS,
  DEFAULT_PLAN,
  DEFAULT_SERVICE,
  type HostPort,
  type HttpSettings,
  type Limits,
  type Listen,
  LOG_LEVELS,
  PASSAGES,
  type Plan,
  type Service,
  targetTo,
  type Upstream,
} from '../plan.js';
import { parseAcl } from './acl.js';
import { type Arguments, all, isSet, only, optionName, type Request, readArguments } from './command-line.js';
import { help } from './help.js';
import { parseHost } from './host.js';
import { OPTIONS, refuseContradictions } from './options.js';
import { parsePort } from './ports.js';
import { ownPseudonym } from './pseudonym.js';
import { label, labels, relayName } from './service-name.js';
import { absolutePath, authenticated, readProcess, readRelaying, readTimeouts } from './shared.js';
import { parseUpstream } from './upstream.js';
import { quoted, UsageError } from './usage-error.js';
import { parseDrain, parseForcedUrl, parseInteger, parseOneOf, parsePseudonym, parseSeconds } from './values.js';
import { version } from './version.js';

/** RFC 9112 section 3 wants room for a request line of 8000 octets. */
const LEAST_HEAD_BYTES = 8 * 1024;
const MOST_HEAD_BYTES = 1024 * 1024;

/**
 * Reads a command line in transproxy's dialect, and the files that it takes values from.
 * @throws UsageError, or Failure for a file
 */
export const parseTransproxy = (argv: readonly string[]): Request => {
  const args = readArguments(Object.values(OPTIONS), argv);
  if (isSet(args, OPTIONS.help)) return { kind: 'print', text: help };
  if (isSet(args, OPTIONS.version)) return { kind: 'print', text: version() };

  const ofProcess = readProcess(args, OPTIONS, DEFAULT_PLAN.ident);
  const service = readService(args, argv, ofProcess.ident);
  refuseContradictions(args, service);
  const takeover = only(args, OPTIONS.takeover, absolutePath);
  const plan: Plan = {
    ...DEFAULT_PLAN,
    ...ofProcess,
    services: [service],
    accessLog: only(args, OPTIONS.log, (_, text) => ({ path: resolve(text), format: 'transproxy' as const })) ?? null,
    drain: only(args, OPTIONS.drain, parseDrain) ?? DEFAULT_PLAN.drain,
    // The next one will want to take over from this one.
    pidFile: ofProcess.pidFile ?? takeover ?? null,
    foreground: isSet(args, OPTIONS.foreground),
    logLevel: only(args, OPTIONS.logLevel, parseOneOf(...LOG_LEVELS)) ?? DEFAULT_PLAN.logLevel,
    exitIdle: only(args, OPTIONS.exitIdle, parseSeconds) ?? DEFAULT_PLAN.exitIdle,
  };
  return { kind: 'plan', plan, ...(takeover === undefined ? {} : { takeover }) };
};

const readService = (args: Arguments, argv: readonly string[], ident: string): Service => {
  const mode = isSet(args, OPTIONS.transparent) ? 'relay' : 'http';
  const target = mode === 'relay' ? readTarget(args.positionals) : null;
  const upstreams = readUpstreams(args, mode === 'http' ? readProxy(args.positionals) : null);
  if (mode === 'http') refuseWithoutHttpProxy(upstreams);
  const proxyOnly = isSet(args, OPTIONS.proxyOnly);
  const allow = all(args, OPTIONS.allow, parseAcl);
  return {
    ...DEFAULT_SERVICE,
    ...readRelaying(args, OPTIONS, ident),
    name: mode === 'http' ? `http to ${labels(upstreams)}` : relayName(target, upstreams),
    listen: readListen(args),
    mode,
    intercept: only(args, OPTIONS.intercept, parseOneOf('redirect', 'tproxy')) ?? 'redirect',
    targets: target === null ? [] : [targetTo(target)],
    upstreams,
    balance: only(args, OPTIONS.balance, parseOneOf(...BALANCES)) ?? 'round-robin',
    check: only(args, OPTIONS.check, parseSeconds) ?? null,
    proxyOnly,
    proxyProtocol: only(args, OPTIONS.proxyProtocol, parseOneOf('v1', 'v2')) ?? null,
    tls: only(args, OPTIONS.tls, parseOneOf(...PASSAGES)) ?? 'connect',
    ech: only(args, OPTIONS.ech, parseOneOf('address', 'name')) ?? 'address',
    unknown: only(args, OPTIONS.unknown, parseOneOf(...PASSAGES)) ?? (proxyOnly ? 'connect' : 'direct'),
    http: readHttpSettings(args, mode === 'http' ? argv : null),
    access: allow.length > 0 ? [{ allow, deny: [] }] : [],
    limits: readLimits(args),
  };
};

const readProxy = ([host, port, extra]: readonly string[]): Upstream | null => {
  if (host === undefined) return null;
  if (port === undefined) throw new UsageError(`proxyport is missing behind proxyhost ${quoted(host)}`);
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)} behind proxyhost and proxyport`);
  return {
    scheme: 'http',
    host: parseHost('proxyhost', host),
    port: parsePort('proxyport', port),
    credentials: null,
  };
};

const readTarget = ([host, port, extra]: readonly string[]): HostPort | null => {
  if (host === undefined) return null;
  const option = optionName(OPTIONS.transparent);
  if (port === undefined) throw new UsageError(`${option}: PORT is missing behind HOST ${quoted(host)}`);
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)} behind ${option} HOST PORT`);
  return { host: parseHost(`${option}: HOST`, host), port: parsePort(`${option}: PORT`, port) };
};

/** All upstreams, `first` before the others. */
const readUpstreams = (args: Arguments, first: Upstream | null): Upstream[] => {
  const given = all(args, OPTIONS.upstream, parseUpstream);
  const upstreams = first === null ? given : [first, ...given];
  const known = upstreams.map(label);
  const twice = known.find((name, i) => known.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`the upstream ${twice} is given twice`);
  return authenticated(args, OPTIONS, upstreams);
};

const refuseWithoutHttpProxy = (upstreams: readonly Upstream[]): void => {
  if (upstreams.some(({ scheme }) => scheme === 'http')) return;
  if (upstreams.length === 0) throw new UsageError('proxyhost and proxyport are missing');
  throw new UsageError(
    'HTTP requests need an HTTP proxy, as proxyhost and proxyport or --upstream HOST:PORT: ' +
      'socks5:// takes other connections only',
  );
};

const readListen = (args: Arguments): Listen[] => {
  const host = only(args, OPTIONS.bind, parseHost) ?? null;
  const ports = all(args, OPTIONS.server, parsePort);
  const twice = ports.find((port, i) => ports.indexOf(port) < i);
  if (twice !== undefined) throw new UsageError(`${optionName(OPTIONS.server)}: port ${twice} is given twice`);
  return ports.map((port) => ({ host, port }));
};

/** `argv` makes our name in Via; null where there is no HTTP. */
const readHttpSettings = (args: Arguments, argv: readonly string[] | null): HttpSettings => ({
  force: only(args, OPTIONS.force, parseForcedUrl) ?? null,
  via:
    argv === null || isSet(args, OPTIONS.noVia)
      ? null
      : (only(args, OPTIONS.via, parsePseudonym) ?? ownPseudonym(argv)),
  forwardedFor: isSet(args, OPTIONS.forwardedFor),
  trust: all(args, OPTIONS.trust, parseAcl),
  upgrade: only(args, OPTIONS.upgrade, parseOneOf('connect', 'pass')) ?? 'connect',
  verifyHost: only(args, OPTIONS.verifyHost, parseOneOf('address', 'strict')) ?? 'off',
});

const readLimits = (args: Arguments): Limits => ({
  ...DEFAULT_LIMITS,
  ...readTimeouts(args, OPTIONS, DEFAULT_LIMITS.idle),
  firstByte: only(args, OPTIONS.firstByte, parseSeconds) ?? DEFAULT_LIMITS.firstByte,
  head: only(args, OPTIONS.headTimeout, parseSeconds) ?? DEFAULT_LIMITS.head,
  connect: only(args, OPTIONS.connectTimeout, parseSeconds) ?? DEFAULT_LIMITS.connect,
  headBytes:
    only(args, OPTIONS.headBytes, (what, text) => parseInteger(what, text, LEAST_HEAD_BYTES, MOST_HEAD_BYTES)) ??
    DEFAULT_LIMITS.headBytes,
});
