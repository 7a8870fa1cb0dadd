import { setTimeout as sleep } from 'node:timers/promises';

export interface Patience {
  /** Milliseconds; default 10,000. */
  readonly within?: number;
  /** Milliseconds between two looks; default 20. */
  readonly every?: number;
}

/**
 * Looks again and again until `look` gives something true, and returns it.
 * Throws with `what` when the time is over; an error that `look` throws passes on at once.
 */
export const until = async <T>(
  what: string,
  look: () => T | Promise<T>,
  { within = 10_000, every = 20 }: Patience = {},
): Promise<NonNullable<T>> => {
  const end = Date.now() + within;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`gave up waiting ${within} ms for ${what}`);
    await sleep(every);
  }
};

/** `promise`, or an error that says `what` when it takes longer than `within` milliseconds. */
export const bounded = async <T>(what: string, promise: Promise<T>, within = 10_000): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting ${within} ms for ${what}`)), within);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};
