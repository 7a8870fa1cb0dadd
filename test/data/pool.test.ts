import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { AffinityTable, allocateAffinity } from '../../src/affinity-table.js';
import { type Host, Member, Pool, type PoolSettings } from '../../src/data/pool.js';
import type { Health, Upstream } from '../../src/plan.js';
import { upstreamOf } from './rig.js';

const HEALTH: Health = { threshold: 1, recovery: null };

const hostOf = (name: string, weight = 1, scheme: Upstream['scheme'] | null = 'http'): Host => ({
  to: { host: name, port: 1 },
  name,
  upstream: scheme === null ? null : upstreamOf({ host: name, scheme }),
  authorization: null,
  weight,
  source: null,
});

const at = (last: number): SocketAddress => ({ ip: `192.0.2.${last}`, port: 1 });

const poolOf = (
  hosts: readonly Host[],
  settings: Partial<PoolSettings> = {},
  { seed = 0, addresses = hosts.map((_, i) => [at(i)]), random = Math.random } = {},
): Pool =>
  new Pool(
    hosts,
    addresses,
    { balance: 'round-robin', health: HEALTH, last: false, affinity: null, ...settings },
    seed,
    random,
  );

const abc = (settings: Partial<PoolSettings> = {}, seed = 0): Pool =>
  poolOf([hostOf('a'), hostOf('b'), hostOf('c')], settings, { seed });

/** Three targets with weights 5, 1 and 2. */
const weighted = (settings: Partial<PoolSettings> = {}, random = Math.random): Pool =>
  poolOf([hostOf('a', 5, null), hostOf('b', 1, null), hostOf('c', 2, null)], { last: true, ...settings }, { random });

const member = (pool: Pool, i: number): Member => pool.members[i] ?? assert.fail();

const names = (members: readonly Member[]): string => members.map(({ host }) => host.name).join('');

/** The hosts of an order, as one word. */
const order = (pool: Pool, now = 0, url = '', ip = '', onlyHttp = false): string =>
  names(pool.order(now, ip, url, onlyHttp));

/** How often each host is first in so many orders. */
const shares = (pool: Pool, times: number, ip: (i: number) => string = () => ''): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (let i = 0; i < times; i++) {
    const [first] = pool.order(0, ip(i));
    const name = first?.host.name ?? 'none';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
};

const near = (counts: Record<string, number>, expected: Record<string, number>, tolerance: number): void => {
  for (const [name, count] of Object.entries(expected)) {
    const off = Math.abs((counts[name] ?? 0) - count);
    assert.ok(off <= tolerance * count, `${name}: ${counts[name]} instead of ${count}`);
  }
};

/** Numbers from 0 to 1 that look random, and are the same each time (mulberry32). */
const seeded = (seed: number): (() => number) => {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
};

const urls = Array.from({ length: 600 }, (_, i) => `http://origin.test/page/${i}.html`);

describe('a member', () => {
  const memberOf = (health: Health = HEALTH): Member => new Member(hostOf('a'), at(1), health);

  test('that cannot be connected to is passed over for twice as long each time, up to half a minute', () => {
    const a = memberOf();
    let now = 0;
    for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      a.failed(now);
      assert.equal(a.isUp(now + pause - 1), false, `${pause}`);
      now += pause;
      assert.equal(a.isUp(now), true);
    }
    a.succeeded();
    a.failed(now);
    assert.equal(a.isUp(now + 1000), true);
  });

  test('with a threshold is down after so many failures in a row', () => {
    const a = memberOf({ threshold: 3, recovery: null });
    a.failed(0);
    a.failed(0);
    a.succeeded();
    a.failed(0);
    a.failed(0);
    assert.equal(a.isUp(0), true);
    a.failed(0);
    assert.equal(a.isUp(999), false);
    assert.equal(a.isUp(1000), true);
    // One more failure, and it is as before but for longer.
    a.failed(1000);
    assert.equal(a.isUp(2999), false);
    assert.equal(a.isUp(3000), true);
  });

  test('with a recovery is down for so long each time', () => {
    const a = memberOf({ threshold: 2, recovery: 5000 });
    a.failed(0);
    a.failed(0);
    for (const now of [0, 5000, 10_000]) {
      assert.equal(a.isUp(now + 4999), false);
      assert.equal(a.isUp(now + 5000), true);
      a.failed(now + 5000);
    }
  });

  test('is passed over no longer because several connections failed at once', () => {
    const a = memberOf();
    for (let i = 0; i < 100; i++) a.failed(i);
    assert.equal(a.isUp(999), false);
    assert.equal(a.isUp(1000), true);
    a.failed(1000);
    assert.equal(a.isUp(2999), false);
    assert.equal(a.isUp(3000), true);
  });

  test('is up again at once when a connection succeeds', () => {
    const a = memberOf();
    a.failed(0);
    a.succeeded();
    assert.equal(a.isUp(1), true);
  });

  test('makes news of failures up to the threshold and of the success that ends them, and of no other', () => {
    const a = memberOf({ threshold: 2, recovery: 1000 });
    assert.equal(a.succeeded(), false);
    assert.deepEqual([a.failed(0), a.failed(0), a.failed(0), a.failed(1000)], [true, true, false, false]);
    assert.deepEqual([a.succeeded(), a.succeeded()], [true, false]);
    assert.equal(a.failed(2000), true);
    assert.equal(a.succeeded(), false);
  });

  test('is up only if the last probe says so too', () => {
    const a = memberOf();
    a.probedUp = false;
    assert.equal(a.isUp(0), false);
    a.succeeded();
    assert.equal(a.isUp(0), false);
    a.probedUp = true;
    assert.equal(a.isUp(0), true);
    a.failed(0);
    assert.equal(a.isUp(0), false);
  });
});

