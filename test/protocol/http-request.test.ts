import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MAX_EMPTY_LINES, MAX_FIELDS } from '../../src/protocol/http.js';
import { replaceField } from '../../src/protocol/http-fields.js';
import { looksLikeRequest, readRequestHead, writeRequestHead } from '../../src/protocol/http-request.js';
import { acceptedRequest, latin1, MAX_HEAD, readRequest, rebuilt, refusedRequest } from './heads.js';

const BROWSER =
  'GET /a?b=c HTTP/1.1\r\n' +
  'Host: www.example.com\r\n' +
  'Connection: keep-alive\r\n' +
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n' +
  'Referer: http://www.example.com/\r\n' +
  'Cookie: a=b; c="d"\r\n' +
  '\r\n';

/** A head with these lines in place of its fields. */
const withFields = (...lines: string[]): string =>
  `POST / HTTP/1.1\r\nHost: a\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;

/** A name, the request, the status of the refusal. */
type Refusal = readonly [what: string, request: string, status: number];

const refuses = (rows: readonly Refusal[]): void => {
  for (const [what, request, status] of rows) {
    test(`${what} gets ${status}`, () => {
      const { status: got, reason } = refusedRequest(request);
      assert.equal(got, status, reason);
      assert.match(reason, /^[A-Z].*\.$/);
    });
  }
};

describe('a request head', () => {
  test('is read with its method, target, version, fields and size', () => {
    assert.deepEqual(acceptedRequest(`${BROWSER}GET /next`), {
      method: 'GET',
      target: '/a?b=c',
      minor: 1,
      fields: [
        'Host',
        'www.example.com',
        'Connection',
        'keep-alive',
        'User-Agent',
        'Mozilla/5.0 (X11; Linux x86_64)',
        'Referer',
        'http://www.example.com/',
        'Cookie',
        'a=b; c="d"',
      ],
      host: 'www.example.com',
      referer: 'http://www.example.com/',
      body: { kind: 'none' },
      keepAlive: true,
      upgrade: false,
      credentials: false,
      size: BROWSER.length,
    });
  });

  test('is incomplete until its last byte', () => {
    const bytes = latin1(BROWSER);
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(readRequestHead(bytes, 0, end, MAX_HEAD).kind, 'incomplete', `after ${end} bytes`);
    }
    assert.equal(readRequestHead(bytes, 0, bytes.length, MAX_HEAD).kind, 'head');
  });

  test('is read from anywhere in a buffer, and not past the end that is given', () => {
    const bytes = latin1(`\0\0\r\n${BROWSER}\0`);
    const outcome = readRequestHead(bytes, 4, bytes.length - 1, MAX_HEAD);
    assert.equal(outcome.kind === 'head' && outcome.head.size, BROWSER.length);
  });

  test('is written again with the same bytes but for the target', () => {
    assert.equal(
      rebuilt(acceptedRequest(BROWSER), 'http://www.example.com/a?b=c'),
      BROWSER.replace('/a?b=c', 'http://www.example.com/a?b=c'),
    );
  });

  test('keeps 8-bit bytes in its target and its values', () => {
    const every = String.fromCharCode(...Array.from({ length: 0x80 }, (_, i) => 0x80 + i));
    const text = `GET /${every} HTTP/1.1\r\nHost: a\r\nX: ${every}\r\n\r\n`;
    assert.equal(rebuilt(acceptedRequest(text)), text);
  });

  test('keeps methods that nobody has registered, and their case', () => {
    for (const method of ['QUERY', 'get', 'X', "!#$%&'*+-.^_`|~09", 'PRI']) {
      assert.equal(acceptedRequest(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`).method, method);
    }
  });

  test('that does not fit into the buffer is not written in part', () => {
    const head = acceptedRequest(BROWSER);
    const exact = Buffer.alloc(BROWSER.length + 1);
    assert.equal(writeRequestHead(head, head.target, exact, 1), exact.length);
    assert.throws(() => writeRequestHead(head, head.target, exact, 2), RangeError);
    assert.equal(exact[1], 'G'.charCodeAt(0));
  });

  test('is written with the fields that it has by then', () => {
    const head = acceptedRequest('GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nhost2: b\r\nx: 2\r\n\r\n');
    replaceField(head.fields, 'X', '3');
    replaceField(head.fields, 'Host', 'c');
    replaceField(head.fields, 'Via', '1.1 t');
    assert.equal(rebuilt(head), 'GET / HTTP/1.1\r\nHost: c\r\nX: 3\r\nhost2: b\r\nVia: 1.1 t\r\n\r\n');
  });
});

describe('RFC 9112 section 2.2: lines', () => {
  test('empty lines before the request are skipped, and counted in its size', () => {
    const text = `\r\n\r\n${BROWSER}`;
    const head = acceptedRequest(text);
    assert.equal(head.size, text.length);
    assert.equal(rebuilt(head), BROWSER);
    assert.equal(readRequest('\r\n'.repeat(MAX_EMPTY_LINES)).kind, 'incomplete');
  });

  refuses([
    ['a flood of empty lines', '\r\n'.repeat(MAX_EMPTY_LINES + 1), 400],
    ['a bare line feed before the request', `\n${BROWSER}`, 400],
    ['a bare carriage return before the request', '\rG', 400],
    ['a request line that ends with a bare line feed', 'GET / HTTP/1.1\nHost: a\n\n', 400],
    ['a field that ends with a bare line feed', 'GET / HTTP/1.1\r\nHost: a\n\r\n', 400],
    ['a head that ends with a bare line feed', 'GET / HTTP/1.1\r\nHost: a\r\n\n', 400],
    ['a bare carriage return in the request line', 'GET / HTTP/1.1\rX', 400],
    ['a bare carriage return in the target', 'GET /\r HTTP/1.1\r\n', 400],
    ['a bare carriage return in a value', withFields('X: a\rContent-Length: 5'), 400],
    ['a bare carriage return in the place of an empty line', 'GET / HTTP/1.1\r\nHost: a\r\n\rX', 400],
    ['white space before the first field', 'GET / HTTP/1.1\r\n Host: a\r\n\r\n', 400],
  ]);
});

describe('RFC 9112 sections 2.3 and 3: the request line', () => {
  refuses([
    ['a TLS handshake', '\x16\x03\x01\x02\x00\x01\x00', 400],
    ['a NUL', '\0', 400],
    ['a space before the method', ' GET / HTTP/1.1\r\n', 400],
    ['a space in the place of a method', ' / HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['a method with a colon in it', 'GE:T / HTTP/1.1\r\n', 400],
    ['a tab behind the method', 'GET\t/ HTTP/1.1\r\n', 400],
    ['a method of 65 bytes', 'M'.repeat(65), 501],
    ['two spaces behind the method', 'GET  / HTTP/1.1\r\n', 400],
    ['two spaces behind the target', 'GET /  HTTP/1.1\r\n', 400],
    ['a tab in the target', 'GET /\t HTTP/1.1\r\n', 400],
    ['a NUL in the target', 'GET /\0 HTTP/1.1\r\n', 400],
    ['a DEL in the target', 'GET /\x7f HTTP/1.1\r\n', 400],
    ['a request without a version', 'GET /\r\n', 400],
    ['a space behind the version', 'GET / HTTP/1.1 \r\n', 400],
    ['a version in lower case', 'GET / http/1.1\r\n', 400],
    ['another protocol', 'GET / ICAP/1.0\r\n', 400],
    ['a version of two digits', 'GET / HTTP/1.10\r\n', 400],
    ['a version without a minor', 'GET / HTTP/1\r\n', 400],
    ['a version that is no number', 'GET / HTTP/x.1\r\n', 400],
    ['HTTP/0.9', 'GET / HTTP/0.9\r\n', 505],
    ['HTTP/2.0', 'PRI * HTTP/2.0\r\n', 505],
  ]);

  test('HTTP/1.0 and what comes after HTTP/1.1 are read', () => {
    for (const [version, minor] of [
      ['1.0', 0],
      ['1.1', 1],
      ['1.2', 1],
      ['1.9', 1],
    ] as const) {
      assert.equal(acceptedRequest(`GET / HTTP/${version}\r\nHost: a\r\n\r\n`).minor, minor);
    }
  });

  test('a refusal comes with the first byte that deserves it', () => {
    for (const [text, status] of [
      ['\x16', 400],
      ['GET  ', 400],
      ['GET / X', 400],
      ['GET / HTTP/3', 505],
      ['GET / HTTP/1.1\n', 400],
      ['GET / HTTP/1.1\r\nHost ', 400],
      ['GET / HTTP/1.1\r\nHost: a\0', 400],
    ] as const) {
      assert.equal(readRequest(text.slice(0, -1)).kind, 'incomplete');
      assert.equal(refusedRequest(text).status, status);
    }
  });

  test('a request line of 8000 bytes passes', () => {
    assert.equal(acceptedRequest(`GET /${'a'.repeat(8000)} HTTP/1.1\r\nHost: a\r\n\r\n`).target.length, 8001);
  });
});

describe('a bound on the head', () => {
  const text = `GET /${'a'.repeat(50)} HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n`;

  test('lets a head of just that size pass', () => {
    assert.equal(readRequest(text, text.length).kind, 'head');
  });

  test('gives 431 for one byte more, also with only a part of the head there', () => {
    assert.equal(refusedRequest(text, text.length - 1).status, 431);
    assert.equal(refusedRequest(text.slice(0, 80), 80).status, 431);
    assert.equal(readRequest(text.slice(0, 79), 80).kind, 'incomplete');
  });

  test('gives 414 where the request line alone exceeds it', () => {
    for (const max of [1, 3, 4, 5, 10, 56, 61, 64]) assert.equal(refusedRequest(text, max).status, 414, `${max}`);
  });

  test('gives 431 for too many fields of any size', () => {
    const head = (count: number): string => `GET / HTTP/1.1\r\nHost: a\r\n${'a:\r\n'.repeat(count - 1)}\r\n`;
    assert.equal(acceptedRequest(head(MAX_FIELDS)).fields.length, 2 * MAX_FIELDS);
    assert.equal(refusedRequest(head(MAX_FIELDS + 1)).status, 431);
  });
});

describe('RFC 9112 section 3.2: Host', () => {
  refuses([
    ['HTTP/1.1 without Host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['HTTP/1.1 with a URL and without Host', 'GET http://a/ HTTP/1.1\r\n\r\n', 400],
    ['two Hosts', withFields('Host: b'), 400],
    ['two equal Hosts', withFields('hOST: a'), 400],
    ...[
      'a b',
      'a/b',
      'a?b',
      'a#b',
      'a@b',
      'a\\b',
      'a%2fb',
      'http://a',
      'a:b',
      'a:80:80',
      'a:65536',
      'a:0',
      'a:-1',
      ':80',
      '[::1',
      '::1',
      '[1.2.3.4]',
      '[::1]a',
      '[fe80::1%25eth0]',
      '[v1.a]',
      '\xe9xample.com',
      '<script>',
    ].map((host): Refusal => [`Host: ${host}`, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`, 400]),
  ]);

  test('hosts, addresses and ports pass as they are', () => {
    for (const host of ['a', 'A.example.', 'a_b.example:8080', '192.0.2.1', '[2001:db8::1]', '[::1]:81', 'a:', 'x:1']) {
      assert.equal(acceptedRequest(`GET / HTTP/1.1\r\nHost:${host} \t\r\n\r\n`).host, host);
    }
  });

  test('an empty Host is one, and HTTP/1.0 needs none', () => {
    assert.equal(acceptedRequest('GET / HTTP/1.1\r\nHost:\r\n\r\n').host, '');
    assert.equal(acceptedRequest('GET / HTTP/1.0\r\n\r\n').host, null);
  });
});

