import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ChunkedBody } from '../../src/protocol/http-chunked.js';
import { latin1 } from './heads.js';

/** Scans byte by byte, as if each came alone. */
const byteByByte = (body: ChunkedBody, text: string): number => {
  const bytes = latin1(text);
  let taken = 0;
  for (let i = 0; i < bytes.length; i++) taken += body.scan(bytes, i, i + 1);
  return taken;
};

const scan = (text: string, body = new ChunkedBody(400)) => {
  const bytes = latin1(text);
  return { body, taken: body.scan(bytes, 0, bytes.length) };
};

describe('RFC 9112 section 7.1: a chunked body', () => {
  const whole = [
    ['one that is empty', '0\r\n\r\n'],
    ['chunks', '5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'],
    ['sizes in any case with zeros before', `00F\r\n${'x'.repeat(15)}\r\n0f\r\n${'x'.repeat(15)}\r\n000\r\n\r\n`],
    ['data that looks like the end', '7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n'],
    ['extensions', '1;a\r\nx\r\n1 ;a=b;\tc="d;\\" \xe9"\r\nx\r\n0;e\r\n\r\n'],
    ['trailers', '0\r\nX-Sum: 1\r\nx:\r\n\r\n'],
  ] as const;

  for (const [what, text] of whole) {
    test(`with ${what} ends with its last line feed, in one piece and byte by byte`, () => {
      const { body, taken } = scan(`${text}GET /`);
      assert.equal(body.refused, null);
      assert.equal(body.done, true);
      assert.equal(taken, text.length);

      body.reset();
      assert.equal(body.done, false);
      assert.equal(byteByByte(body, `${text}GET /`), text.length);
      assert.equal(body.done, true);

      for (let end = 0; end < text.length; end++) {
        const part = scan(text.slice(0, end));
        assert.equal(part.taken, end);
        assert.equal(part.body.done, false);
        assert.equal(part.body.refused, null);
      }
    });
  }

  test('lets data pass unseen', () => {
    const { body, taken } = scan('ffff\r\nabc');
    assert.equal(taken, 9);
    assert.equal(body.unseen, 0xffff - 3);
    body.passed(0xffff - 4);
    assert.equal(body.unseen, 1);
    assert.throws(() => body.passed(2), RangeError);
    body.passed(1);
    assert.equal(scan('\r\n0\r\n\r\n', body).taken, 7);
    assert.equal(body.done, true);
  });

  test('has nothing to pass unseen between chunks', () => {
    for (const text of ['', '5', '5\r', '5\r\nhello', '5\r\nhello\r\n', '0\r\n', '5;a']) {
      assert.equal(scan(text).body.unseen, 0, JSON.stringify(text));
    }
    assert.equal(scan('5\r\n').body.unseen, 5);
  });

  test('may have long extensions at each of its chunks, and trailers behind them', () => {
    const text = `${`1;${'a'.repeat(3000)}\r\nx\r\n`.repeat(3)}0;${'a'.repeat(3000)}\r\nX: ${'y'.repeat(16_000)}\r\n\r\n`;
    assert.equal(scan(text).taken, text.length);
    const { body } = scan(text);
    body.reset();
    assert.equal(scan(text, body).taken, text.length);
    assert.equal(body.done, true);
  });

  test('may have a chunk of 2^53-1 bytes', () => {
    assert.equal(scan('1fffffffffffff\r\n').body.unseen, Number.MAX_SAFE_INTEGER);
  });

  test('takes no more bytes once it has ended or is refused', () => {
    const { body } = scan('0\r\n\r\n');
    assert.equal(scan('0\r\n\r\n', body).taken, 0);
    const { body: refused } = scan('x');
    assert.equal(scan('0\r\n\r\n', refused).taken, 0);
    refused.reset();
    assert.equal(refused.refused, null);
    assert.equal(scan('0\r\n\r\n', refused).taken, 5);
  });

  /** Everything before the mark is taken, the byte behind it is refused. */
  const MARK = '\u00a6';
  const refused = [
    ['no size', `${MARK}\r\n`],
    ['white space before the size', `${MARK} 5\r\n`],
    ['a sign', `${MARK}+5\r\n`],
    ['a negative size', `${MARK}-1\r\n`],
    ['a size with 0x', `0${MARK}x3\r\n`],
    ['a size with other letters behind it', `3${MARK}zz\r\n`],
    ['a size with white space behind it', `3 \t${MARK}\r\n`],
    ['a size with a digit behind white space', `3 ${MARK}3\r\n`],
    ['a size with an underscore', `1${MARK}_0\r\n`],
    ['a size of 2^53', `2000000000000${MARK}0\r\n`],
    ['a size that 64 bits hold', `${'f'.repeat(13)}${MARK}f\r\n`],
    ['a size of too many zeros', `${'0'.repeat(16)}${MARK}5\r\n`],
    ['a bare line feed behind the size', `5${MARK}\nhello`],
    ['a bare carriage return behind the size', `5\r${MARK}hello`],
    ['a bare line feed in an extension', `5;a${MARK}\nhello`],
    ['a bare carriage return in an extension', `5;a\r${MARK}b\r\n`],
    ['a NUL in an extension', `5;${MARK}\0\r\n`],
    ['endless extensions', `5;${'a'.repeat(4096)}${MARK}a`],
    ['endless white space', `5 ${' '.repeat(4096)}${MARK} `],
    ['data longer than its size', `3\r\nabc${MARK}d\r\n`],
    ['data that ends with a bare line feed', `3\r\nabc${MARK}\n`],
    ['data that ends with a bare carriage return', `3\r\nabc\r${MARK}0\r\n\r\n`],
    ['a bare line feed as the last line', `0\r\n${MARK}\n`],
    ['a bare carriage return as the last line', `0\r\n\r${MARK}X`],
    ['a trailer without a colon', `0\r\nX${MARK}\r\n`],
    ['a trailer without a name', `0\r\n${MARK}: a\r\n`],
    ['a trailer with a space before its colon', `0\r\nX${MARK} : a\r\n`],
    ['a folded trailer', `0\r\nX: a\r\n${MARK} b\r\n`],
    ['a trailer that ends with a bare line feed', `0\r\nX: a${MARK}\n`],
    ['a trailer with a bare carriage return', `0\r\nX: a\r${MARK}b\r\n`],
    ['a trailer with a NUL', `0\r\nX: ${MARK}\0\r\n`],
    ['Content-Length as a trailer', `0\r\ncontent-length${MARK}: 5\r\n`],
    ['Content-Length as a second trailer', `0\r\nX: y\r\nContent-Length${MARK}: 5\r\n`],
    ['Transfer-Encoding as a trailer', `0\r\nTransfer-Encoding${MARK}: chunked\r\n`],
    ['Host as a trailer', `0\r\nHOST${MARK}: a\r\n`],
    ['endless trailers', `0\r\n${'X:y\r\n'.repeat(5461)}X${MARK}:`],
  ] as const;

  for (const [what, marked] of refused) {
    test(`is refused at the byte that shows ${what}, in one piece and byte by byte`, () => {
      const text = marked.replace(MARK, '');
      const valid = marked.indexOf(MARK);
      const { body, taken } = scan(text);
      assert.equal(body.refused?.status, 400);
      assert.match(body.refused?.reason ?? '', /^[A-Z].*\.$/i);
      assert.equal(taken, valid);
      assert.equal(body.done, false);
      assert.equal(body.unseen, 0);
      const other = new ChunkedBody(502);
      assert.equal(byteByByte(other, text), valid);
      assert.equal(other.refused?.status, 502);
    });
  }
});
