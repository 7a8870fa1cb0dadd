import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Endpoint } from '../../src/data/endpoint.js';
import { Loop } from '../../src/data/loop.js';
import { openDescriptors, pair, play, turns, until } from './rig.js';

test('its flags say what epoll said, and its owner runs after each event', () => {
  const loop = new Loop(0);
  const [near, far] = pair();
  let runs = 0;
  const endpoint = new Endpoint(loop, near.fd, { run: () => runs++ }, false);
  const flags = (): boolean[] => [endpoint.readable, endpoint.writable, endpoint.ended, endpoint.failed];
  play(
    loop,
    (function* () {
      yield* until('writable', () => runs === 1);
      assert.deepEqual(flags(), [false, true, false, false]);
      far.send('x');
      yield* until('readable', () => runs === 2);
      assert.deepEqual(flags(), [true, true, false, false]);
      far.shutdown();
      yield* until('ended', () => runs === 3);
      assert.deepEqual(flags(), [true, true, true, false]);
      near.shutdown();
      far.close();
      yield* until('failed', () => endpoint.failed);
    })(),
  );
  near.close();
});

test('a reset of the peer makes it readable and writable, so that a call finds the error', () => {
  const loop = new Loop(0);
  const [near, far] = pair();
  const endpoint = new Endpoint(loop, near.fd, { run: () => {} }, false);
  play(
    loop,
    (function* () {
      far.reset();
      yield* until('failed', () => endpoint.failed);
      assert.ok(endpoint.readable && endpoint.writable && endpoint.ended);
    })(),
  );
  near.close();
});

test('a new owner gets the events that follow', () => {
  const loop = new Loop(0);
  const [near, far] = pair();
  const seen: string[] = [];
  const endpoint = new Endpoint(loop, near.fd, { run: () => seen.push('first') }, true);
  play(
    loop,
    (function* () {
      yield* until('the first event', () => seen.length === 1);
      endpoint.owner = { run: () => seen.push('second') };
      far.send('x');
      yield* until('the second event', () => seen.length === 2);
    })(),
  );
  assert.deepEqual(seen, ['first', 'second']);
  near.close();
  far.close();
});

test('close() ends the stream behind what was sent, once, however often it is called', () => {
  const loop = new Loop(0);
  const [near, far] = pair();
  const endpoint = new Endpoint(loop, near.fd, { run: () => {} }, true);
  const before = openDescriptors();
  play(
    loop,
    (function* () {
      near.send('bye');
      endpoint.close();
      endpoint.close();
      endpoint.reset();
      yield* turns(2);
      assert.equal(openDescriptors(), before - 1);
      // The number is another socket's now: it must not be closed a second time.
      const [reused, other] = pair();
      assert.ok(reused.fd === near.fd || other.fd === near.fd);
      endpoint.close();
      yield* turns(2);
      reused.send('alive');
      yield* other.expect('alive');
      yield* far.over();
      assert.deepEqual([far.text, far.state], ['bye', 'end']);
      reused.close();
      other.close();
    })(),
  );
  far.close();
});

test('reset() tells the peer', () => {
  const loop = new Loop(0);
  const [near, far] = pair();
  const endpoint = new Endpoint(loop, near.fd, { run: () => {} }, true);
  play(
    loop,
    (function* () {
      endpoint.reset();
      yield* far.over();
    })(),
  );
  assert.equal(far.state, 'ECONNRESET');
  far.close();
});
