import {
  type ClientAddress,
  type End,
  formatAddress,
  formatEnd,
  isUnix,
  type OriginalDestination,
  type UpstreamAddress,
} from '../address.js';
import type { LogLevel, Passage } from '../plan.js';
import { keepAlive, localAddress, shutdownSend } from '../sys/socket.js';
import { isOwn, LOOP, originalOf } from './accepted.js';
import type { AccessEvent, Entrance } from './access-entries.js';
import { describe, logBegin, logEnd, nameOf, type Told, visitOf } from './connection-lines.js';
import { Endpoint } from './endpoint.js';
import type { FirstBytes, FirstBytesLink } from './first-bytes.js';
import type { FtpLink, FtpRelay } from './ftp-relay.js';
import type { HttpLink, HttpRelay } from './http-relay.js';
import { Linger, type LingerLink } from './linger.js';
import type { Runnable } from './loop.js';
import { type Closed, type Opened, type Opener, Opening, type Way } from './opening.js';
import type { Parts } from './parts.js';
import type { Member } from './pool.js';
import { ENDED, FAILED, MORE, Pump } from './pump.js';
import type { Site } from './site.js';
import { sourceOf } from './source.js';
import type { Timed } from './timers.js';
import { directWay, type Goer, relayEnd, upstreamsFor, upstreamWay, whereItGoes } from './ways.js';

const NOTHING = Buffer.alloc(0);

/**
 * One client's connection, from accept to close. It owns both sockets, and nobody else closes them.
 *
 * A relay opens its way first and then pumps both ways. In http mode the first bytes say what it is (first-bytes.ts): HTTP
 * gets an HttpRelay, which filters both pumps and says which ways to open; everything else gets a way by the service's
 * passage for it, and is pumped. Ends of stream pass on each way for itself, and a reset passes on.
 */
export class Connection implements Runnable, Timed, Opener, Goer, Told, FirstBytesLink, HttpLink, FtpLink, LingerLink {
  deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly original: OriginalDestination | null;
  /** See Told. */
  readonly since: number;
  upstreamAddress: UpstreamAddress | null = null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  readonly #client: Endpoint;
  #lastActive: number;
  #upstream: Endpoint | null = null;
  #member: Member | null = null;
  #opening: Opening | null = null;
  /** The way goes, or tries to go, past all upstreams. */
  #direct = false;
  /** What a relay's upstream is to connect to; null: there is none. */
  #relayedTo: End | null = null;
  /** What the access log calls the end of a way that is not HTTP's. */
  #destination: string | null = null;
  /** null once a way is open, or it is HTTP; and in a relay. */
  #first: FirstBytes | null = null;
  #http: HttpRelay | null = null;
  #ftp: FtpRelay | null = null;
  #toUpstreamEnded = false;
  #toClientEnded = false;
  /** null: it does not end yet. */
  #linger: Linger | null = null;
  #closed = false;
  /** Why it broke off; null: it did not. */
  #failure: string | null = null;
  /** What the access log shall call its end; null: by who ended first. */
  #event: AccessEvent | null = null;

