import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { removePidFile, writePidFile } from '../../src/control/pid-file.js';
import { Child, folder, freePort, PROGRAM } from './children.js';

describe('the pid file', () => {
  test('holds our number in a line, in the place of an older one', (t) => {
    const path = join(folder(t), 'tproxy.pid');
    writePidFile(path);
    writePidFile(path);
    assert.equal(readFileSync(path, 'latin1'), `${process.pid}\n`);
    removePidFile(path);
    assert.equal(existsSync(path), false);
  });

  test('that cannot be removed any more is no error', (t) => {
    removePidFile(join(folder(t), 'gone', 'tproxy.pid'));
  });

  test('that cannot be written is a failure with path, errno and exit code', (t) => {
    const path = join(folder(t), 'nowhere', 'tproxy.pid');
    assert.throws(() => writePidFile(path), { name: 'Failure', message: `pid file ${path}: ENOENT`, exitCode: 73 });
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
