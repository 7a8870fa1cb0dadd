import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Child, connection, freePort, PROGRAM, readAll, server } from './children.js';

describe('one connection on fd 0', () => {
  test('is served to its end, and the program exits', async (t) => {
    const target = await server(t, (socket) => {
      socket.on('data', (data) => socket.write(`echo ${data}`));
      socket.on('end', () => socket.end());
    });
    const { near, far } = await connection();
    const child = new Child(t, [PROGRAM, '-t', '127.0.0.1', `${target}`], { stdio: [far, far, far] });
    far.destroy();
    near.end('hello');
    assert.deepEqual(await readAll(near), { text: 'echo hello', error: null });
    assert.equal(await child.exit(), 0);
  });

  test('an upstream that refuses is a 502 for the client, and no line of a log', async (t) => {
    const { near, far } = await connection();
    const args = ['-p', '127.0.0.1', `${await freePort()}`];
    const child = new Child(t, [PROGRAM, ...args], { stdio: [far, far, far] });
    far.destroy();
    near.end('GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n');
    const { text } = await readAll(near);
    assert.match(text, /^HTTP\/1\.1 502 [\s\S]*<\/html>\n$/);
    assert.equal(await child.exit(), 0);
  });

  test('what goes wrong at the start does not reach the client as bytes', async (t) => {
    for (const args of [
      ['no such host', '3128'],
      ['-r', 'no-such-user', '127.0.0.1', '3128'],
    ]) {
      const { near, far } = await connection();
      const child = new Child(t, [PROGRAM, ...args], { stdio: [far, far, far] });
      far.destroy();
      const { text } = await readAll(near);
      assert.equal(text, '', args.join(' '));
      assert.notEqual(await child.exit(), 0);
      near.destroy();
    }
  });

  test('--verify-host is refused: one connection could not wait for names to be looked up', async (t) => {
    const { near, far } = await connection();
    const args = ['--verify-host', 'strict', '127.0.0.1', '9'];
    const child = new Child(t, [PROGRAM, ...args], { stdio: [far, far, 'pipe'] });
    far.destroy();
    assert.deepEqual(await readAll(near), { text: '', error: null });
    assert.equal(await child.exit(), 64);
    assert.match(
      child.stderr,
      /^tproxy: --verify-host looks names up while it serves: that needs -s \(--server\), or .*\n$/,
    );
  });
});
