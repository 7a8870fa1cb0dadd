import { resolve } from 'node:path';
import { formatAddress } from '../address.js';
import {
  DEFAULT_LIMITS,
  DEFAULT_PLAN,
  type HostPort,
  isUnix,
  type Listen,
  LOG_LEVELS,
  type LogLevel,
  type Plan,
  type Service,
  targetTo,
  type UnixAddress,
  type Upstream,
} from '../plan.js';
import { parseAcl } from './acl.js';
import {
  type Arguments,
  all,
  type FileRequest,
  isSet,
  only,
  optionName,
  type Request,
  readArguments,
} from './command-line.js';
import { help } from './help.js';
import { parseHost } from './host.js';
import { OPTIONS, refuseBesideFile, refuseContradictions } from './options.js';
import { parsePort } from './ports.js';
import { readServing, readUpstreams } from './service.js';
import { labels, relayName } from './service-name.js';
import { readDrain, readGivenProcess, readProcess, readTakeover } from './shared.js';
import { parseMode, readUnix } from './unix.js';
import { quoted, UsageError } from './usage-error.js';
import { parseOneOf, parseSeconds } from './values.js';
import { version } from './version.js';

/**
 * Reads a command line in transproxy's dialect, and the files that it takes values from.
 * @throws UsageError, or Failure for a file
 */
export const parseTransproxy = (argv: readonly string[]): Request | FileRequest => {
  const args = readArguments(Object.values(OPTIONS), argv);
  if (isSet(args, OPTIONS.help)) return { kind: 'print', text: help };
  if (isSet(args, OPTIONS.version)) return { kind: 'print', text: version() };

  const file = only(args, OPTIONS.confFile, (_, text) => text);
  if (file !== undefined) {
    refuseBesideFile(args);
    return { kind: 'file', path: file, said: readSaid(args), takeover: readTakeover(args) };
  }

  const ofProcess = readProcess(args, OPTIONS, DEFAULT_PLAN.ident);
  const service = readService(args, argv, ofProcess.ident);
  refuseContradictions(args, service);
  const takeover = readTakeover(args);
  const plan: Plan = {
    ...DEFAULT_PLAN,
    ...ofProcess,
    ...readDrain(args),
    services: [service],
    accessLog: only(args, OPTIONS.log, (_, text) => ({ path: resolve(text), format: 'transproxy' as const })) ?? null,
    // The next one will want to take over from this one.
    pidFile: ofProcess.pidFile ?? takeover ?? null,
    foreground: isSet(args, OPTIONS.foreground),
    logLevel: readLogLevel(args) ?? DEFAULT_PLAN.logLevel,
    exitIdle: only(args, OPTIONS.exitIdle, parseSeconds) ?? DEFAULT_PLAN.exitIdle,
  };
  return { kind: 'plan', plan, ...(takeover === undefined ? {} : { takeover }) };
};

const readSaid = (args: Arguments): Partial<Plan> => {
  const logLevel = readLogLevel(args);
  return {
    ...readGivenProcess(args, OPTIONS),
    ...readDrain(args),
    ...(isSet(args, OPTIONS.foreground) && { foreground: true }),
    ...(logLevel !== undefined && { logLevel }),
  };
};

const readLogLevel = (args: Arguments): LogLevel | undefined => only(args, OPTIONS.logLevel, parseOneOf(...LOG_LEVELS));

const readService = (args: Arguments, argv: readonly string[], ident: string): Service => {
  const mode = isSet(args, OPTIONS.transparent) ? 'relay' : 'http';
  const target = mode === 'relay' ? readTarget(args.positionals) : null;
  const upstreams = readUpstreams(args, OPTIONS, mode === 'http' ? readProxy(args.positionals) : null);
  if (mode === 'http') refuseWithoutHttpProxy(upstreams);
  const allow = all(args, OPTIONS.allow, parseAcl);
  return {
    ...readServing(args, OPTIONS, { mode, upstreams, ident, identity: argv, idle: DEFAULT_LIMITS.idle }),
    name: mode === 'http' ? `http to ${labels(upstreams)}` : relayName(target, upstreams),
    listen: readListen(args),
    targets: target === null ? [] : [targetTo(target)],
    access: allow.length > 0 ? [{ allow, deny: [] }] : [],
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

const readTarget = ([host, port, extra]: readonly string[]): HostPort | UnixAddress | null => {
  if (host === undefined) return null;
  const option = optionName(OPTIONS.transparent);
  const unix = readUnix(`${option}: HOST`, host);
  if (unix !== null && port === undefined) return unix;
  if (unix !== null) throw new UsageError(`too many arguments: ${quoted(port as string)} behind ${option} ${host}`);
  if (port === undefined) throw new UsageError(`${option}: PORT is missing behind HOST ${quoted(host)}`);
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)} behind ${option} HOST PORT`);
  return { host: parseHost(`${option}: HOST`, host), port: parsePort(`${option}: PORT`, port) };
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
  const mode = only(args, OPTIONS.socketMode, parseMode) ?? null;
  const places = all(args, OPTIONS.server, (what, text) => readUnix(what, text) ?? { port: parsePort(what, text) });
  const names = places.map((place) => (isUnix(place) ? formatAddress(place) : `port ${place.port}`));
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`${optionName(OPTIONS.server)}: ${twice} is given twice`);
  return places.map((place) => {
    if (!isUnix(place)) return { host, port: place.port };
    // A name of the abstract kind has no permissions.
    return { ...place, mode: place.path.startsWith('/') ? mode : null };
  });
};
