import { resolve } from 'node:path';
import { isAddress, isIPv4 } from '../address.js';
import { EX, Failure } from '../failure.js';
import {
  DEFAULT_LIMITS,
  DEFAULT_PLAN,
  type Ftp,
  isUnix,
  type Limits,
  type Plan,
  type Service,
  type Shaping,
  type Upstream,
} from '../plan.js';
import { type Arguments, isSet, type Option, only, optionName, type Parse } from './command-line.js';
import { label } from './service-name.js';
import { flawOf, readCredentials } from './upstream.js';
import { UsageError } from './usage-error.js';
import {
  parseDrain,
  parseIdent,
  parseInteger,
  parseOneOf,
  parsePortRange,
  parseSource,
  parseTimeout,
  parseUser,
} from './values.js';

export const MOST_WORKERS = 1024;
/** A terabit, which no network of a relay's has. */
export const MOST_BANDWIDTH = 1e12;
export const MOST_RANDOM_WAIT = 60 * 60 * 1000;
/** redir's own bound. */
export const LEAST_BUFFER = 256;
export const MOST_BUFFER = 1024 * 1024;

/** What every dialect has to say of the process. */
export const OF_PROCESS = {
  user: { long: 'user', takes: 'one' },
  pidFile: { long: 'pid-file', takes: 'one' },
  workers: { long: 'workers', takes: 'one' },
  syslog: { long: 'syslog', takes: 'switch' },
  ident: { long: 'ident', takes: 'one' },
} as const satisfies Record<string, Option>;

/** How a server ends and another one begins. */
export const HANDING_OVER = {
  drain: { long: 'drain', takes: 'one' },
  takeover: { long: 'takeover', takes: 'one' },
} as const satisfies Record<string, Option>;

/** And of a service. */
export const OF_RELAYING = {
  tcpWrappers: { long: 'tcp-wrappers', takes: 'switch' },
  timeout: { long: 'timeout', takes: 'one' },
  proxyAuth: { long: 'proxy-auth', takes: 'one' },
  source: { long: 'source', takes: 'one' },
  spoof: { long: 'spoof', takes: 'switch' },
  ftp: { long: 'ftp', takes: 'one' },
  ftpPorts: { long: 'ftp-ports', takes: 'one' },
  maxBandwidth: { long: 'max-bandwidth', takes: 'one' },
  randomWait: { long: 'random-wait', takes: 'one' },
  waitInOut: { long: 'wait-in-out', takes: 'one' },
  bufferSize: { long: 'bufsize', takes: 'one' },
} as const satisfies Record<string, Option>;

/** Every dialect of command lines has them, under these names or others. */
export const SHARED = { ...OF_PROCESS, ...OF_RELAYING } as const;

type ProcessOptions = Readonly<Record<keyof typeof OF_PROCESS, Option>>;
type RelayingOptions = Readonly<Record<keyof typeof OF_RELAYING, Option>>;

type OfProcess = Pick<Plan, 'user' | 'pidFile' | 'workers' | 'logTo' | 'ident'>;

/** `ident` is our name where the command line says none. */
export const readProcess = (args: Arguments, options: ProcessOptions, ident: string): OfProcess => ({
  user: only(args, options.user, parseUser) ?? null,
  pidFile: only(args, options.pidFile, absolutePath) ?? null,
  workers: only(args, options.workers, integerFrom(1, MOST_WORKERS)) ?? null,
  logTo: isSet(args, options.syslog) ? 'syslog' : DEFAULT_PLAN.logTo,
  ident: only(args, options.ident, parseIdent) ?? ident,
});

/** What the command line says, and nothing of what it doesn't. */
export const readGivenProcess = (args: Arguments, options: ProcessOptions): Partial<OfProcess> => {
  const all = readProcess(args, options, DEFAULT_PLAN.ident);
  const option = { ...options, logTo: options.syslog };
  const given = (Object.keys(all) as (keyof OfProcess)[]).filter((name) => isSet(args, option[name]));
  return Object.fromEntries(given.map((name) => [name, all[name]]));
};

/** What the command line says of the time for connections at the end, and nothing where it doesn't. */
export const readDrain = (args: Arguments): Partial<Pick<Plan, 'drain'>> => {
  const drain = only(args, HANDING_OVER.drain, parseDrain);
  return drain === undefined ? {} : { drain };
};

/** The pid file of a process to take over from. */
export const readTakeover = (args: Arguments): string | undefined => only(args, HANDING_OVER.takeover, absolutePath);

type OfRelaying = Pick<Service, 'source' | 'spoof' | 'ftp' | 'shaping' | 'tcpWrappers'>;

