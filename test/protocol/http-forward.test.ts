import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { RequestHead } from '../../src/protocol/http.js';
import { type ForwardRules, forwardRequest } from '../../src/protocol/http-forward.js';
import { readRequestHead } from '../../src/protocol/http-request.js';
import { mutated, stream } from './arbitraries.js';
import { acceptedRequest, acceptedResponse, latin1, MAX_HEAD, rebuilt } from './heads.js';

/** Rules that add nothing. */
const PLAIN: ForwardRules = {
  via: null,
  clientIp: '192.0.2.7',
  forwardedFor: 'off',
  proxyAuthorization: null,
  keepUpgrade: false,
  keepOpen: false,
};

const request = (lines: readonly string[], line = 'GET / HTTP/1.1'): RequestHead =>
  acceptedRequest(`${line}\r\n${['Host: a', ...lines].map((field) => `${field}\r\n`).join('')}\r\n`);

/** The field lines behind Host of a request that is forwarded. */
const forwarded = (lines: readonly string[], rules: Partial<ForwardRules> = {}, line?: string): readonly string[] => {
  const head = request(lines, line);
  assert.equal(forwardRequest(head, { ...PLAIN, ...rules }), null);
  const written = rebuilt(head).split('\r\n');
  assert.deepEqual(written.slice(0, 2), [line ?? 'GET / HTTP/1.1', 'Host: a']);
  return written.slice(2, -2);
};

/** The refusal of a request, whose fields are left alone. */
const refused = (lines: readonly string[], rules: Partial<ForwardRules> = {}, line?: string) => {
  const head = request(lines, line);
  const before = [...head.fields];
  const outcome = forwardRequest(head, { ...PLAIN, ...rules });
  assert.ok(outcome?.kind === 'refused', JSON.stringify(outcome));
  assert.match(outcome.reason, /^[A-Z].*\.$/);
  assert.deepEqual(head.fields, before);
  return outcome.status;
};

/** The text of our own answer to a request. */
const answered = (lines: readonly string[], rules: Partial<ForwardRules> = {}, line?: string): string => {
  const outcome = forwardRequest(request(lines, line), { ...PLAIN, ...rules });
  assert.ok(outcome?.kind === 'answer', JSON.stringify(outcome));
  return outcome.bytes.toString('latin1');
};

interface Row {
  readonly what: string;
  readonly sent: readonly string[];
  readonly got: readonly string[];
  readonly rules?: Partial<ForwardRules>;
  readonly line?: string;
}

const forwards = (section: string, rows: readonly Row[]): void => {
  describe(section, () => {
    for (const { what, sent, got, rules, line } of rows) {
      test(what, () => {
        assert.deepEqual(forwarded(sent, rules, line), got);
      });
    }
  });
};

forwards('RFC 9110 section 7.6: a request is forwarded', [
  {
    what: 'with the fields that nobody knows, in their order, spelling and bytes',
    sent: ['x-B: 1', 'X-a: \xe9,  "q"', 'x-b: 2', 'Accept:', 'COOKIE: a=b', 'Trailer: X-Sum', 'Priority: u=1'],
    got: ['x-B: 1', 'X-a: \xe9,  "q"', 'x-b: 2', 'Accept: ', 'COOKIE: a=b', 'Trailer: X-Sum', 'Priority: u=1'],
  },
  {
    what: 'with a method that nobody knows (section 9.1)',
    sent: ['A: b'],
    got: ['A: b'],
    line: 'BREW /pot HTTP/1.1',
  },
  {
    what: 'with its path and query as they are (section 7.7)',
    sent: [],
    got: [],
    line: 'GET //a/../%41?%3f;\\|#x HTTP/1.1',
  },
  {
    what: 'with Forwarded as it is',
    sent: ['Forwarded: for=192.0.2.43'],
    got: ['Forwarded: for=192.0.2.43', 'X-Forwarded-For: 192.0.2.7'],
    rules: { forwardedFor: 'set' },
  },
]);

