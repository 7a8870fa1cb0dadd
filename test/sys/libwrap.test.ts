import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadLibwrap } from '../../src/sys/libc.js';

test('a library that is not there is an error with what the loader says', () => {
  assert.throws(() => loadLibwrap('libnowhere.so.0'), /No such file or directory/);
});
