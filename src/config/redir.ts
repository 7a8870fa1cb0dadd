import {
  DEFAULT_LIMITS,
  DEFAULT_PLAN,
  DEFAULT_SERVICE,
  type HostPort,
  type Listen,
  type LogLevel,
  type Plan,
  type Service,
  targetTo,
} from '../plan.js';
import { type Arguments, isSet, type Option, only, optionName, type Request, readArguments } from './command-line.js';
import { parseEndpoint, parseHostPort } from './endpoint.js';
import { parseHost } from './host.js';
import { parsePort } from './ports.js';
import { help } from './redir-help.js';
import { relayName } from './service-name.js';
import {
  authenticated,
  readProcess,
  readRelaying,
  readTimeouts,
  refuseContradictions,
  refuseIn,
  SHARED,
} from './shared.js';
import { quoted, UsageError } from './usage-error.js';
import { parseOneOf } from './values.js';
import { version } from './version.js';

/** The options of redir 3.x under its letters, 2.x's names beside them, and ours under long names. */
export const OPTIONS = {
  ...SHARED,
  inetd: { long: 'inetd', short: 'i', takes: 'switch' },
  lport: { long: 'lport', takes: 'one' },
  laddr: { long: 'laddr', takes: 'one' },
  cport: { long: 'cport', takes: 'one' },
  caddr: { long: 'caddr', takes: 'one' },
  // redir's help says that this is for listening; its code connects from it, as 2.x's help said.
  source: { long: 'bind', aliases: ['bind_addr', 'source'], short: 'b', takes: 'one' },
  spoof: { long: 'transproxy', aliases: ['spoof'], short: 'p', takes: 'switch' },
  ftp: { ...SHARED.ftp, short: 'f' },
  connect: { long: 'connect', short: 'x', takes: 'one' },
  timeout: { ...SHARED.timeout, short: 't' },
  foreground: { long: 'foreground', short: 'n', takes: 'switch' },
  syslog: { ...SHARED.syslog, short: 's' },
  ident: { ...SHARED.ident, aliases: ['name'], short: 'I' },
  logLevel: { long: 'loglevel', aliases: ['log-level'], short: 'l', takes: 'one' },
  debug: { long: 'debug', takes: 'switch' },
  maxBandwidth: { ...SHARED.maxBandwidth, aliases: ['max_bandwidth'], short: 'm' },
  waitInOut: { ...SHARED.waitInOut, aliases: ['wait_in_out'], short: 'o' },
  randomWait: { ...SHARED.randomWait, aliases: ['random_wait'], short: 'w' },
  bufferSize: { ...SHARED.bufferSize, short: 'z' },
  version: { long: 'version', short: 'v', takes: 'switch' },
  help: { long: 'help', short: 'h', takes: 'switch' },
} as const satisfies Record<string, Option>;

/** 2.x's way to say SRC and DST, and with it to stay in the foreground. */
const OF_2X: readonly Option[] = [OPTIONS.lport, OPTIONS.laddr, OPTIONS.cport, OPTIONS.caddr];

/** redir connects to 0.0.0.0 where it is told no address, which the kernel takes for this. */
const NO_DST = '127.0.0.1';

/** redir's words, and ours where they differ. `none` still lets out what ends the program. */
const LEVELS: Readonly<Record<string, LogLevel>> = {
  none: 'error',
  err: 'error',
  error: 'error',
  warning: 'warn',
  warn: 'warn',
  notice: 'notice',
  info: 'info',
  debug: 'debug',
};

/**
 * Reads a command line in the dialect of redir 3.x and 2.x, and the file that it takes a password from.
 * @throws UsageError, or Failure for the file
 */
