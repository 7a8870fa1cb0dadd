import type { UpstreamAddress } from './address.js';
import type { LogLevel, Plan, Service } from './plan.js';

/** A socket that a worker serves. The worker owns accepting from it, the control plane owns closing it. */
export interface ListenerHandle {
  /** A service's id. */
  readonly service: number;
  readonly fd: number;
  /** What the plan has for its address, or the path of a unix socket; null: the socket's own address is its name. */
  readonly host: string | null;
}

/** What a plan says of the whole program. */
export type Settings = Omit<Plan, 'services'>;

/** A service that a worker begins to serve. */
export interface ServiceStart {
  /**
   * A number of one service in all plans of a process, never used for another: a message about one that is gone by now
   * means no other. Those of the first plan are their indices.
   */
  readonly id: number;
  readonly service: Service;
  /** By host of hostsOf(service). */
  readonly addresses: readonly (readonly UpstreamAddress[])[];
  /** See Counters. */
  readonly counters: SharedArrayBuffer;
  /** See AffinityTable; null for a service without. */
  readonly affinity: SharedArrayBuffer | null;
}

/** What a worker is started with. */
export interface WorkerStart {
  readonly index: number;
  readonly settings: Settings;
  readonly services: readonly ServiceStart[];
  readonly listeners: readonly ListenerHandle[];
  /** An eventfd: written by control after it posted a Command. */
  readonly wakeFd: number;
  /** Connections that this worker may have open; more are left in the listening socket's queue. */
  readonly maxConnections: number;
  /** Pipes that this worker may have open. */
  readonly maxPipes: number;
  /** A listening socket to report `knock` for; null for none. */
  readonly knockFd: number | null;
  /** See OwnSockets. */
  readonly ownSockets: SharedArrayBuffer;
}

/**
 * Control to data. Post, then write to the wake eventfd: a worker that sits in epoll_wait runs no event of a port.
 * `service` is a service's id, here and in a Report.
 */
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
  /** Another plan. Open connections go on with the service that they began with. */
  | {
      readonly kind: 'plan';
      readonly settings: Settings;
      readonly added: readonly ServiceStart[];
      /** Ids of services that are in the plan no more. */
      readonly gone: readonly number[];
      /** Sockets to listen on from now on, and those of before that have another service now. */
      readonly listeners: readonly ListenerHandle[];
      readonly maxConnections: number;
    }
  /** Listen on these no more, and say `left` with the same number. `last`: see Listener.leave. */
  | { readonly kind: 'leave'; readonly number: number; readonly fds: readonly number[]; readonly last: boolean }
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
  /** What `leave` asks for is done: the sockets may be closed, as far as this worker goes. */
  | { readonly kind: 'left'; readonly number: number }
  /** Somebody wants to connect to WorkerStart.knockFd. */
  | { readonly kind: 'knock' }
  /** Every address of a service's host failed: its name may have moved. */
  | { readonly kind: 'unreachable'; readonly service: number }
  /** A `resolved` command is asked for. */
  | { readonly kind: 'resolve'; readonly name: string }
  /** An `admitted` command is asked for: TCP wrappers, who know the service as `daemon`, shall decide on a client. */
  | { readonly kind: 'admission'; readonly id: number; readonly daemon: string; readonly ip: string | null };
