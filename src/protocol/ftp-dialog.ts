import type { SocketAddress } from '../address.js';
import {
  type Beginning,
  commandBeginning,
  familyOf,
  isBeforeCommand,
  isRefused,
  MAX_COMMAND,
  MAX_REPLY,
  readActive,
  readEpsv,
  readPassive,
  readReplyLine,
  type Verb,
  writeActive,
  writePassive,
} from './ftp.js';

/** What a dialog does to the world. */
export interface FtpEnds {
  /** Bytes `start` to `end`, valid during this call only. */
  toOrigin(bytes: Buffer, start: number, end: number): void;
  toClient(bytes: Buffer, start: number, end: number): void;
  /** The client has taken what it was sent: replies of ours would pile up otherwise. */
  readonly clientTakes: boolean;
  /** Makes ready for the client's data connection to this port of the origin: where it shall go, null if nowhere. */
  listenForClient(port: number): SocketAddress | null;
  /** The same for the origin's data connection to this port of the client. */
  listenForOrigin(port: number): SocketAddress | null;
  /** No data connection comes from what was made ready last. */
  forget(): void;
}

export interface FtpRules {
  /** PORT and EPRT are followed; else they pass. */
  readonly active: boolean;
  /** PASV and EPSV are followed. */
  readonly passive: boolean;
  readonly clientIp: string;
  /** The origin is reached over IPv6. */
  readonly originIPv6: boolean;
}

const NOTHING = Buffer.alloc(0);
const LF = 0x0a;

/** Where the line that `at` is in ends, its line end included; -1 if it does not yet. */
const lineEnd = (bytes: Buffer, at: number, end: number): number => {
  const lf = bytes.subarray(at, end).indexOf(LF);
  return lf < 0 ? -1 : at + lf + 1;
};

/** The command that was sent on last, whose reply means something to us. */
type Awaited =
  | { readonly kind: 'auth' | 'port' | 'epsv-all' }
  /** `code` of the reply to PASV or EPSV as it was sent on, and of what the client asked for. */
  | { readonly kind: 'passive'; readonly code: 227 | 229; readonly asked: 227 | 229 };

/** How the line that has begun goes on. */
type Line = 'new' | 'passes' | 'dropped';

/**
 * One control connection. Commands and replies that tell where a data connection goes are written anew; all else passes
 * byte for byte.
 *
 * Replies come in the order of commands, so a reply belongs to a command by counting. A command that is followed waits
 * until all before it are answered, and those behind it wait for its own answer: then the next reply is its own, and one
 * that we give in the origin's place overtakes none.
 */
export class FtpDialog {
  /** The connection is encrypted from here on (RFC 4217): there is nothing left to follow. */
  released = false;
  readonly #ends: FtpEnds;
  readonly #rules: FtpRules;
  /** Of the client: what was not judged yet. */
  #commands = NOTHING;
  #command: Line = 'new';
  /** Something else than more of the client's bytes is waited for. */
  #stopped = false;
  /** The same of the origin. */
  #replies = NOTHING;
  #reply: Line = 'new';
  /** The code of a reply of several lines that is not at its end; 0 for none. */
  #severalLines = 0;
  /** The code of the reply whose last line this is; 0 for another line. */
  #lastLine = 0;
  /** Bytes of the reply that is waited for as a whole, up to the line that has not come whole yet. */
  #looked = 0;
  /** It is too long to be understood. */
  #tooLong = false;
  /** Commands without a reply. The greeting is a reply too. */
  #unanswered = 1;
  #awaited: Awaited | null = null;
  #epsvOnly = false;

  constructor(ends: FtpEnds, rules: FtpRules) {
    this.#ends = ends;
    this.#rules = rules;
  }

  /** Commands wait for the origin's replies, or for the client to take ours: no more of them is to be read. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** resume() would do something. */
  get canResume(): boolean {
    return this.#stopped && this.#awaited === null && this.#mayAnswer;
  }

