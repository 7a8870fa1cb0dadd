import { type ChildProcess, type Serializable, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SocketAddress } from '../../src/address.js';
import { formatAddress } from '../../src/address.js';
import { type CpuAccount, type CpuMethod, chooseCpuMethod } from './cpu.js';
import type { Done } from './workload.js';

/** A program that the bench started. */
export interface Started {
  readonly child: ChildProcess;
  readonly cpu: CpuAccount;
  /** What it wrote to stderr, in one line: the first that tells of an error. */
  errors(): string;
}

/**
 * All programs that the bench started, each in a CPU account of its own. Stopping is by SIGKILL and process id, and
 * synchronous, so that it also works while this process exits.
 */
export class Processes {
  readonly #method: CpuMethod = chooseCpuMethod();
  #running: Started[] = [];
  #count = 0;

  get cpuMethod(): Pick<CpuMethod, 'description' | 'keepsEnded'> {
    return this.#method;
  }

  /** CPU time of all programs that run now, in seconds. */
  used(): number {
    return this.#running.reduce((sum, { cpu }) => sum + cpu.used(), 0);
  }

  /** `ipc` opens Node's channel for messages. */
  start(command: readonly string[], ipc = false): Started {
    const cpu = this.#method.open(`${this.#count++}`);
    const [program = '', ...args] = [...cpu.enter, ...command];
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(ipc ? (['ipc'] as const) : [])],
    });
    let tail = '';
    child.stderr?.on('data', (data: Buffer) => {
      tail = (tail + data.toString('latin1')).slice(-4096);
    });
    child.on('error', (error) => {
      tail += error.message;
    });
    if (child.pid !== undefined) cpu.started(child.pid);
    const started = { child, cpu, errors: () => firstError(tail) };
    this.#running.push(started);
    return started;
  }

  stop({ cpu }: Started): void {
    // Programs that fork go on doing so until the last of them is dead; the bound is 5 s.
    for (let i = 0; i < 500; i++) {
      const pids = cpu.pids();
      if (pids.length === 0) break;
      for (const pid of pids) kill(pid);
      Atomics.wait(pause, 0, 0, 10);
    }
    cpu.close();
    this.#running = this.#running.filter((started) => started.cpu !== cpu);
  }

  stopAll(): void {
    for (const started of this.#running) this.stop(started);
  }

  close(): void {
    this.stopAll();
    this.#method.close();
  }
}

/** Has a load generator do one job, an object that it understands. */
export const runJob = async ({ child, errors }: Started, job: Serializable): Promise<Done> => {
  const decided = new AbortController();
  const { signal } = decided;
  try {
    const exit = once(child, 'exit', { signal }).then(() => {
      throw new Error(`the load generator ended: ${errors()}`);
    });
    const message = once(child, 'message', { signal });
    child.send(job);
    const [done] = await Promise.race([message, exit]);
    return done as Done;
  } finally {
    decided.abort();
  }
};

const firstError = (text: string): string => {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return (lines.find((line) => /error|emerg|alert|cannot|can't|fail/i.test(line)) ?? lines[0] ?? 'no message').trim();
};

const pause = new Int32Array(new SharedArrayBuffer(4));

const kill = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
};

/** A loopback address whose port was free just now. */
export const freeAddress = async (): Promise<SocketAddress> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return { ip: '127.0.0.1', port };
};

/**
 * Waits until a program accepts connections.
 * @throws Error with what the program wrote to stderr, if it ended instead or 10 s have passed
 */
export const untilListening = async (
  { child, errors }: Pick<Started, 'child' | 'errors'>,
  address: SocketAddress,
): Promise<void> => {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(20)) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) break;
    if (await accepts(address)) return;
  }
  throw new Error(`not listening on ${formatAddress(address)}: ${errors()}`);
};

const accepts = (address: SocketAddress): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(address.port, address.ip);
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
