import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Shaper } from '../../src/data/shaper.js';
import type { Shaping } from '../../src/plan.js';

const SCRATCH = 32 * 1024;
/** What may pass beyond its own time, in milliseconds: a slice and the slack. */
const BURST = 40;

const shaperOf = (shaping: Partial<Shaping>, now = 0, random?: () => number): Shaper =>
  new Shaper(
    { toClient: true, toUpstream: true, maxBandwidth: null, randomWait: 0, bufferSize: null, ...shaping },
    now,
    { run: () => {} },
    random,
  );

/** Bytes that went out, with their times. */
type Passed = readonly { readonly at: number; readonly bytes: number }[];

interface Line {
  /** Of a pump's read, at most. */
  readonly mostOfRead: number;
  /** How late a timer is, in milliseconds. */
  readonly late: () => number;
  readonly from?: number;
}

/** A sender that always has more, through a shaper that is waited for exactly as a pump does, up to time `until`. */
const pass = (shaper: Shaper, until: number, { mostOfRead, late, from = 0 }: Line): Passed => {
  const passed: { at: number; bytes: number }[] = [];
  for (let now = from; now < until; ) {
    const bytes = Math.min(shaper.allowance(now), mostOfRead);
    if (bytes > 0) {
      shaper.took(bytes, false);
      passed.push({ at: now, bytes });
    } else {
      // The loop's waits are whole milliseconds.
      now = Math.max(Math.ceil(shaper.deadline), now + 0.01) + late();
    }
  }
  return passed;
};

const total = (passed: Passed, from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY): number =>
  passed.reduce((sum, { at, bytes }) => sum + (at >= from && at < to ? bytes : 0), 0);

const PUNCTUAL = { mostOfRead: 1024 * 1024, late: () => 0 };

const rates = fc.oneof(
  fc.integer({ min: 300, max: 100_000 }),
  fc.integer({ min: 100_000, max: 100_000_000 }),
  fc.integer({ min: 100_000_000, max: 10_000_000_000 }),
);