  /** The first `count` of `bytes` came from the client. */
  fromClient(bytes: Buffer, count: number): void {
    if (this.#commands.length === 0) {
      this.#followCommands(bytes, count);
      return;
    }
    const all = Buffer.concat([this.#commands, bytes.subarray(0, count)]);
    this.#followCommands(all, all.length);
  }

  /** The same of the origin. */
  fromOrigin(bytes: Buffer, count: number): void {
    if (this.#replies.length === 0) this.#followReplies(bytes, count);
    else {
      const all = Buffer.concat([this.#replies, bytes.subarray(0, count)]);
      this.#followReplies(all, all.length);
    }
    if (this.released || this.canResume) this.resume();
  }

  /** Goes on with commands that waited. */
  resume(): void {
    this.#followCommands(this.#commands, this.#commands.length);
  }

  /** The client has ended: what looked like the beginning of a command is none. */
  clientEnds(): void {
    const rest = this.#commands;
    this.#commands = NOTHING;
    this.#ends.toOrigin(rest, 0, rest.length);
  }

  originEnds(): void {
    const rest = this.#replies;
    this.#replies = NOTHING;
    this.#ends.toClient(rest, 0, rest.length);
  }

  /** No reply comes any more to what was sent: not every server answers each line, and replies were counted wrong. */
  giveUpWaiting(): void {
    this.#unanswered = 0;
    this.#awaited = null;
    this.#followReplies(this.#replies, this.#replies.length);
    if (this.#commands.length > 0) this.resume();
  }

  /** Every command so far has its reply, and so a reply of ours has its place. */
  get #mayAnswer(): boolean {
    const between = this.#reply === 'new' && this.#severalLines === 0 && this.#replies.length === 0;
    return this.#unanswered === 0 && between && this.#ends.clientTakes;
  }

  #followCommands(bytes: Buffer, end: number): void {
    let at = 0;
    /** What is not sent on yet begins here. */
    let from = 0;
    const pass = (): void => {
      if (at > from) this.#ends.toOrigin(bytes, from, at);
      from = at;
    };
    this.#stopped = false;
    while (at < end) {
      if (this.released) {
        at = end;
        break;
      }
      const next = lineEnd(bytes, at, end);
      if (this.#command !== 'new') {
        const dropped = this.#command === 'dropped';
        if (dropped) pass();
        at = next < 0 ? end : next;
        if (dropped) from = at;
        if (next >= 0) this.#command = 'new';
        continue;
      }
      if (this.#awaited !== null) {
        this.#stopped = true;
        break;
      }
      if (isBeforeCommand(bytes[at] as number)) {
        at++;
        continue;
      }
      const beginning = commandBeginning(bytes, at, end);
      if (beginning === 'incomplete') break;
      if (!this.#follows(beginning)) {
        if (beginning !== 'empty') this.#unanswered++;
        this.#command = 'passes';
        continue;
      }
      if (!this.#mayAnswer) {
        this.#stopped = true;
        break;
      }
      if ((next < 0 ? end : next) - at > MAX_COMMAND) {
        pass();
        this.#say('500 Line too long.');
        this.#command = 'dropped';
        continue;
      }
      if (next < 0) break;
      pass();
      this.#obey(beginning, bytes, at, next);
      at = next;
      from = at;
    }
    pass();
    this.#commands = at < end ? Buffer.from(bytes.subarray(at, end)) : NOTHING;
  }

  #follows(beginning: Beginning): beginning is Verb {
    if (beginning === 'PORT' || beginning === 'EPRT') return this.#rules.active;
    if (beginning === 'PASV' || beginning === 'EPSV') return this.#rules.passive;
    return beginning === 'AUTH';
  }

  /** One whole line. */
  #obey(verb: Verb, bytes: Buffer, start: number, end: number): void {
    const argument = bytes.toString('latin1', start + verb.length, end).trim();
    if (verb === 'AUTH') {
      this.#unanswered++;
      this.#awaited = { kind: 'auth' };
      this.#ends.toOrigin(bytes, start, end);
    } else if (this.#epsvOnly && verb !== 'EPSV') {
      this.#say(`501 ${verb} is not allowed after EPSV ALL.`);
    } else if (verb === 'PORT' || verb === 'EPRT') this.#onActive(verb, argument);
    else if (verb === 'PASV') this.#onPasv();
    else this.#onEpsv(argument);
  }

  #onActive(verb: 'PORT' | 'EPRT', argument: string): void {
    const outcome = readActive(verb, argument, this.#rules.clientIp);
    if (isRefused(outcome)) {
      this.#say(outcome.refusal);
      return;
    }
    const address = this.#ends.listenForOrigin(outcome.port);
    if (address === null) this.#say(NO_DATA_CONNECTION);
    else this.#send(writeActive(this.#extends(verb === 'EPRT') ? 'EPRT' : 'PORT', address), { kind: 'port' });
  }

  #onPasv(): void {
    if (familyOf(this.#rules.clientIp) === '2') this.#say('522 PASV is for IPv4, use EPSV.');
    else this.#askForPassive(227);
  }

  #onEpsv(argument: string): void {
    const outcome = readEpsv(argument, this.#rules.clientIp);
    if (isRefused(outcome)) this.#say(outcome.refusal);
    else if (!outcome.all) this.#askForPassive(229);
    else if (this.#extends(true)) this.#send('EPSV ALL', { kind: 'epsv-all' });
    // The origin would refuse the PASV that each EPSV becomes.
    else this.#say('504 EPSV ALL is not possible here.');
  }

  #askForPassive(asked: 227 | 229): void {
    this.#ends.forget();
    const extended = this.#extends(asked === 229);
    this.#send(extended ? 'EPSV' : 'PASV', { kind: 'passive', code: extended ? 229 : 227, asked });
  }

  /**
   * Whether the origin is asked in the form of RFC 2428: as the client asked, but over IPv6 there is no other, and an IPv4
   * origin of an IPv6 client may not know it (RFC 6384 section 6).
   */
  #extends(asked: boolean): boolean {
    return this.#rules.originIPv6 || (asked && familyOf(this.#rules.clientIp) === '1');
  }

  #send(command: string, awaited: Awaited): void {
    this.#unanswered++;
    this.#awaited = awaited;
    this.#looked = 0;
    const bytes = Buffer.from(`${command}\r\n`, 'latin1');
    this.#ends.toOrigin(bytes, 0, bytes.length);
  }

  /** A reply in the origin's place. */
  #say(reply: string): void {
    const bytes = Buffer.from(`${reply}\r\n`, 'latin1');
    this.#ends.toClient(bytes, 0, bytes.length);
  }

