import type { Affinity } from './plan.js';

/** A client is looked for in this many places; where all are taken, the one that came longest ago makes room. */
const MOST_WAYS = 16;

/** The words of one place. */
const CLIENT = 0;
const MEMBER = 1;
/** Tells what two threads wrote at the same time: one's client beside the other's member. */
const CHECK = 2;
/** Tenths of a second: the clock that all threads of a process share counts for years in 32 bits of them. */
const UNTIL = 3;
const WORDS = 4;

const LATEST = 0x7fff_ffff;

const sizesOf = ({ entries }: Affinity): { readonly sets: number; readonly ways: number } => {
  const sets = Math.ceil(entries / MOST_WAYS);
  return { sets, ways: Math.ceil(entries / sets) };
};

/** Memory for the AffinityTable of one service, shared by all workers. */
export const allocateAffinity = (affinity: Affinity): SharedArrayBuffer => {
  const { sets, ways } = sizesOf(affinity);
  return new SharedArrayBuffer(sets * ways * WORDS * Int32Array.BYTES_PER_ELEMENT);
};

/** From performance.now(), which begins anew in each thread, to the clock of the process, in ms. */
const toSharedClock = (): number => Number(process.hrtime.bigint() / 1_000_000n) - performance.now();

/**
 * Which member each client keeps, whichever worker it comes to. Clients and members stand here by their hashes: two of
 * one hash would share a member, which does no harm.
 */
export class AffinityTable {
  readonly #words: Int32Array;
  readonly #sets: number;
  readonly #ways: number;
  readonly #ttl: number;
  readonly #toShared: number;

  /** `toShared` milliseconds are added to this thread's times. */
  constructor(memory: SharedArrayBuffer, affinity: Affinity, toShared = toSharedClock()) {
    const { sets, ways } = sizesOf(affinity);
    this.#words = new Int32Array(memory);
    this.#sets = sets;
    this.#ways = ways;
    this.#ttl = affinity.ttl;
    this.#toShared = toShared;
  }

  /** The client's member; null if none is known, or not any more. */
  find(client: number, now: number): number | null {
    const words = this.#words;
    const at = this.#placeOf(client);
    if (words[at + CLIENT] !== (client | 0) || (words[at + UNTIL] as number) <= this.#tenths(now)) return null;
    const member = words[at + MEMBER] as number;
    return (member ^ client) === words[at + CHECK] ? member >>> 0 : null;
  }

  /** Remembers the client's member for the time to live from now on. */
  keep(client: number, member: number, now: number): void {
    const words = this.#words;
    const at = this.#placeOf(client);
    words[at + CLIENT] = client;
    words[at + MEMBER] = member;
    words[at + CHECK] = member ^ client;
    words[at + UNTIL] = this.#tenths(now + this.#ttl);
  }

  #tenths(time: number): number {
    return Math.min(LATEST, Math.ceil((time + this.#toShared) / 100));
  }

  /** Where the client is, or would be: in place of the one that came longest ago. */
  #placeOf(client: number): number {
    const words = this.#words;
    const first = ((client >>> 0) % this.#sets) * this.#ways * WORDS;
    let oldest = first;
    for (let i = 0; i < this.#ways; i++) {
      const at = first + i * WORDS;
      if (words[at + CLIENT] === (client | 0)) return at;
      if ((words[at + UNTIL] as number) < (words[oldest + UNTIL] as number)) oldest = at;
    }
    return oldest;
  }
}
