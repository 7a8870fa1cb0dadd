import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { E, errnoName, must, SystemError } from '../../src/sys/errno.js';

describe('errno', () => {
  test('numbers have the names that the man pages use for sockets', () => {
    assert.equal(errnoName(111), 'ECONNREFUSED');
    assert.equal(errnoName(E.AGAIN), 'EAGAIN');
    assert.equal(errnoName(E.MFILE), 'EMFILE');
    assert.equal(errnoName(4711), 'errno 4711');
  });

  test('a failed call says what, on what, and why', () => {
    assert.equal(new SystemError('connect', 111, { ip: '::1', port: 80 }).message, 'connect [::1]:80: ECONNREFUSED');
    assert.equal(new SystemError('epoll_ctl', E.NOMEM, 'fd 7').message, 'epoll_ctl fd 7: ENOMEM');
    const plain = new SystemError('pipe2', E.MFILE);
    assert.equal(plain.message, 'pipe2: EMFILE');
    assert.deepEqual([plain.code, plain.errno, plain.syscall], ['EMFILE', E.MFILE, 'pipe2']);
  });

  test('a result passes, a negated errno is thrown', () => {
    assert.equal(must(0, 'bind'), 0);
    assert.equal(must(7, 'socket'), 7);
    assert.throws(() => must(-E.ADDRINUSE, 'bind', { ip: '0.0.0.0', port: 80 }), {
      name: 'SystemError',
      message: 'bind 0.0.0.0:80: EADDRINUSE',
      code: 'EADDRINUSE',
    });
  });
});