forwards('RFC 9110 section 7.6.1: what is of one connection', [
  {
    what: 'goes no further, whether Connection lists it or not',
    sent: ['Connection: keep-alive', 'Proxy-Connection: keep-alive', 'Keep-Alive: timeout=5', 'TE: gzip', 'Upgrade: x'],
    got: [],
  },
  {
    what: 'is whatever Connection lists, in any case, with any white space, in several fields',
    sent: ['X-A: 1', 'connection: x-a ,\tX-b,,', 'X-B: 2', 'x-c: 3', 'X-a: 4', 'CONNECTION: X-C', 'X-D: 5'],
    got: ['X-D: 5'],
  },
  {
    what: 'is not what only begins like something that Connection lists',
    sent: ['Connection: X-A', 'X-A-B: 1', 'X-: 2', 'X-A: 3'],
    got: ['X-A-B: 1', 'X-: 2'],
  },
  {
    what: 'is not what every recipient needs: Connection cannot take that away',
    sent: [
      ...['Connection: Host, Content-Length, Via, X-Forwarded-For, X-Forwarded-Proto, Forwarded, Max-Forwards'],
      ...['Connection: Expect, Proxy-Authorization', 'Content-Length: 3', 'Via: 1.1 b', 'X-Forwarded-For: c'],
      ...['X-Forwarded-Proto: https', 'Forwarded: for=d', 'Max-Forwards: 3', 'Expect: 100-continue'],
      'Proxy-Authorization: Basic e',
    ],
    got: [
      ...['Content-Length: 3', 'Via: 1.1 b', 'X-Forwarded-For: c', 'X-Forwarded-Proto: https', 'Forwarded: for=d'],
      ...['Max-Forwards: 3', 'Expect: 100-continue', 'Proxy-Authorization: Basic e'],
    ],
    line: 'POST / HTTP/1.1',
  },
  {
    what: 'is not Transfer-Encoding: the body passes in it',
    sent: ['Connection: Transfer-Encoding', 'Transfer-Encoding: chunked'],
    got: ['Transfer-Encoding: chunked'],
    line: 'POST / HTTP/1.1',
  },
  {
    what: 'is not what we add, even if Connection lists it',
    sent: ['Connection: Via, X-Forwarded-For, Proxy-Authorization'],
    got: ['Proxy-Authorization: Basic e', 'X-Forwarded-For: 192.0.2.7', 'Via: 1.1 us'],
    rules: { via: 'us', forwardedFor: 'set', proxyAuthorization: 'Basic e' },
  },
  {
    what: 'is said anew: close for a client that sends nothing more',
    sent: ['Connection: Close, X-A', 'X-A: 1', 'X-B: 2'],
    got: ['X-B: 2', 'Connection: close'],
  },
  {
    what: 'is said anew, but not close where the connection to the upstream may go on without the client',
    sent: ['Connection: Close, TE', 'TE: trailers'],
    got: ['Connection: TE', 'TE: trailers'],
    rules: { keepOpen: true },
  },
  {
    what: 'is said anew: keep-alive for a client of HTTP/1.0 that asked for it (RFC 9112 section 9.3)',
    sent: ['Connection: Keep-Alive', 'Keep-Alive: 300'],
    got: ['Connection: keep-alive'],
    line: 'GET / HTTP/1.0',
  },
  {
    what: 'needs no saying for a client of HTTP/1.0 that did not ask',
    sent: ['Proxy-Connection: keep-alive'],
    got: [],
    line: 'GET / HTTP/1.0',
  },
  {
    what: 'is the same for CONNECT',
    sent: ['Proxy-Connection: keep-alive', 'Connection: X-A', 'X-A: 1'],
    got: [],
    line: 'CONNECT a:443 HTTP/1.1',
  },
]);

