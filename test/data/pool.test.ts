import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Host, Member, Pool } from '../../src/data/pool.js';
import type { Upstream } from '../../src/plan.js';
import { type Settings, serviceOf, upstreamOf } from './rig.js';

const poolOf = (upstreams: readonly Partial<Upstream>[], settings: Settings = {}, seed = 0): Pool => {
  const all = upstreams.map((upstream) => upstreamOf(upstream));
  const members = all.map((upstream, i) => new Member(upstream, null, [{ ip: `192.0.2.${i}`, port: 1 }], seed));
  return new Pool(serviceOf({ mode: 'http', upstreams: all, ...settings }), members, seed);
};

const abc = (settings: Settings = {}, seed = 0): Pool =>
  poolOf([{ host: 'a' }, { host: 'b' }, { host: 'c' }], settings, seed);

const member = (pool: Pool, i: number): Member => pool.members[i] ?? assert.fail();

/** The hosts of an order, as one word. */
const order = (pool: Pool, now = 0, url = '', ip = '', onlyHttp = true): string =>
  pool
    .order(now, onlyHttp, ip, url)
    .map(({ upstream }) => upstream.host)
    .join('');

const urls = Array.from({ length: 600 }, (_, i) => `http://origin.test/page/${i}.html`);

describe('Host', () => {
  test('gives its addresses in turn, from the seed on, and new ones when it is told', () => {
    const [a, b] = [
      { ip: '192.0.2.1', port: 1 },
      { ip: '192.0.2.2', port: 1 },
    ];
    const host = new Host([a, b], 1);
    assert.deepEqual(
      [host.next(), host.next(), host.next()],
      [
        [b, a],
        [a, b],
        [b, a],
      ],
    );
    host.setAddresses([]);
    assert.deepEqual(host.next(), []);
    host.setAddresses([a]);
    assert.deepEqual(host.next(), [a]);
  });
});

describe('a member', () => {
  test('that cannot be connected to is passed over for twice as long each time, up to half a minute', () => {
    const pool = poolOf([{ host: 'a' }]);
    const a = member(pool, 0);
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

  test('is passed over no longer because several connections failed at once', () => {
    const a = member(poolOf([{ host: 'a' }]), 0);
    for (let i = 0; i < 100; i++) a.failed(i);
    assert.equal(a.isUp(999), false);
    assert.equal(a.isUp(1000), true);
    a.failed(1000);
    assert.equal(a.isUp(2999), false);
    assert.equal(a.isUp(3000), true);
  });

  test('is up again at once when a connection succeeds', () => {
    const a = member(poolOf([{ host: 'a' }]), 0);
    a.failed(0);
    a.succeeded();
    assert.equal(a.isUp(1), true);
  });

  test('is up only if the last probe says so too', () => {
    const a = member(poolOf([{ host: 'a' }]), 0);
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

describe('the order of upstreams', () => {
  test('round-robin begins with each in turn, from the seed on', () => {
    const pool = abc({}, 1);
    assert.deepEqual([order(pool), order(pool), order(pool), order(pool)], ['bca', 'cab', 'abc', 'bca']);
  });

  test('least-conn begins with the one that has the fewest, in the order given where they have as many', () => {
    const pool = abc({ balance: 'least-conn' });
    assert.equal(order(pool), 'abc');
    member(pool, 0).connections = 2;
    member(pool, 1).connections = 1;
    member(pool, 2).connections = 1;
    assert.equal(order(pool), 'bca');
  });

  test('source-hash gives a client one order, whatever it asks for, and clients all of the upstreams', () => {
    const pool = abc({ balance: 'source-hash' });
    const first = new Set<string>();
    for (let i = 0; i < 100; i++) {
      const of = order(pool, 0, 'x', `10.0.0.${i}`);
      assert.equal(order(pool, 0, 'y', `10.0.0.${i}`), of);
      first.add(of.slice(0, 1));
    }
    assert.equal(first.size, 3);
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

  test('leaves out what is down; when all are, it is none, or all of them where there is no way past', () => {
    const pool = abc();
    const only = abc({ proxyOnly: true });
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

  test('has for requests those that take them, for connections all', () => {
    const pool = poolOf([{ host: 's', scheme: 'socks5' }, { host: 'h' }], { balance: 'least-conn' });
    assert.equal(order(pool), 'h');
    assert.equal(order(pool, 0, '', '', false), 'sh');
    member(pool, 1).failed(0);
    assert.equal(order(pool), '');
    const only = poolOf([{ host: 's', scheme: 'socks5' }], { proxyOnly: true });
    assert.equal(order(only), '');
  });

  test('depends on the URL only where it can', () => {
    assert.equal(abc({ balance: 'url-hash' }).byUrl, true);
    assert.equal(abc({ balance: 'source-hash' }).byUrl, false);
    assert.equal(poolOf([{ host: 'a' }], { balance: 'url-hash' }).byUrl, false);
  });
});
