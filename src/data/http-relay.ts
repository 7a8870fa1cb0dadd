import type { ClientAddress, OriginalDestination } from '../address.js';
import type { LogLevel } from '../plan.js';
import { type Fields, type Read, type RequestHead, refusal } from '../protocol/http.js';
import { BodyFollower } from '../protocol/http-body.js';
import { removeField, replaceField } from '../protocol/http-fields.js';
import { type ForwardRules, forwardRequest } from '../protocol/http-forward.js';
import { readRequestHead, writeRequestHead } from '../protocol/http-request.js';
import { type Asker, HttpAnswers, type Unanswered } from './http-answers.js';
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

/** Has a request that one upstream was sent tell another what that one wants to know: `from` is for `to` instead. */
const setAuthorization = (fields: Fields, from: string | null, to: string | null): void => {
  if (to !== null) replaceField(fields, 'Proxy-Authorization', to);
  else if (from !== null) removeField(fields, 'Proxy-Authorization');
};

/**
 * Translates one connection: requests from the client become absolute-URI requests for an upstream. Both directions
 * are followed message by message, what goes back by HttpAnswers, so that each response is known to answer which
 * request. Bodies are not collected; what need not be looked at passes by splice.
 */
export class HttpRelay implements Asker {
  /** Requests so far. */
  requests = 0;
  /** When a head that has begun must be complete, in the loop's milliseconds. */
  headDeadline = Number.POSITIVE_INFINITY;
  /** Why the client is refused; null if it is not. */
  refusal: string | null = null;

  readonly #link: HttpLink;
  readonly #rules: ForwardRules;
  /** The same with what the upstream on the way that is open has to be told. */
  #rulesOfWay: ForwardRules;
  readonly #request = new BodyFollower(400);
  readonly #answers: HttpAnswers;
  /** Bytes of the client that were not judged yet. */
  #held = EMPTY;
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
  #released = false;
  /** Requests sent on the way that is open. */
  #sentOnWay = 0;
  /** Credentials went on the way that is open, which may make the connection one client's (RFC 4559 section 6). */
  #personal = false;
  #resend: Unanswered | null = null;

