import { type End, formatAddress, formatEnd, type SocketAddress } from '../address.js';
import type { Handshake } from '../protocol/handshake.js';
import { E, errnoName, type SystemError } from '../sys/errno.js';
import { receive, transmit } from '../sys/socket.js';
import { Dial, type Dialer } from './dial.js';
import type { Endpoint } from './endpoint.js';
import { type Runnable, SCRATCH_SIZE } from './loop.js';
import type { Parts } from './parts.js';
import type { Member } from './pool.js';
import type { Site } from './site.js';
import type { Timed } from './timers.js';

/** Where a connection goes, and through what. */
export interface Way {
  /** Upstreams to try, in this order; empty: straight to `addresses`. */
  readonly members: readonly Member[];
  readonly addresses: readonly SocketAddress[];
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
  readonly address: SocketAddress;
  /** null: no upstream is on it. */
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
}

/** Who waits for a way. One of the two is called, once, and never from within the constructor. */
export interface Opener {
  onOpen(opened: Opened): void;
  onClosed(closed: Closed): void;
}

const NOTHING = Buffer.alloc(0);

/** Opens a way: the first upstream that can be connected to, and what has to be said with it. */
export class Opening implements Dialer, Runnable, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #site: Site;
  readonly #way: Way;
  readonly #opener: Opener;
  #next = 0;
  #member: Member | null = null;
  #dial: Dial | null = null;
  #endpoint: Endpoint | null = null;
  #address: SocketAddress | null = null;
  #handshake: Handshake | null = null;
  #said = NOTHING;
  /** #endpoint was a spare connection. */
  #used = false;

  constructor(site: Site, way: Way, opener: Opener) {
    this.#site = site;
    this.#way = way;
    this.#opener = opener;
    this.#dialNext();
  }

  /** The address that is being tried. */
  get address(): SocketAddress | null {
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
    const { members, addresses } = this.#way;
    this.#member = members[this.#next++] ?? null;
    const { loop, service } = this.#site;
    if (this.#takeSpare()) {
      // Never from within the constructor.
      loop.again(this);
      return;
    }
    const to = this.#member === null ? addresses : this.#member.host.next();
    this.#dial = new Dial(loop, to, service.limits.connect, this);
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

  onConnected(endpoint: Endpoint, address: SocketAddress): void {
    this.#dial = null;
    this.#endpoint = endpoint;
    this.#address = address;
    this.#member?.succeeded();
    const { preface, tunnel } = this.#way;
    if (preface !== null && !this.#send(preface)) return;
    if (tunnel === null || this.#member === null) {
      this.#open(NOTHING);
      return;
    }
    const { upstream, authorization } = this.#member;
    const { parts, service } = this.#site;
    const { limits } = service;
    try {
      this.#handshake = (parts as Parts).handshake(upstream, authorization, tunnel, limits);
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

  onUnreachable(error: SystemError): void {
    this.#dial = null;
    const { loop, reporter, id } = this.#site;
    reporter.unreachable(id);
    this.#member?.failed(loop.now);
    if (this.#next < this.#way.members.length) {
      reporter.log('warn', `${this.#site.service.name}: ${error.message}; trying the next upstream`);
      this.#dialNext();
      return;
    }
    this.cancel();
    const status = error.errno === E.TIMEDOUT ? 504 : 502;
    this.#opener.onClosed({ message: error.message, unreachable: true, status });
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
    const address = this.#address as SocketAddress;
    this.#endpoint = null;
    this.cancel();
    this.#opener.onOpen({ endpoint, address, member: this.#member, early, used: this.#used });
  }

  #decline(why: string, status: number): void {
    const { tunnel } = this.#way;
    const to = tunnel === null ? '' : ` for ${formatEnd(tunnel)}`;
    const message = `upstream ${formatAddress(this.#address as SocketAddress)}${to}: ${why}`;
    this.cancel();
    this.#opener.onClosed({ message, unreachable: false, status });
  }
}
