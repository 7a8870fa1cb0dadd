import { isIPv6 } from 'node:net';
import { detect } from '../../src/data/detect.js';
import { ConnectHandshake, writeConnect } from '../../src/protocol/connect.js';
import type { Handshake } from '../../src/protocol/handshake.js';
import { type Body, MAX_FIELDS } from '../../src/protocol/http.js';
import { BodyFollower } from '../../src/protocol/http-body.js';
import { ChunkedBody } from '../../src/protocol/http-chunked.js';
import { listOf } from '../../src/protocol/http-fields.js';
import { type ForwardRules, forwardRequest } from '../../src/protocol/http-forward.js';
import { readRequestHead, writeRequestHead } from '../../src/protocol/http-request.js';
import { readResponseHead } from '../../src/protocol/http-response.js';
import { absoluteTarget, readAuthority } from '../../src/protocol/http-target.js';
import { Socks5Handshake } from '../../src/protocol/socks5.js';
import { MAX_CLIENT_HELLO, readClientHello } from '../../src/protocol/tls.js';
import { followRequests } from '../../test/protocol/follow.js';
import { talk } from '../../test/protocol/handshakes.js';
import { mutated } from './mutate.js';
import { cut, type Random } from './random.js';
import {
  AUTHORITIES,
  CHUNK_STREAMS,
  CONNECT_REPLIES,
  HELLOS,
  OTHERS,
  REQUESTS,
  RESPONSES,
  SOCKS_REPLIES,
} from './seeds.js';

const MAX_HEAD = 64 * 1024;

/** What the relay keeps free in its outbox for a head: HEADROOM and the rest in data/http-relay.ts. */
const roomFor = (headSize: number, target: string): number => 2 * (headSize + target.length) + 2048;

const outbox = Buffer.alloc(4 * MAX_HEAD + 64 * 1024);

/** What one reader or writer must do with any bytes. */
export interface Check {
  readonly name: string;
  /** Makes an input. */
  input(random: Random): Buffer;
  /** Throws if something does not hold. */
  run(random: Random, bytes: Buffer): void;
}

const must = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what);
};

/** Both are the same as JSON. */
const same = (got: unknown, expected: unknown, what: string): void => {
  const a = JSON.stringify(got);
  const b = JSON.stringify(expected);
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
};

const boundFor = (random: Random): number => (random.oneIn(4) ? 1 + random.below(600) : MAX_HEAD);

const isClean = (text: string): boolean => [...text].every((c) => (c >= ' ' && c !== '\x7f') || c === '\t');

/** The first outcome other than `incomplete` of a reader that gets these pieces, each behind all before it. */
const readIn = <T extends { readonly kind: string }>(
  pieces: readonly Buffer[],
  read: (bytes: Buffer, end: number) => T,
): T => {
  const all = Buffer.concat(pieces);
  let end = 0;
  for (const piece of pieces) {
    end += piece.length;
    const outcome = read(all, end);
    if (outcome.kind !== 'incomplete') return outcome;
  }
  return read(all, end);
};

const requestStream: Check = {
  name: 'request stream',
  input: (random) => mutated(random, REQUESTS),
  run: (random, bytes) => {
    const max = boundFor(random);
    const whole = followRequests([bytes], max);
    same(followRequests(cut(random, bytes), max), whole, 'cut otherwise, it is read otherwise');
    for (const { method, target, fields, body, keepAlive, written } of whole.messages) {
      const outcome = readRequestHead(Buffer.from(written, 'latin1'), 0, written.length, 4 * MAX_HEAD);
      must(outcome.kind === 'head', `what was written is not read: ${JSON.stringify(outcome)}`);
      if (outcome.kind !== 'head') return;
      const { head } = outcome;
      same(
        [head.method, head.target, head.fields, head.body, head.keepAlive, head.size],
        [method, target, fields, body, keepAlive, written.length],
        'what was written means something else',
      );
      must(
        method === 'CONNECT' || /^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(target),
        `the target is not absolute: ${target}`,
      );
    }
  },
};

const ORIGINALS = [null, { ip: '192.0.2.1', port: 80 }, { ip: '2001:db8::1', port: 8080 }] as const;

const valuesOf = (fields: readonly string[], name: string): string[] =>
  fields.filter((_, i) => i % 2 === 1 && (fields[i - 1] as string).toLowerCase() === name);

