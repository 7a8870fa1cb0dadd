/** Measures how exactly --max-bandwidth is kept, through the built program on loopback, and Debian's redir beside it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatAddress, type SocketAddress } from '../src/address.js';
import { built, findProgram } from './bench/peers.js';
import { freeAddress, untilListening } from './bench/processes.js';
import { mean } from './bench/report.js';
import { until } from './lab/until.js';

const USAGE = `\
Usage: npm run shaping -- [options]

Sends without end through tproxy with --max-bandwidth, counts what arrives, and
prints how far that is from what was asked for: for one connection and for
several, each direction apart and both at once. Exit code 1: some connection of
tproxy's was more than 5 % off. redir takes part where it is installed.
  --seconds S    to count, for each line (default: 10)
  --only NAME    tproxy or redir
`;

/** How far a connection may be off, in per cent. */
const TOLERANCE = 5;

/** What is not counted at the beginning, in milliseconds. */
const WARM_UP = 1000;

const CASES: readonly { readonly connections: number; readonly rates: readonly number[] }[] = [
  { connections: 1, rates: [9600, 800e3, 8e6, 800e6] },
  { connections: 10, rates: [800e3, 8e6, 80e6] },
];

const DIRECTIONS = [
  { title: 'to client', toClient: true, toUpstream: false, waitInOut: 1 },
  { title: 'to upstream', toClient: false, toUpstream: true, waitInOut: 2 },
  { title: 'both', toClient: true, toUpstream: true, waitInOut: 3 },
] as const;
type Direction = (typeof DIRECTIONS)[number];

interface Contestant {
  readonly name: string;
  readonly program: string | null;
  options(rate: number, waitInOut: number, listen: SocketAddress, target: SocketAddress): string[];
}

const CONTESTANTS: readonly Contestant[] = [
  {
    name: 'tproxy',
    program: process.execPath,
    options: (rate, waitInOut, listen, target) => [
      ...[built('src/main.js'), '-d', '-w', '1', '-b', listen.ip, '-s', `${listen.port}`],
      ...['--max-bandwidth', `${rate}`, '--wait-in-out', `${waitInOut}`, '-t', target.ip, `${target.port}`],
    ],
  },
  {
    name: 'redir',
    program: findProgram('redir'),
    options: (rate, waitInOut, listen, target) => [
      ...['-n', '-l', 'err', '-m', `${rate}`, '-o', `${waitInOut}`],
      ...[formatAddress(listen), formatAddress(target)],
    ],
  },
];

const CHUNK = Buffer.alloc(64 * 1024, 'x');

/** Sends without end. */
const flood = (socket: Socket): void => {
  const send = (): void => {
    while (!socket.destroyed && socket.write(CHUNK));
  };
  socket.on('drain', send);
  send();
};

/** A relay with what it forks, in a process group of its own. */
const start = (program: string, args: readonly string[]): ChildProcess => {
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  const stop = (): void => end(child);
  process.on('exit', stop);
  child.once('exit', () => process.off('exit', stop));
  return child;
};

const end = ({ pid }: ChildProcess): void => {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
};

/** One end of a connection, and how much it has received. */
class End {
  received = 0;

  constructor(
    readonly socket: Socket,
    sends: boolean,
  ) {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      this.received += bytes.length;
    });
    if (sends) flood(socket);
    else socket.write('.');
  }
}

/** How many bits a second each connection received, direction by direction. */
const measure = async (
  server: Server,
  listen: SocketAddress,
  direction: Direction,
  connections: number,
  seconds: number,
): Promise<number[]> => {
  const accepted: End[] = [];
  const accept = (socket: Socket): void => {
    socket.on('error', () => {});
    // The connection that tried whether the relay listens says nothing.
    socket.once('data', () => accepted.push(new End(socket, direction.toClient)));
  };
  server.on('connection', accept);
  const clients: End[] = [];
  for (let i = 0; i < connections; i++) {
    clients.push(new End(connect({ port: listen.port, host: listen.ip }), direction.toUpstream));
  }
  await until('every connection to come through', () => accepted.length === connections);
  const counted = [...(direction.toClient ? clients : []), ...(direction.toUpstream ? accepted : [])];
  await sleep(WARM_UP);
  const begin = performance.now();
  const before = counted.map(({ received }) => received);
  await sleep(seconds * 1000);
  const took = (performance.now() - begin) / 1000;
  const rates = counted.map(({ received }, i) => (8 * (received - (before[i] as number))) / took);
  server.off('connection', accept);
  for (const { socket } of [...clients, ...accepted]) socket.destroy();
  return rates;
};

const inWords = (rate: number): string =>
  rate >= 1e6 ? `${rate / 1e6} Mbit/s` : rate >= 1e3 ? `${rate / 1e3} kbit/s` : `${rate} bit/s`;

const percent = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)} %`;

const line = (...cells: string[]): string =>
  cells
    .map((cell, i) => cell.padEnd([8, 12, 12, 14, 12][i] ?? 0))
    .join('')
    .trimEnd();

/** Whether every connection of tproxy's was near enough. */
const shaping = async (args: readonly string[]): Promise<boolean> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '10' },
      only: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return true;
  }
  const seconds = Number(values.seconds);
  if (!(seconds >= 1)) throw new Error(`--seconds ${values.seconds}: not a number from 1 on`);
  const chosen = CONTESTANTS.filter(({ name }) => values.only === undefined || values.only === name);
  if (chosen.length === 0) throw new Error(`--only ${values.only}: there is no such program`);

  process.once('SIGINT', () => process.exit(130));
  process.once('SIGTERM', () => process.exit(143));
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const target: SocketAddress = { ip: '127.0.0.1', port: (server.address() as { port: number }).port };

  console.log(`${availableParallelism()} × ${cpus()[0]?.model}, Node ${process.version}; ${seconds} s a line\n`);
  console.log(line('', 'bandwidth', 'connections', 'direction', 'mean', 'farthest off'));
  let good = true;
  for (const { name, program, options } of chosen) {
    if (program === null) {
      console.log(`${name} is not installed`);
      continue;
    }
    for (const { connections, rates } of CASES) {
      for (const rate of rates) {
        for (const direction of DIRECTIONS) {
          const listen = await freeAddress();
          const child = start(program, options(rate, direction.waitInOut, listen, target));
          await untilListening({ child, errors: () => name }, listen);
          const measured = await measure(server, listen, direction, connections, seconds);
          end(child);
          const deviations = measured.map((bits) => 100 * (bits / rate - 1));
          const farthest = deviations.toSorted((a, b) => Math.abs(b) - Math.abs(a))[0] as number;
          if (name === 'tproxy' && !(Math.abs(farthest) <= TOLERANCE)) good = false;
          console.log(
            line(name, inWords(rate), `${connections}`, direction.title, percent(mean(deviations)), percent(farthest)),
          );
        }
      }
    }
  }
  console.log(`\ntproxy: ${good ? 'every' : 'not every'} connection within ${TOLERANCE} %`);
  return good;
};

shaping(process.argv.slice(2)).then(
  (good) => process.exit(good ? 0 : 1),
  (error: Error) => {
    process.stderr.write(`shaping: ${error.message}\n${USAGE}`);
    process.exit(64);
  },
);
