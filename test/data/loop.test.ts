import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Loop, type Runnable } from '../../src/data/loop.js';
import { clearEventfd, createEventfd, EPOLLET, EPOLLIN, EPOLLOUT, raiseEventfd } from '../../src/sys/epoll.js';
import { E } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import { receive } from '../../src/sys/socket.js';
import { openDescriptors, pair, play, turns, until } from './rig.js';

/** A wake-up from another thread, while this one sits in epoll_wait. */
const raiseFromAThread = (fd: number): Worker => {
  const url = new URL('../../src/sys/epoll.js', import.meta.url).href;
  const code = `import(${JSON.stringify(url)}).then(({ raiseEventfd }) => raiseEventfd(${fd}))`;
  return new Worker(code, { eval: true });
};

describe('Loop', () => {
  test('an eventfd that another thread raises wakes it', async () => {
    const loop = new Loop(0);
    const fd = createEventfd();
    let bits = 0;
    loop.add(fd, EPOLLIN | EPOLLET, {
      onEvents: (seen) => {
        bits = seen;
        clearEventfd(fd);
        loop.stop();
      },
    });
    const thread = raiseFromAThread(fd);
    const gone = new Promise((resolve) => thread.on('exit', resolve));
    loop.run();
    await gone;
    assert.equal(bits, EPOLLIN);
    closeFd(fd);
  });

  test('it ends when it was told to stop, with the turn', () => {
    const loop = new Loop(0);
    const order: string[] = [];
    loop.onTurnEnd(() => order.push('turn end'));
    loop.again({
      run: () => {
        loop.stop();
        order.push('run');
      },
    });
    loop.again({ run: () => order.push('run too') });
    loop.run();
    assert.deepEqual(order, ['run', 'run too', 'turn end']);
  });

  test('what asks for another turn runs in the next one, not in this one', () => {
    const loop = new Loop(0);
    const order: string[] = [];
    let left = 3;
    const runnable: Runnable = {
      run: () => {
        order.push('run');
        if (--left > 0) loop.again(runnable);
        else loop.stop();
      },
    };
    loop.onTurnEnd(() => order.push('turn'));
    loop.again(runnable);
    loop.run();
    assert.deepEqual(order, ['run', 'turn', 'run', 'turn', 'run', 'turn']);
  });

  test('what asks for another turn several times gets one', () => {
    const loop = new Loop(0);
    let runs = 0;
    const greedy: Runnable = { run: () => runs++ };
    play(
      loop,
      (function* () {
        for (let i = 0; i < 5; i++) loop.again(greedy);
        yield;
        yield;
      })(),
    );
    assert.equal(runs, 1);
  });

  test('a descriptor that was closed gets no more events, and is open until the turn ends', () => {
    const loop = new Loop(0);
    const [a, b] = pair();
    let events = 0;
    let stillOpen = false;
    let afterwards = 0;
    loop.add(a.fd, EPOLLIN | EPOLLET, {
      onEvents: () => {
        events++;
      },
    });
    play(
      loop,
      (function* () {
        // The event is in this turn's batch already, behind this script's step.
        b.send('x');
        loop.close(a.fd);
        stillOpen = receive(a.fd, Buffer.alloc(1), 1) === 1;
        yield;
        afterwards = receive(a.fd, Buffer.alloc(1), 1);
        yield* turns();
      })(),
    );
    assert.equal(events, 0);
    assert.ok(stillOpen);
    assert.ok(afterwards < 0 && afterwards !== -E.AGAIN, 'the descriptor is closed');
    b.close();
  });

  test('an event that is already in the batch does not reach the descriptor that another watcher has closed', () => {
    const loop = new Loop(0);
    const [a, b] = pair();
    const [c, d] = pair();
    const seen: number[] = [];
    const closeTheOther = (own: number, other: number): void =>
      loop.add(own, EPOLLIN | EPOLLET, {
        onEvents: () => {
          seen.push(own);
          loop.close(other);
        },
      });
    closeTheOther(a.fd, c.fd);
    closeTheOther(c.fd, a.fd);
    b.send('x');
    d.send('x');
    play(loop, turns());
    assert.equal(seen.length, 1, 'both had an event in one turn, and the second was closed by the first');
    closeFd(seen[0] as number);
    b.close();
    d.close();
  });

  test('a registration is edge-triggered and made once: each arrival is told, what stays unread is not told again', () => {
    const loop = new Loop(0);
    const [a, b] = pair();
    let readable = 0;
    loop.add(a.fd, EPOLLIN | EPOLLOUT | EPOLLET, {
      onEvents: (bits) => {
        if (bits & EPOLLIN) readable++;
      },
    });
    play(
      loop,
      (function* () {
        b.send('one');
        yield* until('the first event', () => readable === 1);
        yield* turns();
        assert.equal(readable, 1);
        b.send('two');
        yield* until('the second event', () => readable === 2);
      })(),
    );
    a.close();
    b.close();
  });

  test('a deadline rings while nothing else happens', () => {
    const loop = new Loop(0);
    loop.timers.watch({
      deadline: loop.now + 1,
      tick: Number.POSITIVE_INFINITY,
      onDeadline: () => loop.stop(),
    });
    loop.run();
  });

  test('a fine deadline is not kept to the tick of the others, and neither makes the other wait', (t) => {
    const clock = { now: 1000 };
    t.mock.method(performance, 'now', () => clock.now);
    const loop = new Loop(0);
    const rung: string[] = [];
    const alarm = (name: string, deadline: number) => ({
      deadline,
      tick: Number.POSITIVE_INFINITY,
      onDeadline: () => rung.push(`${name} at ${loop.now}`),
    });
    loop.timers.watch(alarm('coarse', 1005));
    loop.fine.watch(alarm('fine', 1004.5));
    loop.fine.watch(alarm('late', 1150));
    play(
      loop,
      (function* () {
        while (clock.now < 1200) {
          yield;
          clock.now++;
        }
      })(),
    );
    assert.deepEqual(rung, ['fine at 1005', 'coarse at 1100', 'late at 1150']);
  });

  test('a fine deadline rings while nothing else happens', () => {
    const loop = new Loop(0);
    loop.fine.watch({ deadline: loop.now + 1, tick: Number.POSITIVE_INFINITY, onDeadline: () => loop.stop() });
    loop.run();
  });

  test('an empty pipe is used again, one with bytes in it is closed, and there are no more than allowed', () => {
    const loop = new Loop(2);
    const first = loop.takePipe();
    const second = loop.takePipe();
    assert.ok(first !== null && second !== null);
    assert.equal(loop.takePipe(), null);
    loop.releasePipe(first, true);
    assert.deepEqual(loop.takePipe(), first);
    const before = openDescriptors();
    loop.releasePipe(second, false);
    assert.equal(openDescriptors(), before - 2);
    assert.notEqual(loop.takePipe(), null, 'the closed one makes room for another');
  });

  test('it keeps some empty pipes and closes the rest, and those too when it ends', () => {
    const loop = new Loop(40);
    const before = openDescriptors();
    const pipes = Array.from({ length: 40 }, () => loop.takePipe());
    assert.equal(openDescriptors(), before + 80);
    for (const pipe of pipes) if (pipe !== null) loop.releasePipe(pipe, true);
    const kept = openDescriptors() - before;
    assert.ok(kept > 0 && kept < 80, `${kept} descriptors are kept`);
    play(loop, turns(1));
    // The epoll instance, which stood in `before`, is gone as well.
    assert.equal(openDescriptors(), before - 1);
  });

  test('an error of a watcher ends it: nothing is swallowed', () => {
    const loop = new Loop(0);
    const fd = createEventfd();
    loop.add(fd, EPOLLIN | EPOLLET, {
      onEvents: () => {
        throw new Error('a defect');
      },
    });
    raiseEventfd(fd);
    assert.throws(() => loop.run(), /a defect/);
    closeFd(fd);
  });
});