  /**
   * Takes `fd` over, a connected socket. start() is next. `entrance`: see Told.
   * @throws SystemError when epoll does not take the descriptor, which stays the caller's then
   */
  constructor(
    readonly site: Site,
    fd: number,
    readonly clientAddress: ClientAddress | null,
    readonly entrance: Entrance | null = null,
  ) {
    const { loop, service, thread, counters } = site;
    // Of all clients only those of a unix socket have no address.
    this.#client = new Endpoint(loop, fd, this, true, clientAddress === null);
    this.since = loop.now;
    this.#lastActive = loop.now;
    this.toUpstream = new Pump(loop, this.#client, null);
    this.toClient = new Pump(loop, null, this.#client);
    // A relay to a fixed target has no use for it, and saves two system calls.
    this.original = service.targets.length > 0 ? null : originalOf(site, fd, clientAddress, entrance?.port ?? null);
    this.deadline = loop.now + (service.mode === 'http' ? service.limits.firstByte : service.limits.idle);
    loop.timers.watch(this);
    thread.connections.add(this);
    counters.add('accepted', 1);
    counters.add('open', 1);
  }

  start(): void {
    const { service, reporter } = this.site;
    if (service.logConnections) logBegin(this);
    if (reporter.access?.tellsEvents) reporter.access.event('opened', visitOf(this));
    if (reporter.verbose) this.log('debug', 'accepted');
    if (service.mode === 'http') {
      this.#first = (this.site.parts as Parts).firstBytes(this);
      return;
    }
    if (this.site.targets === null && this.original === null) {
      const why = 'no original destination: the connection was not redirected here, so there is nowhere to go';
      this.giveUp(why, 'local-connect-failed -');
      return;
    }
    if (service.upstreams.length === 0) {
      this.#openDirect();
      return;
    }
    const end = relayEnd(this);
    if (end === null) {
      this.giveUp('no proxy can be told to connect to a socket of this host', 'local-connect-failed -');
      return;
    }
    this.#relayedTo = end;
    this.#destination = formatEnd(end);
    this.#openTunnel(end);
  }

  /** See FirstBytesLink. */
  beginHttp(bytes: Buffer, count: number): void {
    this.#first = null;
    this.#http = (this.site.parts as Parts).relay(this);
    this.#http.begin(bytes, count);
    // The time for a first byte is over; those that follow are headDeadline's, the opening's, and this one.
    this.#active();
  }

  /** See FirstBytesLink. */
  pass(passage: Passage, end: End): void {
    this.#destination = formatEnd(end);
    if (passage === 'connect') this.#openTunnel(end);
    else if (passage === 'direct') this.#openDirect();
    else this.giveUp(`neither HTTP nor anything else that is let through to ${this.#destination}`, 'denied');
  }

  // Ways.

  #open(way: Way): void {
    const { service, reporter, forData } = this.site;
    if (reporter.verbose) this.log('debug', whereItGoes(way));
    const toOriginal = forData || (way.members.length === 0 && service.targets.length === 0);
    this.#opening = new Opening(this.site, way, this, sourceOf(service, this.clientAddress, toOriginal));
  }

  #openDirect(): void {
    this.#direct = true;
    this.#open(directWay(this));
  }

