import type { ClientAddress, OriginalDestination } from '../address.js';
import type { LogLevel } from '../plan.js';
import { type Fields, type Read, type RequestHead, refusal } from '../protocol/http.js';
import { BodyFollower } from '../protocol/http-body.js';
import { removeField, replaceField } from '../protocol/http-fields.js';
import { type ForwardRules, forwardRequest } from '../protocol/http-forward.js';
import { readRequestHead, writeRequestHead } from '../protocol/http-request.js';
import { readResponseHead } from '../protocol/http-response.js';
import { type Route, routeOf } from './http-route.js';
import { SCRATCH_SIZE } from './loop.js';
import type { Pump } from './pump.js';
import type { Site } from './site.js';

/** What translating needs of its connection. */
export interface HttpLink {
  readonly site: Site;
  readonly clientAddress: ClientAddress | null;
  readonly original: OriginalDestination | null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  /**
   * Opens a way to the upstream that is to have this URL. HttpRelay.onOpen or onClosed is next, or the relay's end.
   * `repeatable`: what goes there first may be sent again, so that a spare connection will do.
   */
  openUpstream(url: string, repeatable: boolean): void;
  /** The same, through a tunnel to an origin. */
  openOrigin(host: string, port: number): void;
  /** The way that is open is the one for this URL. */
  suits(url: string): boolean;
  /** Ends the way that is open; nothing may be under way on it. */
  detachUpstream(): void;
  /** Proxy-Authorization for the upstream on the way that is open. */
  readonly authorization: string | null;
  /** Has the relay resumed in the next turn. */
  again(): void;
  access(what: string, target: string, request: number): void;
  log(level: LogLevel, message: string): void;
}

/** Requests that may be under way before the oldest is answered: a client that only sends is held back. */
const MOST_PIPELINED = 64;

/** What a head may grow by when it is written anew, beside its target: the fields of ours. */
const HEADROOM = 2048;

const EMPTY = Buffer.alloc(0);

const withoutZone = (ip: string): string => (ip.includes('%') ? ip.slice(0, ip.indexOf('%')) : ip);

/** Where a thread writes what goes to an upstream; its size is that of the largest head, written anew, and more. */
let outbox = EMPTY;

const outboxFor = (headBytes: number): Buffer => {
  const size = 4 * headBytes + SCRATCH_SIZE;
  if (outbox.length < size) outbox = Buffer.allocUnsafeSlow(size);
  return outbox;
};

/** Methods that may be sent again when the connection broke before an answer (RFC 9110 section 9.2.2), bodies apart. */
const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

const isRepeatable = ({ method, body }: RequestHead): boolean => body.kind === 'none' && REPEATABLE.has(method);

/** A request that was sent on and not answered yet. */
interface Unanswered {
  readonly method: string;
  readonly knowsProxy: boolean;
  /** The request, if it may be sent again as it was written. */
  readonly repeat: {
    readonly head: RequestHead;
    readonly url: string;
    /** What the upstream that it went to was told. */
    readonly authorization: string | null;
  } | null;
}

/** Has a request that one upstream was sent tell another what that one wants to know: `from` is for `to` instead. */
const setAuthorization = (fields: Fields, from: string | null, to: string | null): void => {
  if (to !== null) replaceField(fields, 'Proxy-Authorization', to);
  else if (from !== null) removeField(fields, 'Proxy-Authorization');
};

/**
 * Translates one connection: requests from the client become absolute-URI requests for an upstream. Both directions
 * are followed message by message, so that each response is known to answer which request. Bodies are not collected;
 * what need not be looked at passes by splice.
 */
export class HttpRelay {
  /** Requests so far. */
  requests = 0;
  /** When a head that has begun must be complete, in the loop's milliseconds. */
  headDeadline = Number.POSITIVE_INFINITY;
  /** Why the client is refused; null if it is not. */
  refusal: string | null = null;
  /** The client has got its last answer. */
  finished = false;

