import { resolve } from 'node:path';
import { bracketed } from '../address.js';
import { DEFAULT_LIMITS, type HostPort, type Limits, type Listen, type Plan, type Service } from '../plan.js';
import { parseAcl } from './acl.js';
import { type Arguments, type Option, optionName, type Request, readArguments } from './command-line.js';
import { help, version } from './help.js';
import { parseHost } from './host.js';
import { parsePort } from './ports.js';
import { quoted, UsageError } from './usage-error.js';
import { parseForcedUrl, parseInteger, parseLogLevel, parseSeconds, parseUser } from './values.js';

/** The options of transproxy 1.6 under its letters, and ours beside them under long names. */
export const OPTIONS = {
  server: { long: 'server', short: 's', takes: 'many' },
  bind: { long: 'bind', short: 'b', takes: 'one' },
  user: { long: 'user', short: 'r', takes: 'one' },
  transparent: { long: 'transparent', short: 't', takes: 'switch' },
  proxyOnly: { long: 'proxy-only', short: 'p', takes: 'switch' },
  force: { long: 'force', short: 'f', takes: 'one' },
  allow: { long: 'allow', short: 'a', takes: 'many' },
  log: { long: 'log', short: 'l', takes: 'one' },
  foreground: { long: 'foreground', short: 'd', takes: 'switch' },
  pidFile: { long: 'pid-file', short: 'P', takes: 'one' },
  workers: { long: 'workers', short: 'w', takes: 'one' },
  logLevel: { long: 'log-level', takes: 'one' },
  exitIdle: { long: 'exit-idle', takes: 'one' },
  firstByte: { long: 'first-byte', takes: 'one' },
  headTimeout: { long: 'head-timeout', takes: 'one' },
  headBytes: { long: 'head-bytes', takes: 'one' },
  connectTimeout: { long: 'connect-timeout', takes: 'one' },
  idle: { long: 'idle', takes: 'one' },
  version: { long: 'version', short: 'v', takes: 'switch' },
  help: { long: 'help', short: 'h', takes: 'switch' },
} as const satisfies Record<string, Option>;

/** RFC 9112 section 3 wants room for a request line of 8000 octets. */
const LEAST_HEAD_BYTES = 8 * 1024;
const MOST_HEAD_BYTES = 1024 * 1024;
const MOST_WORKERS = 1024;

/** Reads a command line in transproxy's dialect. Throws UsageError. */
export const parseTransproxy = (argv: readonly string[]): Request => {
  const args = readArguments(Object.values(OPTIONS), argv);
  if (isSet(args, OPTIONS.help)) return { kind: 'print', text: help };
  if (isSet(args, OPTIONS.version)) return { kind: 'print', text: version() };

  const service = readService(args);
  refuseContradictions(args, service);
  const plan: Plan = {
    services: [service],
    user: only(args, OPTIONS.user, parseUser) ?? null,
    accessLog: only(args, OPTIONS.log, absolutePath) ?? null,
    pidFile: only(args, OPTIONS.pidFile, absolutePath) ?? null,
    foreground: isSet(args, OPTIONS.foreground),
    workers: only(args, OPTIONS.workers, (what, text) => parseInteger(what, text, 1, MOST_WORKERS)) ?? null,
    logLevel: only(args, OPTIONS.logLevel, parseLogLevel) ?? 'info',
    exitIdle: only(args, OPTIONS.exitIdle, parseSeconds) ?? 60_000,
  };
  return { kind: 'plan', plan };
};

const readService = (args: Arguments): Service => {
  const mode = isSet(args, OPTIONS.transparent) ? 'relay' : 'http';
  const upstream = mode === 'relay' ? readTarget(args.positionals) : readProxy(args.positionals);
  const to = upstream ? `${bracketed(upstream.host)}:${upstream.port}` : 'original destination';
  const allow = all(args, OPTIONS.allow, parseAcl);
  return {
    name: `${mode} to ${to}`,
    listen: readListen(args),
    mode,
    upstream,
    proxyOnly: isSet(args, OPTIONS.proxyOnly),
    force: only(args, OPTIONS.force, parseForcedUrl) ?? null,
    allow: allow.length > 0 ? allow : null,
    limits: readLimits(args),
  };
};

