import type { SocketAddress } from './address.js';

const PORTS = 65_536;

/** FNV-1a, begun or gone on with. */
const hashOn = (hash: number, text: string): number => {
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
};

/** A hash of a connection's ends, never 0. The local port is where it is kept. */
const keyOf = (local: SocketAddress, remote: SocketAddress): number =>
  Math.imul(hashOn(hashOn(0x811c9dc5, local.ip), remote.ip) ^ remote.port, 0x01000193) | 1;

const BYTES = PORTS * Int32Array.BYTES_PER_ELEMENT;

/** Memory for the OwnSockets of both protocols, shared by all workers. */
export const allocateOwnSockets = (): SharedArrayBuffer => new SharedArrayBuffer(2 * BYTES);

/**
 * This program's outgoing connections, by both addresses. An accepted connection that is one of them was redirected to
 * us by a rule that catches what we send: a loop, each turn of which would make another connection.
 * Both, because the kernel gives one local port to connections to different destinations: a client on this host may
 * well come from the address of a connection of ours.
 * By local port, with a hash of the rest: of several with one port the latest is known.
 */
export class OwnSockets {
  readonly #byPort: Int32Array;

  /** The ports of the two protocols have nothing to do with each other. */
  constructor(memory: SharedArrayBuffer, protocol: 'tcp' | 'udp' = 'tcp') {
    this.#byPort = new Int32Array(memory, protocol === 'udp' ? BYTES : 0, PORTS);
  }

  /** The key to remove it by. */
  add(local: SocketAddress, remote: SocketAddress): number {
    const key = keyOf(local, remote);
    Atomics.store(this.#byPort, local.port, key);
    return key;
  }

  remove(localPort: number, key: number): void {
    Atomics.compareExchange(this.#byPort, localPort, key, 0);
  }

  /** `destinationOf` is asked only where it decides: where a connection from `client` was going. */
  has(client: SocketAddress, destinationOf: () => SocketAddress | null): boolean {
    const known = Atomics.load(this.#byPort, client.port);
    if (known === 0) return false;
    const destination = destinationOf();
    return destination !== null && known === keyOf(client, destination);
  }
}
