import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import type { Balance, Target } from '../../src/plan.js';
import type { NamedLoadOutcome } from '../support/named-load.js';
import { unless } from '../support/needs.js';
import type { GivenPlan } from '../support/serve-plan.js';
import { Sockets } from '../support/sockets.js';
import { buildGateway, type Cleanup } from '../support/tproxy.js';

const PORT = 7000;
const FRONT = 2500;
const [A, B, C] = ['10.77.2.11', '10.77.2.12', '10.77.2.13'] as const;
const SERVE = ['/run/tproxy/node', '/run/tproxy/package/dist/test/support/serve-plan.js'];

const support = (name: string): string => fileURLToPath(new URL(`../support/${name}.js`, import.meta.url));

type PartOfService = Omit<GivenPlan['services'][number], 'name' | 'listen'>;

const targetAt = (host: string, weight = 1, source: string | null = null): Target => ({
  to: { host, port: PORT },
  weight,
  source,
});

describe('several targets', { skip: unless('program iptables') }, () => {
  let topology: Topology;
  let client: Sockets;
  const origins = new Map<string, Running>();
  const [routerV4] = ADDRESS.routerToClient;
  const clients = Array.from({ length: 12 }, (_, i) => `10.77.1.${20 + i}`);
  let plans = 0;

  const startOrigin = async (address: string): Promise<void> => {
    const running = await topology.internet.spawn([process.execPath, support('named-origin'), address, String(PORT)]);
    await running.says(/listening/);
    origins.set(address, running);
  };

  const endOrigin = async (address: string): Promise<void> => {
    await origins.get(address)?.end('SIGKILL');
    origins.delete(address);
  };

  before(async () => {
    topology = await buildGateway();
    for (const address of [A, B, C]) await topology.internet.address('to-router', `${address}/24`);
    for (const address of clients) await topology.client.address('to-router', `${address}/24`);
    client = new Sockets(topology.client);
  });
  after(() => topology?.lab.close());

  /** The three origins, and a relay of two workers to targets. */
  const serve = async (t: Cleanup, service: PartOfService, workers = 2): Promise<Running> => {
    for (const address of [A, B, C]) if (!origins.has(address)) await startOrigin(address);
    const file = topology.lab.path(`plan${++plans}.json`);
    const listen = [{ host: null, port: FRONT }];
    const plan: GivenPlan = { workers, services: [{ name: 'farm', listen, ...service }] };
    writeFileSync(file, JSON.stringify(plan));
    const running = await topology.router.spawn([...SERVE, file]);
    t.after(() => running.end());
    await running.says(/ready/);
    return running;
  };

  /** Who answers a new connection; it stays open. */
  const open = async (): Promise<{ readonly name: string; close(): Promise<void> }> => {
    const socket = await client.connect(routerV4, FRONT);
    const line = await socket.receiveThrough('\n');
    return { name: line.trimEnd(), close: () => socket.closed() };
  };

  const ask = async (): Promise<string> => {
    const { name, close } = await open();
    await close();
    return name;
  };

  const askTimes = async (times: number): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (let i = 0; i < times; i++) {
      const name = await ask();
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  };

  const startLoad = async (t: Cleanup, count: number, from: readonly string[]): Promise<Running> => {
    const command = [process.execPath, support('named-load'), routerV4, String(FRONT), String(count), ...from];
    const load = await topology.client.spawn(command, { stdin: 'pipe' });
    t.after(() => load.end('SIGKILL'));
    await load.says(/begun/);
    return load;
  };

  const endLoad = async (load: Running): Promise<NamedLoadOutcome> => {
    load.stdin?.end();
    const { stdout } = await load.outcome();
    return JSON.parse(stdout.slice('begun\n'.length)) as NamedLoadOutcome;
  };

  const weights = [targetAt(A, 5), targetAt(B, 1), targetAt(C, 2)];

  for (const [balance, tolerance] of [
    ['round-robin', 0.05],
    ['random', 0.3],
  ] as const) {
    test(`with ${balance} each has its part of many connections, by weight`, async (t) => {
      await serve(t, { targets: weights, balance });
      const load = await startLoad(t, 16, []);
      await sleep(3000);
      const { done, lost } = await endLoad(load);
      assert.deepEqual(lost, []);
      const sum = Object.values(done).reduce((all, count) => all + count, 0);
      assert.ok(sum > 100, `${sum}`);
      for (const [address, weight] of [
        [A, 5],
        [B, 1],
        [C, 2],
      ] as const) {
        const part = (sum * weight) / 8;
        assert.ok(Math.abs((done[address] ?? 0) - part) < tolerance * part + 10, JSON.stringify(done));
      }
    });
  }

  test('with least-conn open connections are shared out by weight, and who loses some gets the next', async (t) => {
    await serve(t, { targets: weights, balance: 'least-conn' }, 1);
    const held: Awaited<ReturnType<typeof open>>[] = [];
    for (let i = 0; i < 16; i++) held.push(await open());
    const of = (address: string) => held.filter(({ name }) => name === address);
    assert.deepEqual([of(A).length, of(B).length, of(C).length], [10, 2, 4]);
    for (const each of of(C)) await each.close();
    assert.deepEqual([await ask(), await ask()], [C, C]);
  });

  for (const balance of ['round-robin', 'least-conn', 'random', 'source-hash'] satisfies Balance[]) {
    test(`with ${balance}, one killed under load costs no connection but those that it had`, async (t) => {
      const running = await serve(t, { targets: [targetAt(A), targetAt(B), targetAt(C)], balance });
      const load = await startLoad(t, 24, clients);
      await sleep(700);
      // From here on it gets no new connections, so that each that it has knows its name.
      const noMore = ['INPUT', '-d', B, '-p', 'tcp', '--syn', '-j', 'DROP'];
      await topology.internet.run('iptables', '-A', ...noMore);
      t.after(() => topology.internet.run('iptables', '-F', 'INPUT'));
      await sleep(300);
      await endOrigin(B);
      await topology.internet.run('iptables', '-D', ...noMore);
      await sleep(1500);
      const { done, lost, origins: seen } = await endLoad(load);
      assert.deepEqual([...new Set(lost)], lost.length === 0 ? [] : [B]);
      for (const address of [A, B, C]) assert.ok((done[address] ?? 0) > 0, JSON.stringify(done));
      if (balance === 'source-hash') {
        const stayed = Object.values(seen).filter((names) => !names.includes(B));
        assert.ok(stayed.every((names) => names.length === 1));
      }
      assert.match(running.stderr, /connect 10\.77\.2\.12:7000: \w+; trying the next target/);
    });
  }

  test('a client keeps its target in every worker, with affinity, and the clients are shared out', async (t) => {
    await serve(t, { targets: [targetAt(A), targetAt(B), targetAt(C)], affinity: { ttl: 60_000, entries: 1000 } });
    // One at a time: two first connections of one client at the same moment may both count as the first.
    for (const address of clients) {
      const load = await startLoad(t, 1, [address]);
      await sleep(100);
      await endLoad(load);
    }
    const load = await startLoad(t, 48, clients);
    await sleep(1500);
    const { origins: seen, done, lost } = await endLoad(load);
    assert.deepEqual(lost, []);
    assert.equal(Object.keys(seen).length, clients.length);
    for (const names of Object.values(seen)) assert.equal(names.length, 1, JSON.stringify(seen));
    assert.deepEqual(Object.keys(done).toSorted(), [A, B, C]);
  });

  test('one that is down is left alone until its recovery, and has its part again then', async (t) => {
    const health = { threshold: 2, recovery: 1500 };
    const running = await serve(t, { targets: [targetAt(A), targetAt(B), targetAt(C)], health }, 1);
    await endOrigin(B);
    assert.equal((await askTimes(30))[B], undefined);
    await startOrigin(B);
    await until('a connection to the one that is back', async () => (await ask()) === B);
    assert.ok(((await askTimes(9))[B] ?? 0) >= 2);
    assert.match(running.stderr, /10\.77\.2\.12:7000 can be connected to again/);
  });

  test('when all are down each is tried all the same', async (t) => {
    const running = await serve(t, { targets: [targetAt(A), targetAt(B)], health: { threshold: 1, recovery: 60_000 } });
    await endOrigin(A);
    await endOrigin(B);
    for (let i = 0; i < 4; i++) await client.expectReset(routerV4, FRONT);
    const failures = /connect 10\.77\.2\.1[12]:7000: ECONNREFUSED; connect 10\.77\.2\.1[12]:7000: ECONNREFUSED$/m;
    await running.says(failures);
    await startOrigin(B);
    assert.equal(await ask(), B);
    await startOrigin(A);
  });

  test('probes tell of a dead target and of one that is back, without a client', async (t) => {
    const running = await serve(t, { targets: [targetAt(A), targetAt(B)], check: 300 });
    await endOrigin(B);
    await running.says(/target 10\.77\.2\.12:7000 is down: .*ECONNREFUSED/);
    assert.deepEqual(await askTimes(6), { [A]: 6 });
    assert.doesNotMatch(running.stderr, /trying the next/);
    await startOrigin(B);
    await running.says(/target 10\.77\.2\.12:7000 is up again/);
    assert.ok(((await askTimes(8))[B] ?? 0) >= 2);
  });

  test('each is connected to from its own address', async (t) => {
    const own = ['10.77.2.51', '10.77.2.52'] as const;
    for (const address of own) await topology.router.address('to-internet', `${address}/24`);
    await serve(
      t,
      { targets: [targetAt(A, 1, own[0]), targetAt(B, 1, own[1])], source: ADDRESS.routerToInternet[0] },
      1,
    );
    const held = [await open(), await open()];
    assert.deepEqual(held.map(({ name }) => name).toSorted(), [A, B]);
    for (const [address, source] of [
      [A, own[0]],
      [B, own[1]],
    ] as const) {
      const { stdout } = await topology.internet.run('ss', '-Htn', 'src', `${address}:${PORT}`);
      assert.match(stdout, new RegExp(`${source.replaceAll('.', '\\.')}:\\d+`));
    }
  });

  test('a name’s addresses are targets each, and come and go while it runs', async (t) => {
    topology.lab.name('farm.lab', [A, B]);
    const running = await serve(t, { targets: [targetAt('farm.lab')], dnsRefresh: 1000 }, 1);
    assert.deepEqual(await askTimes(8), { [A]: 4, [B]: 4 });
    topology.lab.name('farm.lab', [B, C]);
    await until('a connection to the new address', async () => (await ask()) === C);
    assert.deepEqual(await askTimes(8), { [B]: 4, [C]: 4 });
    topology.lab.name('farm.lab', []);
    await until('the name to be lost', async () => {
      await ask();
      return running.stderr.includes("can't find the host farm.lab: ENOTFOUND; its last addresses stay in use");
    });
    assert.deepEqual(await askTimes(8), { [B]: 4, [C]: 4 });
  });

  test('a name that is not looked up by time is after failures, and on HUP', async (t) => {
    topology.lab.name('farm.lab', [A]);
    const running = await serve(t, { targets: [targetAt('farm.lab')], dnsRefresh: null });
    topology.lab.name('farm.lab', [B]);
    await sleep(1200);
    assert.deepEqual(await askTimes(4), { [A]: 4 });
    await endOrigin(A);
    await client.expectReset(routerV4, FRONT);
    await running.says(/farm\.lab is 10\.77\.2\.12:7000 now/);
    await until('a connection to the new address', async () => (await ask()) === B);

    topology.lab.name('farm.lab', [C]);
    running.signal('SIGHUP');
    await running.says(/farm\.lab is 10\.77\.2\.13:7000 now/);
    await until('a connection to the newest address', async () => (await ask()) === C);
  });

  test('a host that is not found on HUP keeps the addresses that it had', async (t) => {
    topology.lab.name('farm.lab', [A]);
    topology.lab.name('yard.lab', [B]);
    const targets = [targetAt('farm.lab'), targetAt('yard.lab')];
    const running = await serve(t, { targets, dnsRefresh: null }, 1);
    topology.lab.name('yard.lab', []);
    topology.lab.name('farm.lab', [C]);
    running.signal('SIGHUP');
    await running.says(/can't find the host yard\.lab/);
    await running.says(/farm\.lab is 10\.77\.2\.13:7000 now/);
    await until('a connection to the new address', async () => (await ask()) === C);
    assert.deepEqual(await askTimes(4), { [B]: 2, [C]: 2 });
  });
});
