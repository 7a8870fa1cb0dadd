import type { Host } from '../../scripts/lab/host.js';
import type { Running } from '../../scripts/lab/running.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from './needs.js';
import { type Cleanup, endTproxy, TPROXY } from './tproxy.js';

export const ORIGIN_PORT = 5432;
export const ORIGIN = `origin.lab:${ORIGIN_PORT}`;

/** Debian's redir and ours: the same command lines go to both. */
export const PROGRAMS = {
  redir: { command: ['/usr/bin/redir'], needs: unless('program redir') },
  tproxy: { command: [...TPROXY, '--as', 'redir'], needs: unless() },
} as const;
export const OURS = PROGRAMS.tproxy.command;

/** Ends what was started in the background, of both programs. */
export const endRelays = async (host: Host): Promise<void> => {
  await endTproxy(host);
  const left = async () => (await host.processes()).filter(({ command }) => /^\S*redir /.test(command));
  for (const { pid } of await left()) await host.attempt('kill', '-KILL', String(pid));
  await until('every redir to end', async () => (await left()).length === 0);
};

/** Starts a program that stays, waits until it listens, and ends it and what it started after the test. */
export const startRelay = async (t: Cleanup, host: Host, port: number, ...command: string[]): Promise<Running> => {
  const running = await host.spawn(command);
  t.after(async () => {
    await running.end();
    await endRelays(host);
  });
  await host.listening(port);
  return running;
};
