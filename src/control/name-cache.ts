import { Failure } from '../failure.js';
import { resolveHost } from './resolve.js';

/** How long addresses are used, and for how long a name counts as one that has none, in ms. */
const LIFETIME = 30_000;
const LIFETIME_OF_NOTHING = 3000;
const MOST_NAMES = 10_000;

/**
 * Lookups at one time. libuv runs no more than two getaddrinfo(3) at once unless UV_THREADPOOL_SIZE is raised, first
 * come first served: the upstreams' own lookups must not stand behind those of all the names that clients send.
 */
const AT_ONCE = 4;
/** Lookups that wait for their turn. A name beyond them gets no addresses, rather than an answer nobody waits for. */
const MOST_WAITING = 1000;

interface Entry {
  readonly ips: Promise<readonly string[]>;
  /** Infinite while the lookup is under way. */
  until: number;
}

/** Addresses of the names that clients send, for all workers. Every name costs one lookup in its lifetime. */
export class NameCache {
  readonly #resolve: (name: string) => Promise<readonly string[]>;
  readonly #now: () => number;
  /** In the order in which they were asked for. */
  readonly #entries = new Map<string, Entry>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** `resolve` rejects with a Failure when there are no addresses; `now` is a clock in ms. */
  constructor(resolve: (name: string) => Promise<readonly string[]> = resolveHost, now: () => number = Date.now) {
    this.#resolve = resolve;
    this.#now = now;
  }

  /** The name's addresses, none if it has none. Case is of no account. */
  lookup(name: string): Promise<readonly string[]> {
    const key = name.toLowerCase();
    const known = this.#entries.get(key);
    if (known !== undefined && known.until > this.#now()) return known.ips;
    if (this.#running >= AT_ONCE && this.#waiting.length >= MOST_WAITING) return Promise.resolve([]);

    const entry: Entry = { ips: this.#resolveInTurn(key), until: Number.POSITIVE_INFINITY };
    void entry.ips.then(({ length }) => {
      entry.until = this.#now() + (length > 0 ? LIFETIME : LIFETIME_OF_NOTHING);
    });
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > MOST_NAMES) this.#entries.delete(this.#entries.keys().next().value as string);
    return entry.ips;
  }

  async #resolveInTurn(name: string): Promise<readonly string[]> {
    if (this.#running < AT_ONCE) this.#running++;
    // Whoever ends hands its place on: #running stays as it is.
    else await new Promise<void>((turn) => this.#waiting.push(turn));
    try {
      return await this.#resolve(name);
    } catch (error) {
      if (error instanceof Failure) return [];
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
