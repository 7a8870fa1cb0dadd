import type { SocketAddress } from '../../src/address.js';
import type { CpuAccount } from './cpu.js';
import { DIRECT, Meter, type Scale } from './meter.js';
import { built, findProgram, RELAYS } from './peers.js';
import { freeAddress, runJob, untilListening } from './processes.js';
import { type Absent, type Contestant, type Row, takesPart } from './row.js';
import type { Job, Kind } from './workload.js';

const REFERENCES = ['haproxy', 'rinetd'];

/** Raw TCP: one kind of connection, `concurrent` of them at once, through every relay and without one. */
const relayRow = (
  kind: Kind,
  concurrent: number,
  title: (connections: number) => string,
  rate: Scale,
  cpu: Scale,
): Row => {
  const meter = new Meter(rate, cpu);
  return {
    name: kind,
    title: ({ connections }) => title(connections ?? concurrent),
    columns: meter.columns,
    references: REFERENCES,
    open: async (bench) => {
      const { processes, options, directory } = bench;
      const target = await freeAddress();
      const server = processes.start([process.execPath, built('scripts/bench/target.js'), `${target.port}`]);
      await untilListening(server, target);
      const load = processes.start([process.execPath, built('scripts/bench/load.js')], true);

      const connections = options.connections ?? concurrent;
      const contestant = (name: string, to: SocketAddress, cpu: CpuAccount | null): Contestant => ({
        name,
        turn: (seconds) =>
          meter.turn(name, bench, cpu, () => runJob(load, { kind, to, seconds, connections } satisfies Job)),
      });
      const contestants = [contestant(DIRECT, target, null)];
      const absent: Absent[] = [];
      for (const { name, needs, forks, command } of RELAYS.filter((peer) =>
        takesPart(peer.name, REFERENCES, options),
      )) {
        const program = needs === null ? process.execPath : findProgram(needs.program);
        if (program === null) {
          absent.push({ name, why: `missing (Debian: apt-get install ${needs?.debianPackage})` });
          continue;
        }
        const listen = await freeAddress();
        const relay = processes.start(command(program, listen, target, directory));
        try {
          await untilListening(relay, listen);
          const counted = processes.cpuMethod.keepsEnded || forks !== true;
          contestants.push(contestant(name, listen, counted ? relay.cpu : null));
        } catch (error) {
          absent.push({ name, why: (error as Error).message });
        }
      }
      return { contestants, absent, notes: () => meter.notes(), close: () => {} };
    },
  };
};

export const bulkRow = relayRow(
  'bulk',
  4,
  (connections) => `Bulk: ${connections} connections at once, target to client`,
  { unit: 'GB/s', per: 1e9, digits: 2 },
  { unit: 'CPU s/GB', per: 1e-9, digits: 3 },
);

export const shortRow = relayRow(
  'short',
  16,
  (connections) => `Short connections: connect, 100 bytes, 100 bytes back, close; ${connections} at once`,
  { unit: 'connections/s', per: 1, digits: 0 },
  { unit: 'CPU µs each', per: 1e-6, digits: 1 },
);
