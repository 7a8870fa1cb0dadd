import { formatEnd, NetworkSet, type UpstreamAddress } from '../address.js';
import type { AffinityTable } from '../affinity-table.js';
import type { CounterRow } from '../counters.js';
import { isUnix, type LogLevel, type Service, type Target, type Upstream } from '../plan.js';
import { type AccessEntries, unixName } from './access-entries.js';
import { type Acl, compileAcl } from './acl.js';
import type { Admissions } from './admissions.js';
import type { Connection } from './connection.js';
import type { Loop, Runnable } from './loop.js';
import type { Names } from './names.js';
import type { Parts } from './parts.js';
import { type Host, Pool, type PoolSettings } from './pool.js';
import { ownSource } from './source.js';

/** What a thread's connections tell the rest of the program. */
export interface Reporter {
  /** Debug messages are wanted; they are not worth making otherwise. */
  verbose: boolean;
  log(level: LogLevel, message: string): void;
  /** null where there is no access log. */
  access: AccessEntries | null;
  /** Every address of one of the service's hosts failed. `service`: Site.id. */
  unreachable(service: number): void;
}

/** What all sites of one thread share. */
export interface Thread {
  readonly loop: Loop;
  readonly reporter: Reporter;
  /** This thread's row of a service's counters. `service`: Site.id. */
  readonly countersOf: (service: number) => Pick<CounterRow, 'add'>;
  /** Messages begin with their service's name, as there is more than one. */
  several: boolean;
  /** All open connections. */
  readonly connections: Set<Connection>;
  /** There may be so many, for want of descriptors. */
  mostConnections: number;
  /** Listeners that wait until there are fewer. */
  readonly waiting: Set<Runnable>;
  readonly names: Names;
  /** Sockets of udp flows that are open. A connection has the place of two. */
  flowSockets: number;
  /** null where no service asks TCP wrappers. */
  admissions: Admissions | null;
  /** Called after each connection that ends, with why it broke off; null: it ended in order. */
  onClosed: (failure: string | null) => void;
}

/** How many sockets a thread has: two for each connection, and for each client that waits for its admission. */
export const socketsOf = ({ connections, admissions, flowSockets }: Thread): number =>
  2 * (connections.size + (admissions?.size ?? 0)) + flowSockets;

/**
 * A service as one thread serves it. What it consists of is made by the first connection: of a thousand services in one
 * file most have none for long, in most threads.
 */
export class Site {
  readonly counters: Pick<CounterRow, 'add'>;
  readonly #addresses: (readonly UpstreamAddress[])[];
  readonly #seed: number;
  readonly #affinity: AffinityTable | null;
  #acl: Acl | null | undefined;
  #trusted: NetworkSet | undefined;
  #pool: Pool | undefined;
  #targets: Pool | null | undefined;
  #ends: Pool | null | undefined;

  /**
   * `addresses` by host of hostsOf(service). `seed`: see Pool. `affinity`: which client keeps what; null: none is known
   * from one connection to the next.
   * `forData`: it serves FTP's data connections: each comes to a listener for it alone, so that none can be a loop.
   */
  constructor(
    /** What reports and commands know the service by. */
    readonly id: number,
    readonly service: Service,
    readonly thread: Thread,
    /** null for a plain relay. */
    readonly parts: Parts | null,
    addresses: readonly (readonly UpstreamAddress[])[],
    seed: number,
    affinity: AffinityTable | null = null,
    readonly forData = false,
  ) {
    this.counters = thread.countersOf(id);
    this.#addresses = [...addresses];
    this.#seed = seed;
    this.#affinity = affinity;
  }

  /** null: all may connect. */
  get acl(): Acl | null {
    if (this.#acl === undefined) this.#acl = compileAcl(this.service.access);
    return this.#acl;
  }

  get trusted(): NetworkSet {
    this.#trusted ??= new NetworkSet(this.service.http.trust);
    return this.#trusted;
  }

  /** The upstreams. */
  get pool(): Pool {
    this.#pool ??= this.#makePool();
    return this.#pool;
  }

  /** A relay's targets; null: the original destination. */
  get targets(): Pool | null {
    if (this.#targets === undefined) this.#targets = this.#makeTargets();
    return this.#targets;
  }

  /** The targets as an upstream is told them, by name, each one member; null without upstreams, or without targets. */
  get ends(): Pool | null {
    if (this.#ends === undefined) this.#ends = this.#makeEnds();
    return this.#ends;
  }

  /** Connections to upstreams may serve one client after another: nothing of them is one client's from their beginning. */
  get shares(): boolean {
    return this.service.proxyProtocol === null && !this.service.spoof;
  }

  get loop(): Loop {
    return this.thread.loop;
  }

  get reporter(): Reporter {
    return this.thread.reporter;
  }

  /** `host`: index into hostsOf(service). */
  setAddresses(host: number, addresses: readonly UpstreamAddress[]): void {
    this.#addresses[host] = addresses;
    const target = host - this.service.upstreams.length;
    if (target < 0) this.#pool?.setAddresses(host, addresses);
    else this.#targets?.setAddresses(target, addresses);
  }

  /** What a probe found. `host`: as above. */
  setHealth(host: number, address: UpstreamAddress, up: boolean): void {
    const target = host - this.service.upstreams.length;
    const members = target < 0 ? this.pool.membersAt(host, address) : this.targets?.membersAt(target, address);
    for (const member of members ?? []) {
      member.probedUp = up;
      // What this thread held against it is older news.
      if (up) member.succeeded();
    }
  }

  /** The plan has it no more. Its open connections go on; nobody else comes for those that wait for clients. */
  retire(): void {
    for (const { spares } of this.#pool?.members ?? []) spares.end();
  }

  /** `keeps`: it is what a client comes to first, and may keep. */
  #settings(keeps: boolean): PoolSettings {
    const { balance, health } = this.service;
    return { balance, health, last: true, affinity: keeps ? this.#affinity : null };
  }

  #makePool(): Pool {
    const { service, parts } = this;
    const hosts = service.upstreams.map((upstream) =>
      upstreamHost(upstream, parts?.authorization(upstream) ?? null, service.source),
    );
    const settings = { ...this.#settings(service.targets.length === 0), last: service.proxyOnly };
    return new Pool(hosts, this.#addresses, settings, this.#seed);
  }

  #makeTargets(): Pool | null {
    const { targets, upstreams, source } = this.service;
    if (targets.length === 0) return null;
    const hosts = targets.map((target) => targetHost(target, source));
    const addresses = this.#addresses.slice(upstreams.length);
    return new Pool(hosts, addresses, this.#settings(upstreams.length === 0), this.#seed);
  }

  #makeEnds(): Pool | null {
    const { targets, upstreams } = this.service;
    if (targets.length === 0 || upstreams.length === 0) return null;
    const hosts = targets.map((target) => ({ ...targetHost(target, null), source: null }));
    const names = targets.map(({ to }) => (isUnix(to) ? [] : [{ ip: to.host, port: to.port }]));
    return new Pool(hosts, names, this.#settings(true), this.#seed);
  }
}

const upstreamHost = (upstream: Upstream, authorization: string | null, source: string | null): Host => ({
  to: upstream,
  name: formatEnd(upstream),
  upstream,
  authorization,
  weight: 1,
  source: ownSource(source),
});

const targetHost = ({ to, weight, source }: Target, ofService: string | null): Host => ({
  to,
  name: isUnix(to) ? unixName(to.path) : formatEnd(to),
  upstream: null,
  authorization: null,
  weight,
  source: ownSource(source ?? ofService),
});
