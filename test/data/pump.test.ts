import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { Endpoint } from '../../src/data/endpoint.js';
import type { Loop } from '../../src/data/loop.js';
import { ENDED, FAILED, type Filter, MORE, type Progress, Pump } from '../../src/data/pump.js';
import { Shaper } from '../../src/data/shaper.js';
import type { Shaping } from '../../src/plan.js';
import * as libc from '../../src/sys/libc.js';
import { CountingLoop, type Peer, pair, pattern, play, type Script, turns, until } from './rig.js';

const MSG_OOB = 1;
const SCRATCH = 32 * 1024;

/** One pump between two connections: what `sender` sends comes out at `receiver`. */
class Line {
  readonly loop: CountingLoop;
  readonly sender: Peer;
  readonly receiver: Peer;
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly pump: Pump;
  /** What each run came to. */
  readonly runs: Progress[] = [];

  constructor(mostPipes = 8) {
    this.loop = new CountingLoop(mostPipes);
    const [sender, near] = pair();
    const [far, receiver] = pair();
    this.sender = sender;
    this.receiver = receiver;
    this.from = new Endpoint(this.loop, near.fd, this, false);
    this.to = new Endpoint(this.loop, far.fd, this, true);
    this.pump = new Pump(this.loop, this.from, this.to);
  }

  get last(): Progress | undefined {
    return this.runs.at(-1);
  }

  /** The last run came to nothing more to do for now. */
  get blocked(): boolean {
    const { last } = this;
    return last !== undefined && last !== MORE && last !== ENDED && last !== FAILED;
  }

  run(): void {
    const progress = this.pump.run();
    this.runs.push(progress);
    if (progress === MORE) this.loop.again(this);
  }

  play(script: () => Script): void {
    const { loop, pump, from, to, sender, receiver } = this;
    play(
      loop as Loop,
      (function* () {
        yield* turns(2);
        yield* script();
        pump.close();
        for (const endpoint of [from, to]) endpoint.close();
        yield;
      })(),
    );
    sender.close();
    receiver.close();
  }

  /** Sends all, ends the stream, and reads until the line says that it has ended; at most `most` bytes a turn are read. */
  *carry(bytes: Buffer, most = Number.POSITIVE_INFINITY): Script {
    this.sender.send(bytes);
    let ended = false;
    yield* until('all came out', () => {
      if (!ended && this.sender.flush()) {
        this.sender.shutdown();
        ended = true;
      }
      this.receiver.read(most);
      return this.last === ENDED && this.receiver.bytes >= bytes.length;
    });
    this.receiver.read();
  }
}

/** Lets everything pass that it has looked at, and says how much may go by without it. */
class Watch implements Filter {
  readonly seen: string[] = [];
  passed = 0;
  ends = 0;
  /** What `unseen` becomes after each look. */
  allow: (bytes: number) => number = () => 0;

  constructor(readonly pump: Pump) {
    pump.filter = this;
    pump.unseen = 0;
  }

  onBytes(bytes: Buffer, count: number): void {
    this.seen.push(bytes.toString('latin1', 0, count));
    this.pump.put(bytes, 0, count);
    this.pump.unseen = this.allow(count);
  }

  onPassed(count: number): void {
    this.passed += count;
  }

  onEnd(): void {
    this.ends++;
  }
}

