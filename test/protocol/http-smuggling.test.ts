import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { followRequests } from './follow.js';
import { latin1 } from './heads.js';

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';

const post = (...lines: string[]): string =>
  `POST / HTTP/1.1\r\nHost: a\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;

const chunked = 'Transfer-Encoding: chunked';
const sized = `Content-Length: ${SMUGGLED.length}`;

/** Requests that two readers have been known to end in different places, each with a second one in what one takes for a body. */
const REFUSED: readonly (readonly [what: string, stream: string, status?: number])[] = [
  ['a length before chunks (CL.TE)', `${post('Content-Length: 6', chunked)}0\r\n\r\n${SMUGGLED}`],
  ['chunks before a length (TE.CL)', `${post(chunked, 'Content-Length: 4')}0\r\n\r\n${SMUGGLED}`],
  ['a length of nothing beside chunks (TE.0)', `${post('Content-Length: 0', chunked)}0\r\n\r\n${SMUGGLED}`],
  ['a second coding that nobody knows', post(chunked, 'Transfer-Encoding: cow') + SMUGGLED],
  ['a coding that contains chunked', post('Transfer-Encoding: xchunked', sized) + SMUGGLED],
  ['a quoted coding', post('Transfer-Encoding: "chunked"') + SMUGGLED],
  ['a coding behind a vertical tab', post('Transfer-Encoding: \x0bchunked') + SMUGGLED],
  ['a coding before a form feed', post('Transfer-Encoding: chunked\x0c') + SMUGGLED],
  ['a coding before a no-break space', post('Transfer-Encoding: chunked\xa0') + SMUGGLED],
  ['a coding before a NUL', post('Transfer-Encoding: chunked\0') + SMUGGLED],
  ['identity behind chunked', post('Transfer-Encoding: chunked, identity') + SMUGGLED],
  ['identity before chunked', post('Transfer-Encoding: identity, chunked') + SMUGGLED, 501],
  ['an empty coding', post('Transfer-Encoding:', sized) + SMUGGLED],
  ['a space before the colon', post('Transfer-Encoding : chunked', sized) + SMUGGLED],
  ['a space before the name', post('X: y', ' Transfer-Encoding: chunked', sized) + SMUGGLED],
  ['a folded coding', post('Transfer-Encoding:', ' chunked', sized) + SMUGGLED],
  ['a colon on a line of its own', post('Transfer-Encoding', ' : chunked', sized) + SMUGGLED],
  ['a field behind a bare line feed', post('X: y\nTransfer-Encoding: chunked', sized) + SMUGGLED],
  ['a field behind a bare carriage return', post('X: y\rTransfer-Encoding: chunked', sized) + SMUGGLED],
  ['a field behind two carriage returns', post('X: y\r', chunked, sized) + SMUGGLED],
  ['a NUL in a name', post('Transfer-\0Encoding: chunked', sized) + SMUGGLED],
  ['a non-breaking name', post('Transfer-Encoding\xa0: chunked', sized) + SMUGGLED],
  ['chunks in HTTP/1.0', `${post(chunked).replace('HTTP/1.1', 'HTTP/1.0')}0\r\n\r\n${SMUGGLED}`],
  ['two lengths', post('Content-Length: 0', sized) + SMUGGLED],
  ['two lengths in one field', post(`Content-Length: 0, ${SMUGGLED.length}`) + SMUGGLED],
  ['a length with a sign', post(`Content-Length: +${SMUGGLED.length}`) + SMUGGLED],
  ['a length in hexadecimal', post('Content-Length: 0x24') + SMUGGLED],
  ['a length with a fraction', post('Content-Length: 36.0') + SMUGGLED],
  ['a length with something behind it', post('Content-Length: 36x') + SMUGGLED],
  ['a length of 2^64', post('Content-Length: 18446744073709551616') + SMUGGLED],
  ['a length behind a space in its name', post('Content Length: 36', sized) + SMUGGLED],
  ['a line without a colon', post('Content-Length 36', sized) + SMUGGLED],
  ['a second Host', `GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`],
  ['a second Host on a folded line', `GET / HTTP/1.1\r\nHost: a\r\n Host: b\r\n\r\n`],
  ['a Host with two names', `GET / HTTP/1.1\r\nHost: a b\r\n\r\n`],
  ['a Host with a path', `GET / HTTP/1.1\r\nHost: a/b?\r\n\r\n`],
  ['a Host with a user', `GET / HTTP/1.1\r\nHost: a@b\r\n\r\n`],
  ['a target with two parts', `GET / /b HTTP/1.1\r\nHost: a\r\n\r\n`],
  ['a request line with two versions', `GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n`],
  ['a line feed before the version', `GET /\n HTTP/1.1\r\nHost: a\r\n\r\n`],
  ['a body behind CONNECT', `CONNECT a:1 HTTP/1.1\r\nHost: a\r\n${sized}\r\n\r\n${SMUGGLED}`],
];

const CHUNKS_REFUSED: readonly (readonly [what: string, body: string])[] = [
  ['a size with a sign', `+0\r\n\r\n${SMUGGLED}`],
  ['a negative size', `-1\r\n\r\n${SMUGGLED}`],
  ['a size with 0x', `0x0\r\n\r\n${SMUGGLED}`],
  ['a size with other letters', `0zz\r\n\r\n${SMUGGLED}`],
  ['a size that wraps in 32 bits', `100000000000000000\r\n\r\n${SMUGGLED}`],
  ['a size behind white space', ` 0\r\n\r\n${SMUGGLED}`],
  ['a size before white space', `0 \r\n\r\n${SMUGGLED}`],
  ['a size line that ends with a bare line feed', `0\n\n${SMUGGLED}`],
  ['an extension that ends with a bare line feed', `1;\nx\r\n0\r\n\r\n${SMUGGLED}`],
  ['an extension with a bare carriage return', `1;\rx\r\n0\r\n\r\n${SMUGGLED}`],
  ['data that ends with a bare line feed', `1\r\nx\n0\r\n\r\n${SMUGGLED}`],
  ['data that ends with any two bytes', `1\r\nxyz0\r\n\r\n${SMUGGLED}`],
  ['no end of its data', `1\r\nx0\r\n\r\n${SMUGGLED}`],
  ['an end with a bare line feed', `0\r\n\n${SMUGGLED}`],
  ['a request where the trailers should be', `0\r\n${SMUGGLED}`],
  ['a length among its trailers', `0\r\nContent-Length: 36\r\n\r\n${SMUGGLED}`],
];

describe('a request that two readers could end in different places', () => {
  for (const [what, stream, status = 400] of REFUSED) {
    test(`is refused before an upstream sees a byte of it: ${what}`, () => {
      const followed = followRequests([latin1(stream)]);
      assert.equal(followed.refused, status);
      assert.deepEqual(followed.messages, []);
      assert.equal(followed.rest, '');
    });
  }

  for (const [what, body] of CHUNKS_REFUSED) {
    test(`is refused before its body seems to end: ${what}`, () => {
      const followed = followRequests([latin1(post(chunked) + body)]);
      assert.equal(followed.refused, 400);
      assert.deepEqual(followed.messages, []);
      assert.doesNotMatch(followed.rest, /\r\n\r\n.*\r\n\r\n/s);
      assert.doesNotMatch(followed.rest, /\/smuggled HTTP/);
    });
  }
});

describe('a request that could be misread', () => {
  test('gets one plain Content-Length', () => {
    const lines = ['content-length: 0000036', 'X: y', 'Content-Length: 36, 36'].map((l) =>
      l.replaceAll('36', `${SMUGGLED.length}`),
    );
    const [message, next] = followRequests([latin1(post(...lines) + SMUGGLED + SMUGGLED)]).messages;
    assert.equal(
      message?.written,
      `POST http://a/ HTTP/1.1\r\nHost: a\r\ncontent-length: ${SMUGGLED.length}\r\nX: y\r\n\r\n`,
    );
    assert.equal(message?.content, SMUGGLED);
    assert.equal(next?.target, 'http://a/smuggled');
  });

  test('keeps an 8-bit byte that would be a line feed in seven bits', () => {
    const stream = 'GET /x\x8aEvil:1\x8d\x8a HTTP/1.1\r\nHost: a\r\nX: \x8aEvil: 1\x8d\x8a\r\n\r\n';
    const { messages } = followRequests([latin1(stream)]);
    assert.equal(messages.length, 1);
    assert.equal(messages[0]?.written, stream.replace('/x', 'http://a/x'));
  });

  test('has its body skipped whatever its method is', () => {
    const stream = post(sized).replace('POST', 'GET') + SMUGGLED + post().replace('POST', 'GET');
    const { messages } = followRequests([latin1(stream)]);
    assert.deepEqual(
      messages.map(({ target }) => target),
      ['http://a/', 'http://a/'],
    );
  });

  test('does not get a length from fields whose names only resemble one', () => {
    const stream = post('Content_Length: 36', 'X-Content-Length: 36', 'Transfer_Encoding: chunked') + SMUGGLED;
    assert.equal(followRequests([latin1(stream)]).messages.length, 2);
  });
});
