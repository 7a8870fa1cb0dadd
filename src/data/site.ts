import { formatEnd, NetworkSet, type UpstreamAddress } from '../address.js';
import type { AffinityTable } from '../affinity-table.js';
import type { CounterRow } from '../counters.js';
import { isUnix, type LogLevel, type Service, type Target, type Upstream } from '../plan.js';
import { type AccessEntries, unixName } from './access-entries.js';
import { type Acl, compileAcl } from './acl.js';
import type { Admissions } from './admissions.js';
import type { Connection } from './connection.js';
import type { Loop } from './loop.js';
import type { Names } from './names.js';
import type { Parts } from './parts.js';
import { type Host, Pool, type PoolSettings } from './pool.js';
import { ownSource } from './source.js';

/** What a thread's connections tell the rest of the program. */
export interface Reporter {
  /** Debug messages are wanted; they are not worth making otherwise. */
  readonly verbose: boolean;
  log(level: LogLevel, message: string): void;
  /** null where there is no access log. */
  readonly access: AccessEntries | null;
  /** Every address of one of the service's hosts failed. */
  unreachable(service: number): void;
}

/** What all sites of one thread share. */
export interface Thread {
  readonly loop: Loop;
  readonly reporter: Reporter;
  /** This thread's row of a service's counters. */
  readonly countersOf: (service: number) => Pick<CounterRow, 'add'>;
  /** Messages begin with their service's name, as there is more than one. */
  readonly several: boolean;
  /** All open connections. */
  readonly connections: Set<Connection>;
  /** There may be so many, for want of descriptors. */
  readonly mostConnections: number;
  readonly names: Names;
  /** Sockets of udp flows that are open. A connection has the place of two. */
  flowSockets: number;
  /** null where no service asks TCP wrappers. */
  readonly admissions: Admissions | null;
  /** Called after each connection that ends, with why it broke off; null: it ended in order. */
  onClosed: (failure: string | null) => void;
}

/** A service as one thread serves it. */
export class Site {
  /** null: all may connect. */
  readonly acl: Acl | null;
  readonly counters: Pick<CounterRow, 'add'>;
  readonly trusted: NetworkSet;
  /** The upstreams. */
  readonly pool: Pool;
  /** A relay's targets; null: the original destination. */
  readonly targets: Pool | null;
  /** The targets as an upstream is told them, by name, each one member; null without upstreams, or without targets. */
  readonly ends: Pool | null;

  /**
   * `addresses` by host of hostsOf(service). `seed`: see Pool. `affinity`: which client keeps what; null: none is known
   * from one connection to the next.
   * `forData`: it serves FTP's data connections: each comes to a listener for it alone, so that none can be a loop.
   */
  constructor(
    readonly index: number,
    readonly service: Service,
    readonly thread: Thread,
    /** null for a plain relay. */
    readonly parts: Parts | null,
    addresses: readonly (readonly UpstreamAddress[])[],
    seed: number,
    affinity: AffinityTable | null = null,
    readonly forData = false,
  ) {
    this.acl = compileAcl(service.access);
    this.counters = thread.countersOf(index);
    this.trusted = new NetworkSet(service.http.trust);
    const { upstreams, balance, health, proxyOnly } = service;
    const settings: PoolSettings = { balance, health, last: true, affinity: null };
    const kept = { ...settings, affinity };
    const targets = service.targets.map((target) => targetHost(target, service.source));
    this.pool = new Pool(
      upstreams.map((upstream) => upstreamHost(upstream, parts?.authorization(upstream) ?? null, service.source)),
      addresses,
      { ...(targets.length === 0 ? kept : settings), last: proxyOnly },
      seed,
    );
    const isFirst = upstreams.length === 0;
    const ofTargets = addresses.slice(upstreams.length);
    this.targets = targets.length === 0 ? null : new Pool(targets, ofTargets, isFirst ? kept : settings, seed);
    const names = targets.map(({ to }) => (isUnix(to) ? [] : [{ ip: to.host, port: to.port }]));
    const ends = targets.map((target) => ({ ...target, source: null }));
    this.ends = targets.length === 0 || isFirst ? null : new Pool(ends, names, kept, seed);
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
    const target = host - this.service.upstreams.length;
    if (target < 0) this.pool.setAddresses(host, addresses);
    else this.targets?.setAddresses(target, addresses);
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