  #followReplies(bytes: Buffer, end: number): void {
    let at = 0;
    let from = 0;
    const pass = (): void => {
      if (at > from) this.#ends.toClient(bytes, from, at);
      from = at;
    };
    while (at < end) {
      if (this.released) {
        at = end;
        break;
      }
      if (this.#reply === 'new') {
        const line = readReplyLine(bytes, at, end);
        if (line === 'incomplete') break;
        const awaited = this.#awaited;
        if (awaited?.kind === 'passive' && line.code === awaited.code && this.#severalLines === 0) {
          const next = this.#replyEnd(bytes, at, end, line.code);
          if (next < 0 && end - at <= MAX_REPLY) break;
          pass();
          if (next >= 0 && next - at <= MAX_REPLY) {
            this.#onPassive(awaited.code, awaited.asked, bytes.toString('latin1', at, next));
            at = next;
            from = at;
            this.#onReply(line.code);
            continue;
          }
          this.#tooLong = true;
        }
        this.#beginReplyLine(line.code, line.more);
      }
      const dropped = this.#reply === 'dropped';
      const next = lineEnd(bytes, at, end);
      if (dropped) pass();
      at = next < 0 ? end : next;
      if (dropped) from = at;
      if (next < 0) break;
      this.#reply = 'new';
      if (this.#lastLine === 0) continue;
      pass();
      if (this.#tooLong) this.#say(NOT_UNDERSTOOD);
      this.#tooLong = false;
      this.#onReply(this.#lastLine);
    }
    pass();
    this.#replies = at < end ? Buffer.from(bytes.subarray(at, end)) : NOTHING;
  }

  /** Where the reply that begins at `start` ends, -1 if it does not yet. */
  #replyEnd(bytes: Buffer, start: number, end: number, code: number): number {
    for (let at = start + this.#looked; ; ) {
      const next = lineEnd(bytes, at, end);
      if (next < 0) {
        this.#looked = at - start;
        return -1;
      }
      const line = readReplyLine(bytes, at, next);
      if (line !== 'incomplete' && line.code === code && !line.more) return next;
      at = next;
    }
  }

  #beginReplyLine(code: number, more: boolean): void {
    this.#reply = this.#tooLong ? 'dropped' : 'passes';
    this.#lastLine = 0;
    if (code === 0 || (this.#severalLines !== 0 && code !== this.#severalLines)) return;
    this.#severalLines = more ? code : 0;
    if (!more) this.#lastLine = code;
  }

  /** The reply to PASV or EPSV, whole. */
  #onPassive(code: 227 | 229, asked: 227 | 229, reply: string): void {
    const port = readPassive(code, reply);
    const address = port === null ? null : this.#ends.listenForClient(port);
    if (address !== null) this.#say(writePassive(asked, address));
    else this.#say(port === null ? NOT_UNDERSTOOD : NO_DATA_CONNECTION);
  }

  /** A reply has ended. */
  #onReply(code: number): void {
    // A preliminary reply; another one follows (RFC 959 section 4.2.1).
    if (code < 200) return;
    this.#unanswered = Math.max(0, this.#unanswered - 1);
    const awaited = this.#awaited;
    this.#awaited = null;
    if (awaited?.kind === 'auth') this.released = code === 234;
    else if (awaited?.kind === 'port' && code >= 400) this.#ends.forget();
    else if (awaited?.kind === 'epsv-all') this.#epsvOnly ||= code < 300;
  }
}

const NO_DATA_CONNECTION = "425 Can't open data connection.";
const NOT_UNDERSTOOD = "425 Can't open data connection: the server's reply names no port that may be used.";
