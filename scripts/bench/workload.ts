import type { SocketAddress } from '../../src/address.js';

/**
 * What the load generator and the target agree on. The first byte of a connection says what it is for.
 *
 * bulk: the client sends one byte, the target sends without end, and the client closes when its time is up.
 * short: the client sends a small request, the target sends a small reply and closes, the client closes. As the target
 * closes first, TIME_WAIT stays with listening ports: nobody who connects runs out of ephemeral ports.
 */
export const KINDS = { bulk: 0x62, short: 0x73 } as const;
export type Kind = keyof typeof KINDS;

/** Bytes of the request and of the reply of a short connection. */
export const MESSAGE_SIZE = 100;

/** To the load generator. */
export interface Job {
  readonly kind: Kind;
  readonly to: SocketAddress;
  readonly seconds: number;
  /** That are open at the same time. */
  readonly connections: number;
}

/** From the load generator. */
export interface Done {
  /** Bytes received, or short connections that got their whole reply and its end. */
  readonly work: number;
  readonly seconds: number;
  /** Connections that ended otherwise. */
  readonly failed: number;
  /** Why the first of them did, where that is known. */
  readonly reason?: string | null;
}
