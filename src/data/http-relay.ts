import type { OriginalDestination } from '../address.js';
import { type Body, type Read, type Refused, type RequestHead, refusal } from '../protocol/http.js';
import { ChunkedBody } from '../protocol/http-chunked.js';
import { replaceField } from '../protocol/http-fields.js';
import { readRequestHead, writeRequestHead } from '../protocol/http-request.js';
import { readResponseHead } from '../protocol/http-response.js';
import { absoluteTarget } from '../protocol/http-target.js';
import { SCRATCH_SIZE } from './loop.js';
import type { Pump } from './pump.js';
import type { Site } from './site.js';

/** What translating needs of its connection. */
export interface HttpLink {
  readonly site: Site;
  readonly original: OriginalDestination | null;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
  /** Connects to the upstream; HttpRelay.onUpstream is next, or the end of this relay. */
  dialUpstream(): void;
  access(what: string, target: string, request: number): void;
}

/** Requests that may be under way before the oldest is answered: a client that only sends is held back. */
const MOST_PIPELINED = 64;

/** What a head may grow by when it is written anew, beside its target: the field lines of ours. */
const HEADROOM = 1024;

const EMPTY = Buffer.alloc(0);

/** Where a thread writes what goes to an upstream; its size is that of the largest head, written anew, and more. */
let outbox = EMPTY;

const outboxFor = (headBytes: number): Buffer => {
  const size = 4 * headBytes + SCRATCH_SIZE;
  if (outbox.length < size) outbox = Buffer.allocUnsafeSlow(size);
  return outbox;
};

/** The body of a message as its bytes pass by: which of them belong to it, and which need not be looked at. */
class BodyFollower {
  readonly #chunks: ChunkedBody;
  #chunked = false;
  #left = 0;

  /** `status` is that of a refusal: 400 for what a client sent, 502 for what an upstream did. */
  constructor(status: 400 | 502) {
    this.#chunks = new ChunkedBody(status);
  }

  begin(body: Body): void {
    this.#chunked = body.kind === 'chunked';
    this.#chunks.reset();
    this.#left = body.kind === 'length' ? body.length : body.kind === 'until-close' ? Number.POSITIVE_INFINITY : 0;
  }

  get done(): boolean {
    return this.#chunked ? this.#chunks.done : this.#left === 0;
  }

  get refused(): Refused | null {
    return this.#chunked ? this.#chunks.refused : null;
  }

  /** How many of the next bytes may pass without follow(). */
  get unseen(): number {
    return this.#chunked ? this.#chunks.unseen : this.#left;
  }