forwards('RFC 9110 section 7.8: an offer of another protocol', [
  {
    what: 'is left out where the upstream does not pass it on',
    sent: ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
    got: ['Sec-WebSocket-Version: 13'],
  },
  {
    what: 'is passed on with its option where the upstream does',
    sent: ['Connection: keep-alive, Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
    got: ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Connection: upgrade'],
    rules: { keepUpgrade: true },
  },
  {
    what: 'may come with the end of the connection',
    sent: ['Upgrade: a, b', 'Connection: close, Upgrade'],
    got: ['Upgrade: a, b', 'Connection: close, upgrade'],
    rules: { keepUpgrade: true },
  },
  {
    what: 'is none without the option',
    sent: ['Upgrade: websocket'],
    got: [],
    rules: { keepUpgrade: true },
  },
  {
    what: 'is none in HTTP/1.0',
    sent: ['Connection: Upgrade', 'Upgrade: websocket'],
    got: [],
    rules: { keepUpgrade: true },
    line: 'GET / HTTP/1.0',
  },
  {
    what: 'loses what else it lists, and so its way to HTTP/2 (RFC 9113 section 3.1)',
    sent: ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'],
    got: ['Upgrade: h2c', 'Connection: upgrade'],
    rules: { keepUpgrade: true },
  },
]);

forwards('RFC 9110 section 10.1.4: TE', [
  {
    what: 'is passed on as far as it says that the client takes trailers',
    sent: ['TE: gzip;q=0.5, Trailers', 'Connection: TE', 'A: b'],
    got: ['A: b', 'Connection: TE', 'TE: trailers'],
  },
  {
    what: 'is passed on with the option even if the client forgot that',
    sent: ['te: trailers', 'Connection: close'],
    got: ['Connection: close, TE', 'TE: trailers'],
  },
  { what: 'is not passed on for codings', sent: ['TE: gzip', 'Connection: TE'], got: [] },
  { what: 'means nothing in HTTP/1.0', sent: ['TE: trailers'], got: [], line: 'GET / HTTP/1.0' },
]);

forwards('RFC 9110 section 7.6.2: Max-Forwards', [
  {
    what: 'goes down by one for TRACE',
    sent: ['max-forwards: 10'],
    got: ['max-forwards: 9'],
    line: 'TRACE / HTTP/1.1',
  },
  { what: 'goes down to 0', sent: ['Max-Forwards: 1'], got: ['Max-Forwards: 0'], line: 'TRACE / HTTP/1.1' },
  {
    what: 'goes down by one for OPTIONS, leading zeros or not',
    sent: ['Max-Forwards: 007', 'A: b'],
    got: ['Max-Forwards: 6', 'A: b'],
    line: 'OPTIONS * HTTP/1.1',
  },
  {
    what: 'is never more than can be counted',
    sent: [`Max-Forwards: ${'9'.repeat(400)}`],
    got: ['Max-Forwards: 2147483647'],
    line: 'OPTIONS / HTTP/1.1',
  },
  { what: 'need not be there', sent: ['A: b'], got: ['A: b'], line: 'TRACE / HTTP/1.1' },
  { what: 'means nothing to other methods', sent: ['Max-Forwards: 0'], got: ['Max-Forwards: 0'] },
  { what: 'may be anything for them', sent: ['Max-Forwards: x'], got: ['Max-Forwards: x'], line: 'POST / HTTP/1.1' },
]);

describe('RFC 9110 section 7.6.2: Max-Forwards', () => {
  for (const value of ['', '-1', '+1', '1.0', '0x1', '1 0', '1, 1', 'x']) {
    test(`of ${JSON.stringify(value)} gets 400`, () => {
      for (const method of ['TRACE', 'OPTIONS']) {
        assert.equal(refused([`Max-Forwards: ${value}`], {}, `${method} / HTTP/1.1`), 400);
      }
    });
  }

  test('that comes twice gets 400', () => {
    assert.equal(refused(['Max-Forwards: 1', 'Max-Forwards: 1'], {}, 'TRACE / HTTP/1.1'), 400);
  });

  test('of 0 has OPTIONS answered here, with what we forward (section 9.3.7)', () => {
    const text = answered(['Max-Forwards: 0', 'Via: 1.1 us'], { via: 'us' }, 'OPTIONS * HTTP/1.1');
    const { status, body, keepAlive, size } = acceptedResponse(text, 'OPTIONS');
    assert.deepEqual([status, body, keepAlive, size], [200, { kind: 'length', length: 0 }, false, text.length]);
    assert.match(text, /\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS, TRACE\r\n/);
  });

  test('of 0 has TRACE answered here, even if it is in a loop', () => {
    const text = answered(['Via: 1.1 us, 1.1 b, 1.1 us', 'Max-Forwards: 0'], { via: 'us' }, 'TRACE /a HTTP/1.1');
    assert.match(text, /\r\n\r\nTRACE \/a HTTP\/1\.1\r\nHost: a\r\nVia: 1\.1 us, 1\.1 b, 1\.1 us\r\n/);
  });
});

describe('RFC 9110 section 9.3.8: TRACE', () => {
  test('is answered with the request as it came, without what is secret', () => {
    const secret = ['Cookie: a=b', 'AUTHORIZATION: Basic c', 'proxy-authorization: Basic d'];
    const text = answered(['X-A:  \xe9 ', ...secret, 'Connection: X-A', 'Max-Forwards: 0'], {}, 'TRACE /x?y HTTP/1.1');
    const { status, body, keepAlive, size } = acceptedResponse(text, 'TRACE');
    const content = 'TRACE /x?y HTTP/1.1\r\nHost: a\r\nX-A: \xe9\r\nConnection: X-A\r\nMax-Forwards: 0\r\n\r\n';
    assert.deepEqual([status, keepAlive, body], [200, false, { kind: 'length', length: content.length }]);
    assert.match(text, /\r\nContent-Type: message\/http\r\n/);
    assert.equal(text.slice(size), content);
  });

  test('cannot have a body', () => {
    assert.equal(refused(['Content-Length: 1'], {}, 'TRACE / HTTP/1.1'), 400);
    assert.equal(refused(['Transfer-Encoding: chunked'], {}, 'TRACE / HTTP/1.1'), 400);
    assert.equal(refused(['Content-Length: 1', 'Max-Forwards: 0'], {}, 'TRACE / HTTP/1.1'), 400);
    assert.deepEqual(forwarded(['Content-Length: 0'], {}, 'TRACE / HTTP/1.1'), ['Content-Length: 0']);
  });
});

forwards('RFC 9110 section 7.6.3: Via', [
  { what: 'is added', sent: ['A: b'], got: ['A: b', 'Via: 1.1 us'], rules: { via: 'us' } },
  {
    what: 'has the version that the request came in',
    sent: [],
    got: ['Via: 1.0 us'],
    rules: { via: 'us' },
    line: 'GET / HTTP/1.0',
  },
  {
    what: 'is added behind those of the proxies before us, which stay as they are',
    sent: ['via: 1.0 b (x, y), HTTP/1.1 c:81', 'A: b', 'Via: 2 d'],
    got: ['via: 1.0 b (x, y), HTTP/1.1 c:81', 'A: b', 'Via: 2 d', 'Via: 1.1 us'],
    rules: { via: 'us' },
  },
  { what: 'is not added if it is not wanted', sent: ['Via: 1.1 us'], got: ['Via: 1.1 us'] },
  {
    what: 'of others who only look like us is no loop',
    sent: ['Via: 1.1 us2, 1.1 them us, us, us 1.1, 1.1 (us), 1.1 us:80,'],
    got: ['Via: 1.1 us2, 1.1 them us, us, us 1.1, 1.1 (us), 1.1 us:80,', 'Via: 1.1 us'],
    rules: { via: 'us' },
  },
]);

describe('RFC 9110 section 7.6.3: Via with our own pseudonym', () => {
  for (const [what, ...lines] of [
    ['alone', 'Via: 1.1 us'],
    ['in any case and with any version', 'VIA: HTTP/2.0  US'],
    ['with a comment', 'Via: 1.0\tus (transproxy)'],
    ['among others', 'Via: 1.1 b, 1.1 us ,1.1 c'],
    ['in another field', 'Via: 1.1 b', 'Via: 1.1 us'],
    ['which Connection lists', 'Connection: Via', 'Via: 1.1 us'],
  ]) {
    test(`${what} gets 508: the request went in a loop`, () => {
      assert.equal(refused(lines, { via: 'Us' }), 508);
    });
  }

  test('is what a request gets that was forwarded here', () => {
    const head = request(['Via: 1.1 b']);
    assert.equal(forwardRequest(head, { ...PLAIN, via: 'us' }), null);
    const outcome = forwardRequest(acceptedRequest(rebuilt(head)), { ...PLAIN, via: 'us' });
    assert.equal(outcome?.kind === 'refused' && outcome.status, 508);
  });
});

forwards('RFC 9110 section 10.1.1: Expect', [
  {
    what: 'goes on to the origin, which is the one to answer it',
    sent: ['Expect: 100-Continue', 'Content-Length: 3'],
    got: ['Expect: 100-Continue', 'Content-Length: 3'],
    line: 'PUT / HTTP/1.1',
  },
  {
    what: 'may say the same twice, or nothing',
    sent: ['Expect: 100-continue, ', 'Expect: 100-continue', 'Expect:'],
    got: ['Expect: 100-continue,', 'Expect: 100-continue', 'Expect: '],
  },
  {
    what: 'is ignored in HTTP/1.0, whatever it says, and goes no further',
    sent: ['Expect: 100-continue', 'Expect: more', 'A: b'],
    got: ['A: b'],
    line: 'GET / HTTP/1.0',
  },
]);

describe('RFC 9110 section 10.1.1: Expect', () => {
  for (const value of ['200-ok', '100-continue, more', '100-continue;a=b', '100 continue', '"100-continue"']) {
    test(`of ${value} gets 417`, () => {
      assert.equal(refused([`Expect: ${value}`]), 417);
    });
  }
});

forwards('RFC 9110 section 11.7.2: Proxy-Authorization', [
  { what: 'of the client passes', sent: ['Proxy-Authorization: Basic a'], got: ['Proxy-Authorization: Basic a'] },
  {
    what: 'is added',
    sent: ['A: b'],
    got: ['A: b', 'Proxy-Authorization: Basic c'],
    rules: { proxyAuthorization: 'Basic c' },
  },
  {
    what: 'is ours in place of those of the client',
    sent: ['proxy-authorization: Basic a', 'A: b', 'Proxy-Authorization: Basic d'],
    got: ['proxy-authorization: Basic c', 'A: b'],
    rules: { proxyAuthorization: 'Basic c' },
  },
]);

forwards('X-Forwarded-For', [
  { what: 'is left as it is where it is off', sent: ['X-Forwarded-For: b'], got: ['X-Forwarded-For: b'] },
  { what: 'is set', sent: ['A: b'], got: ['A: b', 'X-Forwarded-For: 192.0.2.7'], rules: { forwardedFor: 'set' } },
  {
    what: 'is set to an IPv6 address without brackets',
    sent: [],
    got: ['X-Forwarded-For: 2001:db8::7'],
    rules: { forwardedFor: 'set', clientIp: '2001:db8::7' },
  },
  {
    what: 'is set in place of whatever the client says',
    sent: ['x-forwarded-for: 10.0.0.1', 'A: b', 'X-Forwarded-For: c'],
    got: ['x-forwarded-for: 192.0.2.7', 'A: b'],
    rules: { forwardedFor: 'set' },
  },
  {
    what: 'is appended to all that a trusted client says, in one field',
    sent: ['x-forwarded-for: 10.0.0.1, 10.0.0.2', 'A: b', 'X-Forwarded-For:', 'X-Forwarded-For: c'],
    got: ['x-forwarded-for: 10.0.0.1, 10.0.0.2, c, 192.0.2.7', 'A: b'],
    rules: { forwardedFor: 'append' },
  },
  {
    what: 'begins with the client where there is none to append to',
    sent: [],
    got: ['X-Forwarded-For: 192.0.2.7'],
    rules: { forwardedFor: 'append' },
  },
]);

describe('any request that is forwarded', () => {
  const MINE = [
    'Connection: close, X-A, te, Upgrade',
    'Connection: host, content-length, transfer-encoding',
    'Proxy-Connection: x',
    'TE: trailers',
    'Upgrade: websocket',
    'X-A: 1',
    'Via: 1.1 b',
    'X-Forwarded-For: c',
    'Max-Forwards: 5',
    'Expect: 100-continue',
  ];
  /** A request with some of these before its last line. */
  const heads = fc
    .tuple(mutated(stream), fc.subarray(MINE))
    .map(([bytes, lines]) => bytes.replace('\r\n', () => `\r\n${lines.map((line) => `${line}\r\n`).join('')}`));

  const rules: fc.Arbitrary<ForwardRules> = fc.record({
    via: fc.constantFrom(null, 'us'),
    clientIp: fc.constant('192.0.2.7'),
    forwardedFor: fc.constantFrom('off', 'set', 'append'),
    proxyAuthorization: fc.constantFrom(null, 'Basic e'),
    keepUpgrade: fc.boolean(),
    keepOpen: fc.boolean(),
  });

  /** What its fields don't say. */
  const meaning = ({ method, target, minor, host, referer, body, keepAlive }: RequestHead) => ({
    ...{ method, target, minor, host, referer, body, keepAlive },
  });

  /** The head as it goes out, read again; null if it is not forwarded. */
  const onward = (text: string, by: ForwardRules): { before: RequestHead; text: string; after: RequestHead } | null => {
    const outcome = readRequestHead(latin1(text), 0, text.length, MAX_HEAD);
    if (outcome.kind !== 'head') return null;
    const before = { ...outcome.head, fields: [...outcome.head.fields] };
    if (forwardRequest(outcome.head, by) !== null) return null;
    const written = rebuilt(outcome.head);
    return { before, text: written, after: acceptedRequest(written) };
  };

  test('has the same method, target, host, framing and persistence to who reads it next', () => {
    let compared = 0;
    fc.assert(
      fc.property(heads, rules, (text, by) => {
        const there = onward(text, by);
        if (there === null) return;
        const keepAlive = there.before.keepAlive || (by.keepOpen && there.before.minor === 1);
        assert.deepEqual(meaning(there.after), { ...meaning(there.before), keepAlive });
        assert.equal(there.after.upgrade, there.before.upgrade && by.keepUpgrade);
        assert.equal(there.after.size, there.text.length);
        compared++;
      }),
      { numRuns: 3000 },
    );
    assert.ok(compared > 1000, `only ${compared} requests to compare`);
  });

  test('keeps every other field in its order and spelling', () => {
    const touched =
      /^(connection|proxy-connection|keep-alive|te|upgrade|via|x-forwarded-for|max-forwards|expect|proxy-authorization)$/i;
    const pairs = (fields: readonly string[], listed: ReadonlySet<string>): string[] =>
      fields.flatMap((name, i) =>
        i % 2 === 1 || touched.test(name) || listed.has(name.toLowerCase()) ? [] : [`${name}: ${fields[i + 1]}`],
      );
    fc.assert(
      fc.property(heads, rules, (text, by) => {
        const there = onward(text, by);
        if (there === null) return;
        const { fields } = there.before;
        const options = fields.filter((_, i) => i % 2 === 1 && /^connection$/i.test(fields[i - 1] as string)).join();
        const listed = new Set(
          options.split(',').map((option) => option.replace(/^[ \t]+|[ \t]+$/g, '').toLowerCase()),
        );
        for (const kept of ['host', 'content-length', 'transfer-encoding']) listed.delete(kept);
        assert.deepEqual(pairs(there.after.fields, new Set()), pairs(fields, listed));
      }),
      { numRuns: 1000 },
    );
  });

  test('is not changed by forwarding it again, but for Via, Max-Forwards and who is appended', () => {
    let compared = 0;
    fc.assert(
      fc.property(heads, rules, (text, by) => {
        const once: ForwardRules = {
          ...by,
          via: null,
          forwardedFor: by.forwardedFor === 'append' ? 'set' : by.forwardedFor,
        };
        const there = onward(text, once);
        if (there === null || there.before.method === 'OPTIONS') return;
        assert.equal(onward(there.text, once)?.text, there.text);
        compared++;
      }),
      { numRuns: 1000 },
    );
    assert.ok(compared > 300, `only ${compared} requests to compare`);
  });
});
