import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { redirect } from '../lab/redirect.js';
import type { Running } from '../lab/running.js';
import { bounded, until } from '../lab/until.js';
import { GOOD_ADDRESS, GOOD_HOST } from './good.js';
import type { Done, Order, Place } from './thrower.js';

/** A way to run the daemon. */
interface Rig {
  readonly name: string;
  readonly workers: number;
  readonly options: readonly string[];
}

const CLIENT = '10.78.1.2';
const ROUTER = '10.78.1.1';
const ORIGIN = '10.78.9.9';
const PORT = 8081;
const HTTP_PORTS = [3128, 3129] as const;
const SOCKS_PORT = 1080;

const [FIRST, SECOND] = HTTP_PORTS.map((port) => [ROUTER, String(port)]) as [string[], string[]];
const BOTH = [...FIRST, '--upstream', SECOND.join(':')];

/** `AUTH` stands for a file with a user and a password. */
const RIGS: readonly Rig[] = [
  { name: 'default', workers: 2, options: FIRST },
  {
    name: 'socks',
    workers: 1,
    options: ['--unknown', 'connect', '--upstream', `socks5://a:b@${ROUTER}:${SOCKS_PORT}`, ...FIRST],
  },
  {
    name: 'strict',
    workers: 2,
    options: [
      ...['-p', '--proxy-protocol', 'v1', '--forwarded-for', '--trust', CLIENT, '--upgrade', 'pass'],
      ...['--verify-host', 'strict', '--proxy-auth', 'AUTH', '--head-bytes', '8192', ...FIRST],
    ],
  },
  {
    name: 'hash',
    workers: 1,
    options: [
      '--balance',
      'url-hash',
      '--check',
      '1',
      '--verify-host',
      'address',
      '--tls',
      'direct',
      '--no-via',
      ...BOTH,
    ],
  },
  { name: 'relay', workers: 2, options: ['-t'] },
  {
    name: 'tunnels',
    workers: 1,
    options: ['--proxy-protocol', 'v2', '--balance', 'least-conn', '--upstream', FIRST.join(':'), '-t'],
  },
];

export const RIG_NAMES: readonly string[] = RIGS.map(({ name }) => name);

/** Short, so that what is left over is gone soon. */
const LIMITS = ['--timeout', '1', '--first-byte', '0.3', '--head-timeout', '1', '--connect-timeout', '2'];

const INPUTS_PER_BATCH = 400;

/** Empty pipes that each worker keeps (data/loop.ts), two descriptors each. */
const SPARE_PIPES = 16;

/** What one way to run the daemon came to. */
export interface Result {
  readonly rig: string;
  readonly inputs: number;
  /** MiB: after the first inputs, and at the end. */
  readonly resident: readonly [number, number];
  /** Sockets: before the first input, and when the last connection is gone. */
  readonly sockets: readonly [number, number];
  /** What went wrong, with how to see it again; null: nothing. */
  readonly wrong: string | null;
}

const script = (name: string): string[] => [process.execPath, fileURLToPath(new URL(`${name}.js`, import.meta.url))];

interface Descriptors {
  readonly sockets: number;
  readonly pipes: number;
}

const descriptorsOf = (pid: number): Descriptors => {
  let sockets = 0;
  let pipes = 0;
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const kind = readlinkSync(`/proc/${pid}/fd/${fd}`);
      if (kind.startsWith('socket:')) sockets++;
      if (kind.startsWith('pipe:')) pipes++;
    } catch {
      // It was closed meanwhile.
    }
  }
  return { sockets, pipes };
};

/** In MiB. */
const residentOf = (pid: number): number => {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
};

/** Memory that goes on growing is more than this at the end: what the first rounds took and a half, and 64 MiB. */
const mostResident = (early: number): number => 1.5 * early + 64;

const tailOf = (file: string): string => readFileSync(file, 'latin1').slice(-4000);

class Thrower {
  readonly #process: ChildProcess;

  constructor(client: Host) {
    this.#process = client.child(script('thrower'), ['ignore', 'inherit', 'inherit', 'ipc']);
  }

