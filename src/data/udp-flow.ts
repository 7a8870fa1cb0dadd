import { formatAddress, type SocketAddress } from '../address.js';
import type { OwnSockets } from '../own-sockets.js';
import { clientOf, datagrams } from '../sys/datagram.js';
import { EPOLLIN } from '../sys/epoll.js';
import { E, errnoName } from '../sys/errno.js';
import { localAddress } from '../sys/socket.js';
import type { Entry } from './flow-table.js';
import type { Watcher } from './loop.js';
import type { Member } from './pool.js';
import type { Site } from './site.js';
import type { Inlet } from './udp.js';
import type { Flows } from './udp-flows.js';

/** For OwnSockets: a port of UDP belongs to one socket, wherever it sends to. */
const ANYWHERE: SocketAddress = { ip: '', port: 0 };

/** The address is that of a flow of this program. */
export const isOwnFlow = (ownFlows: OwnSockets, client: SocketAddress): boolean => ownFlows.has(client, () => ANYWHERE);

/** What a flow is made of. */
export interface FlowStart {
  readonly key: Int32Array;
  /** A socket that is connected to the target. */
  readonly fd: number;
  readonly target: SocketAddress;
  /** Who has that address; null: it is the original destination. */
  readonly member: Member | null;
  /** null: the datagrams were not intercepted. */
  readonly original: SocketAddress | null;
  /** Each datagram to the target begins with it; null for none. */
  readonly preface: Buffer | null;
  /** Answers leave by this one. */
  readonly inlet: Inlet;
}

/**
 * What one address of a client says to one address of ours, and the answers: a socket that is connected to the target,
 * so that answers to the client are told from those to others by the kernel.
 */
export class Flow implements Watcher, Entry<Flow> {
  hash = 0;
  next: Flow | null = null;
  older: Flow | null = null;
  newer: Flow | null = null;
  readonly key: Int32Array;
  readonly target: SocketAddress;
  readonly member: Member | null;
  readonly original: SocketAddress | null;
  readonly inlet: Inlet;
  /** The plan's row that it began under. */
  readonly site: Site;
  lastActive: number;
  /** Bytes of datagrams that went on. */
  fromClient = 0;
  toClient = 0;
  readonly #flows: Flows;
  readonly #fd: number;
  readonly #preface: Buffer | null;
  readonly #opened: number;
  /** By what it is known among our own; a key of 0 for none. */
  #ownPort = 0;
  #ownKey = 0;
  /** The target is not there, as it seems; that was said. */
  #refused = false;

  /** @throws SystemError when epoll does not take the descriptor, which stays the caller's then */
  constructor(flows: Flows, { key, fd, target, member, original, preface, inlet }: FlowStart) {
    this.#flows = flows;
    this.site = flows.site;
    this.key = key;
    this.#fd = fd;
    this.target = target;
    this.member = member;
    this.original = original;
    this.#preface = preface;
    this.inlet = inlet;
    this.#opened = this.site.loop.now;
    this.lastActive = this.#opened;
    // Level-triggered: a turn takes one batch, and what is left makes the next event.
    this.site.loop.add(fd, EPOLLIN, this);
    // With the client's own address it might be that client the next moment.
    const local = this.site.service.spoof ? null : localAddress(fd);
    if (local === null) return;
    this.#ownPort = local.port;
    this.#ownKey = flows.ownFlows.add(local, ANYWHERE);
  }

  get client(): SocketAddress {
    return clientOf(this.key);
  }

  /** Sends on what the slots from `first` to before `end` of this thread's batch hold. */
  toTarget(first: number, end: number): void {
    datagrams().addressToTarget(first, end, this.#preface);
    this.fromClient += this.#send(this.#fd, first, end);
    this.#flows.touch(this);
  }

  /** The target has answered, or an ICMP message about what was sent to it came. */
  onEvents(): void {
    const batch = datagrams();
    const count = batch.receive(this.#fd);
    if (count < 0) {
      if (count !== -E.AGAIN) this.#onError(-count);
      return;
    }
    this.#refused = false;
    batch.addressToClient(0, count, this.key, this.inlet.asking !== 'none');
    this.toClient += this.#send(this.inlet.fd, 0, count);
    this.#flows.touch(this);
  }

  /** Sends slots that are readied: the bytes of those that went out. What the kernel has no room for is dropped. */
  #send(fd: number, first: number, end: number): number {
    const batch = datagrams();
    let bytes = 0;
    let dropped = 0;
    let failed = -1;
    let at = first;
    while (at < end) {
      const sent = batch.send(fd, at, end);
      if (sent > 0) {
        for (const next = at + sent; at < next; at++) bytes += batch.length(at);
      } else if (sent === -E.AGAIN || sent === -E.NOBUFS) {
        dropped += end - at;
        at = end;
      } else if (failed !== at) {
        // A connected socket tells of an ICMP message by failing the next call, which has sent nothing then (udp(7)).
        failed = at;
        if (fd === this.#fd) this.#onError(-sent);
      } else {
        dropped++;
        at++;
      }
    }
    if (dropped > 0) this.site.counters.add('dropped', dropped);
    return bytes;
  }

  /** The flow goes on: the target may be back for the next datagram. */
  #onError(errno: number): void {
    if (this.#refused) return;
    this.#refused = true;
    this.#flows.onUnreachable(`${this.#name()}: ${errnoName(errno)}`);
  }

  /** It is over; its descriptor closes at the end of the turn. Only Flows calls it. */
  close(reason: string): void {
    const { loop, reporter, service, counters } = this.site;
    loop.close(this.#fd);
    if (this.#ownKey !== 0) this.#flows.ownFlows.remove(this.#ownPort, this.#ownKey);
    counters.add('bytesFromClients', this.fromClient);
    counters.add('bytesToClients', this.toClient);
    if (reporter.verbose) reporter.log('debug', `${service.name}: ${this.#name()}: closed: ${reason}`);
  }

  /** One line for a dump. */
  describe(): string {
    const { now } = this.site.loop;
    const seconds = (since: number): string => `${((now - since) / 1000).toFixed(1)} s`;
    return (
      `${this.site.service.name}: ${this.#name()}: ${this.fromClient} bytes from the client, ${this.toClient} bytes to it, ` +
      `age ${seconds(this.#opened)}, idle ${seconds(this.lastActive)}`
    );
  }

  #name(): string {
    const { original, target } = this;
    const meant = original === null ? '' : `original destination ${formatAddress(original)}, `;
    return `flow of client ${formatAddress(this.client)}, ${meant}upstream ${formatAddress(target)}`;
  }
}
