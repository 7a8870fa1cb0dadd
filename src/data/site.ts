import { NetworkSet, type UpstreamAddress } from '../address.js';
import type { CounterRow } from '../counters.js';
import { hostsOf, type LogLevel, type Service } from '../plan.js';
import type { Admissions } from './admissions.js';
import type { Connection } from './connection.js';
import type { Loop } from './loop.js';
import type { Names } from './names.js';
import type { Parts } from './parts.js';
import { Host, Member, Pool } from './pool.js';

/** What a thread's connections tell the rest of the program. */
export interface Reporter {
  /** Debug messages are wanted; they are not worth making otherwise. */
  readonly verbose: boolean;
  log(level: LogLevel, message: string): void;
  /** One entry of the access log, without its time; null where there is no such log. */
  readonly access: ((entry: string) => void) | null;
  /** Every address of one of the service's hosts failed. */
  unreachable(service: number): void;
}

/** What all sites of one thread share. */
export interface Thread {
  readonly loop: Loop;
  readonly reporter: Reporter;
  readonly counters: Pick<CounterRow, 'add'>;
  /** All open connections. */
  readonly connections: Set<Connection>;
  /** There may be so many, for want of descriptors. */
  readonly mostConnections: number;
  readonly names: Names;
  /** null where no service asks TCP wrappers. */
  readonly admissions: Admissions | null;
  /** Called after each connection that ends, with why it broke off; null: it ended in order. */
  onClosed: (failure: string | null) => void;
}

/** A service as one thread serves it. */
export class Site {
  readonly acl: NetworkSet | null;
  readonly trusted: NetworkSet;
  readonly pool: Pool;
  /** A relay's fixed target. */
  readonly target: Host | null;
  /** It serves FTP's data connections: each comes to a listener for it alone, so that none can be a loop. */
  readonly forData: boolean;

  /**
   * `addresses` by host of hostsOf(service). `seed`: see Host. `members`: for data connections, those of the control
   * connection's site; what is known of them is shared.
   */
  constructor(
    readonly index: number,
    readonly service: Service,
    readonly thread: Thread,
    /** null for a plain relay. */
    readonly parts: Parts | null,
    addresses: readonly (readonly UpstreamAddress[])[],
    seed: number,
    members?: readonly Member[],
  ) {
    this.acl = service.allow === null ? null : new NetworkSet(service.allow);
    this.trusted = new NetworkSet(service.http.trust);
    const own = (): Member[] =>
      service.upstreams.map(
        (upstream, i) => new Member(upstream, parts?.authorization(upstream) ?? null, addresses[i] ?? [], seed),
      );
    this.forData = members !== undefined;
    this.pool = new Pool(service, members ?? own(), seed);
    this.target = service.target === null ? null : new Host(addresses[service.upstreams.length] ?? [], seed);
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
    if (host < hostsOf(this.service).length) (this.pool.members[host] ?? this.target)?.setAddresses(addresses);
  }
}