describe('the order of members', () => {
  test('round-robin begins with each in turn, from the seed on', () => {
    const pool = abc({}, 1);
    assert.deepEqual([order(pool), order(pool), order(pool), order(pool)], ['bca', 'cab', 'abc', 'bca']);
  });

  test('round-robin gives each as many turns as its weight, and the turns of one lie apart', () => {
    const pool = weighted();
    const turns = Array.from({ length: 16 }, () => order(pool).slice(0, 1)).join('');
    assert.equal(turns, 'acaabaca'.repeat(2));
  });

  test('round-robin begins somewhere in the round for any seed, so that processes share by weight too', () => {
    const hosts = [hostOf('a', 5), hostOf('b', 1), hostOf('c', 2)];
    const first = Array.from({ length: 800 }, (_, i) => order(poolOf(hosts, {}, { seed: 31_000 + i })).slice(0, 1));
    assert.equal(first.filter((name) => name === 'a').length, 500);
    assert.equal(first.filter((name) => name === 'b').length, 100);
    order(poolOf([hostOf('a', 1e9), hostOf('b', 1e9)], {}, { seed: 4_000_000 }));
  });

  test('round-robin without the heaviest shares out among the others, and nobody makes up for it later', () => {
    const pool = weighted();
    member(pool, 0).failed(0);
    assert.deepEqual(shares(pool, 300), { b: 100, c: 200 });
    member(pool, 0).succeeded();
    near(shares(pool, 800), { a: 500, b: 100, c: 200 }, 0.05);
  });

  test('least-conn begins with the one that has the fewest, in turns where they have as many', () => {
    const pool = abc({ balance: 'least-conn' });
    assert.equal(order(pool), 'abc');
    member(pool, 0).connections = 2;
    member(pool, 1).connections = 1;
    member(pool, 2).connections = 1;
    assert.equal(order(pool), 'bca');
    assert.equal(order(pool), 'cba');
  });

  test('least-conn gives each member connections by its weight', () => {
    const pool = weighted({ balance: 'least-conn' });
    for (let i = 0; i < 800; i++) {
      const [first] = pool.order(0, '');
      if (first !== undefined) first.connections++;
    }
    assert.deepEqual(
      pool.members.map(({ connections }) => connections),
      [500, 100, 200],
    );
    // Whoever loses some gets the next ones.
    member(pool, 1).connections = 40;
    assert.match(order(pool), /^b/);
  });

  test('random gives each member its part by weight, and second places too', () => {
    const pool = weighted({ balance: 'random' }, seeded(1));
    const seconds: Record<string, number> = {};
    const firsts: Record<string, number> = {};
    for (let i = 0; i < 8000; i++) {
      const [first = '', second = ''] = order(pool);
      firsts[first] = (firsts[first] ?? 0) + 1;
      if (first === 'a') seconds[second] = (seconds[second] ?? 0) + 1;
    }
    near(firsts, { a: 5000, b: 1000, c: 2000 }, 0.1);
    near(seconds, { b: 5000 / 3, c: 10_000 / 3 }, 0.1);
  });

  test('source-hash gives a client one order, whatever it asks for, and each member clients by its weight', () => {
    const pool = weighted({ balance: 'source-hash' });
    const ip = (i: number): string => `10.${i >> 8}.${i & 255}.1`;
    for (let i = 0; i < 100; i++) {
      assert.equal(order(pool, 0, 'x', ip(i)), order(pool, 0, 'y', ip(i)));
      assert.equal(order(weighted({ balance: 'source-hash' }), 0, '', ip(i)), order(pool, 0, '', ip(i)));
    }
    near(shares(pool, 8000, ip), { a: 5000, b: 1000, c: 2000 }, 0.1);
  });

  test('source-hash knows a member by its address, not by its place or its name', () => {
    const one = poolOf([hostOf('a'), hostOf('b')], { balance: 'source-hash' });
    const two = poolOf(
      [hostOf('x')],
      { balance: 'source-hash' },
      {
        addresses: [[at(9), at(1), at(0)]],
      },
    );
    two.setAddresses(0, [at(1), at(0)]);
    for (let i = 0; i < 100; i++) {
      const [a] = one.order(0, `10.0.0.${i}`);
      assert.deepEqual(two.order(0, `10.0.0.${i}`)[0]?.address, a?.address);
    }
  });

  test('url-hash gives a URL one order, whoever asks, and each upstream about its part of the URLs', () => {
    const pool = abc({ balance: 'url-hash' });
    const counts = { a: 0, b: 0, c: 0 };
    for (const url of urls) {
      const of = order(pool, 0, url, '1');
      assert.equal(order(pool, 0, url, '2'), of);
      assert.equal(order(abc({ balance: 'url-hash' }, 7), 0, url), of);
      counts[of[0] as keyof typeof counts]++;
    }
    for (const count of Object.values(counts)) assert.ok(count > 140 && count < 260, JSON.stringify(counts));
  });

  test('url-hash moves the share of a member that is down, to both others, and nothing else', () => {
    const pool = abc({ balance: 'url-hash' });
    const before = urls.map((url) => order(pool, 0, url));
    member(pool, 1).failed(0);
    const moved = { a: 0, c: 0 };
    for (const [i, url] of urls.entries()) {
      const was = before[i] ?? assert.fail();
      const is = order(pool, 0, url);
      assert.equal(is, was.replace('b', ''));
      if (was.startsWith('b')) moved[is[0] as keyof typeof moved]++;
    }
    assert.ok(moved.a > 50 && moved.c > 50, JSON.stringify(moved));
    assert.deepEqual(
      urls.map((url) => order(pool, 1000, url)),
      before,
    );
  });

  for (const balance of ['round-robin', 'least-conn', 'random', 'source-hash', 'url-hash'] as const) {
    test(`${balance} names every member that is up once, the others not at all`, () => {
      const pool = weighted({ balance });
      for (let i = 0; i < 50; i++) assert.equal([...order(pool, 0, `${i}`, `${i}`)].sort().join(''), 'abc');
      member(pool, 1).failed(0);
      for (let i = 0; i < 50; i++) assert.equal([...order(pool, 0, `${i}`, `${i}`)].sort().join(''), 'ac');
    });
  }

  test('leaves out what is down; when all are, it is none, or all of them where there is no way past', () => {
    const pool = abc();
    const only = abc({ last: true });
    for (const each of [pool, only]) {
      member(each, 0).failed(0);
      assert.match(order(each), /^(bc|cb)$/);
      member(each, 1).failed(0);
      member(each, 2).probedUp = false;
    }
    assert.equal(order(pool), '');
    assert.match(order(only), /^(abc|bca|cab)$/);
    assert.match(order(pool, 1000), /^(ab|ba)$/);
  });

  test('of one member is the same list each time, and it is there though it is down where there is no way past', () => {
    const only = poolOf([hostOf('a', 1, null)], { last: true });
    const first = only.order(0, '');
    assert.equal(names(first), 'a');
    member(only, 0).failed(0);
    assert.equal(only.order(0, ''), first);
    const pool = poolOf([hostOf('a')]);
    member(pool, 0).failed(0);
    assert.equal(order(pool), '');
    assert.equal(order(pool, 1000), 'a');
  });

  test('of none is empty', () => {
    for (const balance of ['round-robin', 'least-conn', 'random'] as const)
      for (const last of [true, false]) assert.equal(order(poolOf([], { balance, last })), '');
  });

  test('has for requests those that take them, for connections all', () => {
    const settings = { balance: 'least-conn' } as const;
    const pool = poolOf([hostOf('s', 1, 'socks5'), hostOf('h')], settings);
    assert.equal(order(pool, 0, '', '', true), 'h');
    assert.equal(names(pool.httpMembers), 'h');
    assert.equal(order(pool), 'sh');
    member(pool, 1).failed(0);
    assert.equal(order(pool, 0, '', '', true), '');
    assert.equal(order(poolOf([hostOf('s', 1, 'socks5')], { last: true }), 0, '', '', true), '');
  });

  test('depends on the URL only where it can', () => {
    assert.equal(abc({ balance: 'url-hash' }).byUrl, true);
    assert.equal(abc({ balance: 'source-hash' }).byUrl, false);
    assert.equal(poolOf([hostOf('a')], { balance: 'url-hash' }).byUrl, false);
    assert.equal(abc({ balance: 'url-hash', affinity: tableOf() }).byUrl, false);
  });
});

