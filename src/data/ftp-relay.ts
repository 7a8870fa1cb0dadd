import { type ClientAddress, formatAddress, isAddress, type SocketAddress, type UpstreamAddress } from '../address.js';
import type { Slot } from '../counters.js';
import { type Ftp, type LogLevel, type Service, type Shaping, targetTo } from '../plan.js';
import { FtpDialog, type FtpEnds } from '../protocol/ftp-dialog.js';
import { SystemError } from '../sys/errno.js';
import { receiveUrgentInline } from '../sys/socket.js';
import { begin } from './admit.js';
import type { Connection } from './connection.js';
import { OneShot, type Place } from './one-shot.js';
import type { Member } from './pool.js';
import type { Pump } from './pump.js';
import { Site } from './site.js';
import type { Timed } from './timers.js';

/** What following FTP needs of its control connection. */
export interface FtpLink {
  readonly site: Site;
  readonly clientAddress: ClientAddress | null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  /** Has the connection run in the next turn. */
  again(): void;
  log(level: LogLevel, message: string): void;
}

/** Where a control connection's ends are. IP addresses, but for the origin's. */
export interface FtpSides {
  readonly clientFd: number;
  readonly client: string;
  /** Ours, as the client connected to it. */
  readonly near: string;
  /** The origin's; through an upstream it may be a name. */
  readonly origin: string;
  /** Ours, as the origin or the upstream sees it. */
  readonly local: string;
  /** Of our addresses the one that connections to the origin or the upstream have to come from; null: as the service says. */
  readonly source: string | null;
  /** The upstream in between. */
  readonly member: Member | null;
}

/** How long a listener waits for its one connection, in ms. */
const DATA_WAIT = 30_000;

/** How long a command waits for replies to those before it when nothing happens, in ms. */
const REPLY_WAIT = 10_000;

/** Data connections that one control connection may have open: FTP has one at a time, and some may linger. */
const MOST_TRANSFERS = 16;

const swapShaping = (shaping: Shaping | null): Shaping | null =>
  shaping && { ...shaping, toClient: shaping.toUpstream, toUpstream: shaping.toClient };

/** The origin makes active data connections, so that their client's bytes are the origin's. */
const SWAPPED: Readonly<Partial<Record<Slot, Slot>>> = {
  bytesFromClients: 'bytesToClients',
  bytesToClients: 'bytesFromClients',
};

/**
 * Follows FTP's control connection and relays its data connections: each comes to a listener made for it alone. All that a
 * client or an origin may have us connect to, or accept, is the two ends of the control connection.
 */
