/** What a FlowTable holds. All but the key is the table's own. */
export interface Entry<T> {
  readonly key: Int32Array;
  hash: number;
  /** The next of those whose hashes end alike. */
  next: T | null;
  /** Neighbours in the order of activity. */
  older: T | null;
  newer: T | null;
}

const FIRST_SIZE = 64;

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));

const seed = (): number => Math.floor(Math.random() * 2 ** 32) | 0;

/**
 * Flows by their keys, and in the order of their last activity. Nothing here allocates but the growth of the table,
 * and no call takes longer the more flows there are, but by that.
 */
export class FlowTable<T extends Entry<T>> {
  size = 0;
  /** The flow that was active last, and the one that was silent longest. */
  #newest: T | null = null;
  #oldest: T | null = null;
  #buckets: (T | null)[] = new Array(FIRST_SIZE).fill(null);
  // Who may choose addresses and ports must not choose what they share a bucket with.
  readonly #seed0 = seed();
  readonly #seed1 = seed();

  get oldest(): T | null {
    return this.#oldest;
  }

  find(key: Int32Array): T | null {
    const hash = this.#hash(key);
    let found = this.#buckets[hash & (this.#buckets.length - 1)] as T | null;
    while (found !== null && !(found.hash === hash && sameKey(found.key, key))) found = found.next;
    return found;
  }

  /** Adds a flow whose key is not there yet, as the one that was active last. */
  add(flow: T): void {
    if (this.size === this.#buckets.length) this.#grow();
    flow.hash = this.#hash(flow.key);
    this.#file(flow);
    this.size++;
    this.#append(flow);
  }

  /** The flow was active. */
  touch(flow: T): void {
    if (flow === this.#newest) return;
    this.#unlink(flow);
    this.#append(flow);
  }

  remove(flow: T): void {
    const bucket = flow.hash & (this.#buckets.length - 1);
    let before: T | null = null;
    for (let at = this.#buckets[bucket] as T | null; at !== flow; at = at.next) {
      if (at === null) return;
      before = at;
    }
    if (before === null) this.#buckets[bucket] = flow.next;
    else before.next = flow.next;
    flow.next = null;
    this.size--;
    this.#unlink(flow);
  }

  /** All, the one that was silent longest first. */
  *[Symbol.iterator](): Generator<T> {
    for (let flow = this.#oldest; flow !== null; flow = flow.newer) yield flow;
  }

  #file(flow: T): void {
    const bucket = flow.hash & (this.#buckets.length - 1);
    flow.next = this.#buckets[bucket] as T | null;
    this.#buckets[bucket] = flow;
  }

  #grow(): void {
    this.#buckets = new Array(2 * this.#buckets.length).fill(null);
    for (const flow of this) this.#file(flow);
  }

  #append(flow: T): void {
    flow.older = this.#newest;
    flow.newer = null;
    if (this.#newest === null) this.#oldest = flow;
    else this.#newest.newer = flow;
    this.#newest = flow;
  }

  #unlink(flow: T): void {
    if (flow.older === null) this.#oldest = flow.newer;
    else flow.older.newer = flow.newer;
    if (flow.newer === null) this.#newest = flow.older;
    else flow.newer.older = flow.older;
    flow.older = null;
    flow.newer = null;
  }

  /** HalfSipHash-1-3 (Aumasson and Bernstein, SipHash; the form with words of 32 bits). */
  #hash(key: Int32Array): number {
    let v0 = this.#seed0;
    let v1 = this.#seed1;
    let v2 = this.#seed0 ^ 0x6c796765;
    let v3 = this.#seed1 ^ 0x74656462;
    const words = key.length;
    // The last block has the length in its upper byte; the rounds behind it have none.
    for (let i = 0; i < words + 4; i++) {
      const word = i < words ? (key[i] as number) : i === words ? words << 26 : 0;
      if (i === words + 1) v2 ^= 0xff;
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = rotate(v1, 5) ^ v0;
      v0 = rotate(v0, 16);
      v2 = (v2 + v3) | 0;
      v3 = rotate(v3, 8) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = rotate(v3, 7) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = rotate(v1, 13) ^ v2;
      v2 = rotate(v2, 16);
      v0 ^= word;
    }
    return v1 ^ v3;
  }
}

const sameKey = (a: Int32Array, b: Int32Array): boolean => {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
};
