import assert from 'node:assert/strict';
import type { StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { Child, connection, moduleLines } from './children.js';

/** What a process with these descriptors thinks it was started on. LISTEN_PID is its own. */
const inspect = async (
  t: TestContext,
  stdio: StdioOptions,
  env: Record<string, string> = {},
): Promise<Record<string, unknown> | string> => {
  const child = new Child(
    t,
    moduleLines(`
      import { writeSync } from 'node:fs';
      import { inspectInheritance } from './control/inherited.js';
      if (process.env.LISTEN_FDS) process.env.LISTEN_PID ??= String(process.pid);
      try {
        const found = inspectInheritance();
        const left = Object.keys(process.env).filter((name) => name.startsWith('LISTEN_'));
        writeSync(2, JSON.stringify({ ...found, left }));
      } catch (error) {
        writeSync(2, 'error: ' + error.message);
      }
    `),
    { stdio, env },
  );
  await child.exit();
  return child.stderr.startsWith('{') ? JSON.parse(child.stderr) : child.stderr;
};

const listening = async (t: TestContext): Promise<{ fd: number }> => {
  const made = createServer().listen(0, '127.0.0.1');
  await once(made, 'listening');
  t.after(() => made.close());
  return { fd: (made as unknown as { _handle: { fd: number } })._handle.fd };
};

describe('what a process was started on', () => {
  test("a listening socket at 0 is inetd's wait", async (t) => {
    const { fd } = await listening(t);
    assert.deepEqual(await inspect(t, [fd, fd, 'pipe']), { kind: 'listening', fds: [0], left: [] });
  });

  test("a connected socket at 0 and 1 is inetd's nowait", async (t) => {
    const { far, close } = await connection();
    assert.deepEqual(await inspect(t, [far, far, 'pipe']), { kind: 'connection', fd: 0, left: [] });
    close();
  });

  test('a TCP connection at 0 is one whatever stands at 1, as with StandardOutput=null', async (t) => {
    const { far, close } = await connection();
    assert.deepEqual(await inspect(t, [far, 'ignore', 'pipe']), { kind: 'connection', fd: 0, left: [] });
    close();
  });

  test('pipes, files and nothing are stdio', async (t) => {
    assert.deepEqual(await inspect(t, ['pipe', 'pipe', 'pipe']), { kind: 'stdio', left: [] });
    assert.deepEqual(await inspect(t, ['ignore', 'ignore', 'pipe']), { kind: 'stdio', left: [] });
    const file = openSync('/etc/passwd', 'r');
    assert.deepEqual(await inspect(t, [file, 'ignore', 'pipe']), { kind: 'stdio', left: [] });
    closeSync(file);
  });

  test('LISTEN_FDS counts listening sockets from 3, and is not handed on', async (t) => {
    const a = await listening(t);
    const b = await listening(t);
    const env = { LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:b' };
    assert.deepEqual(await inspect(t, ['ignore', 'ignore', 'pipe', a.fd, b.fd], env), {
      kind: 'listening',
      fds: [3, 4],
      left: [],
    });
  });

  test("LISTEN_FDS with one connected socket is systemd's Accept=yes", async (t) => {
    const { far, close } = await connection();
    assert.deepEqual(await inspect(t, ['ignore', 'ignore', 'pipe', far], { LISTEN_FDS: '1' }), {
      kind: 'connection',
      fd: 3,
      left: [],
    });
    close();
  });

  test('LISTEN_FDS for another process is none of ours', async (t) => {
    const { fd } = await listening(t);
    assert.deepEqual(await inspect(t, ['ignore', 'ignore', 'pipe', fd], { LISTEN_FDS: '1', LISTEN_PID: '1' }), {
      kind: 'stdio',
      left: [],
    });
  });

  test('among listening sockets anything else is an error, not something to accept from', async (t) => {
    const { fd } = await listening(t);
    const found = await inspect(t, ['ignore', 'ignore', 'pipe', fd, 'pipe'], { LISTEN_FDS: '2' });
    assert.equal(typeof found, 'string', JSON.stringify(found));
    assert.match(found as string, /^error: .*\b4\b/);
  });
});
