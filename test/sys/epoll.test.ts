import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  clearEventfd,
  createEventfd,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  Epoll,
  eventLayout,
  raiseEventfd,
} from '../../src/sys/epoll.js';
import { closeFd } from '../../src/sys/process.js';
import { pair } from '../data/rig.js';

/** The events that are there now, by descriptor. */
const events = (epoll: Epoll): Map<number, number> => {
  const count = epoll.wait(0);
  assert.ok(count >= 0);
  return new Map(Array.from({ length: count }, (_, i) => [epoll.fd(i), epoll.bits(i)]));
};

describe('epoll', () => {
  test('struct epoll_event is packed on x64 and padded on arm64', () => {
    assert.deepEqual(eventLayout('x64'), { words: 3, data: 1 });
    assert.deepEqual(eventLayout('arm64'), { words: 4, data: 2 });
  });

  test('each of several events has its own descriptor and bits', () => {
    const epoll = new Epoll(8);
    const pairs = [pair(), pair(), pair()];
    for (const [near] of pairs) epoll.add(near.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    const [a, b, c] = pairs.map(([near]) => near.fd);
    pairs[1]?.[1].send('x');
    pairs[2]?.[1].shutdown();
    assert.deepEqual(
      events(epoll),
      new Map([
        [a, EPOLLOUT],
        [b, EPOLLIN | EPOLLOUT],
        [c, EPOLLIN | EPOLLOUT | EPOLLRDHUP],
      ]),
    );
    assert.deepEqual(events(epoll), new Map(), 'each is told once');
    pairs[0]?.[0].shutdown();
    pairs[0]?.[1].shutdown();
    assert.equal((events(epoll).get(a as number) ?? 0) & EPOLLHUP, EPOLLHUP);
    epoll.close();
    for (const [near, far] of pairs) {
      near.close();
      far.close();
    }
  });

  test('no more events are told at once than there is room for, and the rest come next', () => {
    const epoll = new Epoll(2);
    const fds = Array.from({ length: 5 }, createEventfd);
    for (const fd of fds) {
      epoll.add(fd, EPOLLIN | EPOLLET);
      raiseEventfd(fd);
    }
    const seen: number[] = [];
    for (let count = epoll.wait(0); count > 0; count = epoll.wait(0)) {
      assert.ok(count <= 2);
      for (let i = 0; i < count; i++) seen.push(epoll.fd(i));
    }
    assert.deepEqual(seen.sort(), [...fds].sort());
    epoll.close();
    for (const fd of fds) closeFd(fd);
  });

  test('a raised eventfd is told, raises add up to one, and a cleared one is quiet', () => {
    const epoll = new Epoll(2);
    const fd = createEventfd();
    epoll.add(fd, EPOLLIN);
    assert.equal(epoll.wait(0), 0);
    raiseEventfd(fd);
    raiseEventfd(fd);
    assert.deepEqual(events(epoll), new Map([[fd, EPOLLIN]]));
    clearEventfd(fd);
    assert.equal(epoll.wait(0), 0);
    clearEventfd(fd);
    raiseEventfd(fd);
    assert.equal(epoll.wait(0), 1);
    epoll.close();
    closeFd(fd);
  });

  test('a descriptor that cannot be polled is an error with its number', () => {
    const epoll = new Epoll(1);
    assert.throws(() => epoll.add(987_654, EPOLLIN), { message: 'epoll_ctl fd 987654: EBADF' });
    epoll.close();
    assert.ok(epoll.wait(0) < 0, 'it is closed');
  });
});