  readonly #link: HttpLink;
  readonly #rules: ForwardRules;
  /** The same with what the upstream on the way that is open has to be told. */
  #rulesOfWay: ForwardRules;
  readonly #request = new BodyFollower(400);
  readonly #response = new BodyFollower(502);
  /** Bytes of the client that were not judged yet. */
  #held = EMPTY;
  /** Of the upstream: the beginning of a head. */
  #heldResponse = EMPTY;
  /** A head that was read and could not be sent on yet; #held begins with its bytes. */
  #waiting: Read<RequestHead> | null = null;
  /** Its route, once it is known. */
  #route: Route | null = null;
  /** It waits for this. */
  #waitsFor: 'nothing' | 'way' | 'answers' | 'name' = 'nothing';
  #connected = false;
  /** Nothing was sent on the way that is open. */
  #fresh = false;
  /** The way that is open is a tunnel to the origin of the waiting request. */
  #toOrigin = false;
  /** The upstream declined such a tunnel: upgrades are not offered on. */
  #withoutTunnels = false;
  /** The client said with its latest request that no other follows (RFC 9112 section 9.6). */
  #saidLast = false;
  /** A CONNECT or an upgrade was asked for: what the client's next bytes are depends on the answer. */
  #awaitingTunnel = false;
  /** Nothing more will be translated: a tunnel, or the upstream's last response. */
  #closing = false;
  #released = false;
  /** The connection ends with the answer that is under way. */
  #endsWithAnswer = false;
  /** Oldest first. */
  readonly #unanswered: Unanswered[] = [];
  /** Requests sent on the way that is open. */
  #sentOnWay = 0;
  /** The way that is open was a spare connection, and nothing came on it yet: it may be dead. */
  #unproven = false;
  /** Credentials went on the way that is open, which may make the connection one client's (RFC 4559 section 6). */
  #personal = false;
  #resend: Unanswered | null = null;
  #answer: Buffer | null = null;

  constructor(link: HttpLink) {
    this.#link = link;
    const { toUpstream, toClient, site, clientAddress } = link;
    const { http } = site.service;
    const clientIp = withoutZone(clientAddress?.ip ?? 'unknown');
    this.#rules = {
      via: http.via,
      clientIp,
      forwardedFor: !http.forwardedFor ? 'off' : site.trusted.has(clientIp) ? 'append' : 'set',
      proxyAuthorization: null,
      keepUpgrade: http.upgrade === 'pass',
      keepOpen: site.shares,
    };
    this.#rulesOfWay = this.#rules;
    toUpstream.filter = {
      onBytes: (bytes, count) => this.#onRequestBytes(bytes, count),
      onPassed: (count) => {
        this.#request.passed(count);
        this.#settle();
      },
      onEnd: () => {},
    };
    toClient.filter = {
      onBytes: (bytes, count) => this.#onResponseBytes(bytes, count),
      onPassed: (count) => {
        this.#response.passed(count);
        if (this.#response.done) this.#onAnswered();
        this.#answerIfDue();
        this.#settle();
      },
      onEnd: () => this.#onResponseEnd(),
    };
    toUpstream.unseen = 0;
    toClient.unseen = 0;
  }

  /** The client's first bytes, which said that it speaks HTTP. */
  begin(first: Buffer, count: number): void {
    this.#translate(first, count);
  }

  /** Nothing of the client's went anywhere yet. */
  get untouched(): boolean {
    return this.requests === 0;
  }

  /**
   * The client's end of stream must not reach the upstream yet: Squid drops a request whose client has gone
   * (half_closed_clients off).
   */
  get awaitsResponse(): boolean {
    return this.#unanswered.length > 0 && this.#request.done;
  }

  /** A request is with the upstream, and not a byte of its response has come. */
  get isUnanswered(): boolean {
    return this.#unanswered.length > 0 && this.#response.done && this.#heldResponse.length === 0;
  }

  /** The client has got, or is being sent, all answers that it will get. */
  get isAnswered(): boolean {
    return !this.#released && this.requests > 0 && this.#unanswered.length === 0 && this.#response.done;
  }

  /** A request waits for the addresses of its Host. */
  get awaitsName(): boolean {
    return this.#waitsFor === 'name' && this.refusal === null;
  }

