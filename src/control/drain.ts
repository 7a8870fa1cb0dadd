import { setTimeout as sleep } from 'node:timers/promises';
import type { Counters } from '../counters.js';

/** How often the open connections are counted, in ms. */
const LOOK = 50;

/**
 * Waits until `closed` has settled and no connection is open any more, for `within` milliseconds at most; returns how many
 * are open still.
 */
export const drained = async (counters: Counters, closed: Promise<void>, within: number): Promise<number> => {
  let listening = true;
  void closed.then(() => {
    listening = false;
  });
  for (const end = Date.now() + within; ; await sleep(LOOK)) {
    const open = counters.total('open');
    if ((!listening && open === 0) || Date.now() >= end) return open;
  }
};
