import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseMode, readUnix } from '../../src/config/unix.js';
import { UsageError } from '../../src/config/usage-error.js';

const refused = (call: () => unknown, message: RegExp): void =>
  assert.throws(call, (error) => error instanceof UsageError && message.test(error.message));

describe('readUnix', () => {
  test('takes absolute paths and abstract names behind unix:, and leaves all else to others', () => {
    assert.deepEqual(readUnix('-s', 'unix:/run/app.sock'), { path: '/run/app.sock' });
    assert.deepEqual(readUnix('-s', 'unix:@app'), { path: '@app' });
    assert.deepEqual(readUnix('-s', 'unix:/with space:and,all'), { path: '/with space:and,all' });
    for (const other of ['8080', 'unix', 'host', '/run/app.sock', '@app', 'UNIX:/a']) {
      assert.equal(readUnix('-s', other), null);
    }
  });

  test('takes 107 bytes, and says so of more', () => {
    assert.deepEqual(readUnix('-s', `unix:/${'x'.repeat(106)}`), { path: `/${'x'.repeat(106)}` });
    refused(
      () => readUnix('-s', `unix:/${'x'.repeat(107)}`),
      /^-s: "unix:\/x+.*" has more than 107 bytes behind unix:$/,
    );
    refused(() => readUnix('-s', `unix:/${'é'.repeat(54)}`), /more than 107 bytes/);
  });

  test('refuses what is neither a path nor a name', () => {
    for (const text of ['unix:', 'unix:a', 'unix:/', 'unix:@', 'unix:./a']) {
      refused(() => readUnix('-s', text), /^-s: "unix:.*" is neither unix:\/PATH nor unix:@NAME$/);
    }
  });
});

describe('parseMode', () => {
  test('reads permissions in octal', () => {
    assert.equal(parseMode('--socket-mode', '660'), 0o660);
    assert.equal(parseMode('--socket-mode', '0600'), 0o600);
    assert.equal(parseMode('--socket-mode', '777'), 0o777);
    assert.equal(parseMode('--socket-mode', '000'), 0);
  });

  test('refuses other digits, other lengths and other bits', () => {
    for (const text of ['', '66', '668', '1777', '0o660', 'rw', '06600']) {
      refused(() => parseMode('--socket-mode', text), /is not a mode from 000 to 777, in octal$/);
    }
  });
});
