/** Named slots of shared memory, a row for each worker. Each worker writes its own row and nobody else does; control reads all. */
const SLOTS = [
  'accepted',
  'open',
  'refused',
  'bytesFromClients',
  'bytesToClients',
  /** Connections whose way to their end could not be opened. */
  'connectErrors',
  /** Times that accept found the machine out of something. */
  'acceptErrors',
  /** Datagrams that could not be sent on. */
  'dropped',
] as const;
export type Slot = (typeof SLOTS)[number];

const slotIndex = Object.fromEntries(SLOTS.map((name, i) => [name, i])) as Record<Slot, number>;

/** Whole cache lines of 64 bytes: workers that count at the same time must not take each other's away. */
const ROW = Math.ceil(SLOTS.length / 8) * 8;

/** Memory for the counters of one service in `workers` workers: one float64 a slot, exact up to 2^53. */
export const allocateCounters = (workers: number): SharedArrayBuffer =>
  new SharedArrayBuffer(workers * ROW * Float64Array.BYTES_PER_ELEMENT);

/** A worker's own row. */
export class CounterRow {
  readonly #row: Float64Array;

  constructor(memory: SharedArrayBuffer, worker: number) {
    this.#row = new Float64Array(memory, worker * ROW * Float64Array.BYTES_PER_ELEMENT, SLOTS.length);
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
export const total = (memory: SharedArrayBuffer, slot: Slot): number => sumOf(new Float64Array(memory), slot);

const sumOf = (rows: Float64Array, slot: Slot): number => {
  let sum = 0;
  for (let i = slotIndex[slot]; i < rows.length; i += ROW) sum += rows[i] as number;
  return sum;
};

/**
 * The counters of all services, for the control plane: each service has memory of its own, so that services may come and
 * go while workers count. Those of a service that is gone still count in the totals, with what is left of its connections.
 */
export class Counters {
  readonly #workers: number;
  readonly #services = new Map<number, Float64Array>();
  readonly #gone = new Set<Float64Array>();
  /** Sums of what is gone for good. */
  readonly #past = new Float64Array(SLOTS.length);

  constructor(workers: number) {
    this.#workers = workers;
  }

  /** Memory for the counters of one more service. `id` is never used for another. */
  add(id: number): SharedArrayBuffer {
    const memory = allocateCounters(this.#workers);
    this.#services.set(id, new Float64Array(memory));
    return memory;
  }

  /** The service is in the plan no more. */
  retire(id: number): void {
    const rows = this.#services.get(id);
    if (rows === undefined) return;
    this.#services.delete(id);
    this.#gone.add(rows);
  }

  /** A slot's sum over all workers, for one service. */
  of(id: number, slot: Slot): number {
    const rows = this.#services.get(id);
    return rows === undefined ? 0 : sumOf(rows, slot);
  }

  /** A slot's sum over all workers and services. */
  total(slot: Slot): number {
    this.#forget();
    let sum = this.#past[slotIndex[slot]] as number;
    for (const rows of this.#services.values()) sum += sumOf(rows, slot);
    for (const rows of this.#gone) sum += sumOf(rows, slot);
    return sum;
  }

  /** Adds up what can't change any more. */
  #forget(): void {
    for (const rows of this.#gone) {
      if (sumOf(rows, 'open') > 0) continue;
      this.#gone.delete(rows);
      for (const [i, slot] of SLOTS.entries()) this.#past[i] = (this.#past[i] as number) + sumOf(rows, slot);
    }
  }
}
