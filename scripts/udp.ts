/**
 * iperf3 -u through one worker of the program, through rinetd, and past both, in one run and in turns: what gets lost,
 * and what it costs. `node dist/scripts/udp.js [ROUNDS] [SECONDS] [RATE ...]`, rates as iperf3 has them, as `200M`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Running } from './lab/running.js';
import { ADDRESS, buildTopology, type Topology } from './lab/topology.js';

const [rounds = '3', seconds = '3', ...given] = process.argv.slice(2);
const rates = given.length > 0 ? given : ['100M', '400M'];

const PORT = 5201;
/** What fits a packet of Ethernet. */
const BYTES = 1400;
const [origin] = ADDRESS.internet;
const [router] = ADDRESS.routerToClient;
const SERVE = fileURLToPath(new URL('../test/support/serve-plan.js', import.meta.url));
/** USER_HZ, which is 100 wherever Linux runs (proc(5)). */
const TICKS = 100;

interface Way {
  readonly name: string;
  readonly host: string;
  start(topology: Topology): Promise<Running | null>;
}

const WAYS: readonly Way[] = [
  { name: 'direct', host: origin, start: async () => null },
  {
    name: 'tproxy',
    host: router,
    start: async ({ lab, router: host }) => {
      const listen = [{ host: router, port: PORT }];
      const targets = [{ to: { host: origin, port: PORT }, weight: 1, source: null }];
      const services = ['tcp', 'udp'].map((protocol) => ({ name: protocol, protocol, listen, targets }));
      writeFileSync(lab.path('plan.json'), JSON.stringify({ workers: 1, services }));
      const running = await host.spawn([process.execPath, SERVE, lab.path('plan.json')]);
      await running.says(/ready/);
      return running;
    },
  },
  {
    name: 'rinetd',
    host: router,
    start: async ({ lab, router: host }) => {
      const rules = ['tcp', 'udp'].map((protocol) => `${router} ${PORT}/${protocol} ${origin} ${PORT}/${protocol}`);
      writeFileSync(lab.path('rinetd.conf'), `pidlogfile ${lab.path('rinetd.pid')}\n${rules.join('\n')}\n`);
      const running = await host.spawn(['rinetd', '-f', '-c', lab.path('rinetd.conf')]);
      await host.listening(PORT);
      return running;
    },
  },
];

/** User and system time of a process with all its threads, in seconds. */
const cpuOf = ({ pid }: Running): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // Behind the name, which may have anything in it, the third field comes first.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
};

/**
 * Bytes, and not iperf3's count of datagrams: rinetd 0.73 puts the bytes of a flow's first datagram before those of the
 * next one too, and all numbers in datagrams are shifted from then on.
 */
interface Sums {
  readonly end: { readonly sum_sent: { readonly bytes: number }; readonly sum_received: { readonly bytes: number } };
  readonly error?: string;
}

interface Turn {
  readonly lost: number;
  readonly cpu: number | null;
}

const measure = async (topology: Topology, way: Way, rate: string, reverse: boolean): Promise<Turn> => {
  const server = await topology.internet.spawn(['iperf3', '-s', '-1', '-p', String(PORT)]);
  await topology.internet.listening(PORT);
  const running = await way.start(topology);
  try {
    const before = running === null ? 0 : cpuOf(running);
    const options = ['-u', '-p', String(PORT), '-b', rate, '-t', seconds, '-l', String(BYTES), '-J'];
    const client = ['iperf3', '-c', way.host, ...options, ...(reverse ? ['-R'] : [])];
    const { stdout } = await topology.client.attempt(...client);
    const { end, error } = JSON.parse(stdout) as Sums;
    if (error !== undefined) throw new Error(`iperf3 through ${way.name}: ${error}`);
    const sent = end.sum_sent.bytes;
    const received = end.sum_received.bytes;
    const cpu = running === null ? null : (cpuOf(running) - before) / (received / 1e9);
    return { lost: (100 * (sent - received)) / sent, cpu };
  } finally {
    await running?.end();
    await server.end();
  }
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

const topology = await buildTopology();
try {
  console.log(`iperf3 -u, datagrams of ${BYTES} bytes, ${rounds} rounds of ${seconds} s: lost, CPU s per GB`);
  for (const reverse of [false, true]) {
    for (const rate of rates) {
      const turns = new Map<string, Turn[]>(WAYS.map(({ name }) => [name, []]));
      for (let round = 0; round < Number(rounds); round++) {
        for (const way of WAYS) turns.get(way.name)?.push(await measure(topology, way, rate, reverse));
      }
      for (const [name, own] of turns) {
        const lost = own.map((turn) => turn.lost);
        const cpu = own.flatMap((turn) => (turn.cpu === null ? [] : [turn.cpu]));
        const cost = cpu.length === 0 ? '' : `, ${median(cpu).toFixed(2)} s/GB`;
        const each = lost.map((percent) => percent.toFixed(2)).join(' ');
        const direction = reverse ? 'to the client' : 'from the client';
        console.log(`${rate} ${direction}, ${name}: median ${median(lost).toFixed(2)} % (${each})${cost}`);
      }
    }
  }
} finally {
  await topology.lab.close();
}
