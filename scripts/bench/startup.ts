import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { built, findProgram } from './peers.js';
import { median } from './report.js';
import { type Bench, type Contestant, type Row, takesPart } from './row.js';

/**
 * Start-up as inetd pays for it: one process for one connection.
 *
 * Every command runs under the same launcher, a bash that connects to a client of ours, has that socket as fd 0, 1 and 2
 * as inetd would, and is replaced by the command (exec). The client sends a small payload, which the command is to carry
 * to a service that answers and closes. hyperfine measures from the launcher's start to the command's end; the launcher
 * is measured alone as well.
 */
const RUNS_A_TURN = 10;
/** For all runs of a turn, in milliseconds: a command that hangs is to be seen, not waited for. */
const LIMIT = 60_000;
const PAYLOAD = 'ping\n';
const ANSWER = 'pong\n';

const LAUNCHER = 'launcher alone';
const NODE = 'node -e 0';
const TPROXY = 'tproxy';

export const startupRow: Row = {
  name: 'startup',
  title: () => `Start-up in inetd mode: one process for one connection, ${RUNS_A_TURN} runs a turn`,
  columns: [
    { key: 'time', unit: 'ms', better: 'less', digits: 1, summary: 'mean' },
    { key: 'cpu', unit: 'CPU ms', better: 'less', digits: 1, summary: 'mean' },
  ],
  references: [NODE],
  open: async (bench) => {
    const absent = ['hyperfine', 'bash']
      .filter((program) => findProgram(program) === null)
      .map((name) => ({
        name,
        why: `missing (Debian: apt-get install ${name})`,
      }));
    if (absent.length > 0) return { contestants: [], absent, notes: () => [], close: () => {} };

    let served = 0;
    const service = await serve((socket) => {
      socket.once('data', () => socket.end(ANSWER));
    });
    const client = await serve((socket) => {
      socket.write(PAYLOAD);
      let answer = '';
      socket.on('data', (data) => {
        answer += data;
      });
      socket.on('end', () => {
        if (answer === ANSWER) served++;
        socket.end();
      });
    });
    const times: Record<string, number[]> = {
      [LAUNCHER]: [],
      [NODE]: [],
      [TPROXY]: [],
    };
    const contestant = (name: string, command: readonly string[]): Contestant => ({
      name,
      turn: async () => {
        const words = ['bash', '-c', `exec "$@" 0<>/dev/tcp/127.0.0.1/${portOf(client)} 1>&0 2>&0`, 'bash', ...command];
        const turn = await hyperfine(bench, words);
        times[name]?.push(...turn.time);
        return turn;
      },
    });
    const contestants = [
      contestant(LAUNCHER, ['true']),
      contestant(NODE, [process.execPath, '-e', '0']),
      contestant(TPROXY, [process.execPath, built('src/main.js'), '-t', '127.0.0.1', `${portOf(service)}`]),
    ].filter(({ name }) => takesPart(name, [NODE], bench.options));
    return {
      contestants,
      absent,
      notes: () => {
        const [launcher, node, tproxy] = [LAUNCHER, NODE, TPROXY].map((name) => median(times[name] ?? []));
        return [
          `${served} of ${times[TPROXY]?.length} connections through tproxy were served whole (warm-up included).`,
          ...(launcher && node && tproxy
            ? [
                `Less the launcher, and by medians, tproxy takes ${((tproxy - launcher) / (node - launcher)).toFixed(2)} × the time of node -e 0.`,
              ]
            : []),
        ];
      },
      close: () => {
        service.close();
        client.close();
      },
    };
  },
};

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

const serve = async (onConnection: (socket: Socket) => void): Promise<Server> => {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    // A command that leaves the payload unread (node -e 0 does) resets the connection.
    socket.on('error', () => {});
    onConnection(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
};

/** Of hyperfine's JSON, in seconds: every run's time, and the means of user and system time. */
interface HyperfineResult {
  readonly times: readonly number[];
  readonly user: number;
  readonly system: number;
}

/** Runs a command: the time of each run, and the mean of user and system time together, in milliseconds. */
const hyperfine = async (
  { processes, directory }: Bench,
  words: readonly string[],
): Promise<{ readonly time: readonly number[]; readonly cpu: readonly number[] }> => {
  const report = join(directory, 'hyperfine.json');
  const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const options = ['--shell=none', '--runs', `${RUNS_A_TURN}`, '--style=none', '--export-json', report];
  const { child, errors } = processes.start(['hyperfine', ...options, quoted]);
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(LIMIT) });
  if (code !== 0) throw new Error(`hyperfine failed: ${errors()}`);
  const { results } = JSON.parse(readFileSync(report, 'utf8')) as { results: [HyperfineResult] };
  const [{ times, user, system }] = results;
  return { time: times.map((seconds) => seconds * 1000), cpu: [(user + system) * 1000] };
};
