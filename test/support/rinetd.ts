import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Host } from '../../scripts/lab/host.js';
import type { Outcome, Running } from '../../scripts/lab/running.js';
import type { Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import type { Answer, Probe } from './rinetd-clients.js';
import { type Cleanup, TPROXY } from './tproxy.js';

const CLIENTS = [process.execPath, fileURLToPath(new URL('rinetd-clients.js', import.meta.url))];
const ORIGIN = [process.execPath, fileURLToPath(new URL('rinetd-origin.js', import.meta.url))];

/** Debian's rinetd and ours: the same files go to both. */
export const RINETDS = {
  rinetd: { command: ['/usr/sbin/rinetd'], ready: /starting redirections/ },
  tproxy: { command: [...TPROXY, '--as', 'rinetd'], ready: /\bready\b/ },
} as const;
export type Which = keyof typeof RINETDS;

/** What a file led to. */
export interface Seen {
  /** `tcp 0.0.0.0:8000`, sorted; `*` is all addresses of both families, however many sockets that takes. */
  readonly ports: readonly string[];
  /** One for each probe. */
  readonly answers: readonly Answer[];
  /** Lines of the log file, sorted, without their times. */
  readonly log: readonly string[];
}

/** Writes the file into a folder of its own, which its FOLDER becomes: the file's path. */
export const writeConf = (folder: string, text: string): string => {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'rinetd.conf');
  writeFileSync(path, text.replaceAll('FOLDER', folder));
  return path;
};

export const startOrigin = async (host: Host, port: number): Promise<void> => {
  const running = await host.spawn([...ORIGIN, String(port)]);
  await running.says(/ready/);
};

/** The ports that a host's programs listen on. */
export const listeningPorts = async (host: Host): Promise<string[]> => {
  const { stdout } = await host.run('ss', '-Hlntu');
  const all = new Set(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(/\s+/))
      .map(([protocol, , , , local]) => `${protocol} ${local}`),
  );
  // ss writes a socket of IPv6 that takes IPv4 too as *:PORT.
  for (const one of [...all]) {
    const both = one.replace(' 0.0.0.0:', ' *:');
    const six = one.replace(' 0.0.0.0:', ' [::]:');
    if (one === both || !all.has(six)) continue;
    for (const half of [one, six]) all.delete(half);
    all.add(both);
  }
  return [...all].toSorted();
};

/** Starts one of them in the foreground; it is ended after the test. */
export const startRinetd = async (t: Cleanup, host: Host, which: Which, path: string): Promise<Running> => {
  const { command, ready } = RINETDS[which];
  const running = await host.spawn([...command, '-f', '-c', path]);
  t.after(() => running.end('SIGKILL'));
  await running.says(ready);
  return running;
};

/** What the clients of a host were answered. */
export const probe = async (host: Host, probes: readonly Probe[]): Promise<Answer[]> => {
  const { stdout } = await host.run(...CLIENTS, JSON.stringify(probes));
  return JSON.parse(stdout) as Answer[];
};

/** Lines of a log file without their times. */
const logLines = (path: string): string[] =>
  existsSync(path)
    ? readFileSync(path, 'latin1')
        .split('\n')
        .slice(0, -1)
        .map((line) => line.replace(/\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d/, 'TIME'))
    : [];

/** Lines that there are of it at once, without one that a flow of UDP may have at its end. */
const linesOf = ({ by, pause }: Probe, answer: Answer): number => {
  if (answer === 'closed port') return 0;
  if (by === 'udp') return pause !== undefined && !answer.endsWith('same flow') ? 2 : 1;
  return answer === 'refused' ? 1 : 2;
};

/** Gives one of them a file and has clients ask it. The file may name its log file FOLDER/log. */
export const observe = async (
  t: Cleanup,
  { lab, router, client }: Topology,
  which: Which,
  { folder, conf, probes }: { folder: string; conf: string; probes: readonly Probe[] },
): Promise<Seen> => {
  const place = lab.path(folder, which);
  const running = await startRinetd(t, router, which, writeConf(place, conf));
  const ports = await listeningPorts(router);
  const answers = await probe(client, probes);
  const log = join(place, 'log');
  const count = probes.reduce((sum, one, i) => sum + linesOf(one, answers[i] as Answer), 0);
  // rinetd takes the quotation marks for a part of the name, and then has no log.
  if (conf.includes('logfile FOLDER/log') || (which === 'tproxy' && conf.includes('FOLDER/log'))) {
    await until(`${count} lines in the log of ${which}`, () => logLines(log).length >= count);
  }
  running.signal('SIGTERM');
  await running.outcome();
  return { ports, answers, log: logLines(log).toSorted() };
};

/** Gives one of them a file with mistakes: how it ended, or what it listens on when it goes on. */
export const start = async (
  t: Cleanup,
  { lab, router }: Topology,
  which: Which,
  { folder, conf }: { folder: string; conf: string },
): Promise<Outcome | readonly string[]> => {
  const path = writeConf(lab.path(folder, which), conf);
  const { command, ready } = RINETDS[which];
  const running = await router.spawn([...command, '-f', '-c', path]);
  t.after(() => running.end('SIGKILL'));
  const going = running.says(ready).then(
    () => true,
    () => false,
  );
  if (!(await going)) return running.outcome();
  const ports = await listeningPorts(router);
  await running.end();
  return ports;
};
