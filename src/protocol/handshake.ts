import type { Incomplete, Refused } from './http.js';

/** The upstream waits for these bytes. `size` bytes of what it said before were understood. */
export interface Send {
  readonly kind: 'send';
  readonly bytes: Buffer;
  readonly size: number;
}

/** The tunnel stands. What is behind the first `size` bytes is the origin's, which may speak before it is spoken to. */
export interface Connected {
  readonly kind: 'connected';
  readonly size: number;
}

/**
 * What is said with an upstream until it relays to an origin: send `first`, then give `next` what the upstream says,
 * and send what it tells to, until it is connected or refused. Pure: the caller has the sockets and the deadline.
 */
export interface Handshake {
  first(): Buffer;
  /**
   * Reads what the upstream said from `start` on; what was understood (`size`) must not be given again.
   * Refused: there is no tunnel and there won't be; the status is for a client that speaks HTTP.
   */
  next(bytes: Buffer, start: number, end: number): Incomplete | Refused | Send | Connected;
}
