/**
 * `node dist/scripts/services.js [COUNT]`: a file with COUNT services (1000 unless told), given to tproxy and to rinetd.
 * Prints for each how long it takes from the start until the last service takes a connection, how long from SIGHUP until a
 * service does that was not there before, and the memory that is resident then. Everything is on loopback.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { built, findProgram } from './bench/peers.js';

const FIRST_PORT = 20_000;
const LIMIT = 30_000;

interface Contestant {
  readonly name: string;
  readonly file: string;
  readonly command: readonly string[];
  /** The file's text for services on these ports. */
  text(ports: readonly number[]): string;
}

const takesConnections = (port: number): Promise<boolean> =>
  new Promise((settle) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
    socket.once('close', () => settle(false));
    socket.once('connect', () => socket.destroy());
  });

/** Milliseconds until the port takes a connection. */
const untilServed = async (port: number, child: ChildProcess): Promise<number> => {
  const begin = performance.now();
  while (!(await takesConnections(port))) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    if (performance.now() - begin > LIMIT) throw new Error(`port ${port} takes no connections`);
    await sleep(2);
  }
  return performance.now() - begin;
};

const residentOf = (pid: number | undefined): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;

const measure = async ({ name, file, command, text }: Contestant, count: number): Promise<string> => {
  const ports = Array.from({ length: count }, (_, i) => FIRST_PORT + i);
  writeFileSync(file, text(ports));
  const [program, ...args] = command;
  const child = spawn(program as string, args, { stdio: ['ignore', 'ignore', 'ignore'] });
  try {
    const start = await untilServed(FIRST_PORT + count - 1, child);
    await sleep(1000);
    const before = residentOf(child.pid);
    const reloads: number[] = [];
    for (let i = 0; i < 5; i++) {
      const port = FIRST_PORT + count + i;
      writeFileSync(file, text([...ports, port]));
      child.kill('SIGHUP');
      reloads.push(await untilServed(port, child));
      await sleep(1000);
    }
    const middle = reloads.sort((a, b) => a - b)[2] as number;
    const columns = [start, middle, before, residentOf(child.pid)].map((value) => value.toFixed(0).padStart(12));
    return `${name.padEnd(10)}${columns.join('')}`;
  } finally {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
};

const count = Number(process.argv[2] ?? 1000);
const folder = mkdtempSync(join(tmpdir(), 'tproxy-services-'));
const planFile = join(folder, 'plan.json');
const rinetdFile = join(folder, 'rinetd.conf');
const rinetd = findProgram('rinetd');
const contestants: Contestant[] = [
  {
    name: 'tproxy',
    file: planFile,
    command: [process.execPath, built('test/support/serve-plan.js'), planFile],
    text: (ports) =>
      JSON.stringify({
        services: ports.map((port) => ({
          name: `service ${port}`,
          listen: [{ host: '127.0.0.1', port }],
          targets: [{ to: { host: '127.0.0.1', port: 9 }, weight: 1, source: null }],
        })),
      }),
  },
  ...(rinetd === null
    ? []
    : [
        {
          name: 'rinetd',
          file: rinetdFile,
          command: [rinetd, '-f', '-c', rinetdFile],
          text: (ports: readonly number[]) => ports.map((port) => `127.0.0.1 ${port} 127.0.0.1 9\n`).join(''),
        },
      ]),
];
try {
  console.log(`${count} services   start, ms   reload, ms     MiB then  MiB after 5`);
  for (const contestant of contestants) console.log(await measure(contestant, count));
} finally {
  rmSync(folder, { recursive: true });
}