  /** The way may go away now without the client missing anything. */
  get betweenRequests(): boolean {
    return (
      this.#connected &&
      !this.#closing &&
      !this.#toOrigin &&
      this.refusal === null &&
      this.#request.done &&
      (this.#unanswered.length === 0 || this.#mayResend()) &&
      this.#response.done &&
      this.#heldResponse.length === 0
    );
  }

  /** Nothing is under way, and the way may serve other clients. */
  get isReusable(): boolean {
    return this.betweenRequests && this.#unanswered.length === 0 && this.#held.length === 0 && !this.#personal;
  }

  /** The upstream has ended, or announced its end with its last response: the client has nothing to wait for behind it. */
  get closing(): boolean {
    return this.#closing && !this.#released;
  }

  /** The last answer of this connection has gone to the client whole: no end of the upstream's has to be waited for. */
  get isOver(): boolean {
    return (
      (this.#saidLast || this.#closing) &&
      this.refusal === null &&
      this.isAnswered &&
      this.#request.done &&
      this.#heldResponse.length === 0
    );
  }

  /** The client has sent all that it will. */
  get heardAll(): boolean {
    return this.#saidLast && this.#request.done && this.#held.length === 0;
  }

  /** resume() would do something. */
  get canResume(): boolean {
    return (
      this.#held.length > 0 &&
      this.headDeadline === Number.POSITIVE_INFINITY &&
      this.#mayTranslate() &&
      this.#link.toUpstream.drained
    );
  }

  /** The way is open; `early` is what its far end has said already. */
  onOpen(early: Buffer, used: boolean): void {
    this.#connected = true;
    this.#fresh = true;
    // A spare connection took requests before.
    this.#sentOnWay = used ? 1 : 0;
    this.#unproven = used;
    this.#personal = false;
    this.#waitsFor = 'nothing';
    const { authorization } = this.#link;
    this.#rulesOfWay = authorization === null ? this.#rules : { ...this.#rules, proxyAuthorization: authorization };
    const again = this.#resend;
    if (again?.repeat) {
      this.#resend = null;
      this.#unanswered.push({ ...again, repeat: null });
      setAuthorization(again.repeat.head.fields, again.repeat.authorization, authorization);
      const out = outboxFor(this.#link.site.service.limits.headBytes);
      this.#link.toUpstream.put(out, 0, writeRequestHead(again.repeat.head, again.repeat.url, out, 0));
      this.#sentOnWay = 1;
      this.#fresh = false;
    }
    if (early.length > 0) this.#onResponseBytes(early, early.length);
    this.#settle();
  }

  /** The way could not be opened. */
  onClosed(status: number, message: string, unreachable: boolean): void {
    this.#waitsFor = 'nothing';
    if (this.#toOrigin && !unreachable) {
      // The upstream lets nobody connect there (Squid's SSL_ports is 443 only): it gets a request without the offer.
      this.#toOrigin = false;
      this.#withoutTunnels = true;
      this.#settle();
      return;
    }
    this.#resend = null;
    this.refuse(status, `No connection could be made: ${message}.`);
  }

  /** The way that was open is gone. A request that it took along unanswered is sent again. */
  onDetached(): void {
    this.#connected = false;
    this.#fresh = false;
    const lost = this.#unanswered.pop();
    if (lost === undefined) return;
    this.#awaitingTunnel = false;
    this.#resend = lost;
    this.#waitsFor = 'way';
    this.#link.openUpstream(lost.repeat?.url as string, false);
  }

  /** Gives the connection up to a plain relay, and returns what the client has sent so far. */
  release(): Buffer {
    const { toUpstream, toClient } = this.#link;
    for (const pump of [toUpstream, toClient]) {
      pump.filter = null;
      pump.unseen = Number.POSITIVE_INFINITY;
      pump.paused = false;
    }
    this.#closing = true;
    this.#released = true;
    const held = this.#held;
    this.#held = EMPTY;
    return held;
  }

  /** Goes on with what the client has sent when what held it back is over. */
  resume(): void {
    if (!this.canResume) return;
    const held = this.#held;
    this.#held = EMPTY;
    this.#translate(held, held.length);
  }

  /** Answers the client in the upstream's place, after the answers that are still under way, and ends. */
  refuse(status: number, reason: string): void {
    if (this.refusal !== null) return;
    this.refusal = `${status} ${reason}`;
    this.#answerWith(refusal(status, reason));
  }

  /** The same when there will be no answer any more to what is under way. */
  giveUpAnswer(status: number, reason: string): void {
    this.#unanswered.length = 0;
    this.refuse(status, reason);
    // One that waited for that answer takes its place.
    this.#answerIfDue();
  }

  #answerWith(answer: Buffer): void {
    this.headDeadline = Number.POSITIVE_INFINITY;
    this.#held = EMPTY;
    this.#closing = true;
    this.#answer = answer;
    this.#answerIfDue();
    this.#settle();
  }

  #answerIfDue(): void {
    if (this.#answer === null || this.#unanswered.length > 0) return;
    const { toClient } = this.#link;
    // In the middle of a response there is no place for another one: the client sees it cut off.
    if (this.#response.done) toClient.put(this.#answer, 0, this.#answer.length);
    toClient.paused = true;
    this.#answer = null;
    this.finished = true;
  }

  #mayTranslate(): boolean {
    return (
      !this.#awaitingTunnel &&
      !this.#closing &&
      (this.#waitsFor === 'nothing' || (this.#waitsFor === 'answers' && this.#unanswered.length === 0)) &&
      this.#unanswered.length < (this.#unproven ? 1 : MOST_PIPELINED)
    );
  }

  /** The one request that is under way, on a connection that took others before, may be sent again on another. */
  #mayResend(): boolean {
    return this.#unanswered.length === 1 && this.#sentOnWay > 1 && this.#unanswered[0]?.repeat !== null;
  }

  /** Tells the pumps what they may do next. */
  #settle(): void {
    const { toUpstream, toClient } = this.#link;
    if (toUpstream.filter !== null) {
      toUpstream.unseen = this.#request.unseen;
      // What is held and no beginning of a head waits for something else than more bytes.
      const full = this.#held.length > 0 && this.headDeadline === Number.POSITIVE_INFINITY;
      const stopped = this.refusal !== null || (this.#request.done && !this.#mayTranslate());
      toUpstream.paused = full || stopped;
    }
    if (toClient.filter !== null) toClient.unseen = this.#response.unseen;
  }

  #onRequestBytes(bytes: Buffer, count: number): void {
    if (this.#held.length === 0) {
      this.#translate(bytes, count);
      return;
    }
    const all = Buffer.concat([this.#held, bytes.subarray(0, count)]);
    this.#held = EMPTY;
    this.#translate(all, all.length);
  }

  /** Takes the first `end` of `bytes`: sends on what it can, and holds the rest. */
  #translate(bytes: Buffer, end: number): void {
    const { toUpstream, site } = this.#link;
    const { headBytes } = site.service.limits;
    const out = outboxFor(headBytes);
    let outAt = 0;
    let at = 0;
    /** The client was answered in the upstream's place: nothing more of it is needed. */
    let over = false;
    while (at < end) {
      if (!this.#request.done) {
        const next = this.#request.follow(bytes, at, end);
        if (outAt + next - at > out.length) {
          toUpstream.put(out, 0, outAt);
          outAt = 0;
        }
        outAt += bytes.copy(out, outAt, at, next);
        at = next;
        if (this.#request.refused !== null) {
          // The upstream must not take what it has for a whole request, and what it may answer has lost its meaning.
          this.giveUpAnswer(this.#request.refused.status, this.#request.refused.reason);
          return;
        }
        continue;
      }
      if (!this.#mayTranslate()) break;
      const outcome = this.#waiting ?? readRequestHead(bytes, at, end, headBytes);
      if (outcome.kind === 'incomplete') {
        if (this.headDeadline === Number.POSITIVE_INFINITY) {
          this.headDeadline = site.loop.now + site.service.limits.head;
        }
        break;
      }
      this.headDeadline = Number.POSITIVE_INFINITY;
      if (outcome.kind === 'refused') {
        this.refuse(outcome.status, outcome.reason);
        over = true;
        break;
      }
      this.#waiting = outcome;
      const { head } = outcome;
      const route = this.#route ?? this.#chooseRoute(head);
      if (route === null) {
        // Refused, or it waits for a name.
        over = this.refusal !== null;
        break;
      }
      this.#route = route;
      if (outAt + 2 * (head.size + route.target.length) + HEADROOM > out.length) {
        toUpstream.put(out, 0, outAt);
        outAt = 0;
        if (!toUpstream.drained) break;
      }
      const origin = this.#withoutTunnels ? null : route.origin;
      if (!this.#isWayFor(route, origin)) {
        if (outAt > 0) toUpstream.put(out, 0, outAt);
        outAt = 0;
        this.#openWay(route, origin, isRepeatable(head) && !(head.upgrade && this.#rules.keepUpgrade));
        break;
      }
      if (this.#forward(head, origin !== null)) {
        over = true;
        break;
      }
      outAt = writeRequestHead(head, origin?.target ?? route.target, out, outAt);
      at += head.size;
      this.#waiting = null;
      this.#route = null;
      this.#waitsFor = 'nothing';
      this.#fresh = false;
      this.requests++;
      this.#sentOnWay++;
      this.#saidLast = !head.keepAlive;
      this.#link.access(route.what, route.target, this.requests);
      this.#awaitingTunnel = head.method === 'CONNECT' || origin !== null || (head.upgrade && this.#rules.keepUpgrade);
      if (head.credentials) this.#personal = true;
      const repeatable = this.#sentOnWay > 1 && !this.#awaitingTunnel && isRepeatable(head);
      const { authorization } = this.#link;
      this.#unanswered.push({
        method: head.method,
        knowsProxy: route.knowsProxy,
        repeat: repeatable ? { head, url: route.target, authorization } : null,
      });
      this.#endsWithAnswer = origin !== null;
      this.#request.begin(head.body);
    }
    if (outAt > 0) toUpstream.put(out, 0, outAt);
    if (at < end && !over) this.#held = Buffer.from(bytes.subarray(at, end));
    this.#settle();
  }

  /** null: it was refused, or a name has to be looked up first. */
  #chooseRoute(head: RequestHead): Route | null {
    const link = this.#link;
    const outcome = routeOf(head, link, this.#onName);
    if (outcome.kind === 'route') return outcome;
    if (outcome.kind === 'refused') this.refuse(outcome.status, outcome.reason);
    else this.#waitsFor = 'name';
    return null;
  }

  readonly #onName = (): void => {
    // Meanwhile the way may have gone, and a lost request waits for another.
    if (this.#waitsFor !== 'name') return;
    this.#waitsFor = 'nothing';
    this.#link.again();
  };

  #isWayFor(route: Route, origin: Route['origin']): boolean {
    if (!this.#connected) return false;
    // What is sent to an upstream that has ended gets no answer, though its last one may still be on its way to the
    // client. One that ended before it was asked anything would only do so again.
    if (!this.#fresh && this.#link.toClient.from?.ended) return false;
    if (origin !== null) return this.#toOrigin;
    return this.#fresh || this.#link.suits(route.target);
  }

  #openWay(route: Route, origin: Route['origin'], repeatable: boolean): void {
    if (this.#unanswered.length > 0) {
      this.#waitsFor = 'answers';
      return;
    }
    this.#waitsFor = 'way';
    if (this.#connected) {
      this.#link.detachUpstream();
      this.#connected = false;
    }
    this.#toOrigin = origin !== null;
    if (origin === null) this.#link.openUpstream(route.target, repeatable);
    else this.#link.openOrigin(origin.host, origin.port);
  }

  /** Does to a head what an intermediary has to. True: it was answered instead. */
  #forward(head: RequestHead, toOrigin: boolean): boolean {
    const outcome = forwardRequest(head, toOrigin ? { ...this.#rules, keepUpgrade: true } : this.#rulesOfWay);
    if (outcome === null) return false;
    if (outcome.kind === 'refused') this.refuse(outcome.status, outcome.reason);
    else this.#answerWith(outcome.bytes);
    return true;
  }

  #onResponseBytes(bytes: Buffer, count: number): void {
    this.#unproven = false;
    if (this.#heldResponse.length === 0) {
      this.#follow(bytes, count);
      return;
    }
    const all = Buffer.concat([this.#heldResponse, bytes.subarray(0, count)]);
    this.#heldResponse = EMPTY;
    this.#follow(all, all.length);
  }

  /** Takes the first `end` of `bytes`: they pass as they are, but for the beginning of a head, which is held. */
  #follow(bytes: Buffer, end: number): void {
    const { toClient, site } = this.#link;
    let at = 0;
    while (at < end) {
      if (!this.#response.done) {
        at = this.#response.follow(bytes, at, end);
        if (this.#response.refused !== null) {
          this.#stopFollowing();
          at = end;
        } else if (this.#response.done) {
          this.#onAnswered();
        }
        continue;
      }
      const asked = this.#unanswered[0];
      if (asked === undefined) {
        // Nobody asked. An upstream that closes an idle connection may say so (408).
        this.#stopFollowing();
        at = end;
        break;
      }
      const { method } = asked;
      const outcome = readResponseHead(bytes, at, end, site.service.limits.headBytes, method);
      if (outcome.kind === 'incomplete') break;
      if (outcome.kind === 'refused') {
        toClient.put(bytes, 0, at);
        this.giveUpAnswer(outcome.status, outcome.reason);
        return;
      }
      const { head } = outcome;
      if (head.status === 407 && !asked.knowsProxy) {
        toClient.put(bytes, 0, at);
        this.#link.log('warn', 'the upstream answered 407: it wants a user and a password (--proxy-auth)');
        this.giveUpAnswer(502, 'The proxy that requests from here go through does not let this gateway in.');
        return;
      }
      // RFC 9110 section 15.2.2. What the client sends next would go on unread.
      const offered = this.#awaitingTunnel && this.#unanswered.length === 1 && method !== 'CONNECT';
      if (head.status === 101 && !offered) {
        toClient.put(bytes, 0, at);
        this.giveUpAnswer(502, 'The proxy changed to a protocol that nobody asked for.');
        return;
      }
      if (site.reporter.verbose) this.#link.log('debug', `answer to ${method}: ${head.status}`);
      at += head.size;
      if (head.status === 101 || (method === 'CONNECT' && head.status >= 200 && head.status < 300)) {
        toClient.put(bytes, 0, end);
        this.#becomeTunnel();
        return;
      }
      // An interim response: the final one is still to come (RFC 9110 section 15.2).
      if (head.status < 200) continue;
      if (!head.keepAlive) this.#closing = true;
      this.#response.begin(head.body);
      if (this.#response.done) this.#onAnswered();
    }
    toClient.put(bytes, 0, at);
    if (at < end) this.#heldResponse = Buffer.from(bytes.subarray(at, end));
    this.#answerIfDue();
    this.#settle();
  }

  #onAnswered(): void {
    this.#unanswered.shift();
    // Nothing is translated behind a request for a tunnel, so it is the last of them.
    if (this.#unanswered.length > 0) return;
    this.#awaitingTunnel = false;
    if (this.#endsWithAnswer) this.finished = true;
  }

  /** Passes on whatever else the upstream says: it can't be told any more which request it answers. */
  #stopFollowing(): void {
    const { toClient } = this.#link;
    toClient.filter = null;
    toClient.unseen = Number.POSITIVE_INFINITY;
    this.#closing = true;
    this.#unanswered.length = 0;
  }

  #becomeTunnel(): void {
    this.#unanswered.length = 0;
    const held = this.release();
    if (held.length > 0) this.#link.toUpstream.put(held, 0, held.length);
  }

  #onResponseEnd(): void {
    if (this.betweenRequests) return;
    if (this.isUnanswered) {
      this.giveUpAnswer(502, 'The proxy ended the connection without an answer.');
      return;
    }
    // A head that was cut off: the client gets what there is, as it would without us.
    if (this.#heldResponse.length > 0) this.#link.toClient.put(this.#heldResponse, 0, this.#heldResponse.length);
    this.#heldResponse = EMPTY;
    this.#closing = true;
    this.#unanswered.length = 0;
    this.#answerIfDue();
    this.#settle();
  }
}
