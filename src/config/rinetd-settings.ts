import { Failure } from '../failure.js';
import { DEFAULT_LIMITS, type Plan } from '../plan.js';
import type { Problems } from './problems.js';
import type { Located } from './rinetd-files.js';
import type { SettingName } from './rinetd-lines.js';
import { type Common, parseBacklog, parseFlows, parseInterval } from './rinetd-rules.js';
import { parseInteger, parseOneOf, parseTimeout } from './values.js';

/** What a file says once, for all of its rules or for the process. Paths as they are written; times in milliseconds. */
export interface Settings extends Common {
  readonly logFile: string | null;
  readonly logFormat: 'tab' | 'common';
  readonly pidFile: string | null;
  readonly statusFile: string | null;
  readonly statusInterval: number;
  readonly statusFormat: 'json' | 'text';
  readonly statsInterval: Plan['statsInterval'];
}

/** The times are those of the rinetd that has the words. */
const DEFAULTS: Settings = {
  connect: DEFAULT_LIMITS.connect,
  dnsRefresh: 600_000,
  backlog: null,
  flows: DEFAULT_LIMITS.flows,
  logFile: null,
  logFormat: 'tab',
  pidFile: null,
  statusFile: null,
  statusInterval: 30_000,
  statusFormat: 'json',
  statsInterval: null,
};

type Read = (what: string, text: string) => Partial<Settings>;

const readPidFile: Read = (_, pidFile) => ({ pidFile });

/** Reads the value and makes nothing of it. */
const integer =
  (least: number, most: number): Read =>
  (what, text) => {
    parseInteger(what, text, least, most);
    return {};
  };

const READERS: Readonly<Record<SettingName, Read>> = {
  logfile: (_, logFile) => ({ logFile }),
  logcommon: () => ({ logFormat: 'common' }),
  pidlogfile: readPidFile,
  pidfile: readPidFile,
  'connect-timeout': (what, text) => ({ connect: parseTimeout(what, text) }),
  'dns-refresh': (what, text) => ({ dnsRefresh: parseInterval(what, text) }),
  'listen-backlog': (what, text) => ({ backlog: parseBacklog(what, text) }),
  'max-udp-connections': (what, text) => ({ flows: parseFlows(what, text) }),
  statusfile: (_, statusFile) => ({ statusFile }),
  statusinterval: (what, text) => ({ statusInterval: parseInteger(what, text, 1, 86_400) * 1000 }),
  statusformat: (what, text) => ({ statusFormat: parseOneOf('json', 'text')(what, text) }),
  statsloginterval: (what, text) => ({ statsInterval: parseInteger(what, text, 0, 86_400) * 1000 || null }),
  buffersize: integer(1024, 1024 * 1024),
  'pool-min-free': integer(0, 10_000),
  'pool-max-free': integer(1, 100_000),
  'pool-trim-delay': integer(100, 300_000),
  'dns-multi-ip-expand': (what, text) => {
    parseOneOf('on', 'off')(what, text);
    return {};
  },
  'dns-multi-ip-proto': (what, text) => {
    parseOneOf('ipv4', 'ipv6', 'any')(what, text.toLowerCase());
    return {};
  },
};

const NO_BUFFERS = 'has no effect: an idle connection has no buffer here, and a busy one what it needs';

/** Why some have no effect. */
const withoutEffect = (name: SettingName, text: string): string | null => {
  switch (name) {
    case 'buffersize':
    case 'pool-min-free':
    case 'pool-max-free':
    case 'pool-trim-delay':
      return NO_BUFFERS;
    case 'dns-multi-ip-expand':
      return text === 'on' ? null : 'off has no effect: every address of a name is used';
    case 'dns-multi-ip-proto':
      return text.toLowerCase() === 'any' ? null : 'has no effect: the addresses of a name are used in both families';
    default:
      return null;
  }
};

/** Of several, the last counts, as with rinetd. */
export const readSettings = (statements: readonly Located[], problems: Problems): Settings => {
  let settings = DEFAULTS;
  const seen = new Set<Read>();
  for (const { statement, at } of statements) {
    if (statement.kind !== 'setting') continue;
    const { name, word, value } = statement;
    const [read, text] = [READERS[name], value?.text ?? ''];
    try {
      settings = { ...settings, ...read(name, text) };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      problems.error(at(value ?? word), error.message);
      continue;
    }
    if (seen.has(read)) problems.warn(at(word), `${name} is given more than once, and the last one counts`);
    seen.add(read);
    const nothing = withoutEffect(name, text);
    if (nothing !== null) problems.warn(at(word), `${name} ${nothing}`);
  }
  return settings;
};
