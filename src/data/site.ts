import { type Cidr, NetworkSet, type UpstreamAddress } from '../address.js';
import type { CounterRow } from '../counters.js';
import { hostsOf, type LogLevel, type Service } from '../plan.js';
import type { Connection } from './connection.js';
import type { Loop } from './loop.js';
import type { Names } from './names.js';
import type { Parts } from './parts.js';
import { Host, Member, Pool } from './pool.js';

/** What a thread's connections tell the rest of the program. */
export interface Reporter {
  /** Debug messages are wanted; they are not worth making otherwise. */
  verbose: boolean;
  log(level: LogLevel, message: string): void;
  /** One entry of the access log, without its time; null where there is no such log. */
  access: ((entry: string) => void) | null;
  /** Every address of one of the service's hosts failed. `service`: Site.id. */
  unreachable(service: number): void;
}

/** What all sites of one thread share. */
export interface Thread {
  readonly loop: Loop;
  readonly reporter: Reporter;
  readonly counters: CounterRow;
  /** All open connections. */
  readonly connections: Set<Connection>;
  readonly names: Names;
  /** Called after each connection that ends. */
  onClosed: () => void;
}

/**
 * A service as one thread serves it. What it consists of is made by the first connection: of a thousand services in one
 * file most have none for long, in most threads.
 */
export class Site {
  readonly #addresses: (readonly UpstreamAddress[])[];
  readonly #seed: number;
  #acl: NetworkSet | null | undefined;
  #trusted: NetworkSet | undefined;
  #pool: Pool | undefined;
  #target: Host | null | undefined;

  /** `addresses` by host of hostsOf(service). `seed`: see Host. */
  constructor(
    /** What reports and commands know the service by. */
    readonly id: number,
    readonly service: Service,
    readonly thread: Thread,
    /** null for a plain relay. */
    readonly parts: Parts | null,
    addresses: readonly (readonly UpstreamAddress[])[],
    seed: number,
  ) {
    this.#addresses = [...addresses];
    this.#seed = seed;
  }

  get acl(): NetworkSet | null {
    if (this.#acl === undefined) {
      const allow = this.service.access[0]?.allow;
      this.#acl = allow === undefined || allow === null ? null : new NetworkSet(allow as Cidr[]);
    }
    return this.#acl;
  }

  get trusted(): NetworkSet {
    this.#trusted ??= new NetworkSet(this.service.http.trust);
    return this.#trusted;
  }

  get pool(): Pool {
    if (this.#pool === undefined) {
      const { service, parts } = this;
      const members = service.upstreams.map(
        (upstream, i) =>
          new Member(upstream, parts?.authorization(upstream) ?? null, this.#addresses[i] ?? [], this.#seed),
      );
      this.#pool = new Pool(service, members, this.#seed);
    }
    return this.#pool;
  }

  /** A relay's fixed target. */
  get target(): Host | null {
    if (this.#target === undefined) {
      const { targets, upstreams } = this.service;
      this.#target = targets.length === 0 ? null : new Host(this.#addresses[upstreams.length] ?? [], this.#seed);
    }
    return this.#target;
  }

  /** Connections to upstreams may serve one client after another: nothing said on them when they began is of one client. */
  get shares(): boolean {
    return this.service.proxyProtocol === null;
  }

  get loop(): Loop {
    return this.thread.loop;
  }

  get reporter(): Reporter {
    return this.thread.reporter;
  }

  /** `host`: index into hostsOf(service). */
  setAddresses(host: number, addresses: readonly UpstreamAddress[]): void {
    if (host >= hostsOf(this.service).length) return;
    this.#addresses[host] = addresses;
    if (host < this.service.upstreams.length) this.#pool?.members[host]?.setAddresses(addresses);
    else this.#target?.setAddresses(addresses);
  }

  /** The plan has it no more. Its open connections go on; nobody else comes for those that wait for clients. */
  retire(): void {
    for (const { spares } of this.#pool?.members ?? []) spares.keep([]);
  }
}