describe('Pump', () => {
  test('what goes in comes out, in order and once, however it is cut and however slowly it is read', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.integer({ min: 1, max: 2000 }),
            fc.constantFrom(SCRATCH - 1, SCRATCH, SCRATCH + 1),
            fc.integer({ min: 100_000, max: 2_000_000 }),
          ),
          { minLength: 1, maxLength: 8 },
        ),
        fc.constantFrom(5000, 65_536, Number.POSITIVE_INFINITY),
        fc.constantFrom(0, 1, 8),
        (sizes, most, pipes) => {
          const line = new Line(pipes);
          const bytes = pattern(sizes.reduce((sum, size) => sum + size, 0));
          line.play(function* () {
            let at = 0;
            for (const size of sizes) {
              line.sender.send(bytes.subarray(at, at + size));
              at += size;
              line.sender.flush();
              line.receiver.read(most);
              yield;
              yield;
            }
            yield* line.carry(Buffer.alloc(0), Math.max(most, 50_000));
            yield* until('the rest', () => {
              line.receiver.read();
              return line.receiver.bytes >= bytes.length;
            });
          });
          assert.ok(line.receiver.got.equals(bytes));
          assert.equal(line.pump.moved, bytes.length);
          assert.equal(line.loop.pipesGiven, line.loop.pipesTaken);
          assert.ok(pipes > 0 || line.loop.pipesTaken === 0);
        },
      ),
      { numRuns: 20 },
    );
  });

  test('bulk goes through a pipe, which goes back as soon as it is empty', () => {
    const line = new Line();
    line.play(function* () {
      line.sender.send(pattern(2_000_000));
      yield* until('all came out', () => {
        line.sender.flush();
        line.receiver.read();
        return line.receiver.bytes === 2_000_000;
      });
      yield* turns(3);
      assert.ok(line.loop.pipesTaken > 0);
      assert.equal(line.loop.pipesGiven, line.loop.pipesTaken, 'the stream is open, idle and without a pipe');
      assert.ok(line.blocked);
    });
  });

  test('small transfers take no pipe, and after bulk they take none again', () => {
    const line = new Line();
    line.play(function* () {
      const bytes = pattern(1_000_000);
      line.sender.send(bytes.subarray(0, 100));
      yield* until('the small one', () => {
        line.receiver.read();
        return line.receiver.bytes === 100;
      });
      assert.equal(line.loop.pipesTaken, 0);
      line.sender.send(bytes.subarray(0, 500_000));
      yield* until('the bulk', () => {
        line.sender.flush();
        line.receiver.read();
        return line.receiver.bytes === 500_100;
      });
      let taken = 0;
      for (let i = 0; i < 5; i++) {
        // The first of these may still be tried as bulk.
        if (i === 1) taken = line.loop.pipesTaken;
        line.sender.send('tick');
        yield* until('a tick', () => {
          line.receiver.read();
          return line.receiver.bytes === 500_100 + 4 * (i + 1);
        });
      }
      assert.equal(line.loop.pipesTaken, taken);
    });
  });

  test('a loop without pipes carries bulk as well', () => {
    const line = new Line(0);
    const bytes = pattern(3_000_000);
    line.play(() => line.carry(bytes));
    assert.ok(line.receiver.got.equals(bytes));
    assert.equal(line.loop.pipesTaken, 0);
  });

  test('a receiver that does not read holds the sender back', () => {
    const line = new Line();
    line.play(function* () {
      const bytes = pattern(64_000_000);
      line.sender.send(bytes);
      for (let i = 0; i < 200; i++) {
        line.sender.flush();
        yield;
      }
      assert.equal(line.sender.flush(), false);
      assert.ok(line.blocked);
      assert.equal(line.pump.drained, false);
      const { moved } = line.pump;
      yield* turns();
      assert.equal(line.pump.moved, moved);
      yield* until('all came out', () => {
        line.sender.flush();
        line.receiver.read(500_000);
        return line.receiver.bytes === bytes.length;
      });
      assert.ok(line.receiver.got.equals(bytes));
    });
  });

  test('one run has its share and asks for another', () => {
    const line = new Line();
    line.play(function* () {
      line.pump.paused = true;
      line.sender.send(pattern(3_000_000));
      yield* until('more than a share waits', () => {
        const flushed = line.sender.flush();
        return flushed;
      });
      line.pump.paused = false;
      line.runs.length = 0;
      const movedBefore = line.pump.moved;
      line.run();
      // Two megabytes is a share and the last splice of it.
      assert.ok(line.pump.moved - movedBefore <= 2 * 1024 * 1024);
      yield* until('all came out', () => {
        line.receiver.read();
        return line.receiver.bytes === 3_000_000;
      });
      assert.ok(line.runs.includes(MORE));
    });
  });

  test('the end of the stream comes after all of its bytes', () => {
    for (const size of [0, 1, SCRATCH, 1_000_000]) {
      const line = new Line();
      const bytes = pattern(size);
      line.play(function* () {
        yield* line.carry(bytes);
        assert.ok(line.pump.ended);
        assert.ok(line.pump.drained);
      });
      assert.ok(line.receiver.got.equals(bytes));
    }
  });

  test('bytes and the end of the stream that come together are both seen', () => {
    const line = new Line();
    line.play(function* () {
      line.pump.paused = true;
      line.sender.send('all');
      line.sender.shutdown();
      yield* turns();
      line.pump.paused = false;
      line.run();
      assert.equal(line.last, ENDED);
      yield* line.receiver.expect('all');
    });
  });

  test('an end of stream without a byte behind a short read is seen', () => {
    const line = new Line();
    line.play(function* () {
      line.sender.send('all');
      yield* line.receiver.expect('all');
      line.sender.shutdown();
      yield* until('the end', () => line.last === ENDED);
    });
  });

  test("a reset is a failure that says whose it is: the sender's behind its bytes, the receiver's at once", () => {
    const sent = new Line();
    sent.play(function* () {
      sent.sender.send('last');
      sent.sender.reset();
      yield* until('the failure', () => sent.last === FAILED);
      assert.equal(sent.pump.broken, sent.from);
      assert.equal(sent.pump.error?.code, 'ECONNRESET');
      yield* sent.receiver.expect('last');
      sent.run();
      assert.equal(sent.last, FAILED, 'it stays failed');
    });
    const received = new Line();
    received.play(function* () {
      received.receiver.reset();
      yield* turns();
      received.sender.send('to nobody');
      yield* until('the failure', () => received.last === FAILED);
      assert.equal(received.pump.broken, received.to);
      assert.match(received.pump.error?.code ?? '', /ECONNRESET|EPIPE/);
    });
  });

  test('a reset of the receiver in the middle of bulk closes the pipe that still has bytes', () => {
    const line = new Line();
    line.play(function* () {
      line.sender.send(pattern(16_000_000));
      yield* until('a pipe is in use', () => {
        line.sender.flush();
        return line.loop.pipesTaken > line.loop.pipesGiven;
      });
      line.receiver.reset();
      yield* until('the failure', () => line.last === FAILED);
    });
    assert.equal(line.loop.pipesGiven, line.loop.pipesTaken);
  });

  test('while paused it reads nothing, and sends what waits', () => {
    const line = new Line();
    line.play(function* () {
      line.pump.paused = true;
      line.sender.send('later');
      yield* turns();
      assert.equal(line.from.readable, true);
      line.pump.put(Buffer.from('xnowx'), 1, 4);
      yield* line.receiver.expect('now');
      line.pump.paused = false;
      line.run();
      yield* line.receiver.expect('nowlater');
    });
  });

  test('what is put follows what waits already, in a buffer', () => {
    const line = new Line(0);
    line.play(function* () {
      const bytes = pattern(16_000_000);
      line.sender.send(bytes);
      yield* until('the receiver is full', () => {
        line.sender.flush();
        return !line.pump.drained;
      });
      line.pump.paused = true;
      line.pump.put(Buffer.from('[put '), 0, 5);
      line.pump.put(Buffer.from('twice]'), 0, 6);
      yield* until('what was put', () => {
        line.receiver.read();
        return line.pump.drained && line.receiver.text.includes(']');
      });
      const at = line.receiver.bytes - 11;
      assert.equal(line.receiver.text.slice(at), '[put twice]');
      assert.ok(line.receiver.got.subarray(0, at).equals(bytes.subarray(0, at)));
    });
  });

  test('what is put follows what waits already, in a pipe', () => {
    const line = new Line();
    line.play(function* () {
      const bytes = pattern(16_000_000);
      line.sender.send(bytes);
      yield* until('a pipe is full', () => {
        line.sender.flush();
        return line.loop.pipesTaken > line.loop.pipesGiven;
      });
      line.pump.paused = true;
      line.pump.put(Buffer.from('[put]'), 0, 5);
      yield* until('what was put', () => {
        line.receiver.read();
        return line.pump.drained;
      });
      yield* until('the last of it', () => {
        line.receiver.read();
        return line.receiver.bytes === line.pump.moved;
      });
      const at = line.receiver.bytes - 5;
      assert.equal(line.receiver.text.slice(at), '[put]');
      assert.ok(line.receiver.got.subarray(0, at).equals(bytes.subarray(0, at)));
    });
  });

  test('urgent data does not stop what follows it', () => {
    const line = new Line();
    line.play(function* () {
      line.pump.paused = true;
      line.sender.send('before');
      libc.send(line.sender.fd, Buffer.from('!'), 1, MSG_OOB);
      line.sender.send('behind');
      yield* turns();
      line.pump.paused = false;
      line.run();
      yield* line.receiver.expect('beforebehind');
    });
  });

  test('urgent data within bulk does not stop what follows it', () => {
    const line = new Line();
    const bytes = pattern(600_000);
    line.play(function* () {
      line.pump.paused = true;
      line.sender.send(bytes.subarray(0, 300_000));
      yield* until('the first half', () => line.sender.flush());
      libc.send(line.sender.fd, Buffer.from('!'), 1, MSG_OOB);
      line.sender.send(bytes.subarray(300_000));
      yield* until('the second half', () => line.sender.flush());
      yield* turns();
      line.pump.paused = false;
      line.run();
      yield* until('all came out', () => {
        line.receiver.read();
        return line.receiver.bytes === bytes.length;
      });
      assert.ok(line.receiver.got.equals(bytes));
    });
  });
});