const AFFINITY = { ttl: 10_000, entries: 100 };
const tableOf = (memory = allocateAffinity(AFFINITY)): AffinityTable => new AffinityTable(memory, AFFINITY, 0);

describe('with affinity', () => {
  test('a client keeps its member, as long as it comes again in time; others go by the balance', () => {
    const pool = abc({ affinity: tableOf() });
    assert.equal(order(pool, 0, '', 'one'), 'abc');
    assert.equal(order(pool, 0, '', 'two'), 'bca');
    for (const now of [1000, 9000, 18_000]) assert.equal(order(pool, now, '', 'one'), 'abc');
    assert.equal(order(pool, 18_000, '', 'three'), 'cab');
    assert.equal(order(pool, 28_000, '', 'one'), 'abc');
    assert.equal(order(pool, 28_000, '', 'two'), 'bca');
  });

  test('a client whose member is down gets another, and keeps that', () => {
    const pool = abc({ affinity: tableOf() });
    assert.equal(order(pool, 0, '', 'one'), 'abc');
    member(pool, 0).failed(0);
    member(pool, 2).failed(0);
    assert.equal(order(pool, 0, '', 'one'), 'b');
    assert.equal(order(pool, 5000, '', 'one'), 'bca');
  });

  test('a client keeps its member in whichever worker, and while the host’s other addresses change', () => {
    const memory = allocateAffinity(AFFINITY);
    const pools = [0, 1].map((seed) =>
      poolOf([hostOf('a')], { affinity: tableOf(memory) }, { seed, addresses: [[at(1), at(2), at(3)]] }),
    );
    const [one, two] = pools;
    for (let i = 0; i < 30; i++) {
      const kept = one?.order(0, `10.0.0.${i}`)[0]?.address;
      assert.deepEqual(two?.order(0, `10.0.0.${i}`)[0]?.address, kept);
      assert.notEqual(kept, undefined);
    }
    const kept = one?.order(0, 'x')[0]?.address ?? assert.fail();
    two?.setAddresses(0, [at(7), kept, at(8)]);
    assert.deepEqual(two?.order(0, 'x')[0]?.address, kept);
    two?.setAddresses(0, [at(7), at(8)]);
    assert.notDeepEqual(two?.order(0, 'x')[0]?.address, kept);
  });

  test('clients without an address have none', () => {
    const pool = abc({ affinity: tableOf() });
    assert.deepEqual([order(pool), order(pool)], ['abc', 'bca']);
  });
});

