import { fileURLToPath } from 'node:url';
import type { Host } from '../../scripts/lab/host.js';
import { clearRedirects, type Redirect, type RedirectTool, redirect } from '../../scripts/lab/redirect.js';
import type { Outcome, Running } from '../../scripts/lab/running.js';
import { buildTopology, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';

/** What of node:test's context is used here: clean-up after the test. */
export interface Cleanup {
  after(fn: () => unknown): void;
}

const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url));

/** The program as a command line begins, on a router of `buildGateway`. */
export const TPROXY: readonly string[] = ['/run/tproxy/node', '/run/tproxy/package/dist/src/main.js'];

/**
 * The topology with the program installed on the router, where users without privileges can read it too:
 * node and this package may well be in a home folder that they can't enter.
 */
export const buildGateway = async (): Promise<Topology> => {
  const topology = await buildTopology();
  const script = `
    set -e
    mkdir -p /run/tproxy/package
    touch /run/tproxy/node
    mount --bind "$1" /run/tproxy/node
    mount --bind "$2" /run/tproxy/package`;
  await topology.router.run('sh', '-c', script, 'install', process.execPath, PACKAGE);
  return topology;
};

/** Starts the program in the foreground and waits until it is ready. It is ended after the test. */
export const startTproxy = async (t: Cleanup, host: Host, ...args: string[]): Promise<Running> => {
  const running = await host.spawn([...TPROXY, '-d', ...args]);
  t.after(() => running.end());
  await running.says(/ready/);
  return running;
};

/** Runs the program to its end. */
export const runTproxy = (host: Host, ...args: string[]): Promise<Outcome> => host.attempt(...TPROXY, ...args);

/** Redirects a port for the time of the test; by default what comes from the client. */
export const redirectFor = async (
  t: Cleanup,
  router: Host,
  tool: RedirectTool,
  rule: Omit<Redirect, 'from'>,
): Promise<void> => {
  await redirect(router, tool, { from: 'to-client', ...rule });
  t.after(() => clearRedirects(router, tool));
};

/** Processes of the program in a host, by the host's own numbers. */
export const tproxyProcesses = async (host: Host): Promise<number[]> =>
  (await host.processes()).filter(({ command }) => command.startsWith(TPROXY.join(' '))).map(({ pid }) => pid);

/**
 * Ends every process of the program in a host that no test's `Running` stands for, daemons and children of inetd, and
 * waits until they are gone, and with them what they listened on.
 */
export const endTproxy = async (host: Host): Promise<void> => {
  for (const pid of await tproxyProcesses(host)) await host.attempt('kill', '-KILL', String(pid));
  await until('every tproxy to end', async () => (await tproxyProcesses(host)).length === 0);
};
