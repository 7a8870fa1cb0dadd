import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { Loop } from '../../src/data/loop.js';
import { type Awaiter, OneShot, type Place } from '../../src/data/one-shot.js';
import { closeFd } from '../../src/sys/process.js';
import { boundSocket, connectTo, localAddress, startListening, stopListening } from '../../src/sys/socket.js';
import { openDescriptors, Peer, play, until } from './rig.js';

const LOCAL: Place = { ip: '127.0.0.1', range: null, port: 0, transparent: false };

class Notes implements Awaiter {
  readonly said: string[] = [];
  readonly fds: number[] = [];

  onConnection(fd: number, peer: SocketAddress): void {
    this.fds.push(fd);
    this.said.push(`connection from ${peer.ip}`);
  }

  onNobody(why: string): void {
    this.said.push(why);
  }

  onStranger(peer: SocketAddress | null): void {
    this.said.push(`stranger ${peer?.ip}`);
  }
}

/** A connection to `to` from any address of this host. */
const connectFrom = (ip: string, to: SocketAddress): Peer => {
  const fd = boundSocket({ ip, port: 0 }, false);
  connectTo(fd, to);
  return new Peer(fd);
};

const withClock = (t: TestContext): { now: number } => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  return clock;
};

/** A socket that listens on a port for nobody, and the port. */
const occupied = (): { fd: number; port: number } => {
  const fd = boundSocket({ ip: '127.0.0.1', port: 0 }, false);
  const address = localAddress(fd) as SocketAddress;
  startListening(fd, address);
  return { fd, port: address.port };
};

describe('a listener for one connection', () => {
  test('takes the one that it waits for, and no other after it', () => {
    const before = openDescriptors();
    const loop = new Loop(2);
    const notes = new Notes();
    const listener = new OneShot(loop, LOCAL, '127.0.0.1', 30_000, notes);
    const first = connectFrom('127.0.0.1', listener.address);
    const second = connectFrom('127.0.0.1', listener.address);
    play(
      loop,
      (function* () {
        yield* until('the first is taken', () => notes.fds.length === 1);
        yield* second.over();
        const late = connectFrom('127.0.0.1', listener.address);
        yield* late.over();
        assert.equal(late.state, 'ECONNREFUSED');
        late.close();
      })(),
    );
    assert.equal(second.state, 'ECONNRESET');
    assert.equal(first.state, 'open');
    assert.deepEqual(notes.said, ['connection from 127.0.0.1']);
    for (const fd of [first.fd, second.fd, ...notes.fds]) closeFd(fd);
    assert.equal(openDescriptors(), before);
  });

  test('resets whoever comes from elsewhere, and waits on', () => {
    const loop = new Loop(2);
    const notes = new Notes();
    const listener = new OneShot(loop, LOCAL, '127.0.0.1', 30_000, notes);
    play(
      loop,
      (function* () {
        const strangers = Array.from({ length: 40 }, (_, i) => connectFrom(`127.0.0.${i + 2}`, listener.address));
        for (const stranger of strangers) {
          yield* stranger.over();
          assert.equal(stranger.state, 'ECONNRESET');
          stranger.close();
        }
        const right = connectFrom('127.0.0.1', listener.address);
        yield* until('it is taken', () => notes.fds.length === 1);
        right.close();
      })(),
    );
    assert.equal(notes.said.length, 41);
    assert.equal(notes.said[0], 'stranger 127.0.0.2');
    assert.equal(notes.said[40], 'connection from 127.0.0.1');
    closeFd(notes.fds[0] as number);
  });

  test('waits so long and no longer', (t) => {
    const clock = withClock(t);
    const before = openDescriptors();
    const loop = new Loop(2);
    const notes = new Notes();
    const listener = new OneShot(loop, LOCAL, '127.0.0.1', 30_000, notes);
    play(
      loop,
      (function* () {
        clock.now = 30_000;
        yield;
        yield;
        assert.deepEqual(notes.said, []);
        clock.now = 31_200;
        yield* until('it is closed', () => notes.said.length === 1);
        const late = connectFrom('127.0.0.1', listener.address);
        yield* late.over();
        assert.equal(late.state, 'ECONNREFUSED');
        late.close();
      })(),
    );
    assert.deepEqual(notes.said, ['nobody connected within 30 s']);
    assert.equal(openDescriptors(), before);
  });

  test('that is closed gives its port up at once', () => {
    const loop = new Loop(2);
    const notes = new Notes();
    const first = new OneShot(loop, LOCAL, '127.0.0.1', 30_000, notes);
    const { port } = first.address;
    const queued = connectFrom('127.0.0.1', first.address);
    first.close();
    const second = new OneShot(loop, { ...LOCAL, range: { low: port, high: port } }, '127.0.0.1', 30_000, notes);
    assert.equal(second.address.port, port);
    play(
      loop,
      (function* () {
        yield* queued.over();
        assert.equal(queued.state, 'ECONNRESET');
        const right = connectFrom('127.0.0.1', second.address);
        yield* until('it is taken', () => notes.fds.length === 1);
        right.close();
      })(),
    );
    queued.close();
    closeFd(notes.fds[0] as number);
  });

  test('has the port that it would like to have, or any other when that is taken', () => {
    const loop = new Loop(2);
    const { fd, port } = occupied();
    const other = new OneShot(loop, { ...LOCAL, port }, '127.0.0.1', 30_000, new Notes());
    assert.notEqual(other.address.port, port);
    other.close();
    closeFd(fd);
    const same = new OneShot(loop, { ...LOCAL, port }, '127.0.0.1', 30_000, new Notes());
    assert.equal(same.address.port, port);
    same.close();
    play(loop, (function* () {})());
  });

  test('finds the one free port of a range, and says what it tried when there is none', () => {
    const loop = new Loop(2);
    // Of three neighbours, the outer ones taken.
    let low = 0;
    const taken: number[] = [];
    for (let tries = 0; tries < 50 && low === 0; tries++) {
      const { fd, port } = occupied();
      try {
        const next = boundSocket({ ip: '127.0.0.1', port: port + 2 }, false);
        startListening(next, { ip: '127.0.0.1', port: port + 2 });
        const middle = boundSocket({ ip: '127.0.0.1', port: port + 1 }, false);
        closeFd(middle);
        taken.push(fd, next);
        low = port;
      } catch {
        closeFd(fd);
      }
    }
    const range = { low, high: low + 2 };
    const only = new OneShot(loop, { ...LOCAL, range, port: low }, '127.0.0.1', 30_000, new Notes());
    assert.equal(only.address.port, low + 1);
    assert.throws(
      () => new OneShot(loop, { ...LOCAL, range }, '127.0.0.1', 30_000, new Notes()),
      new RegExp(`127\\.0\\.0\\.1:${low}\\d*: EADDRINUSE|EADDRINUSE`),
    );
    only.close();
    for (const fd of taken) closeFd(fd);
    play(loop, (function* () {})());
  });

  test('closes, and does not spin, when nothing can be accepted', () => {
    const loop = new Loop(2);
    const notes = new Notes();
    // The lowest free number, which the listener's socket gets.
    const fd = openSync('/dev/null', 'r');
    closeSync(fd);
    new OneShot(loop, LOCAL, '127.0.0.1', 30_000, notes);
    stopListening(fd);
    play(
      loop,
      until('it is closed', () => notes.said.length > 0),
    );
    assert.deepEqual(notes.said, ['accept: EINVAL']);
  });
});
