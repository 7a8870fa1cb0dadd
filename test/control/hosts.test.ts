import assert from 'node:assert/strict';
import { after, describe, type TestContext, test } from 'node:test';
import { Hosts } from '../../src/control/hosts.js';
import { resolveService } from '../../src/control/resolve.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_PLAN, type HostPort, type Service } from '../../src/plan.js';
import { planOf, recordingLog } from './plans.js';

/** A name that no resolver is asked for: getaddrinfo(3) refuses it, being longer than a name may be. */
const NOWHERE = `${'x'.repeat(60)}.`.repeat(4) + 'x'.repeat(10);
const service = (line: string): Service => planOf(line).services[0] ?? assert.fail();

/** A resolver of the test's own. */
const resolver = () => {
  const names = new Map<string, string[]>();
  const asked: string[] = [];
  const lookup = async (name: string): Promise<string[]> => {
    asked.push(name);
    return names.get(name) ?? Promise.reject(new Failure(`can't find the host ${name}: GONE`, EX.NOHOST));
  };
  return { names, asked, lookup };
};

/** The hosts of some services, all found at 127.0.0.1, and all that is heard of them. */
const hostsOf = async (services: readonly Service[]) => {
  const { names, asked, lookup } = resolver();
  const log = recordingLog();
  const changes: unknown[][] = [];
  let accepted = 0;
  const resolved = services.map(({ upstreams, targets }) => ({
    addresses: [...upstreams, ...targets.map(({ to }) => to as HostPort)].map(({ host, port }) => {
      names.set(host, ['127.0.0.1']);
      return [{ ip: '127.0.0.1', port }];
    }),
    problems: [],
  }));
  const hosts = new Hosts({ ...DEFAULT_PLAN, services }, log, resolved, lookup);
  hosts.watch(
    () => accepted,
    (...change) => changes.push(change),
  );
  const traffic = (): void => {
    accepted++;
  };
  return { hosts, names, asked, log, changes, traffic };
};

/** Hosts of services in transproxy's dialect, which are looked up when the test says so. */
const watched = async (...lines: readonly string[]) => {
  const all = await hostsOf(lines.map(service));
  after(() => all.hosts.stop());
  return all;
};

/** Relays to one host each, on a clock of the test's. */
const ticking = async (t: TestContext, rows: readonly { host: string; dnsRefresh: number | null }[]) => {
  t.mock.timers.enable({ apis: ['setInterval', 'Date'] });
  const services = rows.map(({ host, dnsRefresh }) => ({ ...service(`-t ${host} 1`), dnsRefresh }));
  const all = await hostsOf(services);
  const tick = async (ms: number): Promise<void> => {
    t.mock.timers.tick(ms);
    for (let i = 0; i < 10; i++) await Promise.resolve();
  };
  return { ...all, tick };
};

describe('the hosts of a plan', () => {
  test('upstreams come before the target, each with its addresses', async () => {
    const { addresses, problems } = await resolveService(
      service('-t 127.0.0.3 25 --upstream 127.0.0.1:1 --upstream socks5://[::1]:2'),
    );
    assert.deepEqual(addresses, [
      [{ ip: '127.0.0.1', port: 1 }],
      [{ ip: '::1', port: 2 }],
      [{ ip: '127.0.0.3', port: 25 }],
    ]);
    assert.deepEqual(problems, []);
  });

  test('a service without any has nothing to look up', async () => {
    assert.deepEqual(await resolveService(service('-t')), { addresses: [], problems: [] });
  });

  test('an upstream that is not found is left out while there is another', async () => {
    const log = recordingLog();
    const hosts = await Hosts.resolve(planOf(`${NOWHERE} 1 --upstream 127.0.0.1:2`), log);
    assert.deepEqual(hosts.addresses, [[[], [{ ip: '127.0.0.1', port: 2 }]]]);
    assert.deepEqual(log.lines, [`warn can't find the host ${NOWHERE}: ENOTFOUND`]);
  });

  test('it is an error when no upstream is found, or no target where there is no upstream', async () => {
    for (const line of [`${NOWHERE} 1`, `-t ${NOWHERE} 1`, `-t 127.0.0.1 1 --upstream ${NOWHERE}:1`]) {
      await assert.rejects(
        resolveService(service(line)),
        (error) => error instanceof Failure && error.exitCode === EX.NOHOST,
        line,
      );
    }
    const { addresses } = await resolveService(service(`-t ${NOWHERE} 1 --upstream 127.0.0.1:1`));
    assert.deepEqual(addresses.at(-1), []);
  });

  test('looking again tells of the hosts that have moved, and not of the others', async () => {
    const { hosts, names, changes, log } = await watched('a 1 --upstream b:2 --upstream 127.0.0.1:3');
    await hosts.refresh(() => true);
    assert.deepEqual(changes, []);

    names.set('b', ['127.0.0.9', '127.0.0.10']);
    await hosts.refresh(() => true);
    const moved = [
      { ip: '127.0.0.9', port: 2 },
      { ip: '127.0.0.10', port: 2 },
    ];
    assert.deepEqual(changes, [[0, 1, moved]]);
    assert.deepEqual(hosts.addresses[0]?.[1], moved);
    assert.deepEqual(log.lines, ['info b is 127.0.0.9:2, 127.0.0.10:2 now']);

    // The resolver gives them in turn, which is nothing new.
    names.set('b', ['127.0.0.10', '127.0.0.9']);
    await hosts.refresh(() => true);
    assert.equal(changes.length, 1);
  });

  test('a host that is not found keeps its addresses, which is said once', async () => {
    const { hosts, names, changes, log } = await watched('a 1');
    const known = hosts.addresses[0]?.[0];
    names.delete('a');
    for (let i = 0; i < 3; i++) await hosts.refresh(() => true);
    assert.equal(hosts.addresses[0]?.[0], known);
    assert.deepEqual(log.lines, ["warn can't find the host a: GONE; its last addresses stay in use"]);
    names.set('a', ['127.0.0.1']);
    await hosts.refresh(() => true);
    assert.deepEqual(changes, []);
    assert.equal(log.lines.at(-1), 'info the host a is found again');
  });

  test('a name that services have in common is looked up once for all of them, an address never', async () => {
    const { hosts, asked, changes, names } = await watched('a 1', 'a 2', 'b 1', '::1 1');
    names.set('a', ['127.0.0.9']);
    await hosts.refresh(() => true);
    assert.deepEqual(asked.toSorted(), ['a', 'b']);
    assert.deepEqual(changes, [
      [0, 0, [{ ip: '127.0.0.9', port: 1 }]],
      [1, 0, [{ ip: '127.0.0.9', port: 2 }]],
    ]);
  });
});

