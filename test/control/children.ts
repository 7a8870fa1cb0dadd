/** Programs that a test starts: the real `tproxy`, and a few lines of a module's own. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export const PROGRAM = fileURLToPath(new URL('../../src/main.js', import.meta.url));

const WITHIN = 20_000;

/** A temporary folder for one test. */
export const folder = (t: TestContext): string => {
  const path = mkdtempSync(join(tmpdir(), 'tproxy-test-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
};

/** A child process and what it said on stderr and stdout; it is ended with the test. */
export class Child {
  readonly process: ChildProcess;
  readonly exited: Promise<number | string>;
  stdout = '';
  stderr = '';
  #said: () => void = () => {};

  constructor(
    t: TestContext,
    args: readonly string[],
    options: { stdio?: StdioOptions; env?: Record<string, string>; uid?: number } = {},
  ) {
    const { stdio = ['ignore', 'pipe', 'pipe'], env = {}, uid } = options;
    const identity = uid === undefined ? {} : { uid, gid: uid };
    this.process = spawn(process.execPath, args, { stdio, env: { ...process.env, ...env }, ...identity });
    this.process.stdout?.on('data', (data) => {
      this.stdout += data;
      this.#said();
    });
    this.process.stderr?.on('data', (data) => {
      this.stderr += data;
      this.#said();
    });
    this.exited = once(this.process, 'close').then(([code, signal]) => code ?? signal);
    t.after(async () => {
      this.process.kill('SIGKILL');
      await this.exited;
    });
  }

  /** Waits until `pattern` is on stderr. */
  async says(pattern: RegExp): Promise<void> {
    await within(
      `${pattern} on stderr`,
      () => `${this.stderr}`,
      async () => {
        while (!pattern.test(this.stderr)) {
          await new Promise<void>((resolve) => {
            this.#said = resolve;
          });
        }
      },
    );
  }

  /** The exit code, or the signal's name. */
  async exit(): Promise<number | string> {
    return within(
      'its end',
      () => this.stderr,
      () => this.exited,
    );
  }
}

const within = async <T>(what: string, soFar: () => string, wait: () => Promise<T>): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come; so far: ${soFar()}`)), WITHIN);
  });
  try {
    return await Promise.race([wait(), late]);
  } finally {
    clearTimeout(timer);
  }
};

/** Runs the lines of an ES module with `dist/src` as its folder. */
export const moduleLines = (lines: string): string[] => {
  const base = new URL('../../src/', import.meta.url).href;
  return ['--input-type=module', '-e', lines.replaceAll(/from '\.\//g, `from '${base}`)];
};

/** A server on loopback that the test ends. */
export const server = async (t: TestContext, onConnection: (socket: Socket) => void): Promise<number> => {
  // A worker that was stopped leaves its descriptors to the end of the process, so their other ends are ended here.
  const sockets = new Set<Socket>();
  const made: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    onConnection(socket);
  });
  made.listen(0, '127.0.0.1');
  await once(made, 'listening');
  t.after(() => {
    made.close();
    for (const socket of sockets) socket.destroy();
  });
  return (made.address() as AddressInfo).port;
};

/** A port on loopback where nobody listens. */
export const freePort = async (): Promise<number> => {
  const made = createServer().listen(0, '127.0.0.1');
  await once(made, 'listening');
  const { port } = made.address() as AddressInfo;
  made.close();
  await once(made, 'close');
  return port;
};

/** Both ends of a connection; the far one may be given to a child. */
export const connection = async (): Promise<{ near: Socket; far: Socket; close: () => void }> => {
  const made = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  made.listen(0, '127.0.0.1');
  await once(made, 'listening');
  const near = connect({ host: '127.0.0.1', port: (made.address() as AddressInfo).port, allowHalfOpen: true });
  const [far] = (await once(made, 'connection')) as [Socket];
  if (near.connecting) await once(near, 'connect');
  made.close();
  return { near, far, close: () => near.destroy() };
};

/** Everything that arrives until the stream ends or breaks; the errno's name in the latter case. */
export const readAll = async (socket: Socket): Promise<{ text: string; error: string | null }> => {
  let text = '';
  let error: string | null = null;
  socket.on('data', (data) => {
    text += data.toString('latin1');
  });
  await within(
    'the end of the stream',
    () => text,
    () =>
      new Promise<void>((resolve) => {
        socket.on('end', () => resolve());
        socket.on('error', (failure: NodeJS.ErrnoException) => {
          error = failure.code ?? failure.message;
          resolve();
        });
      }),
  );
  return { text, error };
};
