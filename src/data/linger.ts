import { receive, shutdownSend } from '../sys/socket.js';
import type { Endpoint } from './endpoint.js';
import { SCRATCH_SIZE } from './loop.js';
import { FAILED, type Pump } from './pump.js';
import type { Site } from './site.js';

/** What lingering needs of a connection. */
export interface LingerLink {
  readonly site: Site;
  readonly toClient: Pump;
  /** It is over then at the latest. */
  watchUntil(deadline: number): void;
}

/** How long a client may take to read what ends its connection, in ms (RFC 9112 section 9.6). */
const LINGER = 2000;

/** The same in bytes: what it may send meanwhile, to be thrown away. */
const LINGER_BYTES = 1024 * 1024;

/**
 * The end of a connection whose client still has to read: what was sent to it goes out, then an end of stream, and what it
 * sends meanwhile is thrown away. A close() with unread bytes would send a reset that overtakes what the client has not
 * read yet.
 */
export class Linger {
  readonly #link: LingerLink;
  readonly #client: Endpoint;
  /** The client has our end of stream. */
  #ended: boolean;
  #discarded = 0;

  /** `reason`: why the connection ends. */
  constructor(
    link: LingerLink,
    client: Endpoint,
    ended: boolean,
    readonly reason: string,
  ) {
    this.#link = link;
    this.#client = client;
    this.#ended = ended;
    link.watchUntil(link.site.loop.now + LINGER);
  }

  /** Goes on. True: there is nothing left to wait for. */
  run(): boolean {
    const client = this.#client;
    const { toClient, site } = this.#link;
    const { moved } = toClient;
    if (toClient.flush() === FAILED) return true;
    if (toClient.moved > moved) this.#link.watchUntil(site.loop.now + LINGER);
    if (!toClient.drained) return false;
    if (!this.#ended) {
      this.#ended = true;
      shutdownSend(client.fd);
    }
    const { scratch } = site.loop;
    while (client.readable) {
      const count = receive(client.fd, scratch, SCRATCH_SIZE);
      if (count > 0) this.#discarded += count;
      if (count === 0) return true;
      // It sends on and on: what it may still read comes through, and it is held back until the time is over. Behind its
      // end, or a reset, there is only what the socket holds.
      if (this.#discarded > LINGER_BYTES && !client.failed) return false;
      if (count < 0) client.readable = false;
    }
    return client.failed;
  }
}