const readProxy = ([host, port, extra]: readonly string[]): HostPort => {
  if (host === undefined) throw new UsageError('proxyhost and proxyport are missing');
  if (port === undefined) throw new UsageError(`proxyport is missing behind proxyhost ${quoted(host)}`);
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)} behind proxyhost and proxyport`);
  return { host: parseHost('proxyhost', host), port: parsePort('proxyport', port) };
};

const readTarget = ([host, port, extra]: readonly string[]): HostPort | null => {
  if (host === undefined) return null;
  const option = optionName(OPTIONS.transparent);
  if (port === undefined) throw new UsageError(`${option}: PORT is missing behind HOST ${quoted(host)}`);
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)} behind ${option} HOST PORT`);
  return { host: parseHost(`${option}: HOST`, host), port: parsePort(`${option}: PORT`, port) };
};

const readListen = (args: Arguments): Listen[] => {
  const host = only(args, OPTIONS.bind, parseHost) ?? null;
  const ports = all(args, OPTIONS.server, parsePort);
  const twice = ports.find((port, i) => ports.indexOf(port) < i);
  if (twice !== undefined) throw new UsageError(`${optionName(OPTIONS.server)}: port ${twice} is given twice`);
  return ports.map((port) => ({ host, port }));
};

const readLimits = (args: Arguments): Limits => {
  const idle = only(args, OPTIONS.idle, parseSeconds) ?? DEFAULT_LIMITS.idle;
  return {
    firstByte: only(args, OPTIONS.firstByte, parseSeconds) ?? DEFAULT_LIMITS.firstByte,
    head: only(args, OPTIONS.headTimeout, parseSeconds) ?? DEFAULT_LIMITS.head,
    connect: only(args, OPTIONS.connectTimeout, parseSeconds) ?? DEFAULT_LIMITS.connect,
    idle,
    halfClosed: idle,
    headBytes:
      only(args, OPTIONS.headBytes, (what, text) => parseInteger(what, text, LEAST_HEAD_BYTES, MOST_HEAD_BYTES)) ??
      DEFAULT_LIMITS.headBytes,
  };
};

const refuseContradictions = (args: Arguments, { listen, mode, upstream }: Service): void => {
  const refuse = (option: Option, why: string) => {
    if (isSet(args, option)) throw new UsageError(`${optionName(option)} ${why}`);
  };
  if (listen.length === 0) refuse(OPTIONS.bind, `needs ${optionName(OPTIONS.server)}`);
  else refuse(OPTIONS.exitIdle, `is for sockets of inetd or systemd, not for ${optionName(OPTIONS.server)}`);

  if (mode === 'http') return;
  const relay = optionName(OPTIONS.transparent);
  if (upstream === null) refuse(OPTIONS.proxyOnly, `contradicts ${relay} without HOST PORT, which has no proxy`);
  for (const option of [OPTIONS.force, OPTIONS.firstByte, OPTIONS.headTimeout, OPTIONS.headBytes]) {
    refuse(option, `is for HTTP, which ${relay} doesn't look at`);
  }
};

const isSet = ({ switches, values }: Arguments, { long }: Option): boolean => switches.has(long) || values.has(long);

type Parse<T> = (what: string, text: string) => T;

const all = <T>({ values }: Arguments, option: Option, parse: Parse<T>): T[] =>
  (values.get(option.long) ?? []).map((text) => parse(optionName(option), text));

const only = <T>(args: Arguments, option: Option, parse: Parse<T>): T | undefined => all(args, option, parse)[0];

const absolutePath: Parse<string> = (_, text) => resolve(text);
