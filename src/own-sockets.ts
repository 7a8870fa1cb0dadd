import type { SocketAddress } from './address.js';

const PORTS = 65_536;

/** FNV-1a over a text, never 0. */
const hashOf = (text: string): number => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash | 1;
};

const key = (local: SocketAddress, remote: SocketAddress): number => hashOf(`${local.ip} ${remote.ip} ${remote.port}`);

/** Memory for OwnSockets, shared by all workers. */
export const allocateOwnSockets = (): SharedArrayBuffer => new SharedArrayBuffer(PORTS * Int32Array.BYTES_PER_ELEMENT);

/**
 * This program's outgoing connections, by both addresses. An accepted connection that is one of them was redirected to
 * us by a rule that catches what we send: a loop, each turn of which would make another connection.
 * Both, because the kernel gives one local port to connections to different destinations: a client on this host may
 * well come from the address of a connection of ours.
 * By local port, with a hash of the rest: of several with one port the latest is known.
 */
export class OwnSockets {
  readonly #byPort: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#byPort = new Int32Array(memory);
  }

  add(local: SocketAddress, remote: SocketAddress): void {
    Atomics.store(this.#byPort, local.port, key(local, remote));
  }

  remove(local: SocketAddress, remote: SocketAddress): void {
    Atomics.compareExchange(this.#byPort, local.port, key(local, remote), 0);
  }

  /** `destinationOf` is asked only where it decides: where a connection from `client` was going. */
  has(client: SocketAddress, destinationOf: () => SocketAddress | null): boolean {
    const known = Atomics.load(this.#byPort, client.port);
    if (known === 0) return false;
    const destination = destinationOf();
    return destination !== null && known === key(client, destination);
  }
}
