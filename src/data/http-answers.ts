import type { RequestHead } from '../protocol/http.js';
import { BodyFollower } from '../protocol/http-body.js';
import { readResponseHead } from '../protocol/http-response.js';
import type { HttpLink } from './http-relay.js';
import type { Filter } from './pump.js';

/** A request that was sent on and not answered yet. */
export interface Unanswered {
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

/** Who asks, and hears what the answers mean for it. */
export interface Asker {
  /** The way may go away now without the client missing anything. */
  readonly betweenRequests: boolean;
  /** Answers the client in the upstream's place, and expects nothing more of what is under way. */
  giveUpAnswer(status: number, reason: string): void;
  /** The connection is a tunnel from now on. */
  becomeTunnel(): void;
  /** Tells the pumps what they may do next. */
  settle(): void;
}

const EMPTY = Buffer.alloc(0);

/**
 * What goes back to the client of a translated connection: the upstream's responses, each of which is known to answer
 * which request, and at the end perhaps an answer of ours. They pass as they are.
 */
export class HttpAnswers implements Filter {
  /** The client has got its last answer. */
  finished = false;
  /** Nothing more will be translated: a tunnel, or the last answer. */
  closing = false;
  /** The connection ends with the answer that is under way. */
  endsWithAnswer = false;
  /** A CONNECT or an upgrade was asked for: what the client's next bytes are depends on the answer. */
  awaitingTunnel = false;
  /** The way that is open was a spare connection, and nothing came on it yet: it may be dead. */
  unproven = false;

  readonly #link: HttpLink;
  readonly #asker: Asker;
  readonly #response = new BodyFollower(502);
  /** The beginning of a head. */
  #held = EMPTY;
  /** Oldest first. */
  readonly #unanswered: Unanswered[] = [];
  /** Ours. */
  #own: Buffer | null = null;

  constructor(link: HttpLink, asker: Asker) {
    this.#link = link;
    this.#asker = asker;
    link.toClient.filter = this;
    link.toClient.unseen = 0;
  }

  /** Requests that wait for theirs, or for the rest of it. */
  get awaited(): number {
    return this.#unanswered.length;
  }

  /** No response is under way. */
  get isBetween(): boolean {
    return this.#response.done && this.#held.length === 0;
  }

  /** A request is with the upstream, and not a byte of its response has come. */
  get isUnanswered(): boolean {
    return this.#unanswered.length > 0 && this.isBetween;
  }

  /** The client has got, or is being sent, all answers to what it has asked. */
  get isAnswered(): boolean {
    return this.#unanswered.length === 0 && this.#response.done;
  }

  /** One request alone is under way, and it may be sent again. */
  get mayRepeat(): boolean {
    return this.#unanswered.length === 1 && this.#unanswered[0]?.repeat !== null;
  }

  /** `request` was sent on. */
  expect(request: Unanswered): void {
    this.#unanswered.push(request);
  }

  /** Its way is gone: the latest request without an answer, which is expected no more. */
  takeLost(): Unanswered | undefined {
    const lost = this.#unanswered.pop();
    if (lost !== undefined) this.awaitingTunnel = false;
    return lost;
  }

  /** What is under way will not be answered. */
  expectNone(): void {
    this.#unanswered.length = 0;
  }

  /** Ours, after those that are still expected; it is the last one. */
  endWith(answer: Buffer): void {
    this.closing = true;
    this.#own = answer;
    this.sendOwnIfDue();
  }

  sendOwnIfDue(): void {
    if (this.#own === null || this.#unanswered.length > 0) return;
    const { toClient } = this.#link;
    // In the middle of a response there is no place for another one: the client sees it cut off.
    if (this.#response.done) toClient.put(this.#own, 0, this.#own.length);
    toClient.paused = true;
    this.#own = null;
    this.finished = true;
  }

  /** Tells the pump what it may do next. */
  settle(): void {
    const { toClient } = this.#link;
    if (toClient.filter !== null) toClient.unseen = this.#response.unseen;
  }

  onBytes(bytes: Buffer, count: number): void {
    this.unproven = false;
    if (this.#held.length === 0) {
      this.#follow(bytes, count);
      return;
    }
    const all = Buffer.concat([this.#held, bytes.subarray(0, count)]);
    this.#held = EMPTY;
    this.#follow(all, all.length);
  }

  onPassed(count: number): void {
    this.#response.passed(count);
    if (this.#response.done) this.#onAnswered();
    this.sendOwnIfDue();
    this.#asker.settle();
  }

  onEnd(): void {
    if (this.#asker.betweenRequests) return;
    if (this.isUnanswered) {
      this.#asker.giveUpAnswer(502, 'The proxy ended the connection without an answer.');
      return;
    }
    // A head that was cut off: the client gets what there is, as it would without us.
    if (this.#held.length > 0) this.#link.toClient.put(this.#held, 0, this.#held.length);
    this.#held = EMPTY;
    this.closing = true;
    this.#unanswered.length = 0;
    this.sendOwnIfDue();
    this.#asker.settle();
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
        this.#asker.giveUpAnswer(outcome.status, outcome.reason);
        return;
      }
      const { head } = outcome;
      if (head.status === 407 && !asked.knowsProxy) {
        toClient.put(bytes, 0, at);
        this.#link.log('warn', 'the upstream answered 407: it wants a user and a password (--proxy-auth)');
        this.#asker.giveUpAnswer(502, 'The proxy that requests from here go through does not let this gateway in.');
        return;
      }
      // RFC 9110 section 15.2.2. What the client sends next would go on unread.
      const offered = this.awaitingTunnel && this.#unanswered.length === 1 && method !== 'CONNECT';
      if (head.status === 101 && !offered) {
        toClient.put(bytes, 0, at);
        this.#asker.giveUpAnswer(502, 'The proxy changed to a protocol that nobody asked for.');
        return;
      }
      if (site.reporter.verbose) this.#link.log('debug', `answer to ${method}: ${head.status}`);
      at += head.size;
      if (head.status === 101 || (method === 'CONNECT' && head.status >= 200 && head.status < 300)) {
        toClient.put(bytes, 0, end);
        this.#asker.becomeTunnel();
        return;
      }
      // An interim response: the final one is still to come (RFC 9110 section 15.2).
      if (head.status < 200) continue;
      if (!head.keepAlive) this.closing = true;
      this.#response.begin(head.body);
      if (this.#response.done) this.#onAnswered();
    }
    toClient.put(bytes, 0, at);
    if (at < end) this.#held = Buffer.from(bytes.subarray(at, end));
    this.sendOwnIfDue();
    this.#asker.settle();
  }

  #onAnswered(): void {
    this.#unanswered.shift();
    // Nothing is translated behind a request for a tunnel, so it is the last of them.
    if (this.#unanswered.length > 0) return;
    this.awaitingTunnel = false;
    if (this.endsWithAnswer) this.finished = true;
  }

  /** Passes on whatever else the upstream says: it can't be told any more which request it answers. */
  #stopFollowing(): void {
    const { toClient } = this.#link;
    toClient.filter = null;
    toClient.unseen = Number.POSITIVE_INFINITY;
    this.closing = true;
    this.#unanswered.length = 0;
  }
}
