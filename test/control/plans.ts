import assert from 'node:assert/strict';
import { parseTransproxy } from '../../src/config/transproxy.js';
import type { Log } from '../../src/control/log.js';
import type { Plan } from '../../src/plan.js';

/** The plan of a command line. */
export const planOf = (line: string): Plan => {
  const request = parseTransproxy(line.split(' '));
  return request.kind === 'plan' ? request.plan : assert.fail(line);
};

/** A log that a test reads: `LEVEL MESSAGE` each. */
export const recordingLog = (): Log & { readonly lines: readonly string[] } => {
  const lines: string[] = [];
  return { lines, write: (level, message) => lines.push(`${level} ${message}`) };
};
