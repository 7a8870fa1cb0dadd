import { DEFAULT_PLAN, LOG_LEVELS, type LogLevel } from '../plan.js';
import {
  type Arguments,
  isSet,
  type Option,
  only,
  optionName,
  type Request,
  readArguments,
  requestFrom,
} from './command-line.js';
import { readRinetdConf } from './rinetd-conf.js';
import { help } from './rinetd-help.js';
import {
  HANDING_OVER,
  OF_PROCESS,
  readDrain,
  readGivenProcess,
  readProcess,
  readTakeover,
  refuseIn,
} from './shared.js';
import { quoted, UsageError } from './usage-error.js';
import { parseOneOf } from './values.js';
import { version } from './version.js';

/** rinetd's options, the later -d, and ours under the names that tproxy has for them. */
export const OPTIONS = {
  ...OF_PROCESS,
  user: { ...OF_PROCESS.user, short: 'r' },
  confFile: { long: 'conf-file', short: 'c', takes: 'one' },
  foreground: { long: 'foreground', short: 'f', takes: 'switch' },
  debug: { long: 'debug', short: 'd', takes: 'switch' },
  logLevel: { long: 'log-level', takes: 'one' },
  ...HANDING_OVER,
  version: { long: 'version', short: 'v', takes: 'switch' },
  help: { long: 'help', short: 'h', takes: 'switch' },
} as const satisfies Record<string, Option>;

const CONF_FILE = '/etc/rinetd.conf';
const PID_FILE = '/var/run/rinetd.pid';

/**
 * Reads a command line in the dialect of rinetd, and its file.
 * @throws UsageError, or Failure for the file
 */
export const parseRinetd = (argv: readonly string[]): Request => {
  const args = readArguments(Object.values(OPTIONS), argv);
  if (isSet(args, OPTIONS.help)) return { kind: 'print', text: help };
  if (isSet(args, OPTIONS.version)) return { kind: 'print', text: version() };
  const [extra] = args.positionals;
  if (extra !== undefined) throw new UsageError(`too many arguments: ${quoted(extra)}`);

  const foreground = isSet(args, OPTIONS.foreground);
  const defaults = {
    ...DEFAULT_PLAN,
    ...readProcess(args, OPTIONS, 'rinetd'),
    foreground,
    // Nobody but root may write it there, and rinetd goes on without it.
    pidFile: foreground || process.geteuid?.() !== 0 ? null : PID_FILE,
    logLevel: readLogLevel(args),
  };
  const path = only(args, OPTIONS.confFile, (_, text) => text) ?? CONF_FILE;
  const said = { ...readGivenProcess(args, OPTIONS), ...readDrain(args) };
  // A daemon goes to / when it is up.
  const base = process.cwd();
  return requestFrom(() => {
    const { plan, warnings } = readRinetdConf(path, base, defaults);
    return { plan: { ...plan, ...said }, warnings };
  }, readTakeover(args));
};

const readLogLevel = (args: Arguments): LogLevel => {
  const level = only(args, OPTIONS.logLevel, parseOneOf(...LOG_LEVELS));
  if (!isSet(args, OPTIONS.debug)) return level ?? DEFAULT_PLAN.logLevel;
  refuseIn(args)(OPTIONS.logLevel, `contradicts ${optionName(OPTIONS.debug)}`);
  return 'debug';
};
