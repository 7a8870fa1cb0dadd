import { type ClientAddress, formatAddress } from '../address.js';
import type { Entrance } from './access-entries.js';
import { begin, refuse } from './admit.js';
import type { Loop } from './loop.js';
import type { Site } from './site.js';
import type { Timed } from './timers.js';

/** How long a client waits for its admission, in ms. */
const LONGEST_WAIT = 10_000;

/** A client that is accepted, and not admitted yet: its descriptor is held, and nobody looks at it. */
class Held implements Timed {
  readonly deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly #admissions: Admissions;
  readonly #id: number;

  constructor(
    admissions: Admissions,
    id: number,
    readonly site: Site,
    readonly fd: number,
    readonly client: ClientAddress | null,
    readonly entrance: Entrance | null,
  ) {
    this.#admissions = admissions;
    this.#id = id;
    this.deadline = site.loop.now + LONGEST_WAIT;
    site.loop.timers.watch(this);
  }

  onDeadline(): void {
    this.#admissions.answer(this.#id, `no answer within ${LONGEST_WAIT / 1000} s`);
  }
}

/**
 * Clients that TCP wrappers decide on. The control plane asks them, because that may take long, and a thread in
 * epoll_wait could not do it.
 */
export class Admissions {
  readonly #loop: Loop;
  readonly #ask: (id: number, daemon: string, ip: string | null) => void;
  readonly #held = new Map<number, Held>();
  #asked = 0;

  /** `ask` has `answer` called later. `daemon`: what TCP wrappers know the service by. */
  constructor(loop: Loop, ask: (id: number, daemon: string, ip: string | null) => void) {
    this.#loop = loop;
    this.#ask = ask;
  }

  /** Clients that wait. They count among the connections that a thread may have. */
  get size(): number {
    return this.#held.size;
  }

  /** See admit. */
  hold(site: Site, fd: number, client: ClientAddress | null, entrance: Entrance | null): void {
    const id = this.#asked++;
    this.#held.set(id, new Held(this, id, site, fd, client, entrance));
    this.#ask(id, site.service.tcpWrappers as string, client?.ip ?? null);
  }

  /** `refusal`: why the client may not come in; null: it may. */
  answer(id: number, refusal: string | null): void {
    const held = this.#held.get(id);
    // Its time was over before.
    if (held === undefined) return;
    this.#held.delete(id);
    this.#loop.timers.forget(held);
    const { site, fd, client, entrance } = held;
    if (refusal === null) {
      begin(site, fd, client, entrance);
      return;
    }
    const why = `TCP wrappers refused from ${client === null ? '-' : formatAddress(client)}: ${refusal}`;
    refuse({ site, fd, client, entrance, by: 'TCP wrappers', event: 'denied', why });
    site.thread.onClosed(why);
  }
}
