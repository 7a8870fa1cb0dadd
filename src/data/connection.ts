import {
  type ClientAddress,
  type End,
  formatAddress,
  formatEnd,
  isUnix,
  type OriginalDestination,
  type SocketAddress,
  sameAddress,
  type UpstreamAddress,
} from '../address.js';
import type { HostPort, LogLevel, Passage, Service, UnixAddress } from '../plan.js';
import { SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import {
  keepAlive,
  localAddress,
  originalDestination,
  receive,
  resetOnClose,
  shutdownSend,
  tproxyDestination,
} from '../sys/socket.js';
import type { AccessEvent, Entrance, Visit } from './access-entries.js';
import type { Acl, Refusal } from './acl.js';
import type { Admissions } from './admissions.js';
import type { Detected } from './detect.js';
import { Endpoint } from './endpoint.js';
import type { FtpLink, FtpRelay } from './ftp-relay.js';
import type { HttpLink, HttpRelay } from './http-relay.js';
import { type Runnable, SCRATCH_SIZE } from './loop.js';
import { type Closed, type Opened, type Opener, Opening, type Way } from './opening.js';
import type { Parts } from './parts.js';
import type { Member } from './pool.js';
import { ENDED, FAILED, type Filter, MORE, Pump } from './pump.js';
import type { Site } from './site.js';
import { sourceOf } from './source.js';
import type { Timed } from './timers.js';

/** How long a client may take to read what ends its connection, in ms (RFC 9112 section 9.6). */
const LINGER = 2000;

/** The same in bytes: what it may send meanwhile, to be thrown away. */
const LINGER_BYTES = 1024 * 1024;

const NOTHING = Buffer.alloc(0);

/**
 * One client's connection, from accept to close. It owns both sockets, and nobody else closes them.
 *
 * A relay opens its way first and then pumps both ways. In http mode the first bytes say what it is (detect.ts): HTTP
 * gets an HttpRelay, which filters both pumps and says which ways to open; everything else gets a way by the service's
 * passage for it, and is pumped. Ends of stream pass on each way for itself, and a reset passes on.
 */
export class Connection implements Runnable, Timed, Opener, HttpLink, FtpLink, Filter {
  deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly original: OriginalDestination | null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  readonly #client: Endpoint;
  readonly #entrance: Entrance | null;
  readonly #opened: number;
  #lastActive: number;
  #upstream: Endpoint | null = null;
  #upstreamAddress: UpstreamAddress | null = null;
  #member: Member | null = null;
  #opening: Opening | null = null;
  /** The way goes, or tries to go, past all upstreams. */
  #direct = false;
  /** What a relay's upstream is to connect to; null: there is none. */
  #relayedTo: End | null = null;
  /** What the access log calls the end of a way that is not HTTP's. */
  #destination: string | null = null;
  /** The client's first bytes, until they say what it speaks; null from then on, and in a relay. */
  #first: Buffer | null = null;
  #http: HttpRelay | null = null;
  #ftp: FtpRelay | null = null;
  #toUpstreamEnded = false;
  #toClientEnded = false;
  #lingering = false;
  /** Why it lingers. */
  #reason: string | null = null;
  #discarded = 0;
  #closed = false;
  /** Why it broke off; null: it did not. */
  #failure: string | null = null;
  /** What the access log shall call its end; null: by who ended first. */
  #event: AccessEvent | null = null;

  /**
   * Takes `fd` over, a connected socket. start() is next. `entrance`: see admit.
   * @throws SystemError when epoll does not take the descriptor, which stays the caller's then
   */
  constructor(
    readonly site: Site,
    fd: number,
    readonly clientAddress: ClientAddress | null,
    entrance: Entrance | null = null,
  ) {
    const { loop, service, thread, counters } = site;
    // Of all clients only those of a unix socket have no address.
    this.#client = new Endpoint(loop, fd, this, true, clientAddress === null);
    this.#entrance = entrance;
    this.#opened = loop.now;
    this.#lastActive = loop.now;
    this.toUpstream = new Pump(loop, this.#client, null);
    this.toClient = new Pump(loop, null, this.#client);
    // A relay to a fixed target has no use for it, and saves two system calls.
    this.original = service.targets.length > 0 ? null : this.#findOriginal(entrance?.port ?? null);
    this.deadline = loop.now + (service.mode === 'http' ? service.limits.firstByte : service.limits.idle);
    loop.timers.watch(this);
    thread.connections.add(this);
    counters.add('accepted', 1);
    counters.add('open', 1);
  }

  start(): void {
    const { service, reporter } = this.site;
    if (service.logConnections) reporter.log('notice', `${prefix(this.site)}Connecting ${this.#ends()}`);
    if (reporter.access?.tellsEvents) reporter.access.event('opened', this.#visit());
    if (reporter.verbose) this.log('debug', 'accepted');
    if (service.mode === 'http') {
      this.#first = NOTHING;
      this.toUpstream.filter = this;
      this.toUpstream.unseen = 0;
      return;
    }
    if (this.site.targets === null && this.original === null) {
      const why = 'no original destination: the connection was not redirected here, so there is nowhere to go';
      this.#giveUp(why, 'local-connect-failed -');
      return;
    }
    if (service.upstreams.length === 0) {
      this.#openDirect();
      return;
    }
    const end = this.#relayEnd();
    if (end === null) {
      this.#giveUp('no proxy can be told to connect to a socket of this host', 'local-connect-failed -');
      return;
    }
    this.#relayedTo = end;
    this.#destination = formatEnd(end);
    this.#openTunnel(end);
  }

  /** Where a relay's upstream shall connect to; null: nowhere that it could be told. */
  #relayEnd(): End | null {
    const { ends, loop } = this.site;
    if (ends === null) return this.#originalEnd();
    const to = ends.order(loop.now, this.clientAddress?.ip ?? '')[0]?.host.to;
    return to === undefined || isUnix(to) ? null : to;
  }

  // The client's first bytes, in http mode.

  onBytes(bytes: Buffer, count: number): void {
    const { detect } = this.site.parts as Parts;
    if (this.#first === NOTHING && detect(bytes, 0, count).kind === 'http') {
      // The ordinary case: a request's head in one piece, which need not be copied for that.
      this.#beginHttp(bytes, count);
      return;
    }
    const first = Buffer.concat([this.#first ?? NOTHING, bytes.subarray(0, count)]);
    this.#first = first;
    const detected = detect(first, 0, first.length);
    if (detected.kind !== 'incomplete') this.#onDetected(detected);
    else if (first.length === count) this.#watchUntil(this.site.loop.now + this.site.service.limits.head);
  }

  onPassed(): void {}

  onEnd(): void {
    // Too few bytes to say what they are, and there will be no more.
    if (this.#first !== null && this.#first.length > 0) this.#onDetected({ kind: 'unknown' });
  }

  #onDetected(detected: Detected): void {
    const { service, reporter } = this.site;
    const { toUpstream } = this;
    const first = this.#first as Buffer;
    if (reporter.verbose) this.log('debug', whatItSpeaks(detected, first.length));
    if (detected.kind === 'http') {
      this.#beginHttp(first, first.length);
      return;
    }
    toUpstream.filter = null;
    toUpstream.unseen = Number.POSITIVE_INFINITY;
    toUpstream.paused = true;
    const end = this.#originalEnd();
    if (end === null) {
      const why = 'no HTTP, and no original destination: the connection was not redirected here';
      this.#giveUp(why, 'local-connect-failed -');
      return;
    }
    if (detected.kind === 'unknown') {
      this.#pass(service.unknown, end);
      return;
    }
    // With an encrypted hello the name may be that of a front (RFC 9849), which the upstream might look up to somewhere
    // else than where the client was going.
    const { serverName, ech } = detected;
    this.#pass(
      service.tls,
      serverName === null || (ech && service.ech === 'address') ? end : { host: serverName, port: end.port },
    );
  }

  /** The first `count` of `bytes` are the beginning of a request. */
  #beginHttp(bytes: Buffer, count: number): void {
    this.#first = null;
    this.#http = (this.site.parts as Parts).relay(this);
    this.#http.begin(bytes, count);
    // The time for a first byte is over; those that follow are headDeadline's, the opening's, and this one.
    this.#active();
  }

  #pass(passage: Passage, end: End): void {
    this.#destination = formatEnd(end);
    if (passage === 'connect') this.#openTunnel(end);
    else if (passage === 'direct') this.#openDirect();
    else this.#giveUp(`neither HTTP nor anything else that is let through to ${this.#destination}`, 'denied');
  }

  #originalEnd(): End | null {
    return this.original === null ? null : { host: this.original.ip, port: this.original.port };
  }

  // Ways.

  #open(way: Way): void {
    const { service, reporter, forData } = this.site;
    if (reporter.verbose) this.log('debug', whereItGoes(way));
    const toOriginal = forData || (way.members.length === 0 && service.targets.length === 0);
    this.#opening = new Opening(this.site, way, this, sourceOf(service, this.clientAddress, toOriginal));
  }

  #openDirect(): void {
    const { targets, loop } = this.site;
    this.#direct = true;
    // A relay's target may want to know its client as much as an upstream may; an origin never asked for that.
    this.#open({
      members: targets === null ? [] : targets.order(loop.now, this.clientAddress?.ip ?? ''),
      addresses: targets === null ? [this.original as SocketAddress] : [],
      tunnel: null,
      preface: targets === null ? null : this.#preface(),
      spare: false,
    });
  }

  #openTunnel(tunnel: End): void {
    this.#direct = false;
    const members = this.#order(false, formatEnd(tunnel));
    if (members.length === 0) this.#openDirect();
    else this.#open({ members, addresses: [], tunnel, preface: this.#preface(), spare: false });
  }

  /** See HttpLink. */
  openUpstream(url: string, repeatable: boolean): void {
    this.#direct = false;
    const members = this.#order(true, url);
    if (members.length === 0 && this.#mayGoDirect()) {
      this.#openDirect();
      return;
    }
    this.#open({
      // All are down and there is no way past them: to try is better than to refuse.
      members: members.length > 0 ? members : this.site.pool.httpMembers,
      addresses: [],
      tunnel: null,
      preface: this.#preface(),
      spare: repeatable && this.site.shares,
    });
  }

  /** See HttpLink. */
  openOrigin(host: string, port: number): void {
    this.#direct = false;
    const members = this.#order(false, `${host}:${port}`);
    this.#open({
      members: members.length > 0 ? members : this.site.pool.httpMembers,
      addresses: [],
      tunnel: { host, port },
      preface: this.#preface(),
      spare: false,
    });
  }

  /** See HttpLink. */
  suits(url: string): boolean {
    return !this.site.pool.byUrl || this.#order(true, url)[0] === this.#member;
  }

  #order(onlyHttp: boolean, url: string): readonly Member[] {
    return this.site.pool.order(this.site.loop.now, this.clientAddress?.ip ?? '', url, onlyHttp);
  }

  /** The client's bytes may go to the original destination as they are: nothing of them went anywhere yet. */
  #mayGoDirect(): boolean {
    const untouched = this.#http === null || this.#http.untouched;
    const somewhere = this.original !== null || this.site.service.targets.length > 0;
    return !this.#direct && untouched && somewhere && !this.site.service.proxyOnly;
  }

  #preface(): Buffer | null {
    const { proxyProtocol } = this.site.service;
    if (proxyProtocol === null) return null;
    const destination = this.original ?? localAddress(this.#client.fd);
    return (this.site.parts as Parts).preface(proxyProtocol, this.clientAddress, destination);
  }

  onOpen({ endpoint, address, member, early, used }: Opened): void {
    const { toUpstream, toClient } = this;
    this.#opening = null;
    // The thread that made the client's connection, if that is ours, may have noted it down after we accepted it.
    if (isOwn(this.site, this.#client.fd, this.clientAddress)) {
      endpoint.reset();
      this.#giveUp(LOOP, 'denied');
      return;
    }
    this.#upstream = endpoint;
    this.#upstreamAddress = address;
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
      const untouched = this.#http === null ? (this.#first ?? NOTHING) : this.#http.release();
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
    this.#upstreamAddress = null;
    this.toUpstream.attach(this.#client, null);
    this.toClient.attach(null, this.#client);
  }

  /** Leaves the upstream's connection to whichever client comes next. False: it is none for others. */
  #leaveToOthers(upstream: Endpoint): boolean {
    const { site, toUpstream } = this;
    if (!site.shares || !this.#http?.isReusable || !toUpstream.drained) return false;
    return this.#member?.spares.put(site.loop, upstream, this.#upstreamAddress as UpstreamAddress) ?? false;
  }

  run(): void {
    if (this.#closed) return;
    if (this.#lingering) {
      this.#linger();
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
      this.deadline = http.headDeadline;
      this.site.loop.timers.watch(this);
    }
  }

  onDeadline(): void {
    const { loop, service } = this.site;
    const head = this.#http?.headDeadline ?? Number.POSITIVE_INFINITY;
    const heldUntil = Math.max(this.toUpstream.heldUntil, this.toClient.heldUntil);
    if (this.#lingering) {
      this.#finish('done');
    } else if (this.#opening !== null) {
      // It has a deadline of its own, and its end moves this one.
      this.#watchUntil(loop.now + service.limits.connect);
    } else if (this.#first !== null) {
      // A client that waits for the server to begin, or stopped in the middle of what might have been a request.
      this.#watchUntil(loop.now + service.limits.connect);
      this.#onDetected({ kind: 'unknown' });
    } else if (heldUntil > loop.now) {
      // Nobody but us is slow.
      this.#watchUntil(heldUntil);
    } else if (head <= loop.now) {
      this.#http?.refuse(408, `The request's head did not arrive within ${service.limits.head / 1000} seconds.`);
      this.#active();
      this.run();
    } else if (head < Number.POSITIVE_INFINITY) {
      this.#watchUntil(head);
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

  #watchUntil(deadline: number): void {
    this.deadline = deadline;
    this.site.loop.timers.watch(this);
  }

  /** One entry of the access log: transproxy's word for what was done, the request's number, who, and where to. */
  access(what: string, target: string, request = 1): void {
    const { access, verbose } = this.site.reporter;
    if (access !== null) access.passed(what, request, this.clientAddress?.ip ?? null, target);
    if (verbose) this.log('debug', `${what} ${request}: ${target}`);
  }

  /** One line for a dump. */
  describe(): string {
    const { now } = this.site.loop;
    const seconds = (since: number): string => `${((now - since) / 1000).toFixed(1)} s`;
    const http = this.#http === null ? '' : `, ${this.#http.requests} requests`;
    return (
      `${this.#name()}: ${this.#state()}${http}, ${this.toUpstream.moved} bytes from the client, ` +
      `${this.toClient.moved} bytes to it, age ${seconds(this.#opened)}, idle ${seconds(this.#lastActive)}`
    );
  }

  #state(): string {
    if (this.#lingering) return 'ending';
    if (this.#first !== null && this.#opening === null) return 'waiting for the first bytes';
    if (this.#opening === null) return 'open';
    const { address } = this.#opening;
    return `connecting to ${address === null ? 'an upstream' : formatAddress(address)}`;
  }

  #name(): string {
    const parts = [this.clientAddress === null ? 'client' : `client ${formatAddress(this.clientAddress)}`];
    if (this.original !== null) parts.push(`original destination ${formatAddress(this.original)}`);
    if (this.#upstreamAddress !== null) parts.push(`upstream ${formatAddress(this.#upstreamAddress)}`);
    return `${this.site.service.name}: ${parts.join(', ')}`;
  }

  /** As redir(1) names them: the client, and where the connection is meant to go. */
  #ends(): string {
    const end = endOf(this.site.service, this.#originalEnd());
    const client = this.clientAddress === null ? '-' : formatAddress(this.clientAddress);
    return `${client} to ${end === null ? '-' : formatEnd(end)}`;
  }

  #logConnected({ fd }: Endpoint): void {
    const local = localAddress(fd);
    this.log('debug', `connected${local === null ? '' : ` from ${formatAddress(local)}`}`);
  }

  log(level: LogLevel, message: string): void {
    this.site.reporter.log(level, `${this.#name()}: ${message}`);
  }

  #findOriginal(listenPort: number | null): OriginalDestination | null {
    const { fd } = this.#client;
    const { clientAddress } = this;
    if (clientAddress === null) return null;
    if (this.site.service.intercept === 'tproxy') return tproxyDestination(fd, listenPort);
    const original = originalDestination(fd, clientAddress.ip.includes(':'));
    if (original === null) return null;
    // A connection that was not redirected reports the address that it was accepted on: going there would come back.
    if (listenPort !== null && original.port !== listenPort) return original;
    const local = localAddress(fd);
    return local !== null && sameAddress(local, original) ? null : original;
  }

  #active(): void {
    const { loop, service } = this.site;
    this.#lastActive = loop.now;
    const half = this.#toUpstreamEnded || this.#toClientEnded;
    this.deadline = loop.now + (half ? service.limits.halfClosed : service.limits.idle);
    loop.timers.watch(this);
  }

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
    this.#lingering = true;
    this.#reason = reason;
    this.#upstream?.close();
    this.toUpstream.close();
    this.toClient.paused = true;
    // What failed was the upstream's side; ours toward the client goes on.
    if (this.toClient.broken === this.#upstream) this.toClient.error = null;
    this.#watchUntil(this.site.loop.now + LINGER);
    this.#linger();
  }

  #linger(): void {
    const client = this.#client;
    const { moved } = this.toClient;
    if (this.toClient.flush() === FAILED) {
      this.#finish('done');
      return;
    }
    if (this.toClient.moved > moved) this.#watchUntil(this.site.loop.now + LINGER);
    if (!this.toClient.drained) return;
    if (!this.#toClientEnded) {
      this.#toClientEnded = true;
      shutdownSend(client.fd);
    }
    // A close() with unread bytes would send a reset that overtakes what the client has not read yet.
    const { scratch } = this.site.loop;
    while (client.readable) {
      const count = receive(client.fd, scratch, SCRATCH_SIZE);
      if (count > 0) this.#discarded += count;
      if (count === 0) {
        this.#finish('done');
        return;
      }
      // It sends on and on: what it may still read comes through, and it is held back until the time is over. Behind its
      // end, or a reset, there is only what the socket holds.
      if (this.#discarded > LINGER_BYTES && !client.failed) return;
      if (count < 0) client.readable = false;
    }
    if (client.failed) this.#finish('done');
  }

  /** The thread ends, and its connections with it. */
  stop(): void {
    this.#event = 'done-stopped';
    this.#finish('the program ends');
  }

  #giveUp(reason: string, event: AccessEvent): void {
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
    this.#end('closed', this.#reason ?? reason);
  }

  #end(how: string, reason: string): void {
    const { counters, reporter } = this.site;
    const { connections, loop } = this.site.thread;
    this.#closed = true;
    if (this.site.service.logConnections || reporter.verbose) this.#logEnd(how, reason);
    if (reporter.access?.tellsEvents) reporter.access.event(this.#event ?? this.#endedFirst(), this.#visit());
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

  #logEnd(how: string, reason: string): void {
    const { service, reporter, loop } = this.site;
    const [sent, received] = [this.toUpstream.moved, this.toClient.moved];
    const age = loop.now - this.#opened;
    if (reporter.verbose) {
      const bytes = `${sent} bytes from the client, ${received} bytes to it`;
      this.log('debug', `${how}: ${reason}; ${bytes}, ${(age / 1000).toFixed(1)} s`);
    }
    if (!service.logConnections) return;
    const upstream = this.#upstreamAddress === null ? '' : `, upstream ${formatAddress(this.#upstreamAddress)}`;
    // redir(1)'s words, whose bytes in are those that come in from the target.
    const what = `Disconnect after ${Math.floor(age / 1000)} sec, ${received} bytes in, ${sent} bytes out`;
    reporter.log('notice', `${prefix(this.site)}${what}: ${this.#ends()}${upstream}, ${how}: ${reason}`);
  }

  /** Of the client and the far end. Where both have ended by now, the client was asked first. */
  #endedFirst(): AccessEvent {
    if (this.#toUpstreamEnded) return 'done-remote-closed';
    const broken = this.toUpstream.broken ?? this.toClient.broken;
    if (broken !== null) return broken === this.#client ? 'done-remote-closed' : 'done-local-closed';
    return this.#toClientEnded || this.#lingering ? 'done-local-closed' : 'done-remote-closed';
  }

  #visit(): Visit {
    return {
      client: this.clientAddress?.ip ?? null,
      entrance: this.#entrance ?? entranceOf(this.#client.fd),
      target: endOf(this.site.service, this.#originalEnd()),
      fromClient: this.toUpstream.moved,
      toClient: this.toClient.moved,
    };
  }
}

/** For a debug line: what the first `count` bytes of a client are. */
const whatItSpeaks = (detected: Detected, count: number): string => {
  if (detected.kind !== 'tls')
    return count === 0 ? 'the client waits for the server to begin' : `it is ${detected.kind}`;
  const { serverName, ech } = detected;
  return `it is tls, ${serverName === null ? 'without a name' : `for ${serverName}`}${ech ? ', maybe encrypted' : ''}`;
};

/** For a debug line. */
const whereItGoes = ({ members, addresses, tunnel }: Way): string => {
  const to = members.length > 0 ? members.map(({ address }) => address) : addresses;
  return `connecting to ${to.map(formatAddress).join(' or ')}${tunnel === null ? '' : `, and through it to ${formatEnd(tunnel)}`}`;
};

const LOOP = 'loop: the connection is our own; a redirect rule catches what this program sends';

/** An accepted connection is one that this program has made itself. */
const isOwn = (site: Site, fd: number, client: ClientAddress | null): boolean =>
  client !== null &&
  site.loop.ownSockets.has(client, () => originalDestination(fd, client.ip.includes(':')) ?? localAddress(fd));

/** Where a connection of a service is meant to go: not to an upstream, unless nothing else is known. */
const endOf = ({ targets, upstreams }: Service, original: End | null): HostPort | UnixAddress | null =>
  targets[0]?.to ?? original ?? upstreams[0] ?? null;

/** Of a socket, where the plan does not say. */
const entranceOf = (fd: number): Entrance | null => {
  const local = localAddress(fd);
  return local === null ? null : { host: local.ip, port: local.port };
};

/** How a message without it begins, where there are several services. */
const prefix = ({ thread, service }: Site): string => (thread.several ? `${service.name}: ` : '');

/** A connection that is none yet, as the access log tells of it. */
export const unopened = ({ service }: Site, client: ClientAddress | null, entrance: Entrance | null): Visit => ({
  client: client?.ip ?? null,
  entrance,
  target: endOf(service, null),
  fromClient: 0,
  toClient: 0,
});

/** An accepted connection that shall not be, and why. */
interface Refused {
  readonly site: Site;
  readonly fd: number;
  readonly client: ClientAddress | null;
  readonly entrance: Entrance | null;
  /** Who refuses it, as transproxy's access log has it; null: it does not tell. */
  readonly by: string | null;
  readonly event: AccessEvent;
  readonly why: string;
}

/** Closes an accepted connection with a reset. */
export const refuse = ({ site, fd, client, entrance, by, event, why }: Refused): void => {
  const { access } = site.reporter;
  const visit = unopened(site, client, entrance ?? entranceOf(fd));
  site.counters.add('refused', 1);
  site.reporter.log('warn', `${site.service.name}: ${why}`);
  if (by !== null) access?.refused(by, event, visit);
  else access?.event(event, visit);
  resetOnClose(fd);
  closeFd(fd);
};

/**
 * Takes a connected socket over, if its client may connect, now or when TCP wrappers have been asked; it is closed with a
 * reset otherwise. `entrance`: of the socket that accepted it, if it is known.
 */
export const admit = (site: Site, fd: number, client: ClientAddress | null, entrance: Entrance | null = null): void => {
  const { acl, thread, service } = site;
  const from = client === null ? '-' : formatAddress(client);
  const refusal = acl === null ? null : refusalOf(acl, client, entrance);
  if (refusal !== null) {
    refuse({ site, fd, client, entrance, by: 'ACL', event: refusal, why: `ACL refused from ${from}: ${refusal}` });
    return;
  }
  if (isOwn(site, fd, client)) {
    refuse({ site, fd, client, entrance, by: null, event: 'denied', why: `client ${from}: ${LOOP}` });
    return;
  }
  if (service.tcpWrappers === null) begin(site, fd, client, entrance);
  else (thread.admissions as Admissions).hold(site, fd, client, entrance);
};

/** A client without an address is let in by who may open the unix socket, and by nothing else. */
const refusalOf = (acl: Acl, client: ClientAddress | null, entrance: Entrance | null): Refusal | null => {
  if (client !== null) return acl.refusal(client.ip);
  return entrance !== null && entrance.port === null ? null : 'not-allowed';
};

/** Takes over the connected socket of a client that is admitted; null: that failed, and it is closed. */
export const begin = (
  site: Site,
  fd: number,
  client: ClientAddress | null,
  entrance: Entrance | null = null,
): Connection | null => {
  let connection: Connection;
  try {
    connection = new Connection(site, fd, client, entrance);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const from = client === null ? '-' : formatAddress(client);
    site.reporter.log('error', `${site.service.name}: client ${from}: ${error.message}`);
    closeFd(fd);
    return null;
  }
  connection.start();
  return connection;
};
