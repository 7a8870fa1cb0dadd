import { writeSync } from 'node:fs';

/** The time of day where we are, in the form of Date.toISOString. */
export const localTime = (): string => {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
};

/** `2026-11-22 20:48:41.123 info   listening on 0.0.0.0:8081` on stderr; `time` as localTime's. */
export const writeLine = (time: string, level: string, message: string): void => {
  try {
    writeSync(2, `${time.slice(0, 10)} ${time.slice(11, 23)} ${level.padEnd(6)} ${message}\n`);
  } catch {
    // A stderr that is full or gone is no reason to end: there is nowhere to say so.
  }
};