describe('RFC 9112 section 5: fields', () => {
  refuses([
    ['a space before the colon', withFields('X : a'), 400],
    ['a tab before the colon', withFields('X\t: a'), 400],
    ['a folded line', withFields('X: a', ' b'), 400],
    ['a line folded with a tab', withFields('X: a', '\tb'), 400],
    ['a field without a name', withFields(': a'), 400],
    ['a field without a colon', withFields('X'), 400],
    ['a space in a name', withFields('X Y: a'), 400],
    ['an 8-bit byte in a name', withFields('\xe9: a'), 400],
    ['a NUL in a name', withFields('X\0: a'), 400],
    ['a NUL in a value', withFields('X: a\0b'), 400],
    ['a control character in a value', withFields('X: a\x0bb'), 400],
    ['a DEL in a value', withFields('X: a\x7fb'), 400],
  ]);

  test('order, spelling and repetitions are kept, and white space around values is not', () => {
    const head = acceptedRequest(withFields('x-B:1', 'X-a: \t 2 3\t ', 'x-b:', '__proto__: x', 'X-B: ,'));
    assert.deepEqual(head.fields, ['Host', 'a', 'x-B', '1', 'X-a', '2 3', 'x-b', '', '__proto__', 'x', 'X-B', ',']);
  });

  test('a value of spaces only is empty, however many they are', () => {
    assert.deepEqual(acceptedRequest(withFields(`X:${' '.repeat(50_000)}`)).fields, ['Host', 'a', 'X', '']);
  });
});