/** Lets `ms` pass, one by one, with a turn of the loop or two for each. */
function* pass(clock: { now: number }, ms: number): Script {
  for (let i = 0; i < ms; i++) {
    clock.now++;
    yield* turns(2);
  }
}

/** A byte less than computed may have passed, as times are binary fractions. */
const assertNearly = (actual: number, expected: number): void => {
  assert.ok(Math.abs(actual - expected) <= 1, `${actual} is not ${expected}`);
};

describe('a shaped pump', () => {
  /** A line with a clock of its own, at which nothing passes by itself. */
  const shaped = (t: TestContext, shaping: Partial<Shaping>, random?: () => number): [Line, { now: number }] => {
    const clock = { now: 1000 };
    t.mock.method(performance, 'now', () => clock.now);
    const line = new Line();
    line.pump.shaper = new Shaper(
      { toClient: true, toUpstream: true, maxBandwidth: null, randomWait: 0, bufferSize: null, ...shaping },
      clock.now,
      line,
      random,
    );
    return [line, clock];
  };

  test('passes all bytes and the end behind them, in order and once, at any rate and size of pieces', (t) => {
    for (const [shaping, size] of [
      [{ maxBandwidth: 80_000 }, 5000],
      [{ maxBandwidth: 8_000_000, bufferSize: 700 }, 300_000],
      [{ maxBandwidth: 800_000_000 }, 20_000_000],
      [{ bufferSize: 100_000 }, 3_000_000],
      [{ randomWait: 3 }, 2_000_000],
      [{ randomWait: 3, maxBandwidth: 80_000_000, bufferSize: 3000 }, 200_000],
    ] as const) {
      const [line, clock] = shaped(t, shaping);
      const bytes = pattern(size);
      line.play(function* () {
        line.sender.send(bytes);
        let ended = false;
        yield* until('the end', () => {
          clock.now += 0.5;
          if (!ended && line.sender.flush()) {
            line.sender.shutdown();
            ended = true;
          }
          line.receiver.read();
          return line.last === ENDED && line.receiver.bytes === size;
        });
      });
      assert.ok(line.receiver.got.equals(bytes));
      assert.equal(line.pump.moved, size);
      assert.equal(line.loop.pipesGiven, line.loop.pipesTaken);
      t.mock.restoreAll();
    }
  });

  test('reads what it may and waits for a timer, without a turn of the loop meanwhile', (t) => {
    const [line, clock] = shaped(t, { maxBandwidth: 8_000_000 });
    line.play(function* () {
      line.sender.send(pattern(100_000));
      yield* turns(20);
      assertNearly(line.pump.moved, 40_000);
      assert.ok(line.from.readable);
      assert.ok(line.pump.drained);
      assert.equal(line.pump.ready, false, 'it would not read');
      assertNearly(line.pump.heldUntil, 1020);
      const runs = line.runs.length;
      yield* pass(clock, 18);
      assert.equal(line.runs.length, runs);
      yield* pass(clock, 3);
      assertNearly(line.pump.moved, 60_000);
      yield* pass(clock, 60);
      assert.equal(line.pump.moved, 100_000);
      assert.ok(line.pump.heldUntil <= clock.now);
      line.receiver.read();
      assert.ok(line.receiver.got.equals(pattern(100_000)));
    });
  });

  test('keeps the sender waiting: what may not pass yet is not read', (t) => {
    const [line] = shaped(t, { maxBandwidth: 8000 });
    line.play(function* () {
      line.sender.send(pattern(64_000_000));
      for (let i = 0; i < 200; i++) {
        line.sender.flush();
        yield;
      }
      assert.equal(line.sender.flush(), false);
      assert.equal(line.pump.moved, 40);
    });
  });

  test('sends what is put at once, also while bytes that came later are held', (t) => {
    const [line] = shaped(t, { maxBandwidth: 80_000 });
    line.play(function* () {
      line.sender.send(pattern(1000));
      yield* turns(20);
      assert.equal(line.pump.moved, 400);
      line.pump.put(pattern(200), 0, 200);
      assert.equal(line.pump.moved, 600);
    });
  });

  test('reads no faster for a filter that keeps what it gets', (t) => {
    const [line, clock] = shaped(t, { maxBandwidth: 80_000 });
    let kept = 0;
    line.pump.unseen = 0;
    line.pump.filter = {
      onBytes: (_, count) => {
        kept += count;
      },
      onPassed: () => {},
      onEnd: () => {},
    };
    line.play(function* () {
      line.sender.send(pattern(10_000));
      yield* turns(20);
      assert.equal(kept, 400);
      yield* pass(clock, 200);
      assertNearly(kept, 2400);
    });
  });

  test('lets a piece wait at random, and then writes it in one', (t) => {
    const [line, clock] = shaped(t, { randomWait: 10, bufferSize: 100 }, () => 0.5);
    line.play(function* () {
      line.sender.send(pattern(250));
      yield* turns(20);
      assert.equal(line.pump.moved, 0);
      yield* pass(clock, 9);
      assert.equal(line.pump.moved, 0);
      for (const moved of [100, 200, 250]) {
        yield* pass(clock, 10);
        assert.equal(line.pump.moved, moved);
      }
    });
  });

  test('splices no more than a piece either', (t) => {
    const [line, clock] = shaped(t, { randomWait: 10, bufferSize: 100_000 }, () => 0.5);
    line.play(function* () {
      const bytes = pattern(1_000_000);
      line.sender.send(bytes);
      yield* turns(20);
      for (let piece = 1; piece <= 5; piece++) {
        yield* pass(clock, 10);
        line.sender.flush();
        line.receiver.read();
        assert.equal(line.pump.moved, piece * 100_000);
      }
      assert.ok(line.loop.pipesTaken > 0);
      assert.ok(line.receiver.got.equals(bytes.subarray(0, line.receiver.bytes)));
    });
  });

  test('that is not to shape any more reads all there is, and one that ends leaves no timer behind', (t) => {
    for (const end of ['unshape', 'close'] as const) {
      const [line, clock] = shaped(t, { maxBandwidth: 8000 });
      const shaper = line.pump.shaper as Shaper;
      line.play(function* () {
        line.sender.send(pattern(10_000));
        yield* turns(20);
        assert.equal(line.pump.moved, 40);
        assert.ok(shaper.tick < Number.POSITIVE_INFINITY);
        line.pump[end]();
        assert.equal(shaper.tick, Number.POSITIVE_INFINITY);
        const runs = line.runs.length;
        yield* pass(clock, 30);
        assert.equal(line.runs.length, runs);
        if (end === 'close') return;
        line.run();
        assert.equal(line.pump.moved, 10_000);
      });
      t.mock.restoreAll();
    }
  });

  test('has the loop make fine timers, and one that is not shaped never does', () => {
    const line = new Line();
    Object.defineProperty(line.loop, 'fine', { get: () => assert.fail('nothing is shaped here') });
    const bytes = pattern(3_000_000);
    line.play(() => line.carry(bytes));
    assert.ok(line.receiver.got.equals(bytes));
  });
});