  passed(count: number): void {
    if (this.#chunked) this.#chunks.passed(count);
    else this.#left -= count;
  }

  /** The offset behind the last byte of `start` to `end` that belongs to the body. */
  follow(bytes: Buffer, start: number, end: number): number {
    if (this.#chunked) return start + this.#chunks.scan(bytes, start, end);
    const count = Math.min(this.#left, end - start);
    this.#left -= count;
    return start + count;
  }
}

/**
 * Translates one connection: requests from the client become absolute-URI requests for the upstream. Both directions
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
  /** The refusal has gone out, and nothing follows it. */
  refused = false;

  readonly #link: HttpLink;
  readonly #request = new BodyFollower(400);
  readonly #response = new BodyFollower(502);
  /** Bytes of the client that were not judged yet. */
  #held = EMPTY;
  /** Of the upstream: the beginning of a head. */
  #heldResponse = EMPTY;
  /** A head that was read and could not be sent on yet; #held begins with its bytes. */
  #waiting: Read<RequestHead> | null = null;
  #connected = false;
  /** A CONNECT or an upgrade was asked for: what the client's next bytes are depends on the answer. */
  #awaitingTunnel = false;
  /** Nothing more will be translated: a tunnel, or the upstream's last response. */
  #closing = false;
  #released = false;
  /** Methods of the requests that were sent on and not answered yet, oldest first. */
  readonly #unanswered: string[] = [];
  #answer: Buffer | null = null;

  constructor(link: HttpLink) {
    this.#link = link;
    const { toUpstream, toClient } = link;
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

  /**
   * The client's end of stream must not reach the upstream yet: Squid drops a request whose client has gone
   * (half_closed_clients off).
   */
  get awaitsResponse(): boolean {
    return this.#unanswered.length > 0 && this.#request.done;
  }

  /** The upstream has ended, or announced its end with its last response: the client has nothing to wait for behind it. */
  get closing(): boolean {
    return this.#closing && !this.#released;
  }

  /** resume() would send something on. */
  get canResume(): boolean {
    return (
      this.#held.length > 0 &&
      this.headDeadline === Number.POSITIVE_INFINITY &&
      this.#mayTranslate() &&
      this.#link.toUpstream.drained
    );
  }

  onUpstream(): void {
    this.#connected = true;
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
    this.headDeadline = Number.POSITIVE_INFINITY;
    this.#held = EMPTY;
    this.#answer = refusal(status, reason);
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
    this.refused = true;
  }

  #mayTranslate(): boolean {
    return (
      this.#connected &&
      !this.#awaitingTunnel &&
      !this.#closing &&
      this.refusal === null &&
      this.#unanswered.length < MOST_PIPELINED
    );
  }

  /** Tells the pumps what they may do next. */
  #settle(): void {
    const { toUpstream, toClient } = this.#link;
    if (toUpstream.filter !== null) {
      toUpstream.unseen = this.#request.unseen;
      // What is held and no beginning of a head waits for something else than more bytes.
      const full = this.#held.length > 0 && this.headDeadline === Number.POSITIVE_INFINITY;
      const stopped = this.refusal !== null || (this.#connected && this.#request.done && !this.#mayTranslate());
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
          this.#unanswered.length = 0;
          this.refuse(this.#request.refused.status, this.#request.refused.reason);
          return;
        }
        continue;
      }
      if (this.#connected && !this.#mayTranslate()) break;
      const outcome = this.#waiting === null ? readRequestHead(bytes, at, end, headBytes) : this.#waiting;
      if (outcome.kind === 'incomplete') {
        if (this.headDeadline === Number.POSITIVE_INFINITY) {
          this.headDeadline = site.loop.now + site.service.limits.head;
        }
        break;
      }
      this.#waiting = null;
      this.headDeadline = Number.POSITIVE_INFINITY;
      if (outcome.kind === 'refused') {
        if (outAt > 0) toUpstream.put(out, 0, outAt);
        this.refuse(outcome.status, outcome.reason);
        return;
      }
      const { head } = outcome;
      if (!this.#connected) {
        this.#waiting = outcome;
        this.#link.dialUpstream();
        break;
      }
      const way = this.#wayOf(head);
      if (way.kind === 'refused') {
        if (outAt > 0) toUpstream.put(out, 0, outAt);
        this.refuse(way.status, way.reason);
        return;
      }
      if (outAt + head.size + 2 * way.target.length + HEADROOM > out.length) {
        toUpstream.put(out, 0, outAt);
        outAt = 0;
        if (!toUpstream.drained) {
          this.#waiting = outcome;
          break;
        }
      }
      outAt = writeRequestHead(head, way.target, out, outAt);
      at += head.size;
      this.requests++;
      this.#link.access(way.what, way.target, this.requests);
      this.#unanswered.push(head.method);
      this.#awaitingTunnel = head.method === 'CONNECT' || head.upgrade;
      this.#request.begin(head.body);
    }
    if (outAt > 0) toUpstream.put(out, 0, outAt);
    if (at < end) this.#held = Buffer.from(bytes.subarray(at, end));
    this.#settle();
  }

  /** Where a request goes, and the access log's word for it. */
  #wayOf(head: RequestHead): Refused | { readonly kind: 'way'; readonly target: string; readonly what: string } {
    const { force } = this.#link.site.service;
    if (force !== null && head.referer !== force.url && head.method !== 'CONNECT') {
      replaceField(head.fields, 'Host', force.host);
      return { kind: 'way', target: force.url, what: 'Forced' };
    }
    const outcome = absoluteTarget(head, this.#link.original);
    if (outcome.kind === 'refused') return outcome;
    const { target, host } = outcome;
    if (host !== null) replaceField(head.fields, 'Host', host);
    if (target === head.target) return { kind: 'way', target, what: 'Transparent' };
    return { kind: 'way', target, what: outcome.looked ? 'Request' : 'Request_NoDNS' };
  }

  #onResponseBytes(bytes: Buffer, count: number): void {
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
      const method = this.#unanswered[0];
      if (method === undefined) {
        // Nobody asked. An upstream that closes an idle connection may say so (408).
        this.#stopFollowing();
        at = end;
        break;
      }
      const outcome = readResponseHead(bytes, at, end, site.service.limits.headBytes, method);
      if (outcome.kind === 'incomplete') break;
      if (outcome.kind === 'refused') {
        toClient.put(bytes, 0, at);
        this.#unanswered.length = 0;
        this.refuse(outcome.status, outcome.reason);
        // A refusal that waited for this answer takes its place.
        this.#answerIfDue();
        return;
      }
      const { head } = outcome;
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
    if (this.#unanswered.length === 0) this.#awaitingTunnel = false;
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
    this.#link.toUpstream.put(held, 0, held.length);
  }

  #onResponseEnd(): void {
    // A head that was cut off: the client gets what there is, as it would without us.
    if (this.#heldResponse.length > 0) this.#link.toClient.put(this.#heldResponse, 0, this.#heldResponse.length);
    this.#heldResponse = EMPTY;
    this.#closing = true;
    this.#unanswered.length = 0;
    this.#answerIfDue();
    this.#settle();
  }
}