  async order(order: Order): Promise<string | null> {
    this.#process.send(order);
    const [{ wrong }] = (await bounded(`the client to ${order.kind}`, once(this.#process, 'message'), 120_000)) as [
      Done,
    ];
    return wrong;
  }
}

/**
 * A client and a router in namespaces of their own. The router redirects what the client sends to ports 80 and 443 to
 * the daemon, and has upstreams, and origins, which thus can be reached past the upstreams.
 */
class Range {
  #index: number;
  #goods = 0;

  private constructor(
    readonly lab: Lab,
    readonly router: Host,
    readonly thrower: Thrower,
    readonly seed: number,
    first: number,
  ) {
    this.#index = first;
  }

  static async build(lab: Lab, seed: number, first: number): Promise<Range> {
    const [client, router] = await Promise.all([lab.host('client'), lab.host('router')]);
    await lab.link(client, [`${CLIENT}/24`], router, [`${ROUTER}/24`]);
    await client.route('default', ROUTER);
    for (const address of [ORIGIN, GOOD_ADDRESS]) await router.address('lo', `${address}/32`);
    for (const port of [80, 443]) await redirect(router, 'nft', { from: 'to-client', port, to: PORT });
    lab.name('origin.lab', [ORIGIN]);
    lab.name(GOOD_HOST, [GOOD_ADDRESS]);
    const places = [
      ...HTTP_PORTS.flatMap((port) => ['http', ROUTER, String(port)]),
      ...['socks', ROUTER, String(SOCKS_PORT), 'origin', ORIGIN, '80', 'origin', ORIGIN, '443'],
      ...['origin', GOOD_ADDRESS, '80'],
    ];
    await router.spawn([...script('upstream'), String(seed), ...places]);
    for (const port of [...HTTP_PORTS, SOCKS_PORT, 80, 443]) await router.listening(port);
    writeFileSync(lab.path('auth'), 'user:password\n');
    return new Range(lab, router, new Thrower(client), seed, first);
  }

  async run(rig: Rig, milliseconds: number): Promise<Result> {
    const program = fileURLToPath(new URL('../../src/main.js', import.meta.url));
    const options = rig.options.map((option) => (option === 'AUTH' ? this.lab.path('auth') : option));
    const args = ['-d', '-s', String(PORT), '-w', String(rig.workers), '-l', '/dev/null'];
    const ofHttp = rig.options.includes('-t') ? LIMITS.filter((_, i) => i < 2 || i > 5) : LIMITS;
    const log = this.lab.path(`${rig.name}.log`);
    const command = [process.execPath, program, ...args, ...ofHttp, ...options];
    const daemon = await this.router.spawn(['sh', '-c', 'exec "$@" 2>"$0"', log, ...command]);
    const first = this.#index;
    const seen = { resident: [0, 0] as [number, number], sockets: [0, 0] as [number, number] };
    let wrong: string | null = null;
    try {
      await Promise.race([this.router.listening(PORT), daemon.exited]);
      wrong = await this.#throwAt(daemon, rig, Date.now() + milliseconds, seen);
    } catch (error) {
      wrong = (error as Error).message;
    }
    if (!daemon.alive) wrong = `the daemon ended${wrong === null ? '' : `: ${wrong}`}`;
    await daemon.end();
    if (wrong !== null) {
      const again = `--seed ${this.seed} --rig ${rig.name} --first ${first}`;
      wrong = `${wrong}\n(again: ${again}, ${this.#index - first} inputs)\nthe daemon said: ${tailOf(log)}`;
    }
    return { rig: rig.name, inputs: this.#index - first, ...seen, wrong };
  }

  /** Throws batches until `end`, and looks after each; what is wrong, or null. */
  async #throwAt(
    daemon: Running,
    rig: Rig,
    end: number,
    seen: { resident: [number, number]; sockets: [number, number] },
  ): Promise<string | null> {
    const redirected: Place[] = [80, 80, 80, 443].map((port) => ({ host: ORIGIN, port }));
    const at = [...redirected, { host: ROUTER, port: PORT }];
    const before = descriptorsOf(daemon.pid);
    seen.sockets = [before.sockets, before.sockets];
    let wrong = await this.#good();
    if (wrong !== null) return wrong;
    let early = 0;
    for (let round = 0; round === 0 || Date.now() < end; round++) {
      const roundEnd = Math.min(end, Date.now() + 15_000);
      do {
        wrong = await this.thrower.order({
          kind: 'throw',
          seed: this.seed,
          first: this.#index,
          count: INPUTS_PER_BATCH,
          at,
        });
        this.#index += INPUTS_PER_BATCH;
        wrong ??= await this.#good();
        if (wrong !== null) return wrong;
      } while (Date.now() < roundEnd);
      const after = await this.#settled(daemon, before.sockets);
      seen.sockets[1] = after.sockets;
      if (after.sockets > before.sockets) {
        daemon.signal('SIGUSR2');
        await sleep(500);
        return `${after.sockets - before.sockets} sockets are left over`;
      }
      if (after.pipes > before.pipes + 2 * SPARE_PIPES * rig.workers)
        return `${after.pipes} ends of pipes are left over`;
      seen.resident[1] = residentOf(daemon.pid);
      if (round < 2) early = seen.resident[0] = seen.resident[1];
      else if (seen.resident[1] > mostResident(early)) return `memory grew from ${early} to ${seen.resident[1]} MiB`;
    }
    return null;
  }

  #good(): Promise<string | null> {
    return this.thrower.order({ kind: 'good', number: ++this.#goods, at: { host: GOOD_ADDRESS, port: 80 } });
  }

  /** The descriptors when there are no more sockets than `most`, or when twice all limits are over. */
  async #settled(daemon: Running, most: number): Promise<Descriptors> {
    const look = (): Descriptors => descriptorsOf(daemon.pid);
    try {
      await until('connections to end', () => look().sockets <= most, { within: 12_000, every: 100 });
    } catch {
      // What is left over is told by what is returned.
    }
    return look();
  }
}

/**
 * Throws inputs at daemons, one for each of `rigs`, which share the time.
 * `first` is the index of the first input.
 */
export const throwAtDaemons = async (
  seed: number,
  seconds: number,
  rigs: readonly string[] = RIG_NAMES,
  first = 0,
  tell: (result: Result) => void = () => {},
): Promise<Result[]> => {
  const lab = await Lab.open();
  try {
    const range = await Range.build(lab, seed, first);
    const results: Result[] = [];
    for (const rig of RIGS.filter(({ name }) => rigs.includes(name))) {
      const result = await range.run(rig, (1000 * seconds) / rigs.length);
      results.push(result);
      tell(result);
    }
    return results;
  } finally {
    await lab.close();
  }
};