const forwarded: Check = {
  name: 'forwarded request',
  input: (random) => mutated(random, REQUESTS),
  run: (random, bytes) => {
    const outcome = readRequestHead(bytes, 0, bytes.length, MAX_HEAD);
    if (outcome.kind !== 'head') return;
    const { head } = outcome;
    must(head.size <= bytes.length && head.size <= MAX_HEAD, `a head of ${head.size} bytes`);
    const body: Body = head.body;
    const original = random.pick(ORIGINALS);
    const target = absoluteTarget(head, original);
    if (target.kind === 'refused') return;
    must(!/[^\x21-\x7e\x80-\xff]/.test(target.target), 'the target has a character that ends it');
    must(isClean(target.host ?? ''), 'the Host has a control character');
    const rules: ForwardRules = {
      via: random.oneIn(3) ? null : 'fuzz',
      clientIp: random.pick(['192.0.2.9', '2001:db8::9', 'unknown']),
      forwardedFor: random.pick(['off', 'set', 'append']),
      proxyAuthorization: random.oneIn(2) ? null : 'Basic YTpi',
      keepUpgrade: random.oneIn(2),
      keepOpen: random.oneIn(2),
    };
    const before = [...head.fields];
    const result = forwardRequest(head, rules);
    if (result !== null) {
      same(head.fields, before, 'fields of what is not forwarded are changed');
      if (result.kind === 'answer') {
        const answer = readResponseHead(result.bytes, 0, result.bytes.length, 4 * MAX_HEAD, 'GET');
        must(answer.kind === 'head', `our own answer is not read: ${JSON.stringify(answer)}`);
        if (answer.kind !== 'head') return;
        const length = result.bytes.length - answer.head.size;
        same(answer.head.body, { kind: 'length', length }, 'our own answer has another length');
      }
      return;
    }
    const size = writeRequestHead(head, target.target, outbox, 0);
    must(size <= roomFor(head.size, target.target), `${size} bytes written from ${head.size}`);
    if (head.fields.length > 2 * MAX_FIELDS) return;
    const again = readRequestHead(outbox, 0, size, outbox.length);
    must(again.kind === 'head', `what was written is not read: ${JSON.stringify(again)}`);
    if (again.kind !== 'head') return;
    same([again.head.fields, again.head.body], [head.fields, body], 'what was written means something else');
    for (const gone of ['keep-alive', 'proxy-connection'])
      must(valuesOf(head.fields, gone).length === 0, `${gone} is left`);
    const options = valuesOf(head.fields, 'connection').flatMap(listOf);
    must(
      options.every((option) => ['close', 'keep-alive', 'upgrade', 'te'].includes(option)),
      `Connection says ${options}`,
    );
    must(valuesOf(head.fields, 'upgrade').length === 0 || options.includes('upgrade'), 'Upgrade without Connection');
    if (rules.via !== null)
      must(valuesOf(head.fields, 'via').at(-1)?.endsWith(' fuzz') === true, 'the last Via is not ours');
    if (rules.forwardedFor === 'set')
      same(valuesOf(head.fields, 'x-forwarded-for'), [rules.clientIp], 'X-Forwarded-For');
    if (rules.proxyAuthorization !== null) {
      same(valuesOf(head.fields, 'proxy-authorization'), [rules.proxyAuthorization], 'Proxy-Authorization');
    }
  },
};

const METHODS = ['GET', 'GET', 'HEAD', 'CONNECT', 'POST'];

const response: Check = {
  name: 'response',
  input: (random) => mutated(random, RESPONSES),
  run: (random, bytes) => {
    const max = boundFor(random);
    const method = random.pick(METHODS);
    const read = (all: Buffer, end: number) => readResponseHead(all, 0, end, max, method);
    const whole = read(bytes, bytes.length);
    same(readIn(cut(random, bytes), read), whole, 'cut otherwise, it is read otherwise');
    if (whole.kind === 'refused') must(whole.status === 502 && isClean(whole.reason), `refused with ${whole.status}`);
    if (whole.kind === 'incomplete') must(bytes.length < max, 'it waits for more than the bound');
    if (whole.kind !== 'head') return;
    const { size, body } = whole.head;
    must(size <= bytes.length && size <= max, `a head of ${size} bytes`);
    same(readResponseHead(bytes, 0, size, size, method), whole, 'the head by itself is read otherwise');
    const followed = (pieces: readonly Buffer[]): unknown => {
      const follower = new BodyFollower(502);
      follower.begin(body);
      let taken = 0;
      for (const piece of pieces) {
        if (follower.done || follower.refused !== null) break;
        taken += follower.follow(piece, 0, piece.length);
      }
      return [taken, follower.done, follower.refused];
    };
    const rest = bytes.subarray(size);
    same(followed(cut(random, rest)), followed([rest]), 'cut otherwise, its body ends otherwise');
  },
};