describe('a filter', () => {
  test('sees every byte where none may pass unseen, and the end', () => {
    const line = new Line();
    const watch = new Watch(line.pump);
    const bytes = pattern(200_000);
    line.play(() => line.carry(bytes));
    assert.equal(watch.seen.join(''), bytes.toString('latin1'));
    assert.equal(watch.passed, 0);
    assert.equal(watch.ends, 1);
    assert.equal(line.loop.pipesTaken, 0, 'what has to be seen is not spliced');
    assert.ok(line.receiver.got.equals(bytes));
  });

  test('is told exactly of what it let pass, and sees the byte behind it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 30_000, max: 700_000 })), {
          minLength: 1,
          maxLength: 5,
        }),
        (gaps) => {
          // Records: one byte to be seen, then so many that pass.
          const line = new Line();
          const total = gaps.reduce((sum, gap) => sum + gap + 1, 0);
          const bytes = pattern(total);
          let passing = 0;
          let next = 0;
          let at = 0;
          const marks: number[] = [];
          const { pump } = line;
          const filter: Filter = {
            onBytes: (seen, count) => {
              for (let i = 0; i < count; ) {
                if (passing > 0) {
                  const some = Math.min(passing, count - i);
                  passing -= some;
                  i += some;
                } else {
                  marks.push(at + i);
                  passing = gaps[next++] as number;
                  i++;
                }
              }
              at += count;
              pump.put(seen, 0, count);
              pump.unseen = passing;
            },
            onPassed: (count) => {
              assert.ok(count <= passing, `${count} passed, and no more than ${passing} may`);
              passing -= count;
              at += count;
              assert.equal(pump.unseen, passing);
            },
            onEnd: () => {},
          };
          pump.filter = filter;
          pump.unseen = 0;
          line.play(() => line.carry(bytes));
          assert.equal(at, total);
          let expected = 0;
          assert.deepEqual(
            marks,
            gaps.map((gap) => {
              const mark = expected;
              expected += gap + 1;
              return mark;
            }),
          );
          assert.ok(line.receiver.got.equals(bytes));
        },
      ),
      { numRuns: 15 },
    );
  });

  test('may keep bytes back and put others', () => {
    const line = new Line();
    const { pump } = line;
    pump.unseen = 0;
    pump.filter = {
      onBytes: (bytes, count) => {
        pump.put(Buffer.from(bytes.toString('latin1', 0, count).toUpperCase()), 0, count);
      },
      onPassed: () => {},
      onEnd: () => {
        pump.put(Buffer.from('.'), 0, 1);
      },
    };
    line.play(function* () {
      line.sender.send('loud');
      yield* line.receiver.expect('LOUD');
      line.sender.shutdown();
      yield* line.receiver.expect('LOUD.');
      yield* until('the end', () => line.last === ENDED);
    });
  });

  test('reads without a receiver, which may come later', () => {
    const line = new Line();
    line.pump.to = null;
    let held = '';
    line.pump.unseen = 0;
    line.pump.filter = {
      onBytes: (bytes, count) => {
        held += bytes.toString('latin1', 0, count);
      },
      onPassed: () => {},
      onEnd: () => {},
    };
    line.play(function* () {
      line.sender.send('first');
      yield* until('it was seen', () => held === 'first');
      line.pump.to = line.to;
      line.pump.filter = null;
      line.pump.unseen = Number.POSITIVE_INFINITY;
      line.pump.put(Buffer.from(held), 0, held.length);
      line.sender.send(' second');
      yield* line.receiver.expect('first second');
    });
  });
});