/** What is done with a connection beside moving its bytes. `ident` is the plan's. */
export const readRelaying = (args: Arguments, options: RelayingOptions, ident: string): OfRelaying => ({
  source: only(args, options.source, parseSource) ?? null,
  spoof: isSet(args, options.spoof),
  ftp: readFtp(args, options),
  shaping: readShaping(args, options),
  tcpWrappers: isSet(args, options.tcpWrappers) ? ident : null,
});

const readFtp = (args: Arguments, options: RelayingOptions): Ftp | null => {
  const which = only(args, options.ftp, (what, text) => parseOneOf('port', 'pasv', 'both')(what, text.toLowerCase()));
  const ports = only(args, options.ftpPorts, parsePortRange) ?? null;
  return which === undefined ? null : { active: which !== 'pasv', passive: which !== 'port', ports };
};

const readShaping = (args: Arguments, options: RelayingOptions): Shaping | null => {
  // 0 is redir's way to say that there is no bound.
  const maxBandwidth = only(args, options.maxBandwidth, integerFrom(0, MOST_BANDWIDTH)) || null;
  const randomWait = only(args, options.randomWait, integerFrom(0, MOST_RANDOM_WAIT)) ?? 0;
  const bufferSize = only(args, options.bufferSize, integerFrom(LEAST_BUFFER, MOST_BUFFER)) ?? null;
  const which = Number(only(args, options.waitInOut, parseOneOf('1', '2', '3')) ?? '3');
  if (maxBandwidth === null && randomWait === 0 && bufferSize === null) return null;
  return { toClient: (which & 1) !== 0, toUpstream: (which & 2) !== 0, maxBandwidth, randomWait, bufferSize };
};

/**
 * `idle` holds where the command line says nothing. A half-closed connection has a bound in any case: its other end may
 * be gone without a word.
 */
export const readTimeouts = (
  args: Arguments,
  options: RelayingOptions,
  idle: number,
): Pick<Limits, 'idle' | 'halfClosed'> => {
  const timeout = only(args, options.timeout, parseTimeout) ?? idle;
  return { idle: timeout, halfClosed: Number.isFinite(timeout) ? timeout : DEFAULT_LIMITS.halfClosed };
};

/** The upstreams, those without credentials with what the file of --proxy-auth has. Throws Failure. */
export const authenticated = (
  args: Arguments,
  options: RelayingOptions,
  upstreams: readonly Upstream[],
): Upstream[] => {
  if (upstreams.length === 0) return [];
  const shared = only(args, options.proxyAuth, readCredentials);
  return upstreams.map((upstream) => {
    if (shared === undefined || upstream.credentials !== null) return upstream;
    const flaw = flawOf(shared, upstream.scheme);
    if (flaw === null) return { ...upstream, credentials: shared };
    const what = `${optionName(options.proxyAuth)}: the user name and password`;
    throw new Failure(`${what} ${flaw} (for upstream ${label(upstream)})`, EX.NOINPUT);
  });
};

/** Throws UsageError: it is for options that have no effect beside the others, or take back what another says. */
export type Refuse = (option: Option, why: string) => void;

/** Refuses options that were given. */
export const refuseIn =
  (args: Arguments): Refuse =>
  (option, why) => {
    if (isSet(args, option)) throw new UsageError(`${optionName(option)} ${why}`);
  };

/** What no dialect takes. */
export const refuseContradictions = (args: Arguments, options: RelayingOptions, service: Service): void => {
  const refuse = refuseIn(args);
  const { source, spoof, ftp, shaping, upstreams, targets } = service;
  if (spoof) refuse(options.source, `contradicts ${optionName(options.spoof)}, which takes the client's address`);
  if (source !== null) {
    const ends = upstreams.length > 0 ? upstreams : targets.flatMap(({ to }) => (isUnix(to) ? [] : [to]));
    const other = ends.find(({ host }) => isAddress(host) && isIPv4(host) !== isIPv4(source));
    if (other !== undefined) refuse(options.source, `is of another family than ${other.host}, where it connects to`);
  }
  if (ftp === null) refuse(options.ftpPorts, `needs ${optionName(options.ftp)}`);
  if (ftp?.active && upstreams.length > 0) {
    refuse(
      options.ftp,
      'takes connections that the server makes, which no proxy passes on: only pasv goes through one',
    );
  }
  if (shaping === null || (shaping.maxBandwidth === null && shaping.randomWait === 0)) {
    const waits = `${optionName(options.maxBandwidth)} or ${optionName(options.randomWait)}`;
    refuse(options.waitInOut, `needs ${waits}`);
  }
};

const integerFrom =
  (least: number, most: number): Parse<number> =>
  (what, text) =>
    parseInteger(what, text, least, most);

const absolutePath: Parse<string> = (_, text) => resolve(text);
