import {
  type ClientAddress,
  formatAddress,
  type OriginalDestination,
  type SocketAddress,
  sameAddress,
} from '../address.js';
import type { LogLevel } from '../plan.js';
import { SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { localAddress, originalDestination, receive, resetOnClose, shutdownSend } from '../sys/socket.js';
import { Dial, type Dialer } from './dial.js';
import { Endpoint } from './endpoint.js';
import type { HttpLink, HttpRelay } from './http-relay.js';
import { type Runnable, SCRATCH_SIZE } from './loop.js';
import { ENDED, FAILED, MORE, Pump } from './pump.js';
import type { Site } from './site.js';
import type { Timed } from './timers.js';

/** How long a client may take to read what ends its connection, in ms (RFC 9112 section 9.6). */
const LINGER = 2000;

/** The same in bytes: what it may send meanwhile, to be thrown away. */
const LINGER_BYTES = 1024 * 1024;

/**
 * One client's connection, from accept to close. It owns both sockets, and nobody else closes them.
 *
 * A relay dials first and then pumps both ways. In http mode an HttpRelay filters both pumps and says when to dial.
 * Ends of stream pass on each way for itself, and a reset passes on.
 */
export class Connection implements Runnable, Timed, Dialer, HttpLink {
  deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly original: OriginalDestination | null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  readonly #client: Endpoint;
  readonly #opened: number;
  #lastActive: number;
  #upstream: Endpoint | null = null;
  #upstreamAddress: SocketAddress | null = null;
  #dial: Dial | null = null;
  /** The way goes, or tries to go, past the upstream. */
  #direct = false;
  #http: HttpRelay | null = null;
  #toUpstreamEnded = false;
  #toClientEnded = false;
  #lingering = false;
  #discarded = 0;
  #closed = false;

  /**
   * Takes `fd` over, a connected socket. start() is next.
   * @throws SystemError when epoll does not take the descriptor, which stays the caller's then
   */
  constructor(
    readonly site: Site,
    fd: number,
    readonly clientAddress: ClientAddress | null,
  ) {
    const { loop, service, counters } = site;
    this.#client = new Endpoint(loop, fd, this, true);
    this.#opened = loop.now;
    this.#lastActive = loop.now;
    this.toUpstream = new Pump(loop, this.#client, null);
    this.toClient = new Pump(loop, null, this.#client);
    // A relay to a fixed target has no use for it, and saves two system calls.
    this.original = service.mode === 'relay' && service.upstream !== null ? null : this.#findOriginal();
    this.deadline = loop.now + (service.mode === 'http' ? service.limits.firstByte : service.limits.idle);
    loop.timers.watch(this);
    site.connections.add(this);
    counters.add('accepted', 1);
    counters.add('open', 1);
  }

  start(): void {
    const { translate, service } = this.site;
    const { upstream } = service;
    if (translate !== null) this.#http = translate(this);
    else if (upstream !== null) this.dialUpstream();
    else if (this.original !== null) this.#dialDirect();
    else {
      this.#log('warn', 'no original destination: the connection was not redirected here, so there is nowhere to go');
      this.#reset();
    }
  }

  dialUpstream(): void {
    const { site } = this;
    this.#dial = new Dial(site.loop, site.nextUpstreams(), site.service.limits.connect, this);
  }

  #dialDirect(): void {
    const { site } = this;
    this.#direct = true;
    this.#dial = new Dial(site.loop, [this.original as SocketAddress], site.service.limits.connect, this);
  }

  onConnected(endpoint: Endpoint, address: SocketAddress): void {
    this.#dial = null;
    this.#upstream = endpoint;
    this.#upstreamAddress = address;
    endpoint.owner = this;
    this.toUpstream.to = endpoint;
    this.toClient.from = endpoint;
    this.#active();
    if (this.#http === null) {
      this.access('Transparent', formatAddress(address));
    } else if (this.#direct) {
      const untouched = this.#http.release();
      this.#http = null;
      this.access('Transparent', formatAddress(address));
      this.toUpstream.put(untouched, 0, untouched.length);
    } else {
      this.#http.onUpstream();
    }
    this.run();
  }

  onUnreachable(error: SystemError): void {
    const { site, original } = this;
    this.#dial = null;
    if (!this.#direct) site.reporter.unreachable(site.index);
    if (this.#http === null) {
      this.#log('warn', error.message);
      this.#reset();
      return;
    }
    if (!this.#direct && !site.service.proxyOnly && original !== null) {
      this.#log('warn', `${error.message}; going to the original destination`);
      this.#dialDirect();
      return;
    }
    this.#log('warn', error.message);
    this.#http.refuse(
      502,
      `No connection to the ${this.#direct ? 'server' : 'proxy'} could be made: ${error.message}.`,
    );
    this.run();
  }

  run(): void {
    if (this.#closed) return;
    if (this.#lingering) {
      this.#linger();
      return;
    }
    if (this.#dial !== null) {
      if (this.#client.failed) this.#fail('the client left during the connect');
      return;
    }
    const { toUpstream, toClient } = this;
    const http = this.#http;
    const movedUp = toUpstream.moved;
    const movedDown = toClient.moved;
    http?.resume();
    const up = toUpstream.run();
    const down = toClient.run();
    if (this.#closed || this.#dial !== null) return;
    if (up === FAILED || down === FAILED) {
      this.#onFailed(up === FAILED ? toUpstream : toClient, toClient.moved > movedDown || toClient.ended);
      return;
    }
    if (http?.refused) {
      this.#beginLinger(`refused: ${http.refusal}`);
      return;
    }
    if (up === ENDED && (down === ENDED || this.#upstream === null)) {
      this.#finish('done');
      return;
    }
    // HTTP has no use for the client's direction then, and the client may be waiting for the end of ours.
    if (down === ENDED && http?.closing) {
      this.#beginLinger('the upstream has ended');
      return;
    }
    // Behind the end of a direction nothing is read any more that would tell of a reset.
    if (up === ENDED && this.#client.failed && !this.#toClientEnded) {
      this.#fail('client: reset behind its end of stream');
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
    if (up === MORE || down === MORE || http?.canResume || toUpstream.ready) this.site.loop.again(this);
    if (active) this.#active();
    if (http !== null && http.headDeadline < this.deadline) {
      this.deadline = http.headDeadline;
      this.site.loop.timers.watch(this);
    }
  }

  onDeadline(): void {
    const { limits } = this.site.service;
    const idle = Math.round((this.site.loop.now - this.#lastActive) / 1000);
    const head = this.#http?.headDeadline ?? Number.POSITIVE_INFINITY;
    if (this.#lingering) {
      this.#finish('done');
    } else if (head <= this.site.loop.now) {
      this.#http?.refuse(408, `The request's head did not arrive within ${limits.head / 1000} seconds.`);
      this.#active();
      this.run();
    } else if (head < Number.POSITIVE_INFINITY || this.#dial !== null) {
      // A head has a deadline of its own, and so has a connect, whose end moves this one.
      this.deadline = Math.min(head, this.site.loop.now + limits.connect);
      this.site.loop.timers.watch(this);
    } else {
      this.#finish(`idle for ${idle} s`);
    }
  }

  /** One entry of the access log: transproxy's word for what was done, the request's number, who, and where to. */
  access(what: string, target: string, request = 1): void {
    const write = this.site.reporter.access;
    if (write !== null) write(`${what.padEnd(13)} ${request} ${this.clientAddress?.ip ?? '-'} -> ${target}`);
  }

  /** One line for a dump. */
  describe(): string {
    const { now } = this.site.loop;
    const seconds = (since: number): string => `${((now - since) / 1000).toFixed(1)} s`;
    const state = this.#lingering
      ? 'ending'
      : this.#dial !== null
        ? `connecting to ${formatAddress(this.#dial.address)}`
        : 'open';
    const http = this.#http === null ? '' : `, ${this.#http.requests} requests`;
    return (
      `${this.#name()}: ${state}${http}, ${this.toUpstream.moved} bytes from the client, ` +
      `${this.toClient.moved} bytes to it, age ${seconds(this.#opened)}, idle ${seconds(this.#lastActive)}`
    );
  }

  #name(): string {
    const parts = [this.clientAddress === null ? 'client' : `client ${formatAddress(this.clientAddress)}`];
    if (this.original !== null) parts.push(`original destination ${formatAddress(this.original)}`);
    if (this.#upstreamAddress !== null) parts.push(`upstream ${formatAddress(this.#upstreamAddress)}`);
    return `${this.site.service.name}: ${parts.join(', ')}`;
  }

  #log(level: LogLevel, message: string): void {
    this.site.reporter.log(level, `${this.#name()}: ${message}`);
  }

  #findOriginal(): OriginalDestination | null {
    const { fd } = this.#client;
    const { clientAddress } = this;
    if (clientAddress === null) return null;
    const original = originalDestination(fd, clientAddress.ip.includes(':'));
    if (original === null) return null;
    // A connection that was not redirected reports the address that it was accepted on: going there would come back.
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
    // What the upstream said before it left must not be overtaken by the reset: close() after SO_LINGER 0 throws away
    // what the socket has not sent yet.
    if (broken === 'upstream' && toldClient) this.#beginLinger(reason);
    else this.#fail(reason);
  }

  /** Lets the client read what was sent to it, then ends its connection; the upstream's ends at once. */
  #beginLinger(reason: string): void {
    if (this.site.reporter.verbose) this.#log('debug', reason);
    this.#lingering = true;
    this.#upstream?.close();
    this.toUpstream.close();
    this.toClient.paused = true;
    // What failed was the upstream's side; ours toward the client goes on.
    if (this.toClient.broken === this.#upstream) this.toClient.error = null;
    this.#lingerOn();
    this.#linger();
  }

  #lingerOn(): void {
    this.deadline = this.site.loop.now + LINGER;
    this.site.loop.timers.watch(this);
  }

  #linger(): void {
    const client = this.#client;
    const { moved } = this.toClient;
    if (this.toClient.run() === FAILED) {
      this.#finish('done');
      return;
    }
    if (this.toClient.moved > moved) this.#lingerOn();
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
      if (count === 0 || this.#discarded > LINGER_BYTES) {
        this.#finish('done');
        return;
      }
      if (count < 0) client.readable = false;
    }
    if (client.failed) this.#finish('done');
  }

  #fail(reason: string): void {
    if (this.site.reporter.verbose) this.#log('debug', `reset: ${reason}`);
    this.#reset();
  }

  #reset(): void {
    this.#client.reset();
    this.#upstream?.reset();
    this.#end();
  }

  #finish(reason: string): void {
    if (this.site.reporter.verbose) this.#log('debug', `closed: ${reason}`);
    this.#client.close();
    this.#upstream?.close();
    this.#end();
  }

  #end(): void {
    const { site } = this;
    this.#closed = true;
    this.#dial?.cancel();
    this.#dial = null;
    site.counters.add('open', -1);
    site.counters.add('bytesFromClients', this.toUpstream.moved);
    site.counters.add('bytesToClients', this.toClient.moved);
    this.toUpstream.close();
    this.toClient.close();
    site.loop.timers.forget(this);
    site.connections.delete(this);
    site.onClosed?.();
  }
}

/** Takes a connected socket over, if its client may connect; it is closed with a reset otherwise. */
export const admit = (site: Site, fd: number, client: ClientAddress | null): void => {
  const { acl, counters, reporter, service } = site;
  const from = client === null ? '-' : formatAddress(client);
  if (acl !== null && (client === null || !acl.has(client.ip))) {
    counters.add('refused', 1);
    reporter.access?.(`ACL refused from ${client?.ip ?? '-'}`);
    reporter.log('warn', `${service.name}: ACL refused from ${from}`);
    resetOnClose(fd);
    closeFd(fd);
    return;
  }
  let connection: Connection;
  try {
    connection = new Connection(site, fd, client);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    reporter.log('error', `${service.name}: client ${from}: ${error.message}`);
    closeFd(fd);
    return;
  }
  connection.start();
};
