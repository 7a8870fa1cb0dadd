import { type End, formatAddress, formatEnd, type UpstreamAddress } from '../address.js';
import type { LogLevel } from '../plan.js';
import type { Handshake } from '../protocol/handshake.js';
import { E, errnoName, type SystemError } from '../sys/errno.js';
import { receive, transmit } from '../sys/socket.js';
import type { AccessEvent } from './access-entries.js';
import { Dial, type Dialer } from './dial.js';
import type { Endpoint } from './endpoint.js';
import { type Runnable, SCRATCH_SIZE } from './loop.js';
import type { Parts } from './parts.js';
import type { Member } from './pool.js';
import type { Site } from './site.js';
import { fits, isOfSource, type Source } from './source.js';
import type { Timed } from './timers.js';

/** Where a connection goes, and through what. */
export interface Way {
  /** Upstreams or targets to try, in this order; empty: straight to `addresses`. */
  readonly members: readonly Member[];
  readonly addresses: readonly UpstreamAddress[];
  /** The upstream shall connect us to this; null: it is talked to itself. */
  readonly tunnel: End | null;
  /** The first bytes on the connection, before anything else; null for none. */
  readonly preface: Buffer | null;
  /** A spare connection will do: what goes on it first may be sent again, should it turn out to be dead. */
  readonly spare: boolean;
}

/** A way that is open. */
export interface Opened {
  readonly endpoint: Endpoint;
  readonly address: UpstreamAddress;
  /** null: it goes to `addresses`. */
  readonly member: Member | null;
  /** What the far end has said already. */
  readonly early: Buffer;
  /** It was a spare connection, which may have ended on the other side without our knowing yet. */
  readonly used: boolean;
}

/** Why a way is not open. */
export interface Closed {
  /** What was tried, on which address, and how it failed. */
  readonly message: string;
  /** No upstream was reached; else one was, and declined. */
  readonly unreachable: boolean;
  /** For a client that speaks HTTP. */
  readonly status: number;
  /** What could not be had, for the access log. */
  readonly event: AccessEvent;
}

/** Who waits for a way. One of the two is called, once, and never from within the constructor. */
export interface Opener {
  onOpen(opened: Opened): void;
  onClosed(closed: Closed): void;
}

const NOTHING = Buffer.alloc(0);

/** The local address is taken, and made possible, between socket(2) and connect(2). */
const eventOf = ({ syscall }: SystemError): AccessEvent =>
  syscall === 'socket'
    ? 'local-socket-failed -'
    : syscall === 'bind' || syscall.startsWith('setsockopt')
      ? 'local-bind-failed -'
      : 'local-connect-failed -';

/** Those of the source's family, unless there are none: then what is wrong is said of all. */
const fitting = (members: readonly Member[], source: Source): readonly Member[] => {
  const fit = members.filter(({ address }) => fits(source, address));
  return fit.length > 0 ? fit : members;
};

