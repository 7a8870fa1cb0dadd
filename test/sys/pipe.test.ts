import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { describe, test } from 'node:test';
import { E } from '../../src/sys/errno.js';
import * as libc from '../../src/sys/libc.js';
import { closePipe, createPipe, type Pipe, splice } from '../../src/sys/pipe.js';
import { pair, pattern } from '../data/rig.js';

const F_GETFD = 1;
const F_GETFL = 3;
const F_GETPIPE_SZ = 1032;
const O_NONBLOCK = 0o4000;

const aPipe = (size = 65_536): Pipe => {
  const pipe = createPipe(size);
  assert.ok(typeof pipe !== 'number');
  return pipe;
};

describe('a pipe', () => {
  test('is not handed on, does not block, and is grown where that is allowed', () => {
    const pipe = aPipe(1024 * 1024);
    for (const end of [pipe.readEnd, pipe.writeEnd]) {
      assert.equal(libc.fcntl(end, F_GETFD, 0), 1);
      assert.equal(libc.fcntl(end, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    }
    const size = libc.fcntl(pipe.readEnd, F_GETPIPE_SZ, 0);
    // An ordinary user may have used up the pages of all pipes; root may not.
    if (process.getuid?.() === 0) assert.equal(size, 1024 * 1024);
    else assert.ok(size >= 4096);
    closePipe(pipe);
  });

  test('has both ends closed by closePipe', () => {
    const pipe = aPipe();
    closePipe(pipe);
    for (const end of [pipe.readEnd, pipe.writeEnd]) assert.throws(() => fstatSync(end), { code: 'EBADF' });
  });

  test('carries bytes from one socket to another, and says how many', () => {
    const [sender, near] = pair();
    const [far, receiver] = pair();
    const pipe = aPipe();
    const bytes = pattern(10_000);
    sender.send(bytes);
    assert.equal(splice(near.fd, pipe.writeEnd, 4000), 4000);
    assert.equal(splice(pipe.readEnd, far.fd, 4000), 4000);
    assert.equal(splice(near.fd, pipe.writeEnd, 1_000_000), 6000);
    assert.equal(splice(pipe.readEnd, far.fd, 6000), 6000);
    receiver.read();
    assert.ok(receiver.got.equals(bytes));
    closePipe(pipe);
    for (const peer of [sender, near, far, receiver]) peer.close();
  });

  test('does not wait: nothing to read, a full pipe and a full socket are EAGAIN', () => {
    const [sender, near] = pair();
    const [far, receiver] = pair();
    const pipe = aPipe();
    assert.equal(splice(near.fd, pipe.writeEnd, 1000), -E.AGAIN);
    assert.equal(splice(pipe.readEnd, far.fd, 1000), -E.AGAIN);
    sender.send(pattern(4_000_000));
    let count = 1;
    for (let i = 0; i < 1000 && count > 0; i++) {
      sender.flush();
      count = splice(near.fd, pipe.writeEnd, 1_000_000);
    }
    assert.equal(count, -E.AGAIN, 'the pipe is full while the socket has more');
    count = 1;
    far.send(pattern(64_000_000));
    for (let i = 0; i < 1000 && count > 0; i++) count = splice(pipe.readEnd, far.fd, 65_536);
    assert.equal(count, -E.AGAIN, 'nobody reads');
    closePipe(pipe);
    for (const peer of [sender, near, far, receiver]) peer.close();
  });

  test('says 0 at the end of the stream, and the errno of a reset', () => {
    const [sender, near] = pair();
    const pipe = aPipe();
    sender.send('x');
    sender.shutdown();
    assert.equal(splice(near.fd, pipe.writeEnd, 1000), 1);
    assert.equal(splice(near.fd, pipe.writeEnd, 1000), 0);
    sender.reset();
    const [other, far] = pair();
    other.reset();
    assert.equal(splice(pipe.readEnd, far.fd, 1), -E.CONNRESET);
    assert.equal(splice(pipe.readEnd, far.fd, 1), -E.PIPE, 'and the signal did not end the process');
    closePipe(pipe);
    near.close();
    far.close();
  });
});