describe('a host with several addresses', () => {
  test('is a member for each of them, with the weight of the host each', () => {
    const pool = poolOf([hostOf('a', 2), hostOf('b')], {}, { addresses: [[at(1), at(2)], [at(3)]] });
    assert.deepEqual(shares(pool, 500), { a: 400, b: 100 });
    member(pool, 0).failed(0);
    assert.deepEqual(
      pool
        .order(0, '')
        .map(({ address }) => address.ip)
        .sort(),
      ['192.0.2.2', '192.0.2.3'],
    );
  });

  test('that gets others keeps the members whose address stays as they are', () => {
    const pool = poolOf([hostOf('a'), hostOf('b')], {}, { addresses: [[at(1), at(2)], [at(3)]] });
    const [first, second, third] = pool.members;
    second?.failed(0);
    pool.setAddresses(0, [at(4), at(2)]);
    assert.deepEqual(
      pool.members.map(({ address }) => address),
      [at(4), at(2), at(3)],
    );
    assert.equal(pool.members[1], second);
    assert.equal(pool.members[2], third);
    assert.equal(pool.members.includes(first ?? assert.fail()), false);
    assert.equal(order(pool).length, 2);
    pool.setAddresses(0, []);
    assert.equal(order(pool), 'b');
    pool.setAddresses(1, []);
    assert.equal(order(pool), '');
    pool.setAddresses(2, [at(5)]);
    assert.deepEqual(pool.members, []);
  });

  test('has its members by address', () => {
    const pool = poolOf([hostOf('a'), hostOf('b')], {}, { addresses: [[at(1), at(2)], [at(2)]] });
    assert.deepEqual(pool.membersAt(0, at(2)), [member(pool, 1)]);
    assert.deepEqual(pool.membersAt(1, at(2)), [member(pool, 2)]);
    assert.deepEqual(pool.membersAt(1, at(1)), []);
    assert.deepEqual(pool.membersAt(2, at(1)), []);
  });
});
