import { CHECKS, type Check } from './parsers.js';
import { Random } from './random.js';

/** An input with which something did not hold. */
export interface Finding {
  readonly check: string;
  /** Of the input, for `--first`. */
  readonly index: number;
  readonly message: string;
  /** What is left of the input with every byte gone that it takes nothing away from. */
  readonly least: Buffer;
}

/** Findings after which there is no more to learn from going on. */
const ENOUGH = 20;

const failureOf = (check: Check, random: Random, bytes: Buffer): string | null => {
  try {
    check.run(random, bytes);
    return null;
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
};

/** Takes away what can be taken away, in ever smaller pieces, while `fails`. */
const reduce = (bytes: Buffer, fails: (bytes: Buffer) => boolean): Buffer => {
  let least = bytes;
  for (let size = least.length >> 1; size > 0; size >>= 1) {
    for (let at = 0; at < least.length; ) {
      const without = Buffer.concat([least.subarray(0, at), least.subarray(at + size)]);
      if (fails(without)) least = without;
      else at += size;
    }
  }
  return least;
};

/** Gives the readers `count` inputs from `first` on, each of `checks` in its turn. */
export const throwAtParsers = (
  seed: number,
  first: number,
  count: number,
  checks: readonly Check[] = CHECKS,
): Finding[] => {
  const findings: Finding[] = [];
  const known = new Set<string>();
  for (let index = first; index < first + count && findings.length < ENOUGH; index++) {
    const check = checks[index % checks.length] as Check;
    const bytes = check.input(new Random(seed, index));
    // Of its own, so that an input that was made smaller meets the same choices.
    const choices = (): Random => new Random(~seed, index);
    const message = failureOf(check, choices(), bytes);
    if (message === null) continue;
    const kind = `${check.name}: ${message.replace(/[^a-z ]+/gi, ' ').slice(0, 40)}`;
    if (known.has(kind)) continue;
    known.add(kind);
    const least = reduce(bytes, (smaller) => failureOf(check, choices(), smaller) !== null);
    findings.push({ check: check.name, index, message, least });
  }
  return findings;
};
