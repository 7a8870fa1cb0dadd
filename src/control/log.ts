import pino from 'pino';
import posix from 'posix';
import type { LogLevel, Plan } from '../plan.js';
import { localTime, writeLine } from './stderr.js';

/** The daemon's own log; the access log is another file's. */
export interface Log {
  write(level: LogLevel, message: string): void;
}

/** syslog's names for our levels (syslog(3)). */
const PRIORITIES: Readonly<Record<LogLevel, string>> = {
  error: 'err',
  warn: 'warning',
  notice: 'notice',
  info: 'info',
  debug: 'debug',
};

interface Line {
  readonly level: LogLevel;
  readonly time: string;
  readonly msg: string;
}

const toStderr = ({ time, level, msg }: Line): void => writeLine(time, level, msg);

const toSyslog = ({ level, msg }: Line): void => {
  for (const line of syslogLines(msg)) posix.syslog(PRIORITIES[level], line);
};

/**
 * Bounds of what one message becomes in syslog. Receivers have to take 2048 bytes and may cut the rest (RFC 5424 section
 * 6.1); musl's syslog() cuts at 1024.
 */
const MOST_CHARACTERS = 1800;
const MOST_LINES = 50;

/** A message as syslog takes it: one for each line, because a newline in one is escaped or ends it. */
export const syslogLines = (message: string): string[] =>
  message
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(0, MOST_LINES)
    .map((line) => (line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS)}…` : line));

/**
 * Opens the log: readable lines on stderr, or messages of facility daemon to syslog, from `ident`. A syslog daemon
 * that was started anew gets them too: the C library connects again when sending fails, and sends again.
 */
export const openLog = (
  destination: 'stderr' | 'syslog',
  { logLevel, ident }: Pick<Plan, 'logLevel' | 'ident'>,
): Log => {
  // Also for stderr: libwrap says what is wrong with its files by syslog().
  posix.openlog(ident, { pid: true, odelay: true }, 'daemon');
  const put = destination === 'syslog' ? toSyslog : toStderr;
  const logger = pino(
    {
      level: logLevel,
      // Between pino's own info (30) and warn (40).
      customLevels: { notice: 35 },
      base: null,
      timestamp: () => `,"time":"${localTime()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line) => put(JSON.parse(line) as Line) },
  );
  return { write: (at, message) => logger[at](message) };
};
