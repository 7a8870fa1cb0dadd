import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Timed, Timers } from '../../src/data/timers.js';

class Alarm implements Timed {
  tick = Number.POSITIVE_INFINITY;
  rings = 0;

  constructor(
    public deadline: number,
    readonly ring: () => void = () => {},
  ) {}

  onDeadline(): void {
    this.rings++;
    this.ring();
  }
}

const watched = (timers: Timers, deadline: number, ring?: () => void): Alarm => {
  const alarm = new Alarm(deadline, ring);
  timers.watch(alarm);
  return alarm;
};

describe('Timers', () => {
  test('a deadline is never early and at most a tick late', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 10_000, noNaN: true }), (deadline) => {
        const timers = new Timers(100);
        const alarm = watched(timers, deadline);
        timers.expire(deadline - 0.01);
        assert.equal(alarm.rings, 0);
        timers.expire(deadline + 100);
        assert.equal(alarm.rings, 1);
        timers.expire(deadline + 1000);
        assert.equal(alarm.rings, 1);
      }),
      { numRuns: 200 },
    );
  });

  test('a tick may be as short as a millisecond', () => {
    const timers = new Timers(1);
    const alarm = watched(timers, 1000.2);
    assert.equal(timers.wait(990.5), 11);
    timers.expire(1000.9);
    assert.equal(alarm.rings, 0);
    timers.expire(1001);
    assert.equal(alarm.rings, 1);
  });

  test('a wait for what it says is long enough for the earliest deadline', () => {
    const timers = new Timers(100);
    assert.equal(timers.wait(5), Number.POSITIVE_INFINITY);
    const late = watched(timers, 5000);
    const early = watched(timers, 1030);
    assert.equal(timers.wait(1000.5), 100);
    timers.expire(1000.5 + timers.wait(1000.5));
    assert.deepEqual([early.rings, late.rings], [1, 0]);
    assert.equal(timers.wait(1100.5), 3900);
    assert.equal(timers.wait(9000), 0, 'a deadline that has passed needs no wait');
  });

  test('a deadline that was moved later by writing it is kept at its new time', () => {
    const timers = new Timers(100);
    const alarm = watched(timers, 200);
    alarm.deadline = 1000;
    timers.expire(300);
    assert.equal(alarm.rings, 0);
    assert.equal(timers.wait(300), 700, 'it is filed anew');
    timers.expire(1000);
    assert.equal(alarm.rings, 1);
  });

  test('a deadline that is brought forward and watched again is kept at its new time', () => {
    const timers = new Timers(100);
    const alarm = watched(timers, 5000);
    alarm.deadline = 300;
    timers.watch(alarm);
    timers.expire(300);
    assert.equal(alarm.rings, 1);
    timers.expire(5000);
    assert.equal(alarm.rings, 1);
  });

  test('what has no deadline is not kept', () => {
    const timers = new Timers(100);
    watched(timers, Number.POSITIVE_INFINITY);
    assert.equal(timers.wait(0), Number.POSITIVE_INFINITY);
  });

  test('what was forgotten does not ring', () => {
    const timers = new Timers(100);
    const alarm = watched(timers, 200);
    timers.forget(alarm);
    timers.forget(alarm);
    timers.expire(1000);
    assert.equal(alarm.rings, 0);
  });

  test('what another deadline of the same tick has had forgotten does not ring either', () => {
    const timers = new Timers(100);
    const first = watched(timers, 200, () => timers.forget(second));
    const second = watched(timers, 200);
    timers.expire(200);
    assert.deepEqual([first.rings, second.rings], [1, 0]);
  });

  test('a deadline that is set anew when it passes rings again', () => {
    const timers = new Timers(100);
    const alarm = watched(timers, 100, () => {
      alarm.deadline += 100;
      timers.watch(alarm);
    });
    for (let now = 100; now <= 500; now += 100) timers.expire(now);
    assert.equal(alarm.rings, 5);
  });

  test('every one of many deadlines rings once, in whatever order they were set and moved', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: -2000, max: 2000 })), { maxLength: 40 }),
        (moves) => {
          const timers = new Timers(100);
          const alarms = moves.map(([deadline, move]) => {
            const alarm = watched(timers, deadline);
            alarm.deadline = Math.max(0, deadline + move);
            if (move < 0) timers.watch(alarm);
            return alarm;
          });
          for (let now = 0; now <= 6000; now += 50) {
            timers.expire(now);
            for (const { deadline, rings } of alarms) {
              if (now < deadline) assert.equal(rings, 0);
              if (now >= deadline + 100) assert.equal(rings, 1);
            }
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});
