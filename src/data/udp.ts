import type { SocketAddress } from '../address.js';
import type { Service } from '../plan.js';
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
  readonly #key = new Int32Array(KEY_WORDS);
  #flows: Flows;
  #asking: Asking;
  #entrance: Entrance;
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
    asking: Asking,
    readonly address: SocketAddress,
    readonly isForeign = false,
    host: string | null = null,
  ) {
    this.#flows = flows;
    this.#asking = asking;
    this.#entrance = { host: host ?? address.ip, port: address.port };
    writeAsked(address, this.#key);
    if (!isForeign) flows.inlets.add(this);
    // Level-triggered: a turn takes one batch, and what is left makes the next event.
    flows.site.loop.add(fd, EPOLLIN, this);
  }

  get asking(): Asking {
    return this.#asking;
  }

  /** As the access log has it. */
  get entrance(): Entrance {
    return this.#entrance;
  }

  /** What comes from now on is for these; flows of those before go on. `asking`, `host`: as above. */
  serve(flows: Flows, asking: Asking, host: string | null): void {
    const before = this.#flows;
    this.#flows = flows;
    this.#asking = asking;
    this.#entrance = { host: host ?? this.address.ip, port: this.address.port };
    writeAsked(this.address, this.#key);
    if (before !== flows) flows.follow(before, this);
  }

  /** A client that asked this address meant somebody else. */
  intercepts(asked: SocketAddress): boolean {
    if (this.isForeign) return true;
    return this.#asking === 'original' && !(asked.port === this.address.port && isLocal(asked.ip));
  }

  /** Takes one batch: datagrams that stand together and belong to one flow go on together. */
  onEvents(): void {
    const batch = datagrams();
    const key = this.#key;
    const count = batch.receive(this.fd);
    let flow: Flow | null = null;
    let first = 0;
    for (let i = 0; i < count; i++) {
      batch.readKey(i, this.#asking, key);
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

  /** Closes the socket. */
  close(): void {
    this.#flows.site.loop.close(this.fd);
  }

  /**
   * Takes nothing more: the socket is left to whoever has it beside this thread, and flows whose answers leave by it end.
   * With `last`, nobody has, and what waits there is taken first, some of it.
   */
  leave(last: boolean): void {
    if (last) this.onEvents();
    this.#flows.site.loop.remove(this.fd);
    this.#flows.lose(this);
  }
}

/**
 * Has a thread serve a socket that was opened for a udp service. `known`: what served it before, for another service;
 * flows of that go on.
 * @throws SystemError
 */
export const serveUdp = (flows: Flows, fd: number, host: string | null = null, known: Inlet | null = null): Inlet => {
  const address = localAddress(fd);
  if (address === null) throw new SystemError('getsockname', 0, `fd ${fd}`);
  const asking = askingOf(flows.site.service, address);
  const ipv6 = address.ip.includes(':');
  // Of several control messages the first would be read. The socket may be one that had another service before.
  tellLocalAddress(fd, ipv6, asking === 'local');
  tellOriginalDestination(fd, ipv6, asking === 'original');
  if (known === null) return new Inlet(flows, fd, asking, address, false, host);
  known.serve(flows, asking, host);
  return known;
};

const askingOf = ({ intercept }: Service, { ip }: SocketAddress): Asking => {
  if (intercept === 'tproxy') return 'original';
  return WILDCARDS.has(ip) ? 'local' : 'none';
};
