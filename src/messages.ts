import type { UpstreamAddress } from './address.js';
import type { LogLevel, Plan } from './plan.js';

/** A listening socket that a worker serves. The worker owns accepting from it, the control plane owns closing it. */
export interface ListenerHandle {
  /** Index into Plan.services. */
  readonly service: number;
  readonly fd: number;
  /** What the plan has for its address, or the path of a unix socket; null: the socket's own address is its name. */
  readonly host: string | null;
}

/** What a worker is started with. */
export interface WorkerStart {
  readonly index: number;
  readonly plan: Plan;
  readonly listeners: readonly ListenerHandle[];
  /** By service, and by host of hostsOf(service). */
  readonly addresses: readonly (readonly (readonly UpstreamAddress[])[])[];
  /** An eventfd: written by control after it posted a Command. */
  readonly wakeFd: number;
  /** Connections that this worker may have open; more are left in the listening socket's queue. */
  readonly maxConnections: number;
  /** Pipes that this worker may have open. */
  readonly maxPipes: number;
  /** By service. */
  readonly counters: readonly SharedArrayBuffer[];
  /** See OwnSockets. */
  readonly ownSockets: SharedArrayBuffer;
  /** See AffinityTable. By service; null for one without. */
  readonly affinities: readonly (SharedArrayBuffer | null)[];
}

/** Control to data. Post, then write to the wake eventfd: a worker that sits in epoll_wait runs no event of a port. */
export type Command =
  /** A host of hostsOf(service) has these addresses now. */
  | {
      readonly kind: 'addresses';
      readonly service: number;
      readonly host: number;
      readonly addresses: readonly UpstreamAddress[];
    }
  /** What a probe of one address of a host of hostsOf(service) found. */
  | {
      readonly kind: 'health';
      readonly service: number;
      readonly host: number;
      readonly address: UpstreamAddress;
      readonly up: boolean;
    }
  /** The answer to a `resolve` report; empty when the name has no address. */
  | { readonly kind: 'resolved'; readonly name: string; readonly ips: readonly string[] }
  /** The answer to an `admission` report: why the client is refused, or null. */
  | { readonly kind: 'admitted'; readonly id: number; readonly refusal: string | null }
  | { readonly kind: 'dump' }
  | { readonly kind: 'stop' };

/** Data to control. */
export type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly message: string }
  /** Whole lines of the access log, each with its newline. */
  | { readonly kind: 'access'; readonly lines: string }
  /** One line for each open connection. */
  | { readonly kind: 'dump'; readonly lines: readonly string[] }
  /** Every address of a service's host failed: its name may have moved. */
  | { readonly kind: 'unreachable'; readonly service: number }
  /** A `resolved` command is asked for. */
  | { readonly kind: 'resolve'; readonly name: string }
  /** An `admitted` command is asked for: TCP wrappers shall decide on a client of this service. */
  | { readonly kind: 'admission'; readonly id: number; readonly service: number; readonly ip: string | null };
