import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { AccessLog } from '../../src/control/access-log.js';
import { Child, folder, freePort, PROGRAM, readAll, server } from './children.js';

describe('AccessLog', () => {
  test('appends, one byte a character, and keeps the file from strangers', (t) => {
    const path = join(folder(t), 'access.log');
    new AccessLog(path, null).write('one\n');
    new AccessLog(path, null).write('caf\u00e9 \u008a\n');
    assert.deepEqual(readFileSync(path), Buffer.from('one\ncaf\u00e9 \u008a\n', 'latin1'));
    assert.equal(statSync(path).mode & 0o007, 0);
  });

  test('after a rotation and reopen() lines go to the new file', (t) => {
    const path = join(folder(t), 'access.log');
    const log = new AccessLog(path, null);
    log.write('old\n');
    renameSync(path, `${path}.1`);
    log.write('old too\n');
    assert.equal(log.reopen(), null);
    log.write('new\n');
    assert.equal(readFileSync(`${path}.1`, 'latin1'), 'old\nold too\n');
    assert.equal(readFileSync(path, 'latin1'), 'new\n');
  });

  test('when it cannot be opened anew the old file stays in use, and the reason is told', (t) => {
    const path = join(folder(t), 'access.log');
    const log = new AccessLog(path, null);
    renameSync(path, `${path}.1`);
    mkdirSync(path);
    assert.match(log.reopen() ?? '', /^access log .*access\.log: EISDIR; the old file stays in use/);
    log.write('kept\n');
    assert.equal(readFileSync(`${path}.1`, 'latin1'), 'kept\n');
    rmdirSync(path);
    assert.equal(log.reopen(), null);
    assert.ok(existsSync(path));
  });

  test('a file that cannot be opened at the start is a failure with path, errno and exit code', (t) => {
    const path = join(folder(t), 'nowhere', 'access.log');
    assert.throws(() => new AccessLog(path, null), {
      name: 'Failure',
      message: `access log ${path}: ENOENT`,
      exitCode: 73,
    });
  });

  test('belongs to the user that is to open it again', { skip: process.getuid?.() !== 0 && 'needs root' }, (t) => {
    const path = join(folder(t), 'access.log');
    new AccessLog(path, { uid: 65_534, gid: 65_534 });
    const { uid, gid } = statSync(path);
    assert.deepEqual([uid, gid], [65_534, 65_534]);
  });

  test('a device is not given away', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
    const before = statSync('/dev/null').uid;
    new AccessLog('/dev/null', { uid: 65_534, gid: 65_534 });
    assert.equal(statSync('/dev/null').uid, before);
  });

  test('that the disk is full does not end the server', async (t) => {
    const target = await server(t, (socket) => socket.end('served'));
    const port = await freePort();
    const args = [
      '-d',
      '-s',
      `${port}`,
      '-b',
      '127.0.0.1',
      '-w',
      '1',
      '-l',
      '/dev/full',
      '-t',
      '127.0.0.1',
      `${target}`,
    ];
    const child = new Child(t, [PROGRAM, ...args]);
    await child.says(/ready:/);
    for (let i = 0; i < 3; i++) {
      const socket = connect({ port, host: '127.0.0.1' });
      assert.equal((await readAll(socket)).text, 'served');
      socket.destroy();
    }
    await child.says(/ENOSPC/);
    child.process.kill('SIGTERM');
    assert.equal(await child.exit(), 0);
  });
});
