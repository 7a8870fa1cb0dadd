import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PidFile, readPidFile } from '../../src/control/pid-file.js';
import { Child, folder, freePort, PROGRAM } from './children.js';

describe('the pid file', () => {
  test('holds our number in a line, in the place of an older one', (t) => {
    const path = join(folder(t), 'tproxy.pid');
    writeFileSync(path, '4711\n');
    const file = new PidFile(path);
    assert.equal(readPidFile(path), 4711);
    file.write();
    assert.equal(readFileSync(path, 'latin1'), `${process.pid}\n`);
    assert.equal(readPidFile(path), process.pid);
    file.remove();
    assert.equal(existsSync(path), false);
    assert.equal(readPidFile(path), null);
  });

  test('that another process has written its number into is not removed', (t) => {
    const path = join(folder(t), 'tproxy.pid');
    const file = new PidFile(path);
    file.write();
    writeFileSync(path, '4711\n');
    file.remove();
    assert.equal(existsSync(path), true);
  });

  test('that cannot be removed any more is no error', (t) => {
    const path = join(folder(t), 'tproxy.pid');
    const file = new PidFile(path);
    rmSync(path);
    file.remove();
  });

  test('that names no process is a failure when it is read', (t) => {
    const path = join(folder(t), 'tproxy.pid');
    for (const text of ['0', '-1', '12 34', 'x', '12345678901']) {
      writeFileSync(path, text);
      assert.throws(() => readPidFile(path), { message: `pid file ${path}: it names no process`, exitCode: 66 }, text);
    }
  });

  test('that cannot be written is a failure with path, errno and exit code', (t) => {
    const path = join(folder(t), 'nowhere', 'tproxy.pid');
    assert.throws(() => new PidFile(path), { name: 'Failure', message: `pid file ${path}: ENOENT`, exitCode: 73 });
  });

  test('is there while the server serves, and gone after it has ended', async (t) => {
    const path = join(folder(t), 'tproxy.pid');
    const args = ['-d', '-s', `${await freePort()}`, '-b', '127.0.0.1', '-w', '1', '-P', path, '-t', '127.0.0.1', '9'];
    const child = new Child(t, [PROGRAM, ...args]);
    await child.says(/ready:/);
    assert.equal(readFileSync(path, 'latin1'), `${child.process.pid}\n`);
    child.process.kill('SIGTERM');
    assert.equal(await child.exit(), 0);
    assert.equal(existsSync(path), false);
  });

  test('does not stay behind when the server cannot start', {
    skip: process.getuid?.() !== 0 && 'needs root',
  }, async (t) => {
    // A user that may not become another.
    const path = join(tmpdir(), `tproxy-test-${process.pid}.pid`);
    t.after(() => rmSync(path, { force: true }));
    const args = [
      '-d',
      '-s',
      `${await freePort()}`,
      '-b',
      '127.0.0.1',
      '-P',
      path,
      '-r',
      'root',
      '-t',
      '127.0.0.1',
      '9',
    ];
    const child = new Child(t, [PROGRAM, ...args], { uid: 65_534 });
    assert.equal(await child.exit(), 77);
    assert.match(child.stderr, /^tproxy: can't become user root/);
    assert.equal(existsSync(path), false);
  });
});
