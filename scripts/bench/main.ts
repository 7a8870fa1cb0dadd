import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { httpRows } from './http.js';
import { HTTP_PEERS } from './http-peers.js';
import { findProgram, RELAYS, versionOf } from './peers.js';
import { Processes } from './processes.js';
import { bulkRow, shortRow } from './relay.js';
import { formatRow, toJson } from './report.js';
import { measure, type Options, type Row } from './row.js';
import { startupRow } from './startup.js';

const ROWS: readonly Row[] = [bulkRow, shortRow, startupRow, ...httpRows];

const NAMES = [...new Set([...RELAYS, ...HTTP_PEERS].map(({ name }) => name))];

const USAGE = `usage: npm run bench -- [options]
  --rows NAME,...      of ${ROWS.map(({ name }) => name).join(', ')} (default: all)
  --only NAME,...      these contestants and those that ratios refer to; of direct, ${NAMES.join(', ')}
  --rounds N           default 5
  --seconds S          of one turn, default 0.8
  --connections N      open at the same time, default 4 for bulk, 2 for downloads and uploads, 16 elsewhere
  --patience S         for turns that are done anew because other programs took CPU time; a row, default 15
  --json FILE          every sample, for programs`;

class UsageError extends Error {}

const readOptions = (args: readonly string[]): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rows: { type: 'string' },
      only: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '0.8' },
      patience: { type: 'string', default: '15' },
      connections: { type: 'string' },
      json: { type: 'string' },
    },
  });
  const number = (name: string, text: string, least: number): number => {
    if (!(Number(text) >= least)) throw new UsageError(`--${name} ${text}: not a number from ${least} on`);
    return Number(text);
  };
  const known = ROWS.map(({ name }) => name);
  const rows = values.rows?.split(',') ?? known;
  for (const row of rows) if (!known.includes(row)) throw new UsageError(`--rows ${row}: there is no such row`);
  const { connections } = values;
  return {
    rows,
    only: values.only?.split(',') ?? null,
    rounds: Math.round(number('rounds', values.rounds, 1)),
    patience: number('patience', values.patience, 0),
    seconds: number('seconds', values.seconds, 0.1),
    connections: connections === undefined ? null : Math.round(number('connections', connections, 1)),
    json: values.json ?? null,
  };
};

const machine = (): string => {
  const versions = new Map<string, string>();
  for (const { needs, version } of [...RELAYS, ...HTTP_PEERS]) {
    const program = needs === null ? null : findProgram(needs.program);
    if (needs === null || program === null || versions.has(needs.program)) continue;
    versions.set(needs.program, versionOf(program, version ?? []) ?? '(unknown version)');
  }
  const peers = [...versions].map(([name, version]) => `${name} ${version}`).join(', ');
  return `${availableParallelism()} × ${cpus()[0]?.model}, Linux ${release()}, Node ${process.version}; ${peers}`;
};

const run = async (options: Options): Promise<void> => {
  const processes = new Processes();
  const directory = mkdtempSync(join(tmpdir(), 'transproxy-bench-'));
  process.on('exit', () => {
    processes.close();
    rmSync(directory, { recursive: true });
  });
  process.once('SIGINT', () => process.exit(130));
  process.once('SIGTERM', () => process.exit(143));

  const { rounds, seconds } = options;
  const preface = [
    machine(),
    `CPU time: ${processes.cpuMethod.description}.`,
    `${rounds} rounds over all contestants, ${seconds} s a turn, after a warm-up round; figures are median (least–greatest) or`,
    'mean ± standard deviation, ratios are taken round by round. Load generator, target and relay share the cores of this',
    'machine, so the rate depends on all three: CPU time for a unit of work is the most robust figure.',
    '',
  ];
  console.log(preface.join('\n'));
  const results = [];
  for (const row of ROWS.filter(({ name }) => options.rows.includes(name))) {
    const result = await measure(row, { options, processes, directory });
    results.push(toJson(result));
    console.log(formatRow(result, row.title(options)));
  }
  if (options.json !== null) {
    const about = { machine: machine(), cpuTime: processes.cpuMethod.description, options };
    writeFileSync(options.json, `${JSON.stringify({ about, results }, null, 2)}\n`);
  }
  process.exit(0);
};

try {
  await run(readOptions(process.argv.slice(2)));
} catch (error) {
  const usage = error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(usage ? `bench: ${(error as Error).message}\n\n${USAGE}` : error);
  process.exit(usage ? 64 : 1);
}
