import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { E } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import {
  connectAbstract,
  listenAbstract,
  MOST_FDS,
  peerCredentials,
  receiveRights,
  sendRights,
} from '../../src/sys/rights.js';
import { accept } from '../../src/sys/socket.js';

let names = 0;

/** A connected pair. */
const pair = (): { listener: number; near: number; far: number; close: () => void } => {
  const name = `transproxy-test/${process.pid}/${++names}`;
  const listener = listenAbstract(name);
  const near = connectAbstract(name);
  const far = accept(listener);
  assert.ok(far >= 0);
  return { listener, near, far, close: () => [listener, near, far].forEach(closeFd) };
};

const received = (fd: number) => {
  const message = receiveRights(fd);
  return typeof message === 'number' ? assert.fail(`errno ${-message}`) : message;
};

describe('messages with descriptors', () => {
  test('a message arrives whole, with copies of what it carries, which are not handed on', () => {
    const { near, far, close } = pair();
    const file = openSync('/proc/self/status', 'r');
    assert.equal(sendRights(near, Buffer.from('two'), [file, file]), 0);
    assert.equal(sendRights(near, Buffer.from('none'), []), 0);
    const first = received(far);
    assert.equal(first.data.toString(), 'two');
    assert.equal(first.fds.length, 2);
    for (const fd of first.fds) {
      assert.equal(fstatSync(fd).ino, fstatSync(file).ino);
      assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'), /^flags:\t0?2[0-7]{6}$/m);
      closeSync(fd);
    }
    const second = received(far);
    assert.equal(second.data.toString(), 'none');
    assert.deepEqual(second.fds, []);
    closeSync(file);
    close();
  });

  test('as many descriptors as one message may have, and more are refused', () => {
    const { near, far, close } = pair();
    const many = Array.from({ length: MOST_FDS }, () => 0);
    assert.equal(sendRights(near, Buffer.from('many'), many), 0);
    const { fds } = received(far);
    assert.equal(new Set(fds).size, MOST_FDS);
    fds.forEach(closeFd);
    assert.ok(sendRights(near, Buffer.from('more'), [...many, 0]) < 0);
    close();
  });

  test('nothing there is EAGAIN, and the end is a message without bytes', () => {
    const { listener, near, far } = pair();
    assert.equal(receiveRights(far), -E.AGAIN);
    closeFd(near);
    assert.equal(received(far).data.length, 0);
    closeFd(far);
    closeFd(listener);
  });

  test('both ends know each other’s process and user', () => {
    const { near, far, close } = pair();
    const us = { pid: process.pid, uid: process.getuid?.() };
    assert.deepEqual(peerCredentials(near), us);
    assert.deepEqual(peerCredentials(far), us);
    close();
  });

  test('a name is one listener’s, and nobody’s when that has closed', () => {
    const name = `transproxy-test/${process.pid}/taken`;
    const fd = listenAbstract(name);
    assert.throws(() => listenAbstract(name), { message: `bind @${name}: EADDRINUSE` });
    closeFd(fd);
    assert.throws(() => connectAbstract(name), { message: `connect @${name}: ECONNREFUSED` });
  });
});