describe('RFC 9112 sections 6.1 to 6.3: where a request body ends', () => {
  const bodyOf = (...lines: string[]) => acceptedRequest(withFields(...lines)).body;

  test('there is none without Content-Length and Transfer-Encoding', () => {
    assert.deepEqual(bodyOf(), { kind: 'none' });
  });

  test('it has the length that Content-Length says, up to 2^53-1', () => {
    assert.deepEqual(bodyOf('content-length: 0'), { kind: 'length', length: 0 });
    assert.deepEqual(bodyOf('CONTENT-LENGTH: 9007199254740991'), { kind: 'length', length: 2 ** 53 - 1 });
  });

  test('equal lengths become one, written plainly', () => {
    for (const lines of [
      ['Content-Length: 5', 'X: y', 'content-length: 5'],
      ['Content-Length: 5,5', 'X: y'],
      ['Content-Length: 5 ,\t05', 'X: y'],
      ['Content-Length: 0005', 'X: y'],
      ['Content-Length: 5', 'X: y', 'Content-Length: 05', 'Content-Length: 5'],
    ]) {
      const head = acceptedRequest(withFields(...lines));
      assert.deepEqual(head.body, { kind: 'length', length: 5 });
      assert.equal(rebuilt(head), withFields('Content-Length: 5', 'X: y'));
    }
  });

  test('it is chunked where Transfer-Encoding is chunked and nothing else', () => {
    assert.deepEqual(bodyOf('Transfer-Encoding: chunked'), { kind: 'chunked' });
    assert.deepEqual(bodyOf('transfer-encoding:\tCHUNKED '), { kind: 'chunked' });
  });

  refuses([
    ...[
      '+5',
      '-5',
      '5x',
      '0x5',
      '5.0',
      '5 5',
      '5;5',
      '',
      ',',
      '5,',
      '5,,5',
      '5, 6',
      '9007199254740992',
      '1e3',
      '\xb2',
    ].map((value): Refusal => [`Content-Length: ${value}`, withFields(`Content-Length: ${value}`), 400]),
    ['two differing Content-Lengths', withFields('Content-Length: 5', 'Content-Length: 6'), 400],
    ['Content-Length and Transfer-Encoding', withFields('Content-Length: 5', 'Transfer-Encoding: chunked'), 400],
    ['Transfer-Encoding and Content-Length 0', withFields('Transfer-Encoding: chunked', 'Content-Length: 0'), 400],
    ['Transfer-Encoding in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
    ...[
      '',
      'identity',
      'xchunked',
      'chunked, identity',
      'chunked, chunked',
      'chunked,',
      '"chunked"',
      'chunked\xa0',
    ].map((value): Refusal => [`Transfer-Encoding: ${value}`, withFields(`Transfer-Encoding: ${value}`), 400]),
    ['chunked;q=1', withFields('Transfer-Encoding: chunked;q=1'), 400],
    ['chunked in two fields', withFields('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'), 400],
    ['a coding beside chunked', withFields('Transfer-Encoding: gzip, chunked'), 501],
    ['a coding in a field before', withFields('Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'), 501],
    ['CONNECT with a length', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n', 400],
    ['CONNECT with chunks', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
  ]);

  test('CONNECT may say that it has no body', () => {
    acceptedRequest('CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n');
  });
});

describe('RFC 9112 section 9.3: whether another request may follow', () => {
  const keptAlive = (version: string, ...lines: string[]): boolean =>
    acceptedRequest(withFields(...lines).replace('HTTP/1.1', version)).keepAlive;

  test('it may in HTTP/1.1, unless a Connection field says close', () => {
    assert.equal(keptAlive('HTTP/1.1'), true);
    assert.equal(keptAlive('HTTP/1.1', 'Connection: closed, x-close'), true);
    assert.equal(keptAlive('HTTP/1.1', 'Connection: Close'), false);
    assert.equal(keptAlive('HTTP/1.1', 'connection: foo ,\tclose', 'Connection: keep-alive'), false);
  });

  test('it may not in HTTP/1.0, unless a Connection field says keep-alive', () => {
    assert.equal(keptAlive('HTTP/1.0'), false);
    assert.equal(keptAlive('HTTP/1.0', 'Connection: Keep-Alive'), true);
    assert.equal(keptAlive('HTTP/1.0', 'Connection: Keep-Alive, close'), false);
  });
});

describe('RFC 9110 sections 7.8 and 11: Upgrade and credentials', () => {
  const upgrade = ['Connection: keep-alive, Upgrade', 'Upgrade: websocket'];

  test('an upgrade is offered by Upgrade together with its connection option', () => {
    assert.equal(acceptedRequest(withFields(...upgrade)).upgrade, true);
    assert.equal(acceptedRequest(withFields('Upgrade: websocket')).upgrade, false);
    assert.equal(acceptedRequest(withFields('Connection: upgrade')).upgrade, false);
  });

  test('HTTP/1.0 has no upgrades', () => {
    assert.equal(acceptedRequest(withFields(...upgrade).replace('HTTP/1.1', 'HTTP/1.0')).upgrade, false);
  });

  test('credentials are those for the origin and those for a proxy, however they are spelled', () => {
    assert.equal(acceptedRequest(withFields('Authorization: Negotiate x')).credentials, true);
    assert.equal(acceptedRequest(withFields('proxy-AUTHORIZATION: Basic x')).credentials, true);
    assert.equal(acceptedRequest(withFields('Cookie: a=b', 'Cache-Control: no-cache')).credentials, false);
  });
});

describe('the first bytes of a connection', () => {
  const verdict = (text: string): string => looksLikeRequest(latin1(text), 0, text.length);

  test('look like a request from the byte on that shows it', () => {
    for (const text of [
      'GET /',
      'brew /',
      '\r\n\r\nPOST /',
      'OPTIONS * HTTP/1.',
      'GET http://a/ HTTP/1.',
      'CONNECT a:443 HTTP/1.',
    ]) {
      for (let end = 0; end < text.length; end++) assert.equal(verdict(text.slice(0, end)), 'incomplete', text);
      assert.equal(verdict(text), 'yes', text);
      assert.equal(verdict(`${text}\0`), 'yes', text);
    }
  });

  test('do not look like one where they are of another protocol', () => {
    for (const text of [
      '\x16\x03\x01',
      '\0',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n',
      'SSH-2.0-x\r\n',
      'EHLO example.com\r\n',
      'USER anonymous\r\n',
      'GET  /',
      'GET x HTTP/2',
      '{"id":1}',
      `${'a'.repeat(65)} /`,
      '\r\n'.repeat(MAX_EMPTY_LINES + 1),
    ]) {
      assert.equal(verdict(text), 'no', text);
    }
  });

  test('look like one wherever a whole request is read from them', () => {
    for (const text of [BROWSER, 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', 'get http://a HTTP/1.0\r\n\r\n']) {
      acceptedRequest(text);
      assert.equal(verdict(text), 'yes');
    }
  });
});
