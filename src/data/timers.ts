/** Something with one deadline, in the loop's milliseconds; Infinity for none. */
export interface Timed {
  /** May be moved later by just writing it; to bring it forward, call Timers.watch again. */
  deadline: number;
  /** Timers' own: the tick that this is filed under, Infinity for none. */
  tick: number;
  onDeadline(): void;
}

/**
 * Deadlines, filed by tick: they are kept to a tick, never early. Activity moves a connection's deadline thousands of
 * times for each time that it passes, so moving it is one store, and it is filed anew when the old tick comes.
 */
export class Timers {
  readonly #tick: number;
  readonly #ticks = new Map<number, Set<Timed>>();
  #earliest = Number.POSITIVE_INFINITY;

  /** `tick`: in milliseconds. */
  constructor(tick: number) {
    this.#tick = tick;
  }

  /** Files `timed` under its deadline, unless it is already under an earlier tick. */
  watch(timed: Timed): void {
    const tick = Math.ceil(timed.deadline / this.#tick);
    if (timed.tick <= tick) return;
    this.forget(timed);
    timed.tick = tick;
    const filed = this.#ticks.get(tick);
    if (filed === undefined) this.#ticks.set(tick, new Set([timed]));
    else filed.add(timed);
    if (tick < this.#earliest) this.#earliest = tick;
  }

  /** Drops `timed`, so that nothing here keeps it alive. */
  forget(timed: Timed): void {
    if (timed.tick === Number.POSITIVE_INFINITY) return;
    this.#ticks.get(timed.tick)?.delete(timed);
    timed.tick = Number.POSITIVE_INFINITY;
  }

  /** Milliseconds from `now` to the next tick that may have anything, rounded up; Infinity for none. */
  wait(now: number): number {
    return Math.max(0, Math.ceil(this.#earliest * this.#tick - now));
  }

  /** Calls onDeadline of everything whose deadline has passed. */
  expire(now: number): void {
    if (this.#earliest * this.#tick > now) return;
    for (const tick of [...this.#ticks.keys()]) {
      if (tick * this.#tick > now) continue;
      const filed = this.#ticks.get(tick) as Set<Timed>;
      this.#ticks.delete(tick);
      for (const timed of filed) {
        // Another deadline of this tick has had it forgotten.
        if (timed.tick !== tick) continue;
        timed.tick = Number.POSITIVE_INFINITY;
        if (timed.deadline <= now) timed.onDeadline();
        else this.watch(timed);
      }
    }
    this.#earliest = Math.min(Number.POSITIVE_INFINITY, ...this.#ticks.keys());
  }
}
