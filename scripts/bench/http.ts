import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatAddress, type SocketAddress } from '../../src/address.js';
import type { Host } from '../lab/host.js';
import { clearRedirects, redirect } from '../lab/redirect.js';
import { ADDRESS, buildTopology, type Topology } from '../lab/topology.js';
import { HTTP_PEERS, type HttpPeer } from './http-peers.js';
import type { HttpJob, HttpKind } from './http-work.js';
import { DIRECT, Meter, type Scale } from './meter.js';
import { built, findProgram } from './peers.js';
import { runJob, type Started } from './processes.js';
import { type Absent, type Bench, type Contestant, type Row, takesPart } from './row.js';

/**
 * HTTP through a real redirect: a client connects to port 80 of an origin, the router between them hands the connection
 * to the program under test, and that one asks an upstream. Client, router and upstream are namespaces of a lab.
 */
const ORIGIN_PORT = 80;
const HOST = 'origin.lab';
const ORIGIN: SocketAddress = { ip: ADDRESS.internet[0], port: ORIGIN_PORT };
const UPSTREAM: SocketAddress = { ip: ADDRESS.proxy[0], port: 3128 };
/** Of the first program; the others have the next ones. */
const FIRST_PORT = 8081;

const REFERENCES = ['nginx', 'haproxy'];

/** Of the trial that a program has to pass before it is measured, in seconds. */
const TRIAL = 0.2;

/** A thousand connections a second leave no port or conntrack entry free for long: they are used again sooner. */
const hurry = async ({ client, router }: Topology): Promise<void> => {
  for (const host of [client, router]) {
    await host.sysctl('net.ipv4.ip_local_port_range', '10000 65000');
    await host.sysctl('net.ipv4.tcp_tw_reuse', 1);
  }
  await redirect(router, 'nft', { from: 'to-client', port: ORIGIN_PORT, to: FIRST_PORT });
  for (const state of ['time_wait', 'close', 'last_ack']) {
    await router.sysctl(`net.netfilter.nf_conntrack_tcp_timeout_${state}`, 1);
  }
};

/** Starts a program in a host, in a CPU account of its own. */
const startIn = (host: Host, { processes }: Bench, command: readonly string[], ipc = false): Started =>
  processes.start([...host.enter, ...command], ipc);

const untilListening = async (host: Host, started: Started, port: number): Promise<void> => {
  const ended = new Promise<never>((_, reject) => {
    started.child.once('exit', () => reject(new Error(`it ended: ${started.errors()}`)));
  });
  await Promise.race([host.listening(port), ended]);
};

const startPeer = async (
  { lab, router }: Topology,
  bench: Bench,
  peer: HttpPeer,
  program: string,
  kind: HttpKind,
  port: number,
): Promise<Started> => {
  const directory = lab.path(peer.name);
  mkdirSync(directory);
  chmodSync(directory, 0o777);
  const file = join(directory, 'configuration');
  const setup = { kind, port, upstream: UPSTREAM, directory };
  writeFileSync(file, peer.configuration(setup));
  // Where no other user exists, one more user namespace shows the program a user that is not root.
  const asUser =
    lab.hasUsers || peer.user === undefined
      ? []
      : ['unshare', '--user', `--map-user=${peer.user}`, `--map-group=${peer.user}`];
  const started = startIn(router, bench, [...asUser, ...peer.command(program, file, setup)]);
  await untilListening(router, started, port);
  return started;
};

const httpRow = (
  name: string,
  kind: HttpKind,
  concurrent: number,
  title: (connections: number) => string,
  rate: Scale,
  cpu: Scale,
): Row => {
  const meter = new Meter(rate, cpu);
  return {
    name,
    title: ({ connections }) => title(connections ?? concurrent),
    columns: meter.columns,
    references: REFERENCES,
    open: async (bench) => {
      const topology = await buildTopology();
      const { lab, client, router, proxy } = topology;
      try {
        await hurry(topology);
        const target = [process.execPath, built('scripts/bench/http-target.js'), `${UPSTREAM.port}`];
        await untilListening(proxy, startIn(proxy, bench, target), UPSTREAM.port);
        const load = startIn(client, bench, [process.execPath, built('scripts/bench/http-load.js')], true);

        const connections = bench.options.connections ?? concurrent;
        const job = { kind, host: HOST, connections };
        const direct: HttpJob = { ...job, to: UPSTREAM, absolute: true, seconds: 0 };
        const redirected: HttpJob = { ...job, to: ORIGIN, absolute: false, seconds: 0 };
        const contestants: Contestant[] = [
          {
            name: DIRECT,
            turn: (seconds) => meter.turn(DIRECT, bench, null, () => runJob(load, { ...direct, seconds })),
          },
        ];
        const absent: Absent[] = [];
        const peers = HTTP_PEERS.filter(
          (peer) => takesPart(peer.name, REFERENCES, bench.options) && (peer.kinds?.includes(kind) ?? true),
        );
        for (const [i, peer] of peers.entries()) {
          const program = peer.needs === null ? process.execPath : findProgram(peer.needs.program);
          if (program === null) {
            absent.push({ name: peer.name, why: `missing (Debian: apt-get install ${peer.needs?.debianPackage})` });
            continue;
          }
          const port = FIRST_PORT + i;
          const toPeer = async (): Promise<void> => {
            await clearRedirects(router, 'nft');
            await redirect(router, 'nft', { from: 'to-client', port: ORIGIN_PORT, to: port });
          };
          try {
            const started = await startPeer(topology, bench, peer, program, kind, port);
            await toPeer();
            const { failed, reason } = await runJob(load, { ...redirected, connections: 2, seconds: TRIAL });
            if (failed > 0) {
              bench.processes.stop(started);
              absent.push({ name: peer.name, why: `cannot do this: ${reason}` });
              continue;
            }
            contestants.push({
              name: peer.name,
              turn: async (seconds) => {
                await toPeer();
                return meter.turn(peer.name, bench, started.cpu, () => runJob(load, { ...redirected, seconds }));
              },
            });
          } catch (error) {
            absent.push({ name: peer.name, why: (error as Error).message });
          }
        }
        return { contestants, absent, notes: () => meter.notes(), close: () => lab.close() };
      } catch (error) {
        await lab.close();
        throw error;
      }
    },
  };
};

const EACH = { unit: 'CPU µs each', per: 1e-6, digits: 1 };
const BYTES_RATE = { unit: 'GB/s', per: 1e9, digits: 2 };
const BYTES_CPU = { unit: 'CPU s/GB', per: 1e-9, digits: 3 };

const through = `through a redirect to a proxy at ${formatAddress(UPSTREAM)}`;

export const httpRows: readonly Row[] = [
  httpRow(
    'http-keepalive',
    'keepalive',
    16,
    (connections) => `HTTP requests on ${connections} kept-alive connections, 1 KB of answer, ${through}`,
    { unit: 'requests/s', per: 1, digits: 0 },
    EACH,
  ),
  httpRow(
    'http-connection',
    'connection',
    16,
    (connections) => `HTTP connections with one request each, 1 KB of answer, ${connections} at once, ${through}`,
    { unit: 'connections/s', per: 1, digits: 0 },
    EACH,
  ),
  httpRow(
    'http-download',
    'download',
    2,
    (connections) => `HTTP downloads of 100 MB, ${connections} at once, ${through}`,
    BYTES_RATE,
    BYTES_CPU,
  ),
  httpRow(
    'http-upload',
    'upload',
    2,
    (connections) => `HTTP uploads of 100 MB, ${connections} at once, ${through}`,
    BYTES_RATE,
    BYTES_CPU,
  ),
];
