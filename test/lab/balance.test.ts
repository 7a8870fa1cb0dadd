import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import type { LoadOutcome } from '../support/load.js';
import { unless } from '../support/needs.js';
import { Sockets } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const PORTS = [3128, 3129, 3130] as const;
const CLIENTS = 24;
const LOAD = fileURLToPath(new URL('../support/load.js', import.meta.url));

const needs = ['curl', 'nginx', 'squid', 'iptables'].map((name) => `program ${name}` as const);

describe('several Squids', { skip: unless(...needs) }, () => {
  let topology: Topology;
  let nginx: Peer;
  let squids: Peer[];
  let client: Sockets;
  const [originV4] = ADDRESS.internet;
  const [proxyV4] = ADDRESS.proxy;
  const [routerV4] = ADDRESS.routerToInternet;
  const [clientV4] = ADDRESS.client;
  const more = Array.from({ length: 12 }, (_, i) => `10.77.1.${10 + i}`);

  before(async () => {
    topology = await buildGateway();
    nginx = await startNginx(topology.lab, topology.internet);
    writeFileSync(`${nginx.folder}/files/page.txt`, 'a page of the origin\n');
    for (const address of more) await topology.client.address('to-router', `${address}/24`);
    client = new Sockets(topology.client);
  });
  after(() => topology?.lab.close());
  beforeEach(async () => {
    squids = await Promise.all(PORTS.map((port) => startSquid(topology.lab, topology.proxy, port)));
  });
  afterEach(async () => {
    await Promise.all(squids.map(({ running }) => running.end('SIGKILL')));
  });

  const startWith = async (t: Cleanup, ...options: string[]): Promise<Running> => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    const upstreams = PORTS.flatMap((port) => ['--upstream', `${proxyV4}:${port}`]);
    return startTproxy(t, topology.router, '-s', '8081', ...upstreams, ...options);
  };

  const curl = async (...args: string[]): Promise<string> =>
    (await topology.client.run('curl', '-sS', '-4', '--max-time', '20', ...args)).stdout;

  /** Index of the Squid that each of the paths went through, once all of them are logged. */
  const ways = (paths: readonly string[]): Promise<number[]> =>
    until(`a Squid for each of ${paths.length} requests`, () => {
      const logs = squids.map((squid) => squid.log());
      const found = paths.map((path) => logs.findIndex((lines) => lines.some((line) => line.includes(`${path} `))));
      return found.includes(-1) ? null : found;
    });

  const fetchAll = async (paths: readonly string[]): Promise<void> => {
    await curl('-f', ...paths.flatMap((path) => ['-o', '/dev/null', `http://origin.lab${path}`]));
  };

  /** A kept-alive connection that a request was answered on. */
  const keepOpen = async (path: string) => {
    const near = await client.connect(originV4, 80);
    await near.send(`GET ${path} HTTP/1.1\r\nHost: origin.lab\r\n\r\n`);
    await near.receiveThrough('a page of the origin\n');
    return near;
  };

  test('round-robin gives each connection to the next one', async (t) => {
    await startWith(t, '-w', '1');
    const paths = Array.from({ length: 6 }, (_, i) => `/page.txt?turn${i}`);
    for (const path of paths) await fetchAll([path]);
    const used = await ways(paths);
    assert.deepEqual(used.slice(0, 3).toSorted(), [0, 1, 2]);
    assert.deepEqual(used.slice(0, 3), used.slice(3));
  });

  test('least-conn gives a connection to the one with the fewest', async (t) => {
    await startWith(t, '-w', '1', '--balance', 'least-conn');
    const paths = ['/page.txt?a', '/page.txt?b', '/page.txt?c'] as const;
    const open = [await keepOpen(paths[0]), await keepOpen(paths[1]), await keepOpen(paths[2])] as const;
    const used = await ways(paths);
    assert.deepEqual(used.toSorted(), [0, 1, 2]);
    await open[1].closed();
    await keepOpen('/page.txt?d');
    assert.deepEqual(await ways(['/page.txt?d']), [used[1]]);
  });

  test('source-hash gives all connections of a client to the same one, in every worker', async (t) => {
    await startWith(t, '-w', '2', '--balance', 'source-hash');
    const clients = [clientV4, ...more];
    const paths = clients.map((address) => [1, 2, 3].map((i) => `/page.txt?of${address}-${i}`));
    for (const i of [0, 1, 2]) {
      for (const [c, address] of clients.entries()) {
        await curl('-f', '--interface', address, '-o', '/dev/null', `http://origin.lab${paths[c]?.[i]}`);
      }
    }
    const used = await Promise.all(paths.map(ways));
    for (const ofOne of used) assert.equal(new Set(ofOne).size, 1, JSON.stringify(used));
    assert.ok(new Set(used.flat()).size > 1, JSON.stringify(used));
  });

  test('url-hash keeps each URL at one of them, and when one dies only its share moves', async (t) => {
    await startWith(t, '-w', '2', '--balance', 'url-hash');
    const paths = Array.from({ length: 60 }, (_, i) => `/page.txt?url${i}x`);
    // Once over few connections, each with many URLs, and once with a connection for each.
    await fetchAll(paths);
    const used = await ways(paths);
    assert.deepEqual([...new Set(used)].toSorted(), [0, 1, 2]);
    await curl(
      '-f',
      '-H',
      'Connection: close',
      ...paths.flatMap((path) => ['-o', '/dev/null', `http://origin.lab${path}`]),
    );
    const hits = (): number => squids.flatMap((squid) => squid.log()).filter((line) => line.includes('_HIT/')).length;
    await until('a hit for each URL', () => hits() === paths.length);
    assert.equal((await nginx.logged('/page.txt?url')).length, paths.length);

    const dead = used[0] as number;
    await squids[dead]?.running.end('SIGKILL');
    const before = squids.map((squid) => squid.log().length);
    await fetchAll(paths);
    const moved = await until('all requests to be logged again', () => {
      const logs = squids.map((squid, i) => squid.log().slice(before[i]));
      const found = paths.map((path) => logs.findIndex((lines) => lines.some((line) => line.includes(`${path} `))));
      return found.includes(-1) ? null : found;
    });
    for (const [i, way] of used.entries()) {
      if (way === dead) assert.notEqual(moved[i], dead);
      else assert.equal(moved[i], way);
    }
    const takers = new Set(moved.filter((_, i) => used[i] === dead));
    assert.equal(takers.size, 2, 'the share of the dead one is shared out');
  });

  for (const balance of ['round-robin', 'least-conn', 'source-hash', 'url-hash']) {
    test(`with ${balance}, one killed under load costs no request but those on its sockets`, async (t) => {
      const running = await startWith(t, '-w', '2', '-p', '--balance', balance);
      const command = [process.execPath, LOAD, 'http://origin.lab/whoami?load', String(CLIENTS)];
      const load = await topology.client.spawn(command, { stdin: 'pipe' });
      t.after(() => load.end('SIGKILL'));
      const busy = (): number[] => squids.map((squid) => squid.log().length);
      await until('some load', () => busy().reduce((sum, count) => sum + count) > 300);
      // With source-hash, the one client has one Squid.
      const counts = busy();
      const victim = counts.indexOf(Math.max(...counts));
      // From here on it gets no new sockets, so that those which it loses can be counted.
      const noMore = ['INPUT', '-p', 'tcp', '--dport', String(PORTS[victim]), '--syn', '-j', 'DROP'];
      await topology.proxy.run('iptables', '-A', ...noMore);
      t.after(() => topology.proxy.run('iptables', '-F', 'INPUT'));
      const filter = ['state', 'established', 'sport', '=', `:${PORTS[victim]}`];
      const { stdout } = await topology.proxy.run('ss', '-Htn', ...filter);
      const onItsSockets = stdout.split('\n').filter((line) => line !== '').length;
      await squids[victim]?.running.end('SIGKILL');
      await topology.proxy.run('iptables', '-D', ...noMore);
      const others = (): number => busy().reduce((sum, count, i) => (i === victim ? sum : sum + count), 0);
      const then = others();
      await until('the load to go on', () => others() > then + 500);
      load.stdin?.end();
      const { stdout: said } = await load.outcome();
      const outcome = JSON.parse(said.slice('begun\n'.length)) as LoadOutcome;
      // By URL a connection moves on with each request, and may have left already.
      assert.ok(balance === 'url-hash' || onItsSockets > 0);
      assert.ok(
        outcome.lost.length <= onItsSockets,
        `${outcome.lost.length} > ${onItsSockets}: ${JSON.stringify(outcome)}`,
      );
      const losers = outcome.lost.map((loss) => loss.client);
      assert.equal(new Set(losers).size, losers.length, JSON.stringify(outcome));
      assert.ok(
        outcome.sinceLoss.every((count) => count > 0),
        JSON.stringify(outcome),
      );
      assert.ok(!running.stderr.includes('error'), running.stderr);
    });
  }

  test('--check notices a dead upstream and one that is back, without a client', async (t) => {
    const running = await startWith(t, '-w', '1', '--check', '0.3');
    await squids[1]?.running.end('SIGKILL');
    await running.says(new RegExp(`upstream http://${proxyV4}:3129 is down: .*ECONNREFUSED`));
    const paths = Array.from({ length: 6 }, (_, i) => `/page.txt?down${i}`);
    for (const path of paths) await fetchAll([path]);
    assert.ok((await ways(paths)).every((way) => way !== 1));
    assert.doesNotMatch(running.stderr, /trying the next/);

    squids[1] = await startSquid(topology.lab, topology.proxy, PORTS[1]);
    await running.says(/is up again/);
    const again = Array.from({ length: 6 }, (_, i) => `/page.txt?up${i}`);
    for (const path of again) await fetchAll([path]);
    assert.equal((await ways(again)).filter((way) => way === 1).length, 2);
  });

  test('when all are down requests go past them, and through them again when one is back', async (t) => {
    const running = await startWith(t);
    for (const squid of squids) await squid.running.end('SIGKILL');
    assert.equal(await curl('http://origin.lab/page.txt?alldown'), 'a page of the origin\n');
    assert.ok(String(await nginx.logged('?alldown')).startsWith(routerV4));
    await running.says(/going past the upstream/);
    squids[0] = await startSquid(topology.lab, topology.proxy, PORTS[0]);
    await until('a request through the Squid that is back', async () => {
      await curl('http://origin.lab/page.txt?back');
      return squids[0]?.log().some((line) => line.includes('?back'));
    });
  });

  test('with -p, when all are down requests are answered 502, and none reaches the origin', async (t) => {
    await startWith(t, '-p');
    for (const squid of squids) await squid.running.end('SIGKILL');
    for (let i = 0; i < 5; i++) {
      assert.equal(await curl('-o', '/dev/null', '-w', '%{http_code}', 'http://origin.lab/page.txt?closed'), '502');
    }
    assert.deepEqual(
      nginx.log().filter((line) => line.includes('?closed')),
      [],
    );
  });
});