const SIZE_LINE = /([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n/y;
const TRAILER_LINE = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n/y;

/** The end of a chunked body by another way of reading it (RFC 9112 section 7.1); null: it has none here. */
const chunkedEnd = (text: string): number | null => {
  let at = 0;
  for (;;) {
    SIZE_LINE.lastIndex = at;
    const line = SIZE_LINE.exec(text);
    if (line === null) return null;
    at += line[0].length;
    const size = Number.parseInt(line[1] as string, 16);
    if (size === 0) break;
    if (size > text.length || text.slice(at + size, at + size + 2) !== '\r\n') return null;
    at += size + 2;
  }
  for (;;) {
    TRAILER_LINE.lastIndex = at;
    const line = TRAILER_LINE.exec(text);
    if (line === null) return text.startsWith('\r\n', at) ? at + 2 : null;
    if (/^(content-length|host|transfer-encoding)$/i.test(line[1] as string)) return null;
    at += line[0].length;
  }
};

const chunks: Check = {
  name: 'chunks',
  input: (random) => mutated(random, CHUNK_STREAMS),
  run: (random, bytes) => {
    const whole = new ChunkedBody(400);
    const end = whole.scan(bytes, 0, bytes.length);
    const outcome = [end, whole.done, whole.refused];
    const pieces = cut(random, bytes);
    for (const unseen of [false, true]) {
      const body = new ChunkedBody(400);
      let taken = 0;
      for (const piece of pieces) {
        let at = 0;
        while (at < piece.length && !body.done && body.refused === null) {
          const some = unseen ? Math.min(body.unseen, piece.length - at) : 0;
          if (some > 0) body.passed(some);
          at += some > 0 ? some : body.scan(piece, at, unseen ? at + 1 : piece.length);
        }
        taken += at;
      }
      same([taken, body.done, body.refused], outcome, unseen ? 'passed unseen' : 'cut otherwise');
    }
    const expected = chunkedEnd(bytes.toString('latin1'));
    if (whole.done) must(expected === end, `it ends at ${end}, and by another reading at ${expected}`);
    else must(expected === null || / too (large|long)/.test(whole.refused?.reason ?? ''), `it ends at ${expected}`);
  },
};

const hello: Check = {
  name: 'ClientHello',
  input: (random) => mutated(random, HELLOS),
  run: (random, bytes) => {
    const read = (all: Buffer, end: number) => readClientHello(all, 0, end);
    const whole = read(bytes, bytes.length);
    same(readIn(cut(random, bytes), read), whole, 'cut otherwise, it is read otherwise');
    if (whole.kind === 'incomplete') must(bytes.length <= MAX_CLIENT_HELLO, 'it waits for more than the bound');
    if (whole.kind === 'hello') {
      must(whole.serverName === null || /^[a-z0-9._-]{1,253}$/.test(whole.serverName), `name ${whole.serverName}`);
      must(whole.serverName === null || whole.fault === null, 'a name beside a fault');
    }
    if (whole.kind === 'incomplete') return;
    const longer = Buffer.concat([bytes, random.pick(HELLOS)]);
    same(read(longer, longer.length), whole, 'with more behind it, it is read otherwise');
  },
};

const detection: Check = {
  name: 'detection',
  input: (random) => mutated(random, random.pick([REQUESTS, HELLOS, OTHERS])),
  run: (random, bytes) => {
    const read = (all: Buffer, end: number) => detect(all, 0, end);
    same(readIn(cut(random, bytes), read), read(bytes, bytes.length), 'cut otherwise, it is something else');
    // The bound on a head is the relay's; a client that goes on without an end of its method or target is no matter here.
  },
};

const handshake = (name: string, seeds: readonly Buffer[], begin: (random: Random) => () => Handshake): Check => ({
  name,
  input: (random) => mutated(random, seeds),
  run: (random, bytes) => {
    const start = begin(random);
    const whole = talk(start(), [bytes]);
    same(talk(start(), cut(random, bytes)), whole, 'cut otherwise, it is read otherwise');
    must(whole.reason === null || isClean(whole.reason), `the reason has control characters: ${whole.reason}`);
    must(bytes.toString('latin1').endsWith(whole.early), 'what the tunnel gets is not the end of what was said');
  },
});

const connectReply = handshake('CONNECT reply', CONNECT_REPLIES, (random) => {
  const max = boundFor(random);
  return () => new ConnectHandshake('origin.lab:443', null, max);
});

const socksReply = handshake('SOCKS reply', SOCKS_REPLIES, (random) => {
  const credentials = random.oneIn(2) ? null : { user: 'a', password: 'b' };
  return () => new Socks5Handshake({ host: 'origin.lab', port: 443 }, credentials);
});

/** What `make` makes; null where it says with a RangeError that it can't. */
const unlessRangeError = <T>(make: () => T): T | null => {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
};

const authority: Check = {
  name: 'authority',
  input: (random) => mutated(random, AUTHORITIES),
  run: (_random, bytes) => {
    const text = bytes.toString('latin1');
    const parts = readAuthority(text);
    const connect = unlessRangeError(() => writeConnect(text, null));
    unlessRangeError(() => new Socks5Handshake({ host: text, port: 80 }, null).first());
    must((connect !== null) === (parts?.port != null), 'CONNECT is written for what is no host and port');
    if (parts === null) return;
    must(!parts.host.startsWith('[') || isIPv6(parts.host.slice(1, -1)), `${parts.host} is no IPv6 address`);
    same(readAuthority(parts.port === null ? parts.host : `${parts.host}:${parts.port}`), parts, 'read again');
    if (connect === null) return;
    const outcome = readRequestHead(connect, 0, connect.length, 4 * MAX_HEAD);
    must(outcome.kind === 'head' && outcome.head.method === 'CONNECT' && outcome.head.target === text, 'not read');
  },
};

export const CHECKS: readonly Check[] = [
  requestStream,
  forwarded,
  response,
  chunks,
  hello,
  detection,
  connectReply,
  socksReply,
  authority,
];
