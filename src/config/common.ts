import { DEFAULT_LIMITS, type Service } from '../plan.js';

/** What a file says for all of its rules, and some rules have no use for. Times in milliseconds. */
interface OfSockets {
  readonly connect: number;
  readonly backlog: number | null;
  readonly flows: number;
}

/**
 * What of it is for a rule of this protocol. A rule that takes the rest along would be another rule whenever that
 * changes, and in YAML have words that have no effect.
 */
export const commonTo = <T extends OfSockets>(protocol: Service['protocol'], common: T): T =>
  protocol === 'udp'
    ? { ...common, connect: DEFAULT_LIMITS.connect, backlog: null }
    : { ...common, flows: DEFAULT_LIMITS.flows };
