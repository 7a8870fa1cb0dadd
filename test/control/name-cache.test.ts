import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NameCache } from '../../src/control/name-cache.js';
import { EX, Failure } from '../../src/failure.js';

const ADDRESSES = ['192.0.2.1', '2001:db8::1'];

/** A cache over lookups that the test ends, and over a clock that the test sets. */
const setUp = () => {
  const clock = { now: 0 };
  const asked: { readonly name: string; readonly end: (ips: readonly string[] | null) => void }[] = [];
  const cache = new NameCache(
    (name) =>
      new Promise((found, failed) => {
        const end = (ips: readonly string[] | null): void => {
          if (ips !== null) found(ips);
          else failed(new Failure(`can't find the host ${name}: ENOTFOUND`, EX.NOHOST));
        };
        asked.push({ name, end });
      }),
    () => clock.now,
  );
  const answer = async (name: string, ips: readonly string[] | null): Promise<readonly string[]> => {
    const answered = cache.lookup(name);
    asked.at(-1)?.end(ips);
    return answered;
  };
  return { cache, clock, asked, answer, names: () => asked.map(({ name }) => name) };
};

/** Lets everything go on that waits for something which is there. */
const settle = (): Promise<void> => new Promise((done) => setImmediate(done));

describe('NameCache', () => {
  it('gives the addresses of a name, and no addresses for a name that is not found', async () => {
    const { answer } = setUp();
    assert.deepEqual(await answer('a.example', ADDRESSES), ADDRESSES);
    assert.deepEqual(await answer('b.example', null), []);
  });

  it('looks a name up once for all who ask meanwhile, whatever its case', async () => {
    const { cache, asked } = setUp();
    const both = [cache.lookup('a.example'), cache.lookup('A.Example')];
    assert.equal(asked.length, 1);
    asked[0]?.end(ADDRESSES);
    assert.deepEqual(await Promise.all(both), [ADDRESSES, ADDRESSES]);
  });

  it('uses addresses for 30 s', async () => {
    const { cache, clock, answer, names } = setUp();
    await answer('a.example', ADDRESSES);
    clock.now = 29_999;
    assert.deepEqual(await cache.lookup('a.example'), ADDRESSES);
    assert.deepEqual(names(), ['a.example']);
    clock.now = 30_000;
    assert.deepEqual(await answer('a.example', ['192.0.2.2']), ['192.0.2.2']);
    assert.deepEqual(names(), ['a.example', 'a.example']);
  });

  it('asks again soon for a name that was not found', async () => {
    const { cache, clock, answer, names } = setUp();
    await answer('a.example', null);
    assert.deepEqual(await cache.lookup('a.example'), []);
    assert.equal(names().length, 1);
    clock.now = 3000;
    assert.deepEqual(await answer('a.example', ADDRESSES), ADDRESSES);
  });

  it('has four lookups under way at most, and begins the next one as one ends', async () => {
    const { cache, asked, names } = setUp();
    const all = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => cache.lookup(name));
    assert.deepEqual(names(), ['a', 'b', 'c', 'd']);
    asked[1]?.end(null);
    await settle();
    assert.deepEqual(names(), ['a', 'b', 'c', 'd', 'e']);
    for (const i of [0, 2, 3, 4]) asked[i]?.end(ADDRESSES);
    await settle();
    asked[5]?.end([]);
    assert.deepEqual(await Promise.all(all), [ADDRESSES, [], ADDRESSES, ADDRESSES, ADDRESSES, []]);
  });

  it('gives no addresses at once when a thousand names wait, and does not remember that', async () => {
    const { cache, asked, names } = setUp();
    const waiting = Array.from({ length: 1004 }, (_, i) => cache.lookup(`n${i}`));
    assert.deepEqual(await cache.lookup('late'), []);
    for (let i = 0; i < waiting.length; i++) {
      asked[i]?.end(ADDRESSES);
      await settle();
    }
    assert.equal((await Promise.all(waiting)).length, 1004);
    void cache.lookup('late');
    assert.equal(names().at(-1), 'late');
  });

  it('forgets the name that was asked for first when it holds ten thousand', async () => {
    const { cache, answer, names } = setUp();
    for (let i = 0; i <= 10_000; i++) await answer(`n${i}`, ADDRESSES);
    assert.deepEqual(await cache.lookup('n1'), ADDRESSES);
    assert.equal(names().length, 10_001);
    void cache.lookup('n0');
    assert.equal(names().length, 10_002);
  });

  it('knows addresses and the names of this host without being told how', async () => {
    const cache = new NameCache();
    assert.deepEqual(await cache.lookup('192.0.2.7'), ['192.0.2.7']);
    const local = await cache.lookup('localhost');
    assert.ok(local.includes('127.0.0.1') || local.includes('::1'), local.join());
    assert.deepEqual(await cache.lookup('no such host'), []);
  });
});
