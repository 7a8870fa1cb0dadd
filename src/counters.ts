/** Named slots of shared memory. Each worker writes its own row and nobody else does; control reads all rows. */
const SLOTS = ['accepted', 'open', 'refused', 'bytesFromClients', 'bytesToClients', 'dropped'] as const;
export type Slot = (typeof SLOTS)[number];

const slotIndex = Object.fromEntries(SLOTS.map((name, i) => [name, i])) as Record<Slot, number>;

/** Memory for the counters of `workers` workers: one float64 a slot, exact up to 2^53. */
export const allocateCounters = (workers: number): SharedArrayBuffer =>
  new SharedArrayBuffer(workers * SLOTS.length * Float64Array.BYTES_PER_ELEMENT);

/** A worker's own row. */
export class CounterRow {
  readonly #row: Float64Array;

  constructor(memory: SharedArrayBuffer, worker: number) {
    this.#row = new Float64Array(memory, worker * SLOTS.length * Float64Array.BYTES_PER_ELEMENT, SLOTS.length);
  }

  add(slot: Slot, amount: number): void {
    const i = slotIndex[slot];
    this.#row[i] = (this.#row[i] as number) + amount;
  }

  get(slot: Slot): number {
    return this.#row[slotIndex[slot]] as number;
  }
}

/** A slot's sum over all workers. */
export const total = (memory: SharedArrayBuffer, slot: Slot): number => {
  const all = new Float64Array(memory);
  let sum = 0;
  for (let i = slotIndex[slot]; i < all.length; i += SLOTS.length) sum += all[i] as number;
  return sum;
};
