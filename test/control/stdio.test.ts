import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Child, folder, freePort, PROGRAM, server } from './children.js';

const PIPES = { stdio: ['pipe', 'pipe', 'pipe'] } as const;

const start = (t: TestContext, ...args: string[]): Child =>
  new Child(t, [PROGRAM, ...args], { stdio: [...PIPES.stdio] });

/** Answers the end of what it was told with `echo` and all of it. */
const echoServer = (t: TestContext): Promise<number> =>
  server(t, (socket) => {
    let told = '';
    socket.on('data', (data) => {
      told += data;
    });
    socket.on('end', () => socket.end(`echo ${told}`));
    // Where stdin or stdout fails, the connection is reset.
    socket.on('error', () => {});
  });

/** An HTTP proxy that answers the first request with `answer`, and then echoes; what it was asked is in `asked`. */
const proxy = async (t: TestContext, answer: string): Promise<{ port: number; asked: () => string }> => {
  let asked = '';
  const port = await server(t, (socket) => {
    const onHead = (data: Buffer): void => {
      asked += data.toString('latin1');
      if (!asked.includes('\r\n\r\n')) return;
      socket.off('data', onHead);
      socket.write(answer);
      socket.pipe(socket);
    };
    socket.on('data', onHead);
  });
  return { port, asked: () => asked };
};

