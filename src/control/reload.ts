import type { Plan, Service } from '../plan.js';

/** Settings that a process can't change once it runs, and what they are called. */
const FIXED = {
  user: 'the user',
  workers: 'the number of workers',
  pidFile: 'the pid file',
  foreground: 'the foreground',
} as const satisfies Partial<Record<keyof Plan, string>>;

/** A plan as a running process can have it, and what of it needs a restart. */
export const withFixed = (now: Plan, next: Plan): { readonly plan: Plan; readonly refused: readonly string[] } => {
  const { user, workers, pidFile, foreground } = now;
  const refused = Object.entries(FIXED).filter(([key]) => now[key as keyof Plan] !== next[key as keyof Plan]);
  return { plan: { ...next, user, workers, pidFile, foreground }, refused: refused.map(([, what]) => what) };
};

/** What a service is, as text: two that do the same have the same. JSON has no infinity, which time-outs may be. */
const textOf = (service: Service): string =>
  JSON.stringify(service, (_, value: unknown) => (typeof value === 'number' ? String(value) : value));

/** How one plan's services follow upon another's. */
export interface Succession {
  /** By index of the new plan. */
  readonly ids: readonly number[];
  /** Indices of the new plan. */
  readonly added: readonly number[];
  /** Ids of the old plan. */
  readonly gone: readonly number[];
}

/**
 * The services of the plan that is in force, by numbers that are never used again (see ServiceStart). A service that is
 * the same in the next plan keeps its number, and with it all that workers know of it.
 */
export class ServiceIds {
  #ids: readonly number[];
  #texts: readonly string[];
  #next: number;

  constructor(services: readonly Service[]) {
    this.#ids = [...services.keys()];
    this.#texts = services.map(textOf);
    this.#next = services.length;
  }

  /** By index of the plan. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  /** The index of a service in the plan; -1 for one that is there no more. */
  indexOf(id: number): number {
    return this.#ids.indexOf(id);
  }

  /** Makes `services` the plan's. */
  succeed(services: readonly Service[]): Succession {
    const known = new Map<string, number[]>();
    for (const [i, text] of this.#texts.entries()) {
      const id = this.#ids[i] as number;
      const same = known.get(text);
      if (same === undefined) known.set(text, [id]);
      else same.push(id);
    }
    const added: number[] = [];
    const texts = services.map(textOf);
    const ids = texts.map((text, i) => {
      const id = known.get(text)?.shift();
      if (id !== undefined) return id;
      added.push(i);
      return this.#next++;
    });
    this.#ids = ids;
    this.#texts = texts;
    return { ids, added, gone: [...known.values()].flat() };
  }
}

/** Does something again and again as it is asked for: one at a time, and once more for all that ask meanwhile. */
export class Coalesced {
  readonly #work: () => Promise<void>;
  #running = false;
  #again = false;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  async run(): Promise<void> {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#again) {
        this.#again = false;
        await this.#work();
      }
    } finally {
      this.#running = false;
    }
  }
}

/** Does one thing after another. */
export class InTurn {
  #last: Promise<void> = Promise.resolve();

  run(work: () => Promise<void>): Promise<void> {
    const mine = this.#last.then(work);
    // Who comes next waits for the end, whatever it is; the failure is for who asked for this.
    this.#last = mine.catch(() => {});
    return mine;
  }
}