export class FtpRelay implements FtpEnds, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #link: FtpLink;
  readonly #sides: FtpSides;
  readonly #dialog: FtpDialog;
  #listener: OneShot | null = null;
  /** Data connections; some may be over. */
  readonly #transfers = new Set<Connection>();

  constructor(link: FtpLink, sides: FtpSides) {
    this.#link = link;
    this.#sides = sides;
    this.#dialog = new FtpDialog(this, {
      ...(link.site.service.ftp as Ftp),
      clientIp: sides.client,
      originIPv6: sides.origin.includes(':'),
    });
    const { toUpstream, toClient } = link;
    // ABOR comes behind a telnet signal whose last byte is sent urgent (RFC 959 section 4.1.3).
    receiveUrgentInline(sides.clientFd);
    toUpstream.filter = {
      onBytes: (bytes, count) => {
        this.#dialog.fromClient(bytes, count);
        this.#settle();
      },
      onPassed: () => {},
      onEnd: () => this.#dialog.clientEnds(),
    };
    toClient.filter = {
      onBytes: (bytes, count) => this.onReply(bytes, count),
      onPassed: () => {},
      onEnd: () => this.#dialog.originEnds(),
    };
    toUpstream.unseen = 0;
    toClient.unseen = 0;
  }

  /** The origin has said the first `count` of `bytes`. */
  onReply(bytes: Buffer, count: number): void {
    this.#dialog.fromOrigin(bytes, count);
    this.#settle();
  }

  /** resume() would do something. */
  get canResume(): boolean {
    return this.#dialog.canResume;
  }

  /** Goes on with commands that waited for the client to take what it was sent. */
  resume(): void {
    if (!this.canResume) return;
    this.#dialog.resume();
    this.#settle();
  }

  /** A data connection is open. */
  get isTransferring(): boolean {
    return this.#countTransfers() > 0;
  }

  /** The control connection is over. A data connection that is under way has its own end. */
  close(): void {
    this.forget();
    this.#link.site.loop.timers.forget(this);
  }

  /** Commands have waited for replies: either a transfer is under way, whose reply comes behind it, or there are none. */
  onDeadline(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    if (!this.isTransferring) this.#dialog.giveUpWaiting();
    this.#settle();
    this.#link.again();
  }

  /** Tells the pumps what they may do next. */
  #settle(): void {
    const { toUpstream, toClient, site } = this.#link;
    const { stopped, released } = this.#dialog;
    if (released) {
      this.close();
      for (const pump of [toUpstream, toClient]) {
        pump.filter = null;
        pump.unseen = Number.POSITIVE_INFINITY;
      }
    }
    toUpstream.paused = stopped;
    if (!stopped) this.deadline = Number.POSITIVE_INFINITY;
    else if (this.deadline === Number.POSITIVE_INFINITY) {
      this.deadline = site.loop.now + REPLY_WAIT;
      site.loop.timers.watch(this);
    }
  }

  #countTransfers(): number {
    const { connections } = this.#link.site.thread;
    for (const transfer of this.#transfers) if (!connections.has(transfer)) this.#transfers.delete(transfer);
    return this.#transfers.size;
  }

  // What the dialog asks for.

  toOrigin(bytes: Buffer, start: number, end: number): void {
    this.#link.toUpstream.put(bytes, start, end);
  }

  toClient(bytes: Buffer, start: number, end: number): void {
    this.#link.toClient.put(bytes, start, end);
  }

  get clientTakes(): boolean {
    return this.#link.toClient.drained;
  }

  forget(): void {
    this.#listener?.close();
    this.#listener = null;
  }

  listenForClient(port: number): SocketAddress | null {
    const { site } = this.#link;
    const { near, client, origin, source, member } = this.#sides;
    const { service } = site;
    const upstream = member?.host.upstream ?? null;
    const to = isAddress(origin) ? [{ ip: origin, port }] : [];
    const data = this.#siteFor(
      {
        targets: [targetTo({ host: origin, port })],
        upstreams: upstream === null ? [] : [upstream],
        // The origin's control connection came by this upstream, and so must its data: it compares their addresses.
        proxyOnly: true,
        proxyProtocol: upstream === null ? null : service.proxyProtocol,
        source: source ?? service.source,
      },
      member === null ? [to] : [member.addresses],
    );
    // The origin's own number, if it may be had: a client that connects to the control connection's address instead of
    // the one that it is told (EPSV, or a 227 whose address it does not trust) gets to the origin then even where nothing
    // redirects the data connection to us.
    return this.#listen({ ip: near, port, transparent: service.intercept === 'tproxy' }, client, data);
  }

  listenForOrigin(port: number): SocketAddress | null {
    const { site, clientAddress } = this.#link;
    const { client, local, origin, member } = this.#sides;
    const { service } = site;
    if (member !== null || clientAddress === null) {
      this.#link.log('warn', 'ftp: no active data connections: the origin would have to connect to the upstream');
      return null;
    }
    const data = this.#siteFor(
      {
        targets: [targetTo({ host: client, port })],
        upstreams: [],
        proxyProtocol: null,
        source: null,
        shaping: swapShaping(service.shaping),
      },
      [[{ ip: client, port }]],
      { add: (slot, amount) => site.counters.add(SWAPPED[slot] ?? slot, amount) },
    );
    return this.#listen({ ip: local, port: 0, transparent: service.spoof }, origin, data);
  }

  /** A relay to one end for one data connection; `more` of what differs from the control connection's service. */
  #siteFor(
    more: Partial<Service>,
    addresses: readonly (readonly UpstreamAddress[])[],
    counters = this.#link.site.counters,
  ): Site {
    const { service, id, thread, parts } = this.#link.site;
    const data = { ...service, name: `${service.name}, FTP data`, ftp: null, access: [], tcpWrappers: null, ...more };
    // The name of the service's host is not to be looked up anew because a data connection was refused.
    const reporter = { ...thread.reporter, unreachable: () => {} };
    return new Site(id, data, { ...thread, reporter, countersOf: () => counters }, parts, addresses, 0, null, true);
  }

  /** Listens for one connection `from` there, which `data` serves. */
  #listen(place: Omit<Place, 'range'>, from: string, data: Site): SocketAddress | null {
    const { site } = this.#link;
    const { ports } = site.service.ftp as Ftp;
    const { connections, mostConnections } = site.thread;
    this.forget();
    if (this.#countTransfers() >= MOST_TRANSFERS) {
      this.#link.log('warn', `ftp: ${MOST_TRANSFERS} data connections are open: no more`);
      return null;
    }
    if (connections.size >= mostConnections) {
      this.#link.log('warn', `ftp: ${connections.size} connections are open: no data connection`);
      return null;
    }
    try {
      this.#listener = new OneShot(site.loop, { ...place, range: ports }, from, DATA_WAIT, {
        onConnection: (fd, peer) => {
          this.#listener = null;
          const transfer = begin(data, fd, peer);
          if (transfer !== null) this.#transfers.add(transfer);
        },
        onNobody: (why) => {
          this.#listener = null;
          this.#link.log('warn', `ftp: data connection: ${why}`);
        },
        onStranger: (peer) => {
          const who = peer === null ? 'somebody' : formatAddress(peer);
          this.#link.log('warn', `ftp: refused a data connection from ${who}: it has to come from ${from}`);
        },
      });
      return this.#listener.address;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#link.log('error', `ftp: no data connection: ${error.message}`);
      return null;
    }
  }
}
