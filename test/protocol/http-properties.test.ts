import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ChunkedBody } from '../../src/protocol/http-chunked.js';
import { looksLikeRequest, readRequestHead } from '../../src/protocol/http-request.js';
import { readResponseHead } from '../../src/protocol/http-response.js';
import { absoluteTarget } from '../../src/protocol/http-target.js';
import { mutated, response, stream } from './arbitraries.js';
import { followRequests, readResponseIn } from './follow.js';
import { latin1 } from './heads.js';

const pieces = (bytes: string, cuts: readonly number[]): Buffer[] => {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...places, bytes.length].map((place, i) => latin1(bytes.slice(places[i - 1] ?? 0, place)));
};

const cuts = fc.array(fc.nat(), { maxLength: 6 });

describe('however a stream of bytes is cut', () => {
  test('the same requests are read from it, or it is refused for the same reason', () => {
    fc.assert(
      fc.property(mutated(stream), cuts, (bytes, places) => {
        assert.deepEqual(followRequests(pieces(bytes, places)), followRequests([latin1(bytes)]));
      }),
      { numRuns: 3000 },
    );
  });

  test('the same requests are read from single bytes', () => {
    fc.assert(
      fc.property(mutated(stream), (bytes) => {
        const single = [...bytes].map((byte) => latin1(byte));
        assert.deepEqual(followRequests(single), followRequests([latin1(bytes)]));
      }),
      { numRuns: 300 },
    );
  });

  test('the same bound holds', () => {
    fc.assert(
      fc.property(mutated(stream), cuts, fc.integer({ min: 1, max: 300 }), (bytes, places, max) => {
        assert.deepEqual(followRequests(pieces(bytes, places), max), followRequests([latin1(bytes)], max));
      }),
      { numRuns: 1000 },
    );
  });

  test('the same response head is read from it', () => {
    fc.assert(
      fc.property(mutated(response), cuts, fc.constantFrom('GET', 'HEAD', 'CONNECT'), (bytes, places, verb) => {
        assert.equal(readResponseIn(pieces(bytes, places), verb), readResponseIn([latin1(bytes)], verb));
      }),
      { numRuns: 3000 },
    );
  });
});

test('any bytes at all are read without an exception', () => {
  const original = { ip: '2001:db8::1', port: 8080 };
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
    mutated(stream).map(latin1),
    mutated(response).map(latin1),
  );
  fc.assert(
    fc.property(bytes, fc.integer({ min: 1, max: 400 }), (b, max) => {
      looksLikeRequest(b, 0, b.length);
      const outcome = readRequestHead(b, 0, b.length, max);
      if (outcome.kind === 'head') absoluteTarget(outcome.head, original);
      readResponseHead(b, 0, b.length, max, 'GET');
      const taken = new ChunkedBody(400).scan(b, 0, b.length);
      assert.ok(taken >= 0 && taken <= b.length);
    }),
    { numRuns: 5000 },
  );
});
