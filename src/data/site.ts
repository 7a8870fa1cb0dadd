import { NetworkSet, type UpstreamAddress } from '../address.js';
import type { CounterRow } from '../counters.js';
import type { LogLevel, Service } from '../plan.js';
import type { Connection } from './connection.js';
import type { HttpLink, HttpRelay } from './http-relay.js';
import type { Loop } from './loop.js';

/** What a thread's connections tell the rest of the program. */
export interface Reporter {
  /** Messages below this are not worth making. */
  readonly verbose: boolean;
  log(level: LogLevel, message: string): void;
  /** One entry of the access log, without its time; null where there is no such log. */
  readonly access: ((entry: string) => void) | null;
  /** Every address of the service's upstream failed. */
  unreachable(service: number): void;
}

/** A service as one thread serves it. */
export class Site {
  readonly acl: NetworkSet | null;
  /** Rotations of the upstream's addresses, so that each connection begins with the next one. */
  #rotations: (readonly UpstreamAddress[])[] = [];
  #turn: number;
  /** Called after each connection that ends. */
  onClosed: (() => void) | null = null;

  /** `seed`: which address the first connection takes; threads that begin with different ones share the load. */
  constructor(
    readonly index: number,
    readonly service: Service,
    readonly loop: Loop,
    readonly reporter: Reporter,
    readonly counters: CounterRow,
    /** All open connections of this thread. */
    readonly connections: Set<Connection>,
    /** Makes the translator of a connection; null for a relay, which does not load it. */
    readonly translate: ((link: HttpLink) => HttpRelay) | null,
    upstreams: readonly UpstreamAddress[],
    seed: number,
  ) {
    this.acl = service.allow === null ? null : new NetworkSet(service.allow);
    this.#turn = seed;
    this.setUpstreams(upstreams);
  }

  setUpstreams(upstreams: readonly UpstreamAddress[]): void {
    this.#rotations = upstreams.map((_, i) => [...upstreams.slice(i), ...upstreams.slice(0, i)]);
  }

  /** The upstream's addresses in the order in which the next connection shall try them. */
  nextUpstreams(): readonly UpstreamAddress[] {
    return this.#rotations[this.#turn++ % this.#rotations.length] ?? [];
  }
}
