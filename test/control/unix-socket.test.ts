import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { openUnixListener, type UnixListener } from '../../src/control/unix-socket.js';
import { E } from '../../src/sys/errno.js';
import { closeFd, tryLock } from '../../src/sys/process.js';
import { accept, boundUnixSocket, connectTo, knock, unixSocket } from '../../src/sys/socket.js';
import { openDescriptors } from '../data/rig.js';
import { Child, folder, moduleLines } from './children.js';

const NOBODY = 65_534;
const notRoot = process.getuid?.() !== 0 && 'needs root';

/** Listens for the time of the test. */
const listen = (t: TestContext, ...args: Parameters<typeof openUnixListener>): UnixListener => {
  const listener = openUnixListener(...args);
  t.after(() => closeFd(listener.fd));
  return listener;
};

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

/** A socket file that nobody listens on. */
const leaveBehind = (path: string): void => closeFd(boundUnixSocket({ path }));

const refused = (path: string, message: RegExp, exitCode: number): void => {
  const before = openDescriptors();
  assert.throws(
    () => openUnixListener({ path }),
    (error: Error & { exitCode?: number }) => {
      assert.equal(error.name, 'Failure');
      assert.match(error.message, message);
      assert.ok(error.message.includes(path.slice(0, 100)));
      return error.exitCode === exitCode;
    },
  );
  assert.equal(openDescriptors(), before);
};

