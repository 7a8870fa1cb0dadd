import type { Cidr } from './address.js';

/** The daemon's log levels, most urgent first. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A host name or address and a port, before its name is looked up. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Waits and bounds of one service. All times in milliseconds, all sizes in bytes. */
export interface Limits {
  /** From accept to the client's first byte. */
  readonly firstByte: number;
  /** From a request's first byte to the end of its head. */
  readonly head: number;
  /** For one connect to the upstream or the original destination, over all of its addresses. */
  readonly connect: number;
  /** Without a byte in either direction. */
  readonly idle: number;
  /** After one direction has ended, without a byte in the other. */
  readonly halfClosed: number;
  /** Of a request or response head. */
  readonly headBytes: number;
}

/**
 * Where a service listens. `host` null is every address of both families.
 */
export interface Listen {
  readonly host: string | null;
  readonly port: number;
}

/** The URL of `--force`. `url` goes into the request line as it is; `host` is its authority, for the Host field. */
export interface ForcedUrl {
  readonly url: string;
  readonly host: string;
}

/** One row of the plan: where to listen, what to do, where to send. */
export interface Service {
  /** For logs. */
  readonly name: string;
  /** Empty: the service is given its sockets (inetd, socket activation). */
  readonly listen: readonly Listen[];
  /** `http` translates requests for an HTTP proxy, `relay` moves bytes. */
  readonly mode: 'http' | 'relay';
  /** null: the original destination. */
  readonly upstream: HostPort | null;
  /** Never connect past the upstream. */
  readonly proxyOnly: boolean;
  readonly force: ForcedUrl | null;
  /** Clients that may connect; null: all. */
  readonly allow: readonly Cidr[] | null;
  readonly limits: Limits;
}

/** All services and settings, parsed and validated. Plain data: it crosses to the workers by structured clone. */
export interface Plan {
  readonly services: readonly Service[];
  /** A user's name, or `#uid`; null: stay who we are. */
  readonly user: string | null;
  /** Access log, absolute path. */
  readonly accessLog: string | null;
  /** Absolute path. */
  readonly pidFile: string | null;
  readonly foreground: boolean;
  /** null: as many as there are cores available. */
  readonly workers: number | null;
  readonly logLevel: LogLevel;
  /** For listening sockets that were handed to us: end after so many milliseconds without a connection. */
  readonly exitIdle: number;
}

export const DEFAULT_LIMITS: Limits = {
  firstByte: 60_000,
  head: 30_000,
  connect: 10_000,
  idle: 120_000,
  halfClosed: 120_000,
  headBytes: 64 * 1024,
};
