import { writeSync } from 'node:fs';
import pino from 'pino';
import posix from 'posix';
import type { LogLevel } from '../plan.js';

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

/** `2026-11-22 20:48:41.123 info   listening on 0.0.0.0:8081` */
const toStderr = ({ time, level, msg }: Line): void => {
  try {
    writeSync(2, `${time.slice(0, 10)} ${time.slice(11, 23)} ${level.padEnd(6)} ${msg}\n`);
  } catch {
    // A stderr that is full or gone is no reason to end: there is nowhere to say so.
  }
};

const toSyslog = ({ level, msg }: Line): void => posix.syslog(PRIORITIES[level], msg);

/** The time of day where we are, in the form of Date.toISOString. */
const localTime = (): string => {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
};

/** Opens the log: readable lines on stderr, or messages of facility daemon to syslog. */
export const openLog = (destination: 'stderr' | 'syslog', level: LogLevel): Log => {
  if (destination === 'syslog') posix.openlog('tproxy', { pid: true, odelay: true }, 'daemon');
  const put = destination === 'syslog' ? toSyslog : toStderr;
  const logger = pino(
    {
      level,
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