describe('a listening unix socket', () => {
  test('takes connections at its path', (t) => {
    const path = join(folder(t), 'a.sock');
    const { fd } = listen(t, { path });
    assert.equal(accept(fd), -E.AGAIN);
    const client = unixSocket();
    assert.equal(connectTo(client, { path }), 0);
    const accepted = accept(fd);
    assert.ok(accepted >= 0);
    closeFd(accepted);
    closeFd(client);
  });

  test('has a file with the mode that it shall have, or as the umask has it', (t) => {
    const dir = folder(t);
    const before = process.umask(0o027);
    t.after(() => process.umask(before));
    for (const mode of [0o600, 0o660, 0o666, 0o777, 0]) {
      const path = join(dir, String(mode));
      listen(t, { path }, mode);
      assert.equal(modeOf(path), mode);
    }
    const path = join(dir, 'default');
    listen(t, { path });
    assert.equal(modeOf(path), 0o750);
    // The umask is as it was, after a failure too.
    refused(path, /another program listens there/, 69);
    assert.equal(process.umask(), 0o027);
  });

  test('has a queue as long as it is told', (t) => {
    const path = join(folder(t), 'a.sock');
    listen(t, { path }, null, 1);
    const clients = [unixSocket(), unixSocket(), unixSocket()];
    t.after(() => clients.forEach(closeFd));
    assert.deepEqual(
      clients.map((client) => connectTo(client, { path })),
      [0, 0, -E.AGAIN],
    );
  });

  test('with an abstract name has no file, and excludes another of its name', (t) => {
    const path = `@tproxy-test-${process.pid}-listen`;
    const { file } = listen(t, { path }, 0o600);
    assert.equal(file, null);
    assert.equal(existsSync(path), false);
    refused(path, /^bind unix:@.*: EADDRINUSE \(another program listens there\)$/, 69);
  });

  test('takes the place of a socket file that nobody listens on', (t) => {
    const path = join(folder(t), 'a.sock');
    leaveBehind(path);
    chmodSync(path, 0o777);
    listen(t, { path }, 0o640);
    assert.equal(modeOf(path), 0o640);
    assert.equal(knock({ path }), 0);
  });

  test('leaves one alone that somebody listens on, however busy, and what is no socket', (t) => {
    const dir = folder(t);
    const path = join(dir, 'a.sock');
    const { fd } = listen(t, { path }, null, 0);
    const waits = unixSocket();
    t.after(() => closeFd(waits));
    assert.equal(connectTo(waits, { path }), 0);
    refused(path, /EADDRINUSE \(another program listens there\)$/, 69);
    assert.ok(accept(fd) >= 0);

    const file = join(dir, 'file');
    writeFileSync(file, 'precious');
    refused(file, /EADDRINUSE \(there is a file that is no socket: it is not removed\)$/, 73);
    assert.equal(readFileSync(file, 'latin1'), 'precious');
    const directory = join(dir, 'directory');
    mkdirSync(directory);
    refused(directory, /is no socket/, 73);
    leaveBehind(join(dir, 'stale'));
    const link = join(dir, 'link');
    symlinkSync(join(dir, 'stale'), link);
    refused(link, /is no socket/, 73);
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.ok(statSync(join(dir, 'stale')).isSocket());
  });

  test('leaves a socket of another kind alone, which takes no connections of ours', async (t) => {
    const path = join(folder(t), 'log');
    const lines = `
      import { bindSocket, socket } from './sys/libc.js';
      import { writeSockaddr } from './sys/sockaddr.js';
      const address = Buffer.alloc(110);
      const fd = socket(1, 2, 0);
      bindSocket(fd, address, writeSockaddr({ path: ${JSON.stringify(path)} }, address));
      console.error('bound');
      setInterval(() => {}, 1000);
    `;
    await new Child(t, moduleLines(lines)).says(/bound/);
    refused(path, /another program has a socket of another kind there/, 69);
    assert.ok(lstatSync(path).isSocket());
  });

  test("leaves another user's socket file alone, though nobody listens there", { skip: notRoot }, (t) => {
    const path = join(folder(t), 'a.sock');
    leaveBehind(path);
    chownSync(path, NOBODY, NOBODY);
    refused(path, /nobody listens there, but it is user #65534's to remove/, 73);
    assert.ok(lstatSync(path).isSocket());
  });

  test('needs its directory, which has to be one that it may write to', { skip: notRoot }, async (t) => {
    const dir = folder(t);
    refused(join(dir, 'missing', 'a.sock'), /^bind unix:.*: ENOENT \(there is no such directory\)$/, 73);
    refused(`/${'x'.repeat(107)}`, /^bind unix:\/x+: ENAMETOOLONG \(more than 107 bytes\)$/, 78);
    chmodSync(dir, 0o755);
    const lines = `
      import { openUnixListener } from './control/unix-socket.js';
      try {
        openUnixListener({ path: ${JSON.stringify(join(dir, 'a.sock'))} });
      } catch ({ message, exitCode }) {
        console.error(message + ' ' + exitCode + '.');
      }
    `;
    await new Child(t, moduleLines(lines), { uid: NOBODY }).says(
      /a\.sock: EACCES \(we may not make files in its directory\) 77\./,
    );
  });

  test('waits for another that is just being opened in its directory, but not for good', (t) => {
    const dir = folder(t);
    const lock = openSync(dir, 'r');
    assert.equal(tryLock(lock), 0);
    t.mock.method(Atomics, 'wait', () => 'timed-out');
    refused(join(dir, 'a.sock'), /another program holds the lock of /, 69);
    closeSync(lock);
    listen(t, { path: join(dir, 'a.sock') });
  });
});

describe('the file of a listening unix socket', () => {
  test('is removed once', (t) => {
    const path = join(folder(t), 'a.sock');
    const { file } = listen(t, { path });
    assert.equal(file?.remove(), null);
    assert.equal(existsSync(path), false);
    assert.equal(file?.remove(), null);
  });

  test('stays when another has taken its place, and is ours whatever its mode and owner are now', (t) => {
    const path = join(folder(t), 'a.sock');
    const { file } = listen(t, { path });
    renameSync(path, `${path}.old`);
    const other = listen(t, { path });
    assert.equal(file?.remove(), null);
    assert.ok(existsSync(path));
    chmodSync(path, 0o600);
    assert.equal(other.file?.remove(), null);
    assert.equal(existsSync(path), false);
  });

  test('that may not be removed stays, and why is said', { skip: notRoot }, async (t) => {
    const dir = folder(t);
    const path = join(dir, 'a.sock');
    chmodSync(dir, 0o755);
    const lines = `
      import { openUnixListener } from './control/unix-socket.js';
      const { file } = openUnixListener({ path: ${JSON.stringify(path)} });
      process.setuid(${NOBODY});
      console.error(file.remove() + '.');
      process.exit();
    `;
    const child = new Child(t, moduleLines(lines));
    await child.says(/^unlink \S+a\.sock: EACCES: it stays behind, and the next start removes it\.$/m);
    assert.equal(await child.exit(), 0);
    assert.ok(existsSync(path));
    listen(t, { path });
  });
});
