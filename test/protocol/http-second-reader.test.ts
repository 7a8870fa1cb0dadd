import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { RequestHead } from '../../src/protocol/http.js';
import { readRequestHead } from '../../src/protocol/http-request.js';
import { mutated, stream } from './arbitraries.js';
import { latin1, MAX_HEAD } from './heads.js';
import { parseRequest } from './second-reader.js';

/** The fields but for Content-Length, which our reader makes one field with one number. */
const withoutLength = (fields: readonly string[]): string[] =>
  fields.flatMap((name, i) =>
    i % 2 === 0 && name.toLowerCase() !== 'content-length' ? [name, fields[i + 1] as string] : [],
  );

const lengthOf = ({ body }: RequestHead): number | null => (body.kind === 'length' ? body.length : null);

const agree = (text: string): boolean => {
  const bytes = latin1(text);
  const outcome = readRequestHead(bytes, 0, bytes.length, MAX_HEAD);
  if (outcome.kind !== 'head') return false;
  const { head } = outcome;
  const line = text.search(/[^\r\n]/);
  const repeated = (text.slice(0, head.size).match(/^content-length[ \t]*:/gim) ?? []).length > 1;
  const parsed = parseRequest(bytes, line + head.method.length, head.size);
  // It refuses several Content-Length also where they say the same (RFC 9110 section 8.6 allows both).
  if (parsed === null && repeated) return true;
  assert.ok(parsed !== null, JSON.stringify(text.slice(0, head.size)));
  assert.equal(parsed.url, head.target);
  assert.equal(parsed.versionMinor, head.minor);
  assert.deepEqual(withoutLength(parsed.headers), withoutLength(head.fields));
  const lengths = parsed.headers.filter((_, i) => i % 2 === 1 && /^content-length$/i.test(parsed.headers[i - 1] ?? ''));
  if (lengths.length > 0 && !lengths.some((length) => length.includes(','))) {
    assert.equal(Number(lengths[0]), lengthOf(head));
  }
  return true;
};

describe('http-parser-js', () => {
  test('reads the same target, version and fields from every request head that we accept', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof(stream, mutated(stream)), (text) => {
        if (agree(text)) accepted++;
      }),
      { numRuns: 3000 },
    );
    assert.ok(accepted > 1000, `${accepted} heads were accepted`);
  });

  test('reads the same from heads that are odd and accepted', () => {
    for (const text of [
      '\r\n\r\nGET / HTTP/1.1\r\nHost:a\r\n\r\n',
      'GET / HTTP/1.0\r\n\r\n',
      'X-Y / HTTP/1.1\r\nHost: a\r\nA:\r\nB: \t \r\nC:  x \t y\t\r\n\r\n',
      'GET /\xff\x80 HTTP/1.1\r\nHost: a\r\nX: \xa0\x85\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\n!#$%: a\r\na: a\r\nA: b\r\n\r\n',
    ]) {
      assert.ok(agree(text), text);
    }
  });
});