  #openTunnel(tunnel: End): void {
    this.#direct = false;
    const members = upstreamsFor(this, formatEnd(tunnel), false);
    if (members.length === 0) this.#openDirect();
    else this.#open(upstreamWay(this, members, tunnel, false));
  }

  /** See HttpLink. */
  openUpstream(url: string, repeatable: boolean): void {
    this.#direct = false;
    const members = upstreamsFor(this, url, true);
    if (members.length === 0 && this.#mayGoDirect()) this.#openDirect();
    else this.#open(upstreamWay(this, members, null, repeatable && this.site.shares));
  }

  /** See HttpLink. */
  openOrigin(host: string, port: number): void {
    this.#direct = false;
    const members = upstreamsFor(this, `${host}:${port}`, false);
    this.#open(upstreamWay(this, members, { host, port }, false));
  }

  /** See HttpLink. */
  suits(url: string): boolean {
    return !this.site.pool.byUrl || upstreamsFor(this, url, true)[0] === this.#member;
  }

  /** The client's bytes may go to the original destination as they are: nothing of them went anywhere yet. */
  #mayGoDirect(): boolean {
    const untouched = this.#http === null || this.#http.untouched;
    const somewhere = this.original !== null || this.site.service.targets.length > 0;
    return !this.#direct && untouched && somewhere && !this.site.service.proxyOnly;
  }

  onOpen({ endpoint, address, member, early, used }: Opened): void {
    const { toUpstream, toClient } = this;
    this.#opening = null;
    // The thread that made the client's connection, if that is ours, may have noted it down after we accepted it.
    if (isOwn(this.site, this.#client.fd, this.clientAddress)) {
      endpoint.reset();
      this.giveUp(LOOP, 'denied');
      return;
    }
    this.#upstream = endpoint;
    this.upstreamAddress = address;
    this.#event = null;
    if (this.site.reporter.verbose) this.#logConnected(endpoint);
    if (this.site.service.keepalive && this.site.service.limits.idle === Number.POSITIVE_INFINITY) {
      // Nothing else would end the connection of a peer that is gone. Under inetd the client's had no listener of ours.
      keepAlive(endpoint.fd);
      keepAlive(this.#client.fd);
    }
    this.#member = member;
    if (member !== null) member.connections++;
    endpoint.owner = this;
    toUpstream.attach(this.#client, endpoint);
    toClient.attach(endpoint, this.#client);
    this.#shape();
    this.#active();
    if (this.#http === null || this.#direct) {
      const untouched = this.#http === null ? (this.#first?.bytes ?? NOTHING) : this.#http.release();
      this.#http = null;
      this.#first = null;
      toUpstream.filter = null;
      toUpstream.paused = false;
      const target = this.#direct ? (member?.host.name ?? null) : null;
      this.access('Transparent', target ?? this.#destination ?? formatAddress(address));
      if (untouched.length > 0) toUpstream.put(untouched, 0, untouched.length);
      if (this.site.service.ftp !== null) this.#followFtp(endpoint, address);
      if (early.length > 0) {
        if (this.#ftp === null) toClient.put(early, 0, early.length);
        else this.#ftp.onReply(early, early.length);
      }
    } else {
      this.#http.onOpen(early, used);
    }
    this.run();
  }

  /** A client without an address, as on a socket of another family, has no use for data connections. */
  #followFtp(upstream: Endpoint, address: UpstreamAddress): void {
    const { site, clientAddress } = this;
    const near = localAddress(this.#client.fd);
    const local = localAddress(upstream.fd);
    if (clientAddress === null || near === null || local === null || isUnix(address)) return;
    const source = this.#member?.host.source?.ip ?? null;
    const sides = { clientFd: this.#client.fd, client: clientAddress.ip, near: near.ip, local: local.ip, source };
    // What an upstream connects to, or ourselves.
    const past = this.#direct || this.#relayedTo === null;
    const origin = past ? address.ip : (this.#relayedTo as End).host;
    this.#ftp = (site.parts as Parts).follow(this, { ...sides, origin, member: past ? null : this.#member });
  }

  #shape(): void {
    const { loop, parts, service } = this.site;
    const { shaping } = service;
    if (shaping === null) return;
    const { shaper } = parts as Parts;
    const { toUpstream, toClient } = this;
    if (shaping.toUpstream) toUpstream.shaper ??= shaper(shaping, loop.now, this);
    if (shaping.toClient) toClient.shaper ??= shaper(shaping, loop.now, this);
  }

  onClosed({ message, unreachable, status, event }: Closed): void {
    this.#opening = null;
    if (unreachable && this.#mayGoDirect()) {
      this.log('warn', `${message}; going past the upstream`);
      this.#openDirect();
      return;
    }
    this.log('warn', message);
    this.site.counters.add('connectErrors', 1);
    this.#event = event;
    if (this.#http === null) {
      this.#reset(message);
      return;
    }
    this.#http.onClosed(status, message, unreachable);
    this.run();
  }

  /** See Goer and Told. */
  get clientFd(): number {
    return this.#client.fd;
  }

  /** See HttpLink. */
  get authorization(): string | null {
    return this.#member?.host.authorization ?? null;
  }

  /** See HttpLink. */
  again(): void {
    this.site.loop.again(this);
  }

  /** See HttpLink. */
  detachUpstream(): void {
    const upstream = this.#upstream;
    if (upstream !== null && !this.#leaveToOthers(upstream)) {
      // Every byte that matters was read: a reset costs it nothing, and us no TIME_WAIT, which whoever ends first has.
      if (upstream.ended) upstream.close();
      else upstream.reset();
    }
    if (this.#member !== null) this.#member.connections--;
    this.#member = null;
    this.#upstream = null;
    this.upstreamAddress = null;
    this.toUpstream.attach(this.#client, null);
    this.toClient.attach(null, this.#client);
  }

  /** Leaves the upstream's connection to whichever client comes next. False: it is none for others. */
  #leaveToOthers(upstream: Endpoint): boolean {
    const { site, toUpstream } = this;
    if (!site.shares || !this.#http?.isReusable || !toUpstream.drained) return false;
    return this.#member?.spares.put(site.loop, upstream, this.upstreamAddress as UpstreamAddress) ?? false;
  }

  // Turns and deadlines.

  run(): void {
    if (this.#closed) return;
    if (this.#linger !== null) {
      this.#goOnLingering(this.#linger);
      return;
    }
    if (this.#opening !== null) {
      // What is left of an answer on a way before this one does not wait for it.
      const flushed = this.toClient.flush();
      if (this.#client.failed || flushed === FAILED)
        this.#reset('the client left before there was a way to its destination');
      return;
    }
    const { toUpstream, toClient } = this;
    const movedUp = toUpstream.moved;
    const movedDown = toClient.moved;
    this.#http?.resume();
    this.#ftp?.resume();
    const up = toUpstream.run();
    // What an upstream that has failed still said is not held back: the end of the connection would overtake it.
    if (up === FAILED) toClient.unshape();
    const down = toClient.run();
    if (this.#closed || this.#opening !== null) return;
    // Not before: the first bytes may have made it HTTP.
    const http = this.#http;
    if (http?.finished) {
      this.#beginLinger(http.refusal === null ? 'done' : `refused: ${http.refusal}`);
      return;
    }
    if (up === FAILED || down === FAILED) {
      const told = toClient.moved > movedDown || toClient.ended || !toClient.drained || http?.isAnswered === true;
      this.#onFailed(up === FAILED ? toUpstream : toClient, told);
      return;
    }
    if (down === ENDED && http?.betweenRequests) {
      this.#onDetached(http);
      return;
    }
    if (up === ENDED && (down === ENDED || (this.#upstream === null && toClient.drained))) {
      this.#finish('done');
      return;
    }
    // The client is done, and no answer is on its way to it.
    if (up === ENDED && http?.isReusable && toClient.drained && !this.#toUpstreamEnded) {
      this.detachUpstream();
      this.#finish('done');
      return;
    }
    // A request that went out when the end was there already, and can't be sent again.
    if (down === ENDED && http?.isUnanswered) {
      http.giveUpAnswer(502, 'The proxy ended the connection without an answer.');
      this.#beginLinger(`refused: ${http.refusal}`);
      return;
    }
    if (http?.isOver && toClient.drained) {
      this.detachUpstream();
      // Where nothing more comes from the client, nothing could make a reset of our close.
      if (http.heardAll && !this.#client.readable) this.#finish('done');
      else this.#beginLinger('done');
      return;
    }
    // HTTP has no use for the client's direction then, and the client may be waiting for the end of ours.
    if (down === ENDED && http?.closing) {
      this.#beginLinger('the upstream has ended');
      return;
    }
    // Nobody is there any more who could read an answer.
    if (up === ENDED && this.#client.gone && !this.#toClientEnded && !http?.awaitsResponse) {
      this.#finish('done');
      return;
    }
    if (down === ENDED && this.#upstream?.gone && !this.#toUpstreamEnded) {
      this.#beginLinger('done');
      return;
    }
    // Behind the end of a direction nothing is read any more that would tell of a reset.
    if (up === ENDED && this.#client.failed && !this.#toClientEnded) {
      this.#reset('client: reset behind its end of stream');
      return;
    }
    if (down === ENDED && this.#upstream?.failed && !this.#toUpstreamEnded) {
      this.#beginLinger('upstream: reset behind its end of stream');
      return;
    }
    let active = toUpstream.moved > movedUp || toClient.moved > movedDown;
    if (up === ENDED && !this.#toUpstreamEnded && !http?.awaitsResponse) {
      this.#toUpstreamEnded = true;
      active = true;
      shutdownSend((this.#upstream as Endpoint).fd);
    }
    if (down === ENDED && !this.#toClientEnded) {
      this.#toClientEnded = true;
      active = true;
      shutdownSend(this.#client.fd);
    }
    // toClient's run may have let toUpstream go on.
    if (up === MORE || down === MORE || http?.canResume || this.#ftp?.canResume || toUpstream.ready)
      this.site.loop.again(this);
    if (active) this.#active();
    if (http !== null && http.headDeadline < this.deadline) {
      this.watchUntil(http.headDeadline);
    }
  }

  onDeadline(): void {
    const { loop, service } = this.site;
    const head = this.#http?.headDeadline ?? Number.POSITIVE_INFINITY;
    const heldUntil = Math.max(this.toUpstream.heldUntil, this.toClient.heldUntil);
    if (this.#linger !== null) {
      this.#finish('done');
    } else if (this.#opening !== null) {
      // It has a deadline of its own, and its end moves this one.
      this.watchUntil(loop.now + service.limits.connect);
    } else if (this.#first !== null) {
      this.watchUntil(loop.now + service.limits.connect);
      this.#first.onSilence();
    } else if (heldUntil > loop.now) {
      // Nobody but us is slow.
      this.watchUntil(heldUntil);
    } else if (head <= loop.now) {
      this.#http?.refuse(408, `The request's head did not arrive within ${service.limits.head / 1000} seconds.`);
      this.#active();
      this.run();
    } else if (head < Number.POSITIVE_INFINITY) {
      this.watchUntil(head);
    } else if (this.#http?.awaitsName) {
      this.#http.refuse(504, `The Host's address could not be found within ${service.limits.idle / 1000} seconds.`);
      this.#active();
      this.run();
    } else if (this.#http?.isUnanswered) {
      this.#http.giveUpAnswer(504, `The proxy did not answer within ${service.limits.idle / 1000} seconds.`);
      this.run();
    } else if (this.#ftp?.isTransferring) {
      // The control connection of a long transfer has nothing to say.
      this.#active();
    } else {
      const reason = `idle for ${Math.round((loop.now - this.#lastActive) / 1000)} s`;
      this.#event = 'done-timed-out';
      // Where bytes are left behind, an end in order would say that they were all.
      if (this.toClient.drained && this.toUpstream.drained) this.#finish(reason);
      else this.#reset(reason);
    }
  }

  #active(): void {
    const { loop, service } = this.site;
    this.#lastActive = loop.now;
    const half = this.#toUpstreamEnded || this.#toClientEnded;
    this.watchUntil(loop.now + (half ? service.limits.halfClosed : service.limits.idle));
  }

  /** See FirstBytesLink and LingerLink. */
  watchUntil(deadline: number): void {
    this.deadline = deadline;
    this.site.loop.timers.watch(this);
  }

  // What is told of it.

  /** One entry of the access log: transproxy's word for what was done, the request's number, who, and where to. */
  access(what: string, target: string, request = 1): void {
    const { access, verbose } = this.site.reporter;
    if (access !== null) access.passed(what, request, this.clientAddress?.ip ?? null, target);
    if (verbose) this.log('debug', `${what} ${request}: ${target}`);
  }

  /** One line for a dump. */
  describe(): string {
    return describe(this, this.#state(), this.#http?.requests ?? null, this.#lastActive);
  }

  #state(): string {
    if (this.#linger !== null) return 'ending';
    if (this.#first !== null && this.#opening === null) return 'waiting for the first bytes';
    if (this.#opening === null) return 'open';
    const { address } = this.#opening;
    return `connecting to ${address === null ? 'an upstream' : formatAddress(address)}`;
  }

  #logConnected({ fd }: Endpoint): void {
    const local = localAddress(fd);
    this.log('debug', `connected${local === null ? '' : ` from ${formatAddress(local)}`}`);
  }

  log(level: LogLevel, message: string): void {
    this.site.reporter.log(level, `${nameOf(this)}: ${message}`);
  }

  // Ends.

  /** A call on one of the sockets failed: what that means for the other one. */
  #onFailed(pump: Pump, toldClient: boolean): void {
    const broken = pump.broken === this.#client ? 'client' : 'upstream';
    const reason = `${broken}: ${pump.error?.message}`;
    const http = this.#http;
    if (broken === 'upstream' && http?.betweenRequests) {
      this.#onDetached(http);
    } else if (broken === 'upstream' && http?.isUnanswered && !toldClient) {
      this.log('warn', reason);
      http.giveUpAnswer(502, `The proxy broke the connection off (${pump.error?.code}).`);
      this.#beginLinger(reason);
    } else if (broken === 'upstream' && toldClient) {
      // What the upstream said before it left must not be overtaken by the reset: close() after SO_LINGER 0 throws away
      // what the socket has not sent yet.
      this.#failure = reason;
      this.#beginLinger(reason);
    } else {
      this.#reset(reason);
    }
  }

  /** The upstream has left between two requests, and what the client sends next opens another way. */
  #onDetached(http: HttpRelay): void {
    this.detachUpstream();
    http.onDetached();
    // For what waited for the last answers, and for a client that has ended too: no event may come for either.
    this.again();
  }

  /** Lets the client read what was sent to it, then ends its connection; the upstream's ends at once. */
  #beginLinger(reason: string): void {
    this.#upstream?.close();
    this.toUpstream.close();
    this.toClient.paused = true;
    // What failed was the upstream's side; ours toward the client goes on.
    if (this.toClient.broken === this.#upstream) this.toClient.error = null;
    this.#linger = new Linger(this, this.#client, this.#toClientEnded, reason);
    this.#goOnLingering(this.#linger);
  }

  #goOnLingering(linger: Linger): void {
    if (linger.run()) this.#finish('done');
  }

  /** The thread ends, and its connections with it. */
  stop(): void {
    this.#event = 'done-stopped';
    this.#finish('the program ends');
  }

  /** See FirstBytesLink. */
  giveUp(reason: string, event: AccessEvent): void {
    this.#event = event;
    this.log('warn', reason);
    this.#reset(reason);
  }

  #reset(reason: string): void {
    this.#failure = reason;
    this.#client.reset();
    this.#upstream?.reset();
    this.#end('reset', reason);
  }

  #finish(reason: string): void {
    this.#client.close();
    this.#upstream?.close();
    this.#end('closed', this.#linger?.reason ?? reason);
  }

  #end(how: string, reason: string): void {
    const { counters, reporter } = this.site;
    const { connections, loop } = this.site.thread;
    this.#closed = true;
    if (this.site.service.logConnections || reporter.verbose) logEnd(this, how, reason);
    if (reporter.access?.tellsEvents) reporter.access.event(this.#event ?? this.#endedFirst(), visitOf(this));
    this.#opening?.cancel();
    this.#opening = null;
    if (this.#member !== null) this.#member.connections--;
    this.#member = null;
    this.#ftp?.close();
    counters.add('open', -1);
    counters.add('bytesFromClients', this.toUpstream.moved);
    counters.add('bytesToClients', this.toClient.moved);
    this.toUpstream.close();
    this.toClient.close();
    loop.timers.forget(this);
    connections.delete(this);
    this.site.thread.onClosed(this.#failure);
  }

  /** Of the client and the far end. Where both have ended by now, the client was asked first. */
  #endedFirst(): AccessEvent {
    if (this.#toUpstreamEnded) return 'done-remote-closed';
    const broken = this.toUpstream.broken ?? this.toClient.broken;
    if (broken !== null) return broken === this.#client ? 'done-remote-closed' : 'done-local-closed';
    return this.#toClientEnded || this.#linger !== null ? 'done-local-closed' : 'done-remote-closed';
  }
}