export const parseRedir = (argv: readonly string[]): Request => {
  const args = readArguments(Object.values(OPTIONS), argv);
  if (isSet(args, OPTIONS.help)) return { kind: 'print', text: help };
  if (isSet(args, OPTIONS.version)) return { kind: 'print', text: version() };

  const ofProcess = readProcess(args, OPTIONS, 'redir');
  const is2x = OF_2X.some((option) => isSet(args, option));
  const service = readService(args, is2x, ofProcess.ident);
  const refuse = refuseIn(args);
  if (isSet(args, OPTIONS.debug)) refuse(OPTIONS.logLevel, `contradicts ${optionName(OPTIONS.debug)}`);
  if (service.upstreams.length === 0) refuse(OPTIONS.proxyAuth, `needs ${optionName(OPTIONS.connect)}`);
  refuseContradictions(args, OPTIONS, service);
  const plan: Plan = {
    ...DEFAULT_PLAN,
    ...ofProcess,
    services: [service],
    // Under inetd, standard error is the connection unless someone says otherwise.
    foreground: isSet(args, OPTIONS.foreground) || (is2x && !isSet(args, OPTIONS.inetd)),
    logLevel: isSet(args, OPTIONS.debug) ? 'debug' : (only(args, OPTIONS.logLevel, parseLevel) ?? 'notice'),
  };
  return { kind: 'plan', plan };
};

const readService = (args: Arguments, is2x: boolean, ident: string): Service => {
  const { listen, destination } = is2x ? readEnds2x(args) : readEnds(args);
  const far = only(args, OPTIONS.connect, parseHostPort);
  const target = far ?? destination;
  const proxies = far === undefined ? [] : [{ scheme: 'http' as const, ...destination, credentials: null }];
  const upstreams = authenticated(args, OPTIONS, proxies);
  return {
    ...DEFAULT_SERVICE,
    ...readRelaying(args, OPTIONS, ident),
    name: relayName(target, upstreams),
    listen,
    targets: [targetTo(target)],
    upstreams,
    proxyOnly: upstreams.length > 0,
    logConnections: true,
    limits: { ...DEFAULT_LIMITS, ...readTimeouts(args, OPTIONS, Number.POSITIVE_INFINITY) },
  };
};

interface Ends {
  readonly listen: Listen[];
  readonly destination: HostPort;
}

const readEnds = (args: Arguments): Ends => {
  const given = isSet(args, OPTIONS.inetd) ? ['', ...args.positionals] : args.positionals;
  const [src, dst, extra] = given;
  if (src === undefined) throw new UsageError('[SRC]:PORT and [DST]:PORT are missing');
  if (dst === undefined) throw new UsageError(`[DST]:PORT is missing${src === '' ? '' : ` behind ${quoted(src)}`}`);
  if (extra !== undefined) {
    const inetd = isSet(args, OPTIONS.inetd) ? `: ${optionName(OPTIONS.inetd)} takes [DST]:PORT only` : '';
    throw new UsageError(`too many arguments: ${quoted(extra)} behind ${quoted(dst)}${inetd}`);
  }
  const { host, port } = parseEndpoint('[DST]:PORT', dst);
  const listen = isSet(args, OPTIONS.inetd) ? [] : [parseEndpoint('[SRC]:PORT', src)];
  return { listen, destination: { host: host ?? NO_DST, port } };
};

const readEnds2x = (args: Arguments): Ends => {
  const [extra] = args.positionals;
  if (extra !== undefined) {
    throw new UsageError(`too many arguments: ${quoted(extra)} beside ${OF_2X.map(optionName).join(', ')}`);
  }
  const port = only(args, OPTIONS.cport, parsePort);
  if (port === undefined) throw new UsageError(`${optionName(OPTIONS.cport)} is missing`);
  const destination = { host: only(args, OPTIONS.caddr, parseHost) ?? NO_DST, port };
  if (isSet(args, OPTIONS.inetd)) {
    const refuse = refuseIn(args);
    const why = `contradicts ${optionName(OPTIONS.inetd)}, which brings connections itself`;
    refuse(OPTIONS.lport, why);
    refuse(OPTIONS.laddr, why);
    return { listen: [], destination };
  }
  const lport = only(args, OPTIONS.lport, parsePort);
  if (lport === undefined) throw new UsageError(`${optionName(OPTIONS.lport)} is missing`);
  return { listen: [{ host: only(args, OPTIONS.laddr, parseHost) ?? null, port: lport }], destination };
};

const parseLevel = (what: string, text: string): LogLevel =>
  LEVELS[parseOneOf(...Object.keys(LEVELS))(what, text)] as LogLevel;