describe('bandwidth', () => {
  test('is met over any ten seconds, at 300 bit/s as at 10 Gbit/s, however much a read takes and with late timers', () => {
    fc.assert(
      fc.property(
        rates,
        fc.constantFrom(1460, SCRATCH, 1024 * 1024),
        fc.integer(),
        (maxBandwidth, mostOfRead, seed) => {
          // Small reads of a large rate would only make the test long.
          fc.pre(maxBandwidth / mostOfRead < 1e6);
          let state = seed >>> 0;
          const late = (): number => {
            state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
            return (state / 2 ** 32) * 15;
          };
          const passed = pass(shaperOf({ maxBandwidth }), 10_000, { mostOfRead, late });
          const expected = (maxBandwidth / 8) * 10;
          const deviation = total(passed) / expected - 1;
          assert.ok(Math.abs(deviation) < 0.01, `${maxBandwidth} bit/s: ${(100 * deviation).toFixed(2)} %`);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('passes no more over any stretch of time than its own and a burst of 40 ms', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 8000, max: 100_000_000 }),
        fc.array(fc.tuple(fc.double({ min: 0, max: 300, noNaN: true }), fc.integer({ min: 0, max: 200_000 })), {
          minLength: 1,
          maxLength: 60,
        }),
        (maxBandwidth, arrivals) => {
          // A sender that says something now and then, and a pump that tries at any time.
          const shaper = shaperOf({ maxBandwidth });
          const passed: { at: number; bytes: number }[] = [];
          let now = 0;
          let waiting = 0;
          for (const [gap, bytes] of arrivals) {
            now += gap;
            waiting += bytes;
            while (waiting > 0) {
              const some = Math.min(shaper.allowance(now), waiting, SCRATCH);
              if (some === 0) break;
              waiting -= some;
              shaper.took(some, waiting === 0);
              passed.push({ at: now, bytes: some });
            }
          }
          const perMs = maxBandwidth / 8000;
          for (const { at: from } of passed) {
            for (const { at: to } of passed) {
              if (to < from) continue;
              const bytes = total(passed, from, to + 1e-9);
              assert.ok(bytes <= (to - from + BURST) * perMs + 1, `${bytes} bytes in ${to - from} ms`);
            }
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  test('is met within 5 % over every single second behind the first slice', () => {
    for (const maxBandwidth of [30_000, 800_000, 80_000_000]) {
      const passed = pass(shaperOf({ maxBandwidth }), 5000, PUNCTUAL);
      for (let from = 50; from <= 4000; from += 37) {
        const deviation = total(passed, from, from + 1000) / (maxBandwidth / 8) - 1;
        assert.ok(Math.abs(deviation) < 0.05, `${maxBandwidth} bit/s from ${from} ms on: ${deviation}`);
      }
    }
  });

  test('that was not used is lost: an hour of silence lets no more pass at once than the first moment does', () => {
    const first = shaperOf({ maxBandwidth: 8_000_000 }).allowance(0);
    assert.equal(first, BURST * 1000);
    const shaper = shaperOf({ maxBandwidth: 8_000_000 });
    assert.equal(shaper.allowance(3_600_000), first);
    shaper.took(first, true);
    assert.equal(shaper.allowance(3_600_000), 0);
    assert.equal(shaper.deadline, 3_600_020);
  });

  test('waits until 20 ms of it have gathered, so that bytes go by the packet and not one by one', () => {
    const shaper = shaperOf({ maxBandwidth: 8_000_000 });
    assert.equal(shaper.allowance(0), 40_000);
    shaper.took(40_000, false);
    assert.equal(shaper.allowance(0), 0);
    assert.equal(shaper.allowance(19.9), 0, 'a run before its time gets nothing');
    assert.equal(shaper.allowance(20), 20_000);
    shaper.took(15_000, true);
    assert.equal(shaper.allowance(20), 5000, 'what the sender did not have is left');
  });

  test('of less than a byte in 20 ms passes one byte at a time', () => {
    const shaper = shaperOf({ maxBandwidth: 300 });
    assert.equal(shaper.allowance(0), 1);
    const passed = pass(shaper, 60_000, PUNCTUAL);
    assert.ok(passed.every(({ bytes }) => bytes === 1));
    const bytes = total(passed);
    assert.ok(bytes >= 2250 && bytes <= 2252, `${bytes} bytes in a minute`);
  });

  test('that is given holds nothing of a direction where none is given', () => {
    assert.equal(shaperOf({}).allowance(0), Number.POSITIVE_INFINITY);
    const shaper = shaperOf({ bufferSize: 1000 });
    for (let i = 0; i < 10; i++) {
      assert.equal(shaper.allowance(7), 1000);
      shaper.took(1000, false);
    }
  });
});

describe('a random wait', () => {
  test('is evenly spread from 0 to twice the time', () => {
    const waits: number[] = [];
    const shaper = shaperOf({ randomWait: 50, bufferSize: 100 });
    for (let i = 0, now = 0; i < 4000; i++) {
      assert.equal(shaper.allowance(now), 0);
      waits.push(shaper.deadline - now);
      now = shaper.deadline;
      assert.equal(shaper.allowance(now), 100);
      shaper.took(100, false);
    }
    assert.ok(Math.min(...waits) >= 0 && Math.max(...waits) < 100);
    for (let from = 0; from < 100; from += 10) {
      const share = waits.filter((wait) => wait >= from && wait < from + 10).length / waits.length;
      // Eleven standard deviations.
      assert.ok(Math.abs(share - 0.1) < 0.052, `${from}–${from + 10} ms: ${share}`);
    }
  });

  test('comes before each piece, which is over when the sender has no more, or when it has its size', () => {
    const shaper = shaperOf({ randomWait: 50, bufferSize: 100 }, 0, () => 0.25);
    assert.equal(shaper.allowance(0), 0);
    assert.equal(shaper.deadline, 25);
    assert.equal(shaper.allowance(24), 0);
    assert.equal(shaper.allowance(25), 100);
    shaper.took(60, false);
    assert.equal(shaper.allowance(25), 40, 'the same piece');
    shaper.took(10, true);
    assert.equal(shaper.allowance(30), 0, 'another piece');
    assert.equal(shaper.deadline, 55);
    assert.equal(shaper.allowance(55), 100);
    shaper.took(100, false);
    assert.equal(shaper.allowance(55), 0, 'and another');
    assert.equal(shaper.deadline, 80);
  });

  test('that comes out as nothing is none', () => {
    const shaper = shaperOf({ randomWait: 50 }, 0, () => 0);
    assert.equal(shaper.allowance(0), SCRATCH);
    shaper.took(SCRATCH, false);
    assert.equal(shaper.allowance(0), SCRATCH);
  });

  test('does not come again for each slice of a piece that the bandwidth cuts', () => {
    const shaper = shaperOf({ maxBandwidth: 80_000, randomWait: 100, bufferSize: 1000 }, 0, () => 0.5);
    const passed = pass(shaper, 60_000, PUNCTUAL);
    // A piece takes 100 ms to pass and waits 100 ms, of which up to 40 ms of bandwidth are kept.
    const pieces = total(passed) / 1000;
    assert.ok(pieces > 60_000 / 205 && pieces < 60_000 / 155, `${pieces} pieces in a minute`);
  });
});

test('when a wait is over, it runs the connection', () => {
  let runs = 0;
  const shaper = new Shaper(
    { toClient: true, toUpstream: true, maxBandwidth: 8000, randomWait: 0, bufferSize: null },
    0,
    { run: () => runs++ },
  );
  shaper.onDeadline();
  assert.equal(runs, 1);
});
