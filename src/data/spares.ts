import type { SocketAddress } from '../address.js';
import { E } from '../sys/errno.js';
import { receive } from '../sys/socket.js';
import type { Endpoint } from './endpoint.js';
import type { Loop, Runnable } from './loop.js';
import type { Timed } from './timers.js';

/** How many connections to one upstream wait in one thread, at most, and for how long, in ms. */
const MOST = 32;
const LONGEST_WAIT = 60_000;

/** A connection to an upstream that has nothing under way. */
export class Spare implements Runnable, Timed {
  deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly #loop: Loop;
  readonly #onOver: (spare: Spare) => void;

  constructor(
    loop: Loop,
    readonly endpoint: Endpoint,
    readonly address: SocketAddress,
    onOver: (spare: Spare) => void,
  ) {
    this.#loop = loop;
    this.#onOver = onOver;
    this.deadline = loop.now + LONGEST_WAIT;
    loop.timers.watch(this);
    endpoint.owner = this;
  }

  /** The upstream has ended it, or says something that nobody asked for. */
  run(): void {
    if (this.endpoint.readable) this.end();
  }

  onDeadline(): void {
    this.end();
  }

  end(): void {
    this.leave();
    this.endpoint.reset();
    this.#onOver(this);
  }

  /** It waits no more. The endpoint is whoever's called this. */
  leave(): void {
    this.#loop.timers.forget(this);
  }
}

/**
 * Connections to one upstream, left by clients that are done with them, for requests of whichever client comes next: a
 * connect costs more than all the rest of a short connection's way.
 */
export class Spares {
  /** Oldest first. */
  readonly #waiting: Spare[] = [];
  #ended = false;

  /**
   * Takes over a connection on which nothing is under way. False: it stays the caller's, because there are enough, or
   * because it has ended, or has something to say.
   */
  put(loop: Loop, endpoint: Endpoint, address: SocketAddress): boolean {
    if (this.#ended || this.#waiting.length >= MOST || endpoint.ended) return false;
    // The flag may be that of bytes that were read since.
    if (endpoint.readable) {
      if (receive(endpoint.fd, loop.scratch, 1) !== -E.AGAIN) return false;
      endpoint.readable = false;
    }
    this.#waiting.push(new Spare(loop, endpoint, address, (spare) => this.#drop(spare)));
    return true;
  }

  /** The one that was used last, which is the likeliest to live still. Its endpoint is the caller's from here on. */
  take(): Spare | null {
    const spare = this.#waiting.pop() ?? null;
    spare?.leave();
    return spare;
  }

  /** Ends them all, and takes no more: nobody would come for them. */
  end(): void {
    this.#ended = true;
    for (const spare of [...this.#waiting]) spare.end();
  }

  #drop(spare: Spare): void {
    this.#waiting.splice(this.#waiting.indexOf(spare), 1);
  }
}