describe('stdin and stdout', () => {
  test('are relayed to their ends, and the program exits with 0', async (t) => {
    const child = start(t, '-t', '127.0.0.1', `${await echoServer(t)}`);
    child.process.stdin?.end('hello');
    assert.equal(await child.exit(), 0);
    assert.deepEqual([child.stdout, child.stderr], ['echo hello', '']);
  });

  test('may be pipes, which keep their flags for those who share them', async (t) => {
    const port = await echoServer(t);
    // The shell's own write would fail with EAGAIN if it found the pipe non-blocking and full.
    const script =
      'printf hello | (cat; "$0" "$1" -t 127.0.0.1 "$2" </dev/null; head -c 1000000 /dev/zero) | (sleep 0.3; wc -c)';
    const shell = new Child(t, [
      '-e',
      `const child = require('node:child_process').spawn('sh', ['-c', ...process.argv.slice(1)], { stdio: 'inherit' });
       child.on('exit', (code) => process.exit(code))`,
      script,
      process.execPath,
      PROGRAM,
      `${port}`,
    ]);
    assert.equal(await shell.exit(), 0);
    assert.deepEqual([shell.stdout.trim(), shell.stderr], [`${'hello'.length + 'echo '.length + 1_000_000}`, '']);
  });

  test('may be files', async (t) => {
    const [from, to] = ['from', 'to'].map((name) => join(folder(t), name)) as [string, string];
    writeFileSync(from, 'x'.repeat(300_000));
    const fds = [openSync(from, 'r'), openSync(to, 'w')] as const;
    const child = new Child(t, [PROGRAM, '-t', '127.0.0.1', `${await echoServer(t)}`], { stdio: [...fds, 'pipe'] });
    for (const fd of fds) closeSync(fd);
    assert.equal(await child.exit(), 0);
    assert.equal(readFileSync(to, 'latin1'), `echo ${'x'.repeat(300_000)}`);
  });

  test('stdout ends with what the target says, while stdin still goes on', async (t) => {
    let got = '';
    const port = await server(t, (socket) => {
      socket.end('goodbye');
      socket.on('data', (data) => {
        got += data;
      });
    });
    const child = start(t, '-t', '127.0.0.1', `${port}`);
    await once(child.process.stdout ?? assert.fail(), 'end');
    assert.equal(child.stdout, 'goodbye');
    child.process.stdin?.end('not yet');
    assert.equal(await child.exit(), 0);
    assert.equal(got, 'not yet');
  });

  test('a target that refuses is told with every address and the errno, and exit code 69', async (t) => {
    const port = await freePort();
    const child = start(t, '-t', '127.0.0.1', `${port}`);
    assert.equal(await child.exit(), 69);
    assert.match(
      child.stderr,
      new RegExp(`^[-0-9]+ [:.0-9]+ warn .*: connect 127\\.0\\.0\\.1:${port}: ECONNREFUSED\\n$`),
    );
    assert.equal(child.stdout, '');
  });

  test('a connection that breaks off is told, with exit code 69', async (t) => {
    const port = await server(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
    const child = start(t, '-t', '127.0.0.1', `${port}`);
    child.process.stdin?.write('hello');
    assert.equal(await child.exit(), 69);
    assert.match(child.stderr, /^[-0-9]+ [:.0-9]+ warn .*: upstream: recv: ECONNRESET\n$/);
  });

  test('without a reader of stdout it ends, and says nothing', async (t) => {
    const port = await server(t, (socket) => {
      socket.on('data', (data) => socket.write(data));
      socket.on('error', () => {});
    });
    const child = start(t, '-t', '127.0.0.1', `${port}`);
    child.process.stdout?.destroy();
    // The first write may still find the other end.
    const writing = setInterval(() => child.process.stdin?.write('hello'), 20);
    t.after(() => clearInterval(writing));
    child.process.stdin?.on('error', () => {});
    assert.equal(await child.exit(), 0);
    assert.equal(child.stderr, '');
  });

  test('an error of either is told, with exit code 74', async (t) => {
    const port = await echoServer(t);
    for (const [stdin, stdout, message] of [
      ['/dev/null', '/dev/full', 'tproxy: write standard output: ENOSPC\n'],
      ['/', '/dev/null', 'tproxy: read standard input: EISDIR\n'],
    ] as const) {
      const fds = [openSync(stdin, 'r'), openSync(stdout, 'w')] as const;
      const child = new Child(t, [PROGRAM, '-t', '127.0.0.1', `${port}`], { stdio: [...fds, 'pipe'] });
      for (const fd of fds) closeSync(fd);
      assert.equal(await child.exit(), 74);
      assert.equal(child.stderr, message);
    }
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    test(`${signal} ends it`, async (t) => {
      let connected: () => void = () => {};
      const connection = new Promise<void>((resolve) => {
        connected = resolve;
      });
      const port = await server(t, () => connected());
      const child = start(t, '-t', '127.0.0.1', `${port}`);
      await connection;
      child.process.kill(signal);
      assert.equal(await child.exit(), signal);
    });
  }

  test('have no limit of silence but the one that is asked for', async (t) => {
    const port = await server(t, () => {});
    const child = start(t, '--timeout', '0.3', '-t', '127.0.0.1', `${port}`);
    assert.equal(await child.exit(), 0);
  });

  test('have no address, so what asks for one is refused', async (t) => {
    const child = start(t, '-a', '127.0.0.0/8', '-t', '127.0.0.1', '22');
    assert.equal(await child.exit(), 64);
    assert.match(child.stderr, /^tproxy: an access list: that needs a client's address, and stdin has none\n$/);
  });

  test('without a target there is nothing to do', async (t) => {
    for (const args of [['-t'], ['127.0.0.1', '3128']]) {
      const child = start(t, ...args);
      assert.equal(await child.exit(), 64);
      assert.match(child.stderr, /^tproxy: there is no -s \(--server\), and stdin is no socket/);
    }
  });
});

describe('stdin and stdout through an upstream', () => {
  test('go by CONNECT with Host and credentials, and what the target says at once is kept', async (t) => {
    const { port, asked } = await proxy(t, 'HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nSSH-2.0-early\r\n');
    // A name that only the upstream knows.
    const child = start(t, '-p', '--upstream', `us%65r:pass@127.0.0.1:${port}`, '-t', 'inside.invalid', '22');
    child.process.stdin?.end('hello');
    assert.equal(await child.exit(), 0);
    assert.equal(child.stdout, 'SSH-2.0-early\r\nhello');
    assert.equal(child.stderr, '');
    assert.deepEqual(asked().split('\r\n').slice(0, 5), [
      'CONNECT inside.invalid:22 HTTP/1.1',
      'Host: inside.invalid:22',
      'Proxy-Authorization: Basic dXNlcjpwYXNz',
      '',
      '',
    ]);
  });

  test('that declines end with its status, exit code 69, and nothing on stdout', async (t) => {
    const { port } = await proxy(t, 'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nsorry');
    const child = start(t, '--upstream', `127.0.0.1:${port}`, '-t', '127.0.0.1', '22');
    assert.equal(await child.exit(), 69);
    assert.match(
      child.stderr,
      new RegExp(` warn .*upstream 127\\.0\\.0\\.1:${port} for 127\\.0\\.0\\.1:22: .* status 407`),
    );
    assert.equal(child.stdout, '');
  });

  test('that is down go past it and say so at once, but not with -p', async (t) => {
    const down = await freePort();
    const port = await server(t, (socket) => socket.end('straight'));
    const past = start(t, '--upstream', `127.0.0.1:${down}`, '-t', '127.0.0.1', `${port}`);
    await past.says(new RegExp(` warn .*connect 127\\.0\\.0\\.1:${down}: ECONNREFUSED; going past the upstream\n`));
    past.process.stdin?.end();
    assert.equal(await past.exit(), 0);
    assert.equal(past.stdout, 'straight');

    const only = start(t, '-p', '--upstream', `127.0.0.1:${down}`, '-t', '127.0.0.1', `${port}`);
    assert.equal(await only.exit(), 69);
    assert.match(only.stderr, / warn .*: ECONNREFUSED\n$/);
  });

  test('begin with a PROXY header that has no address', async (t) => {
    const child = start(t, '--proxy-protocol', 'v1', '-t', '127.0.0.1', `${await echoServer(t)}`);
    child.process.stdin?.end('hello');
    assert.equal(await child.exit(), 0);
    assert.equal(child.stdout, 'echo PROXY UNKNOWN\r\nhello');
  });

  test('have their line in the access log while they are open', async (t) => {
    const path = join(folder(t), 'access.log');
    const port = await server(t, (socket) => socket.write('open'));
    const child = start(t, '-l', path, '-t', '127.0.0.1', `${port}`);
    await once(child.process.stdout ?? assert.fail(), 'data');
    assert.match(readFileSync(path, 'latin1'), new RegExp(` {2}Transparent {3}1 - -> 127\\.0\\.0\\.1:${port}\n$`));
    child.process.kill('SIGHUP');
    assert.equal(await child.exit(), 'SIGHUP');
  });
});
