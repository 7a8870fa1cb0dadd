import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MAX_EMPTY_LINES, MAX_FIELDS } from '../../src/protocol/http.js';
import { readResponseHead } from '../../src/protocol/http-response.js';
import { acceptedResponse, latin1, MAX_HEAD, readResponse, refusedResponse } from './heads.js';

const withFields = (...lines: string[]): string =>
  `HTTP/1.1 200 OK\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;

const SQUID = withFields('Server: nginx/1.22.1', 'Content-Length: 12', 'X-Cache: HIT from a', 'Connection: keep-alive');

type Refusal = readonly [what: string, response: string];

const refuses = (rows: readonly Refusal[]): void => {
  for (const [what, response] of rows) {
    test(`${what} gets 502`, () => {
      const { status, reason } = refusedResponse(response);
      assert.equal(status, 502, reason);
      assert.match(reason, /^[A-Z].*\.$/);
    });
  }
};

describe('a response head', () => {
  test('is read with its status, version, body and size', () => {
    assert.deepEqual(acceptedResponse(`${SQUID}Hello`), {
      status: 200,
      minor: 1,
      body: { kind: 'length', length: 12 },
      keepAlive: true,
      size: SQUID.length,
    });
  });

  test('is incomplete until its last byte', () => {
    const bytes = latin1(SQUID);
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(readResponseHead(bytes, 0, end, MAX_HEAD, 'GET').kind, 'incomplete', `after ${end} bytes`);
    }
  });

  test('of 60 KB passes, and beyond its bound it gets 502', () => {
    const text = withFields(`X: ${'a'.repeat(60_000)}`);
    acceptedResponse(text);
    assert.equal(refusedResponse(text, 'GET', text.length - 1).status, 502);
    assert.equal(refusedResponse(text.slice(0, 80), 'GET', 80).status, 502);
    assert.equal(readResponse(text.slice(0, 79), 'GET', 80).kind, 'incomplete');
    assert.equal(readResponse(text, 'GET', text.length).kind, 'head');
  });

  test('may be one of a thousand fields, and not of more', () => {
    acceptedResponse(withFields(...Array<string>(MAX_FIELDS).fill('a:')));
    refusedResponse(withFields(...Array<string>(MAX_FIELDS + 1).fill('a:')));
  });

  test('may have 8-bit bytes in its values', () => {
    acceptedResponse(withFields('X: \x80\xa0\xff'));
  });
});

describe('RFC 9112 section 4: the status line', () => {
  test('may have no reason, any reason, and come after empty lines', () => {
    for (const line of [
      'HTTP/1.1 404 ',
      'HTTP/1.1 404',
      'HTTP/1.0 404 \xe9\x01 \t',
      'HTTP/1.7 404 a',
      '\r\n\nHTTP/1.1 404',
    ]) {
      assert.equal(acceptedResponse(`${line}\r\n\r\n`).status, 404);
    }
  });

  refuses([
    ['an answer without a head (HTTP/0.9)', '<html>'],
    ['another protocol', 'ICY 200 OK\r\n\r\n'],
    ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
    ['a version of two digits', 'HTTP/1.11 200\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20\r\n\r\n'],
    ['a status of four digits', 'HTTP/1.1 2000\r\n\r\n'],
    ['a status that is no number', 'HTTP/1.1 OK\r\n\r\n'],
    ['a status below 100', 'HTTP/1.1 099\r\n\r\n'],
    ['two spaces before the status', 'HTTP/1.1  200\r\n\r\n'],
    ['a NUL in the reason', 'HTTP/1.1 200 \0\r\n\r\n'],
    ['a bare carriage return in the reason', 'HTTP/1.1 200 O\rK\r\n\r\n'],
    ['a flood of empty lines', '\n'.repeat(MAX_EMPTY_LINES + 1)],
  ]);
});

describe('RFC 9112 sections 2.2 and 5: lenient reading', () => {
  test('bare line feeds end lines', () => {
    const text = 'HTTP/1.0 200 OK\nContent-Length: 5\nX: y\n\n';
    const head = acceptedResponse(`${text}hello`);
    assert.deepEqual(head.body, { kind: 'length', length: 5 });
    assert.equal(head.size, text.length);
    assert.equal(acceptedResponse('HTTP/1.1 200 OK\r\nA: b\n\r\n').size, 24);
  });

  test('lines that are no proper fields pass where they say nothing of the length', () => {
    const head = acceptedResponse(
      withFields('X: a', ' b', '\tc', 'Server : old', 'no colon', 'a b: c', 'x@y: z', ': d'),
    );
    assert.deepEqual(head.body, { kind: 'until-close' });
    acceptedResponse(withFields('Access-Control-Expose-Headers: X,', ' Content-Length'));
  });

  refuses([
    ['a space before the colon of Content-Length', withFields('Content-Length : 5')],
    ['a tab before the colon of Transfer-Encoding', withFields('Transfer-Encoding\t: chunked')],
    ['a control character behind the name of Content-Length', withFields('Content-Length\x0b: 5')],
    ['a control character before the name of Content-Length', withFields('\x0cContent-Length: 5')],
    ['a folded Content-Length', withFields('Content-Length: 5', ' 6')],
    ['a Content-Length on a line of its own', withFields('Content-Length:', ' 5')],
    ['a Transfer-Encoding folded twice', withFields('Transfer-Encoding: gzip,', ' x,', '\tchunked')],
    ['a Content-Length in a folded line', withFields('X: y', ' Content-Length: 5')],
    ['white space before the first field', withFields(' X: y')],
    ['a line of white space', withFields('X: y', ' \t')],
    ['a NUL in a field', withFields('X: \0')],
    ['a bare carriage return in a field', withFields('X: a\rContent-Length: 5')],
  ]);

  test('a long line of white space is refused without long thought', () => {
    assert.equal(refusedResponse(withFields('X: y', ' '.repeat(65_000)), 'GET', 2 * MAX_HEAD).status, 502);
  });
});

describe('RFC 9112 section 6.3: where a response body ends', () => {
  const bodyOf = (text: string, method = 'GET') => acceptedResponse(text, method).body;
  const status = (code: number, ...lines: string[]): string => withFields(...lines).replace('200', String(code));
  const none = { kind: 'none' };

  test('item 1: there is none for HEAD, 1xx, 204 and 304, whatever the fields say', () => {
    for (const line of ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Content-Length: x']) {
      assert.deepEqual(bodyOf(status(200, line), 'HEAD'), none);
      for (const code of [100, 101, 103, 199, 204, 304]) assert.deepEqual(bodyOf(status(code, line)), none);
    }
    assert.deepEqual(bodyOf(status(205, 'Content-Length: 5')), { kind: 'length', length: 5 });
  });

  test('item 2: there is none for 2xx to CONNECT, but for what refuses it', () => {
    assert.deepEqual(bodyOf(status(200, 'Content-Length: 5'), 'CONNECT'), none);
    assert.deepEqual(bodyOf(status(299, 'Transfer-Encoding: chunked'), 'CONNECT'), none);
    assert.deepEqual(bodyOf(status(403, 'Content-Length: 5'), 'CONNECT'), { kind: 'length', length: 5 });
  });

  test('items 3 and 4: chunked as the last coding rules, another one means until the connection closes', () => {
    assert.deepEqual(bodyOf(withFields('Transfer-Encoding: Chunked')), { kind: 'chunked' });
    assert.deepEqual(bodyOf(withFields('Transfer-Encoding: gzip, chunked')), { kind: 'chunked' });
    assert.deepEqual(bodyOf(withFields('Transfer-Encoding: gzip', 'Transfer-Encoding: chunked')), { kind: 'chunked' });
    for (const codings of ['gzip', 'chunked, gzip', 'identity', 'xchunked', 'chunked\xa0', '']) {
      assert.deepEqual(bodyOf(withFields(`Transfer-Encoding: ${codings}`)), { kind: 'until-close' });
    }
  });

  test('item 3: with both, Transfer-Encoding rules and the connection ends', () => {
    const head = acceptedResponse(withFields('Content-Length: 5', 'Transfer-Encoding: chunked'));
    assert.deepEqual(head.body, { kind: 'chunked' });
    assert.equal(head.keepAlive, false);
  });

  test('section 6.1: Transfer-Encoding in HTTP/1.0 means until the connection closes', () => {
    const text = withFields('Transfer-Encoding: chunked', 'Connection: keep-alive').replace('HTTP/1.1', 'HTTP/1.0');
    assert.deepEqual(bodyOf(text), { kind: 'until-close' });
    assert.equal(acceptedResponse(text).keepAlive, false);
  });

  test('item 5: equal lengths are one', () => {
    assert.deepEqual(bodyOf(withFields('Content-Length: 5, 5')), { kind: 'length', length: 5 });
    assert.deepEqual(bodyOf(withFields('Content-Length: 5', 'content-length: 05')), { kind: 'length', length: 5 });
  });

  refuses([
    ...['+5', '-1', '5x', '0x5', '', '5,', '5, 6', '9007199254740992', '5 5', '5;'].map(
      (value): Refusal => [`Content-Length: ${value}`, withFields(`Content-Length: ${value}`)],
    ),
    ['two differing Content-Lengths', withFields('Content-Length: 5', 'Content-Length: 6')],
    ['chunked twice', withFields('Transfer-Encoding: chunked, chunked')],
  ]);

  test('item 8: without any of these it ends with the connection', () => {
    assert.deepEqual(bodyOf(withFields()), { kind: 'until-close' });
    assert.equal(acceptedResponse(withFields('Connection: keep-alive')).keepAlive, false);
  });

  test('section 9.3: the connection persists as the version and Connection say', () => {
    const keptAlive = (version: string, ...lines: string[]): boolean =>
      acceptedResponse(withFields('Content-Length: 5', ...lines).replace('HTTP/1.1', version)).keepAlive;
    assert.equal(keptAlive('HTTP/1.1'), true);
    assert.equal(keptAlive('HTTP/1.1', 'Connection: CLOSE'), false);
    assert.equal(keptAlive('HTTP/1.0'), false);
    assert.equal(keptAlive('HTTP/1.0', 'Connection: keep-alive'), true);
  });
});