/** Opens a way: the first member that can be connected to, and what has to be said with it. */
export class Opening implements Dialer, Runnable, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #site: Site;
  readonly #way: Way;
  readonly #opener: Opener;
  readonly #members: readonly Member[];
  /** Of connects to members that have none of their own. */
  readonly #source: Source | null;
  /** When the last connect must be over. */
  readonly #end: number;
  #next = 0;
  #member: Member | null = null;
  #dial: Dial | null = null;
  /** What connects have failed on so far. */
  #failures = '';
  #endpoint: Endpoint | null = null;
  #address: UpstreamAddress | null = null;
  #handshake: Handshake | null = null;
  #said = NOTHING;
  /** #endpoint was a spare connection. */
  #used = false;

  constructor(site: Site, way: Way, opener: Opener, source: Source | null = null) {
    this.#site = site;
    this.#way = way;
    this.#opener = opener;
    this.#source = source;
    this.#members = source?.foreign ? fitting(way.members, source) : way.members;
    // Each host has the time of one connect, over all of its addresses.
    const hosts = this.#members.length < 2 ? 1 : new Set(this.#members.map(({ host }) => host)).size;
    this.#end = site.loop.now + hosts * site.service.limits.connect;
    this.#dialNext();
  }

  /** The address that is being tried. */
  get address(): UpstreamAddress | null {
    return this.#address ?? this.#dial?.address ?? null;
  }

  /** Gives up; the opener hears nothing more. */
  cancel(): void {
    this.#dial?.cancel();
    this.#dial = null;
    this.#endpoint?.close();
    this.#endpoint = null;
    this.#site.loop.timers.forget(this);
  }

  #dialNext(): void {
    const members = this.#members;
    this.#member = members[this.#next++] ?? null;
    const { loop, service } = this.#site;
    if (this.#takeSpare()) {
      // Never from within the constructor.
      loop.again(this);
      return;
    }
    const left = (this.#end - loop.now) / (Math.max(0, members.length - this.#next) + 1);
    const to = this.#member === null ? this.#way.addresses : this.#member.addresses;
    this.#dial = new Dial(loop, to, Math.min(left, service.limits.connect), this, this.#sourceNow());
  }

  /** The client's own address goes before the one that the member has for all. */
  #sourceNow(): Source | null {
    const own = this.#member?.host.source ?? null;
    return own === null || this.#source?.foreign ? this.#source : own;
  }

  #tell(level: LogLevel, message: string): void {
    this.#site.reporter.log(level, `${this.#site.service.name}: ${message}`);
  }

  #takeSpare(): boolean {
    const spare = this.#way.spare ? (this.#member?.spares.take() ?? null) : null;
    this.#used = spare !== null;
    if (spare === null) return false;
    this.#endpoint = spare.endpoint;
    this.#address = spare.address;
    spare.endpoint.owner = this;
    return true;
  }

  #beginUsed(): void {
    const endpoint = this.#endpoint as Endpoint;
    if (!endpoint.readable) {
      this.#open(NOTHING);
      return;
    }
    // It has ended since, or said what nobody asked for: the next one, or a new one to the same upstream.
    endpoint.reset();
    this.#endpoint = null;
    this.#address = null;
    this.#next--;
    this.#dialNext();
  }

  onConnected(endpoint: Endpoint, address: UpstreamAddress): void {
    this.#dial = null;
    this.#endpoint = endpoint;
    this.#address = address;
    if (this.#member?.succeeded()) this.#tell('info', `${formatAddress(address)} can be connected to again`);
    const { preface, tunnel } = this.#way;
    if (preface !== null && !this.#send(preface)) return;
    const host = this.#member?.host ?? null;
    if (tunnel === null || host === null || host.upstream === null) {
      this.#open(NOTHING);
      return;
    }
    const { parts, service } = this.#site;
    const { limits } = service;
    try {
      this.#handshake = (parts as Parts).handshake(host.upstream, host.authorization, tunnel, limits);
    } catch (error) {
      // A name or an address that the upstream can't be told: too long, or link-local and so of this host only.
      if (!(error instanceof RangeError)) throw error;
      this.#decline(error.message, 502);
      return;
    }
    endpoint.owner = this;
    // The upstream answers when it has connected itself, so this takes as long as two connects may.
    this.deadline = this.#site.loop.now + limits.connect + limits.head;
    this.#site.loop.timers.watch(this);
    if (this.#send(this.#handshake.first())) this.run();
  }

  onUnreachable(error: SystemError, message: string): void {
    this.#dial = null;
    const { loop, reporter, id } = this.#site;
    reporter.unreachable(id);
    // An upstream that one client's address can't come to, or get answers from, is there for the others.
    const isNews = isOfSource(error, this.#sourceNow()) || (this.#member?.failed(loop.now) ?? true);
    this.#failures += `${this.#failures === '' ? '' : '; '}${message}`;
    if (this.#next < this.#members.length) {
      const next = this.#members[this.#next]?.host.upstream ? 'upstream' : 'target';
      this.#tell(isNews ? 'warn' : 'debug', `${message}; trying the next ${next}`);
      this.#dialNext();
      return;
    }
    this.cancel();
    const status = error.errno === E.TIMEDOUT ? 504 : 502;
    this.#opener.onClosed({ message: this.#failures, unreachable: true, status, event: eventOf(error) });
  }

  onDeadline(): void {
    this.#decline('no answer in time', 504);
  }

  /** Goes on with what is said with the upstream. */
  run(): void {
    const endpoint = this.#endpoint;
    const handshake = this.#handshake;
    if (endpoint !== null && this.#used) {
      this.#beginUsed();
      return;
    }
    if (endpoint === null || handshake === null) return;
    const { scratch } = this.#site.loop;
    while (endpoint.readable) {
      const count = receive(endpoint.fd, scratch, SCRATCH_SIZE);
      if (count === -E.AGAIN) {
        endpoint.readable = false;
        return;
      }
      if (count <= 0) {
        this.#decline(count === 0 ? 'it ended the connection' : `recv: ${errnoName(-count)}`, 502);
        return;
      }
      this.#said = Buffer.concat([this.#said, scratch.subarray(0, count)]);
      for (;;) {
        const outcome = handshake.next(this.#said, 0, this.#said.length);
        if (outcome.kind === 'incomplete') break;
        if (outcome.kind === 'refused') {
          this.#decline(outcome.reason, outcome.status);
          return;
        }
        this.#said = this.#said.subarray(outcome.size);
        if (outcome.kind === 'connected') {
          this.#open(this.#said);
          return;
        }
        if (!this.#send(outcome.bytes)) return;
      }
    }
  }

  /** A new connection's send buffer has room for all that is said before a tunnel stands. */
  #send(bytes: Buffer): boolean {
    const sent = transmit((this.#endpoint as Endpoint).fd, bytes, 0, bytes.length);
    if (sent === bytes.length) return true;
    this.#decline(`send: ${sent < 0 ? errnoName(-sent) : 'only a part was taken'}`, 502);
    return false;
  }

  #open(early: Buffer): void {
    const endpoint = this.#endpoint as Endpoint;
    const address = this.#address as UpstreamAddress;
    this.#endpoint = null;
    this.cancel();
    this.#opener.onOpen({ endpoint, address, member: this.#member, early, used: this.#used });
  }

  #decline(why: string, status: number): void {
    const { tunnel } = this.#way;
    const to = tunnel === null ? '' : ` for ${formatEnd(tunnel)}`;
    const message = `upstream ${formatAddress(this.#address as UpstreamAddress)}${to}: ${why}`;
    this.cancel();
    this.#opener.onClosed({ message, unreachable: false, status, event: 'local-connect-failed -' });
  }
}