  constructor(link: HttpLink) {
    this.#link = link;
    const { toUpstream, site, clientAddress } = link;
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
        this.settle();
      },
      onEnd: () => {},
    };
    toUpstream.unseen = 0;
    this.#answers = new HttpAnswers(link, this);
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
    return this.#answers.awaited > 0 && this.#request.done;
  }

  /** A request is with the upstream, and not a byte of its response has come. */
  get isUnanswered(): boolean {
    return this.#answers.isUnanswered;
  }

  /** The client has got, or is being sent, all answers that it will get. */
  get isAnswered(): boolean {
    return !this.#released && this.requests > 0 && this.#answers.isAnswered;
  }

  /** A request waits for the addresses of its Host. */
  get awaitsName(): boolean {
    return this.#waitsFor === 'name' && this.refusal === null;
  }

  /** The way may go away now without the client missing anything. */
  get betweenRequests(): boolean {
    return (
      this.#connected &&
      !this.#answers.closing &&
      !this.#toOrigin &&
      this.refusal === null &&
      this.#request.done &&
      (this.#answers.awaited === 0 || this.#mayResend()) &&
      this.#answers.isBetween
    );
  }

  /** Nothing is under way, and the way may serve other clients. */
  get isReusable(): boolean {
    return this.betweenRequests && this.#answers.awaited === 0 && this.#held.length === 0 && !this.#personal;
  }

  /** The upstream has ended, or announced its end with its last response: the client has nothing to wait for behind it. */
  get closing(): boolean {
    return this.#answers.closing && !this.#released;
  }

  /** The last answer of this connection has gone to the client whole: no end of the upstream's has to be waited for. */
  get isOver(): boolean {
    return (
      (this.#saidLast || this.#answers.closing) &&
      this.refusal === null &&
      this.isAnswered &&
      this.#request.done &&
      this.#answers.isBetween
    );
  }

  /** The client has got its last answer. */
  get finished(): boolean {
    return this.#answers.finished;
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
    this.#answers.unproven = used;
    this.#personal = false;
    this.#waitsFor = 'nothing';
    const { authorization } = this.#link;
    this.#rulesOfWay = authorization === null ? this.#rules : { ...this.#rules, proxyAuthorization: authorization };
    const again = this.#resend;
    if (again?.repeat) {
      this.#resend = null;
      this.#answers.expect({ ...again, repeat: null });
      setAuthorization(again.repeat.head.fields, again.repeat.authorization, authorization);
      const out = outboxFor(this.#link.site.service.limits.headBytes);
      this.#link.toUpstream.put(out, 0, writeRequestHead(again.repeat.head, again.repeat.url, out, 0));
      this.#sentOnWay = 1;
      this.#fresh = false;
    }
    if (early.length > 0) this.#answers.onBytes(early, early.length);
    this.settle();
  }

  /** The way could not be opened. */
  onClosed(status: number, message: string, unreachable: boolean): void {
    this.#waitsFor = 'nothing';
    if (this.#toOrigin && !unreachable) {
      // The upstream lets nobody connect there (Squid's SSL_ports is 443 only): it gets a request without the offer.
      this.#toOrigin = false;
      this.#withoutTunnels = true;
      this.settle();
      return;
    }
    this.#resend = null;
    this.refuse(status, `No connection could be made: ${message}.`);
  }

  /** The way that was open is gone. A request that it took along unanswered is sent again. */
  onDetached(): void {
    this.#connected = false;
    this.#fresh = false;
    const lost = this.#answers.takeLost();
    if (lost === undefined) return;
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
    this.#answers.closing = true;
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
    this.#answers.expectNone();
    this.refuse(status, reason);
    // One that waited for that answer takes its place.
    this.#answers.sendOwnIfDue();
  }

  #answerWith(answer: Buffer): void {
    this.headDeadline = Number.POSITIVE_INFINITY;
    this.#held = EMPTY;
    this.#answers.endWith(answer);
    this.settle();
  }

  #mayTranslate(): boolean {
    return (
      !this.#answers.awaitingTunnel &&
      !this.#answers.closing &&
      (this.#waitsFor === 'nothing' || (this.#waitsFor === 'answers' && this.#answers.awaited === 0)) &&
      this.#answers.awaited < (this.#answers.unproven ? 1 : MOST_PIPELINED)
    );
  }

  /** The one request that is under way, on a connection that took others before, may be sent again on another. */
  #mayResend(): boolean {
    return this.#sentOnWay > 1 && this.#answers.mayRepeat;
  }

  /** See Asker. */
  settle(): void {
    const { toUpstream } = this.#link;
    if (toUpstream.filter !== null) {
      toUpstream.unseen = this.#request.unseen;
      // What is held and no beginning of a head waits for something else than more bytes.
      const full = this.#held.length > 0 && this.headDeadline === Number.POSITIVE_INFINITY;
      const stopped = this.refusal !== null || (this.#request.done && !this.#mayTranslate());
      toUpstream.paused = full || stopped;
    }
    this.#answers.settle();
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
      this.#answers.awaitingTunnel =
        head.method === 'CONNECT' || origin !== null || (head.upgrade && this.#rules.keepUpgrade);
      if (head.credentials) this.#personal = true;
      const repeatable = this.#sentOnWay > 1 && !this.#answers.awaitingTunnel && isRepeatable(head);
      const { authorization } = this.#link;
      this.#answers.expect({
        method: head.method,
        knowsProxy: route.knowsProxy,
        repeat: repeatable ? { head, url: route.target, authorization } : null,
      });
      this.#answers.endsWithAnswer = origin !== null;
      this.#request.begin(head.body);
    }
    if (outAt > 0) toUpstream.put(out, 0, outAt);
    if (at < end && !over) this.#held = Buffer.from(bytes.subarray(at, end));
    this.settle();
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
    if (this.#answers.awaited > 0) {
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

  /** See Asker. */
  becomeTunnel(): void {
    this.#answers.expectNone();
    const held = this.release();
    if (held.length > 0) this.#link.toUpstream.put(held, 0, held.length);
  }
}
