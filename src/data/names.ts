/** How long an answer is used, in ms, and one that the name has no address. */
const LIFETIME = 30_000;
const LIFETIME_OF_NONE = 1000;
/** How many are kept. */
const MOST_NAMES = 10_000;

interface Entry {
  readonly ips: readonly string[];
  readonly until: number;
}

/** Addresses of names, which the control plane looks up for this thread: a thread in epoll_wait can't. */
export class Names {
  readonly #ask: (name: string) => void;
  readonly #known = new Map<string, Entry>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** `ask` has `answer` called later. */
  constructor(ask: (name: string) => void) {
    this.#ask = ask;
  }

  /**
   * A name's addresses, empty for a name that has none; or null, and `then` is called once when it is worth asking
   * again.
   */
  lookup(name: string, now: number, then: () => void): readonly string[] | null {
    const entry = this.#known.get(name);
    if (entry !== undefined && entry.until > now) return entry.ips;
    const waiting = this.#waiting.get(name);
    if (waiting !== undefined) waiting.push(then);
    else {
      this.#waiting.set(name, [then]);
      this.#ask(name);
    }
    return null;
  }

  answer(name: string, ips: readonly string[], now: number): void {
    if (this.#known.size >= MOST_NAMES) this.#known.clear();
    this.#known.set(name, { ips, until: now + (ips.length > 0 ? LIFETIME : LIFETIME_OF_NONE) });
    const waiting = this.#waiting.get(name) ?? [];
    this.#waiting.delete(name);
    for (const then of waiting) then();
  }
}
