import type { SocketAddress } from '../address.js';
import { type Asking, datagrams, KEY_WORDS, writeAsked } from '../sys/datagram.js';
import { EPOLLIN } from '../sys/epoll.js';
import { SystemError } from '../sys/errno.js';
import { isLocal, localAddress } from '../sys/socket.js';
import { tellLocalAddress, tellOriginalDestination } from '../sys/udp-socket.js';
import type { Entrance } from './access-entries.js';
import type { Watcher } from './loop.js';
import type { Flow } from './udp-flow.js';
import type { Flows } from './udp-flows.js';

const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

/** A socket that datagrams of clients come in by, and answers to them leave by. */
export class Inlet implements Watcher {
  readonly #flows: Flows;
  readonly #key = new Int32Array(KEY_WORDS);
  /** As the access log has it. */
  readonly entrance: Entrance;
  /** Flows whose answers leave by it. */
  flows = 0;

  /**
   * Registers `fd` with the loop. `address`: its own; `isForeign`: that is not this host's, but an original destination.
   * `host`: as the plan has it.
   * @throws SystemError when epoll does not take the descriptor, which stays the caller's then
   */
  constructor(
    flows: Flows,
    readonly fd: number,
    readonly asking: Asking,
    readonly address: SocketAddress,
    readonly isForeign = false,
    host: string | null = null,
  ) {
    this.entrance = { host: host ?? address.ip, port: address.port };
    this.#flows = flows;
    writeAsked(address, this.#key);
    // Level-triggered: a turn takes one batch, and what is left makes the next event.
    flows.site.loop.add(fd, EPOLLIN, this);
  }

  /** A client that asked this address meant somebody else. */
  intercepts(asked: SocketAddress): boolean {
    if (this.isForeign) return true;
    return this.asking === 'original' && !(asked.port === this.address.port && isLocal(asked.ip));
  }

  /** Takes one batch: datagrams that stand together and belong to one flow go on together. */
  onEvents(): void {
    const batch = datagrams();
    const key = this.#key;
    const count = batch.receive(this.fd);
    let flow: Flow | null = null;
    let first = 0;
    for (let i = 0; i < count; i++) {
      batch.readKey(i, this.asking, key);
      const next: Flow | null = this.#flows.find(key);
      if (next !== null && next === flow && !batch.isTruncated(i)) continue;
      // Before another one begins: the one that is let go for it may be this.
      flow?.toTarget(first, i);
      // A part of a datagram is none.
      flow = batch.isTruncated(i) ? null : (next ?? this.#flows.begin(this, key));
      first = i;
    }
    flow?.toTarget(first, count);
  }

  close(): void {
    this.#flows.site.loop.close(this.fd);
  }
}

/**
 * Has a thread serve a socket that was opened for a udp service.
 * @throws SystemError
 */
export const serveUdp = (flows: Flows, fd: number, host: string | null = null): Inlet => {
  const address = localAddress(fd);
  if (address === null) throw new SystemError('getsockname', 0, `fd ${fd}`);
  const ipv6 = address.ip.includes(':');
  if (flows.site.service.intercept === 'tproxy') {
    tellOriginalDestination(fd, ipv6);
    return new Inlet(flows, fd, 'original', address, false, host);
  }
  if (!WILDCARDS.has(address.ip)) return new Inlet(flows, fd, 'none', address, false, host);
  tellLocalAddress(fd, ipv6);
  return new Inlet(flows, fd, 'local', address, false, host);
};