describe('looking names up again', () => {
  test('comes in each service’s own time, and while there is traffic only', async (t) => {
    const { hosts, asked, traffic, tick } = await ticking(t, [
      { host: 'often', dnsRefresh: 2000 },
      { host: 'seldom', dnsRefresh: 6000 },
      { host: 'never', dnsRefresh: null },
      { host: 'beyond', dnsRefresh: 2 ** 31 },
    ]);
    t.after(() => hosts.stop());
    await tick(60_000);
    assert.deepEqual(asked, []);
    traffic();
    await tick(2000);
    assert.deepEqual(asked.splice(0), ['often']);
    await tick(2000);
    assert.deepEqual(asked.splice(0), []);
    traffic();
    await tick(2000);
    assert.deepEqual(asked.splice(0), ['often', 'seldom']);
    for (let i = 0; i < 30; i++) {
      traffic();
      await tick(2000);
    }
    assert.equal(asked.filter((name) => name === 'often').length, 30);
    assert.equal(asked.filter((name) => name === 'seldom').length, 10);
    assert.equal(asked.length, 40);
    asked.splice(0);
    hosts.stop();
    traffic();
    await tick(60_000);
    assert.deepEqual(asked, []);
  });

  test('comes every 10 s for a host that has no address yet, whatever the service’s time is', async (t) => {
    const { hosts, asked, traffic, tick, changes, names } = await ticking(t, [
      { host: 'lost', dnsRefresh: null },
      { host: 'found', dnsRefresh: null },
    ]);
    t.after(() => hosts.stop());
    names.delete('lost');
    (hosts.addresses as unknown[][])[0] = [[]];
    for (let i = 0; i < 2; i++) {
      traffic();
      await tick(10_000);
      assert.deepEqual(asked.splice(0), ['lost']);
    }
    names.set('lost', ['127.0.0.5']);
    traffic();
    await tick(10_000);
    assert.deepEqual(changes, [[0, 0, [{ ip: '127.0.0.5', port: 1 }]]]);
    asked.splice(0);
    traffic();
    await tick(10_000);
    assert.deepEqual(asked, []);
  });

  test('comes at once when a service’s host can’t be connected to, but not twice within a second', async (t) => {
    const { hosts, asked, tick } = await ticking(t, [
      { host: 'a', dnsRefresh: null },
      { host: 'b', dnsRefresh: 10_000 },
    ]);
    t.after(() => hosts.stop());
    hosts.onUnreachable(0);
    assert.deepEqual(asked, []);
    await tick(1000);
    for (let i = 0; i < 50; i++) hosts.onUnreachable(0);
    assert.deepEqual(asked.splice(0), ['a']);
    hosts.onUnreachable(1);
    assert.deepEqual(asked.splice(0), ['b']);
    await tick(999);
    hosts.onUnreachable(0);
    assert.deepEqual(asked, []);
    await tick(1);
    hosts.onUnreachable(0);
    assert.deepEqual(asked, ['a']);
    hosts.onUnreachable(7);
    assert.deepEqual(asked, ['a']);
  });

  test('comes for all when it is asked for, and not a second time while it is under way', async (t) => {
    const { hosts, asked } = await ticking(t, [
      { host: 'a', dnsRefresh: null },
      { host: 'b', dnsRefresh: 10_000 },
    ]);
    t.after(() => hosts.stop());
    hosts.lookAgain();
    hosts.lookAgain();
    assert.deepEqual(asked, ['a', 'b']);
  });
});
