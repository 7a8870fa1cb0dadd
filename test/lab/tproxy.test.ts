import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Peer, startSquid } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { follow } from '../support/recipes.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, endTproxy, redirectFor, startTproxy, TPROXY } from '../support/tproxy.js';

const NOBODY = '65534';
const SQUID_PORT = '3128';
const CAP_NET_RAW = 1n << 13n;
const LISTEN_FDS = fileURLToPath(new URL('../support/listen-fds.js', import.meta.url));
const WORKERS = 4;
/** So many that each worker gets some: that one has none has a chance of 4 · (3/4)^64, one in 25 million. */
const MANY = 64;

const needs = ['iptables', 'ip6tables', 'nft', 'squid', 'curl', 'socat', 'setpriv'].map(
  (name) => `program ${name}` as const,
);

/** The set of capabilities of each thread, the first one's first. */
const capabilitiesOf = (pid: number, set: 'CapPrm' | 'CapEff' | 'CapInh' | 'CapAmb'): bigint[] =>
  readdirSync(`/proc/${pid}/task`)
    .sort((a, b) => Number(a) - Number(b))
    .map((thread) => {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1');
      return BigInt(`0x${new RegExp(`^${set}:\\t(.*)$`, 'm').exec(status)?.[1]}`);
    });

const plain = (ip: string): string => ip.replace('::ffff:', '');

describe('transparent', { skip: unless('root', 'ipv6', ...needs) }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  let squid: Peer;
  const [originV4, originV6] = ADDRESS.internet;
  const [clientV4, clientV6] = ADDRESS.client;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const [proxyV4, proxyV6] = ADDRESS.proxy;
  const families = [
    ['IPv4', originV4, clientV4, routerV4, proxyV4],
    ['IPv6', originV6, clientV6, routerV6, proxyV6],
  ] as const;
  const words = { lan0: 'to-client' };

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    const internet = new Sockets(topology.internet);
    origin = await internet.listen(80);
    await internet.serveHttp(8000);
    squid = await startSquid(topology.lab, topology.proxy, Number(SQUID_PORT));
  });
  after(() => topology?.lab.close());

  /** Starts a program that starts the program. */
  const spawnOnRouter = async (
    t: TestContext,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Running> => {
    const running = await topology.router.spawn(command, { env });
    t.after(async () => {
      // First: as long as it runs the other's output does not end.
      await endTproxy(topology.router);
      await running.end();
    });
    return running;
  };

  /** One connection that is relayed; both ends of it. */
  const relay = async (to: string, port: number): Promise<{ near: TestSocket; far: TestSocket }> => {
    const near = await client.connect(to, port);
    const far = await origin.accept();
    return { near, far };
  };

  const assertRelays = async ({ near, far }: { near: TestSocket; far: TestSocket }): Promise<void> => {
    await near.send('ping');
    assert.equal(await far.receive(4), 'ping');
    await far.send('pong');
    assert.equal(await near.receive(4), 'pong');
    await near.sendFin();
    assert.equal(await far.receiveAll(), '');
    await far.sendFin();
    assert.equal(await near.receiveAll(), '');
  };

  const curl = (...args: string[]) => topology.client.attempt('curl', '-sS', '--max-time', '20', ...args);

  /** A reset for whoever connects, and what is logged then. */
  const assertRefused = async (running: Running, to: string, port: number, why: RegExp): Promise<void> => {
    await client.expectReset(to, port);
    await running.says(why);
  };

  for (const tool of ['iptables', 'nft']) {
    describe(`by TPROXY with the document's rules for ${tool}`, () => {
      const intercept = (t: TestContext, port = '80') =>
        follow(t, topology.router, ['routing', `tproxy-${tool}`], { ...words, 80: port });

      const start = (t: TestContext, ...args: string[]) =>
        startTproxy(t, topology.router, '-s', '8081', '--intercept', 'tproxy', ...args);

      for (const [family, to, from] of families) {
        test(`an ${family} relay as nobody is seen by the origin as the client, from every thread`, async (t) => {
          await intercept(t);
          const running = await start(t, '--spoof', '-r', 'nobody', '-w', String(WORKERS), '-t');
          const connections = await Promise.all(
            Array.from({ length: MANY }, async (_, i) => {
              const near = await client.connect(to, 80);
              await near.send(String.fromCharCode(i));
              return near;
            }),
          );
          const fars = await Promise.all(connections.map(() => origin.accept()));
          for (const far of fars) {
            assert.equal(plain(far.remote.ip), from);
            const near = connections[(await far.receive(1)).charCodeAt(0)] as TestSocket;
            assert.equal(plain(near.remote.ip), to);
            await assertRelays({ near, far });
          }
          for (const set of ['CapPrm', 'CapEff'] as const) {
            const held = capabilitiesOf(running.pid, set);
            assert.equal(held[0], CAP_NET_RAW);
            assert.ok(
              held.every((mask) => mask === 0n || mask === CAP_NET_RAW),
              `${set}: ${held}`,
            );
            assert.ok(held.filter((mask) => mask === CAP_NET_RAW).length > WORKERS, `${set}: ${held}`);
          }
          for (const set of ['CapInh', 'CapAmb'] as const) {
            assert.ok(
              capabilitiesOf(running.pid, set).every((mask) => mask === 0n),
              set,
            );
          }
        });

        test(`without --spoof the ${family} original destination is relayed to, and nobody keeps nothing`, async (t) => {
          await intercept(t);
          const running = await start(t, '-r', 'nobody', '-t');
          const both = await relay(to, 80);
          assert.notEqual(plain(both.far.remote.ip), from);
          await assertRelays(both);
          assert.ok(capabilitiesOf(running.pid, 'CapPrm').every((mask) => mask === 0n));
        });

        test(`HTTP over ${family} goes through Squid, which logs the client's address`, async (t) => {
          await intercept(t, '8000');
          await start(t, '--spoof', '-r', 'nobody', '-p', family === 'IPv4' ? proxyV4 : proxyV6, SQUID_PORT);
          const url = `http://${to.includes(':') ? `[${to}]` : to}:8000/${tool}`;
          // Without a Host the original destination is all that says where it goes.
          const { stdout } = await curl('-0', '-H', 'Host:', url);
          assert.match(stdout, new RegExp(`"url":"/${tool}"`));
          assert.match(String(await squid.logged(url)), new RegExp(`^${from} `));
        });
      }

      test('a connection that was made to the listening port has no original destination, an intercepted one has', async (t) => {
        await intercept(t, '8081');
        const other = await new Sockets(topology.internet).listen(8081);
        const running = await start(t, '-t');
        await assertRefused(running, routerV4, 8081, /no original destination/);
        await assertRefused(running, routerV6, 8081, /no original destination/);
        for (const [, to] of families) {
          const near = await client.connect(to, 8081);
          const far = await other.accept();
          await assertRelays({ near, far });
        }
        await other.close();
      });

      test('a rule that catches our own connections is found at once', async (t) => {
        await intercept(t);
        // What we send is marked for table 100, comes in by lo, and is handed to our socket there.
        const own = ['-p', 'tcp', '--dport', '80', '-m', 'owner', '--uid-owner', 'nobody'];
        await topology.router.run('iptables', '-t', 'mangle', '-A', 'OUTPUT', ...own, '-j', 'MARK', '--set-mark', '1');
        const lo = [
          '-i',
          'lo',
          '-p',
          'tcp',
          '--dport',
          '80',
          '-j',
          'TPROXY',
          '--tproxy-mark',
          '1',
          '--on-port',
          '8081',
        ];
        await topology.router.run('iptables', '-t', 'mangle', '-I', 'PREROUTING', ...lo);
        const running = await start(t, '-r', 'nobody', '-t');
        const near = await client.connect(originV4, 80);
        await near.expectEnd();
        await running.says(/loop: .*our own/);
        assert.equal(await origin.waiting(), 0);
      });

      test('a transparent socket that was handed over needs no privilege', async (t) => {
        await intercept(t);
        const asNobody = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
        const command = [...asNobody, ...TPROXY, '-d', '--intercept', 'tproxy', '-t'];
        const handOver = [process.execPath, LISTEN_FDS, '8081'];
        const running = await spawnOnRouter(t, [...handOver, ...command], { TRANSPARENT: '1' });
        await running.says(/ready/);
        for (const [, to] of families) await assertRelays(await relay(to, 80));
      });

      test('one that is not transparent is made so, or else it is an error that says what is missing', async (t) => {
        await intercept(t);
        const args = [...TPROXY, '-d', '--intercept', 'tproxy', '-t'];
        const asNobody = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
        const handOver = [process.execPath, LISTEN_FDS, '8081'];
        const refused = await topology.router.attempt(...handOver, ...asNobody, ...args);
        assert.equal(refused.code, 77);
        assert.match(refused.stderr, /IP_TRANSPARENT fd 3: EPERM \(.*CAP_NET_RAW.*Transparent=yes/);
        const running = await spawnOnRouter(t, [...handOver, ...args]);
        await running.says(/ready/);
        for (const [, to] of families) await assertRelays(await relay(to, 80));
      });

      test('one process for each connection serves it as nobody', async (t) => {
        await intercept(t);
        const program = [...TPROXY, '--spoof', '-r', 'nobody', '--intercept', 'tproxy', '-t'].join(' ');
        const listen = 'TCP6-LISTEN:8081,ipv6-v6only=0,transparent,reuseaddr,fork';
        await spawnOnRouter(t, ['socat', listen, `EXEC:${program},nofork`]);
        await topology.router.listening(8081);
        for (const [, to, from] of families) {
          const both = await relay(to, 80);
          assert.equal(plain(both.far.remote.ip), from);
          await assertRelays(both);
        }
      });
    });

    describe(`--spoof with the document's rules for ${tool}`, () => {
      for (const [family, to, from, router, proxy] of families) {
        const redirects = tool === 'nft' ? 'nft' : family === 'IPv4' ? 'iptables' : 'ip6tables';

        test(`${family} and REDIRECT: origin and Squid see the client`, async (t) => {
          await follow(t, topology.router, ['routing', `spoof-${tool}`], words);
          await redirectFor(t, topology.router, redirects, { port: 80, to: 8081 });
          await startTproxy(t, topology.router, '-s', '8081', '--spoof', '-r', 'nobody', '-w', '4', proxy, SQUID_PORT);
          const url = `http://${to.includes(':') ? `[${to}]` : to}:8000/redirect-${tool}`;
          const near = await client.connect(to, 80);
          await near.send(`GET ${url} HTTP/1.0\r\n\r\n`);
          assert.match(await near.receiveAll(), /^HTTP\/1\.\d 200 /);
          assert.match(String(await squid.logged(url)), new RegExp(`^${from} `));
          // Not HTTP: straight to its original destination.
          const both = await relayUnknown(to);
          assert.equal(plain(both.far.remote.ip), from);
        });

        test(`${family} and a fixed target: it sees the client`, async (t) => {
          await follow(t, topology.router, ['routing', `spoof-${tool}`], words);
          await startTproxy(t, topology.router, '-s', '9000', '--spoof', '-r', 'nobody', '-t', to, '80');
          const both = await relay(router, 9000);
          assert.equal(plain(both.far.remote.ip), from);
          await assertRelays(both);
        });
      }

      test('it works with strict reverse path filters', async (t) => {
        for (const which of ['all', 'to-client', 'to-internet']) {
          await topology.router.sysctl(`net.ipv4.conf.${which}.rp_filter`, 1);
          t.after(() => topology.router.sysctl(`net.ipv4.conf.${which}.rp_filter`, 0));
        }
        await follow(t, topology.router, ['routing', `spoof-${tool}`], words);
        await startTproxy(t, topology.router, '-s', '9000', '--spoof', '-t', originV4, '80');
        await assertRelays(await relay(routerV4, 9000));
      });

      test('a target on this host sees the client', async (t) => {
        const [atV4, atV6] = ADDRESS.routerToProxy;
        const places = { ...words, '192.0.2.1': atV4, '2001:db8::1': atV6 };
        await follow(t, topology.router, ['routing', `spoof-${tool}`, `local-${tool}`], places);
        const target = await new Sockets(topology.router).listen(Number(SQUID_PORT));
        for (const [at, router, from] of [
          [atV4, routerV4, clientV4],
          [atV6, routerV6, clientV6],
        ] as const) {
          const running = await startTproxy(t, topology.router, '-s', '9000', '--spoof', '-t', at, SQUID_PORT);
          const near = await client.connect(router, 9000);
          const far = await target.accept();
          assert.equal(plain(far.remote.ip), from);
          await assertRelays({ near, far });
          await running.end();
        }
        await target.close();
      });
    });
  }

  /** A connection whose first bytes are of no known protocol. */
  const relayUnknown = async (to: string): Promise<{ near: TestSocket; far: TestSocket }> => {
    const near = await client.connect(to, 80);
    await near.send('\x00\x01\x02\x03');
    const far = await origin.accept();
    assert.equal(await far.receive(4), '\x00\x01\x02\x03');
    return { near, far };
  };

  describe('where something is missing', () => {
    const ordinary = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];

    test('without the rules a connect times out, and the log says which may be missing', async (t) => {
      const args = ['--connect-timeout', '1', '--spoof', '-t', originV4, '80'];
      const running = await startTproxy(t, topology.router, '-s', '9000', ...args);
      const why =
        /connect 10\.77\.2\.2:80 from 10\.77\.1\.2: ETIMEDOUT \(.*ip rule.*local route.*docs\/transparent\.md/;
      await assertRefused(running, routerV4, 9000, why);
    });

    test('a client that the proxy has no way to goes past it, and the others through it', async (t) => {
      await follow(t, topology.router, ['routing', 'tproxy-nft'], { ...words, 80: '8000' });
      const stranger = '10.77.9.9';
      await topology.client.address('lo', `${stranger}/32`);
      await topology.router.route(`${stranger}/32`, clientV4);
      t.after(() => topology.router.run('ip', 'route', 'del', `${stranger}/32`));
      await topology.proxy.run('ip', 'route', 'add', 'blackhole', `${stranger}/32`);
      const args = ['--connect-timeout', '1', '--intercept', 'tproxy', '--spoof', '-w', '1', proxyV4, SQUID_PORT];
      const running = await startTproxy(t, topology.router, '-s', '8081', ...args);
      const url = `http://${originV4}:8000/`;
      assert.match((await curl('--interface', stranger, `${url}lost`)).stdout, /"url":"\/lost"/);
      await running.says(/from 10\.77\.9\.9: ETIMEDOUT .*; going past the upstream/);
      assert.match((await curl(`${url}known`)).stdout, /"url":"\/known"/);
      await squid.logged(`${url}known`);
    });

    test('without the capability it does not start, and says so', async () => {
      const spoof = await topology.router.attempt(...ordinary, ...TPROXY, '-d', '-s', '9000', '--spoof', '-t');
      assert.equal(spoof.code, 77);
      assert.match(spoof.stderr, /^[^\n]*root, CAP_NET_RAW or CAP_NET_ADMIN\n$/);
      const tproxy = [...TPROXY, '-d', '-s', '9000', '--intercept', 'tproxy', '-t'];
      const intercept = await topology.router.attempt(...ordinary, ...tproxy);
      assert.equal(intercept.code, 77);
      assert.match(intercept.stderr, /^[^\n]*setsockopt IP_TRANSPARENT \[::\]:9000: EPERM [^\n]*CAP_NET_RAW[^\n]*\n$/);
    });

    for (const capability of ['net_raw', 'net_admin']) {
      test(`an ordinary user with ${capability} alone does both`, async (t) => {
        await follow(t, topology.router, ['routing', 'tproxy-nft'], words);
        const given = ['--inh-caps', `+${capability}`, '--ambient-caps', `+${capability}`];
        const args = ['-d', '-s', '8081', '--intercept', 'tproxy', '--spoof', '-t'];
        const running = await topology.router.spawn([...ordinary, ...given, ...TPROXY, ...args]);
        t.after(() => running.end());
        await running.says(/ready/);
        for (const [, to, from] of families) {
          const both = await relay(to, 80);
          assert.equal(plain(both.far.remote.ip), from);
          await assertRelays(both);
        }
      });
    }

    test('root that has CAP_NET_ADMIN only keeps that over the drop', async (t) => {
      await follow(t, topology.router, ['routing', 'tproxy-nft'], words);
      const args = ['-d', '-s', '8081', '--intercept', 'tproxy', '--spoof', '-r', 'nobody', '-t'];
      const running = await topology.router.spawn(['setpriv', '--bounding-set', '-net_raw', ...TPROXY, ...args]);
      t.after(() => running.end());
      await running.says(/ready/);
      assert.equal(capabilitiesOf(running.pid, 'CapPrm')[0], 1n << 12n);
      const both = await relay(originV4, 80);
      assert.equal(plain(both.far.remote.ip), clientV4);
    });

    test('an IPv6 client of a proxy that has IPv4 only goes past it, and IPv4 clients go through it', async (t) => {
      await follow(t, topology.router, ['routing', 'tproxy-nft'], { ...words, 80: '8000' });
      const args = ['--intercept', 'tproxy', '--spoof', '-w', '1', proxyV4, SQUID_PORT];
      const running = await startTproxy(t, topology.router, '-s', '8081', ...args);
      const v6 = `http://[${originV6}]:8000/past`;
      assert.match((await curl(v6)).stdout, /"url":"\/past"/);
      await running.says(/bind fd77:1::2 for 10\.77\.3\.2:3128: EAFNOSUPPORT \(.*\); going past the upstream/);
      const v4 = `http://${originV4}:8000/through`;
      assert.match((await curl(v4)).stdout, /"url":"\/through"/);
      assert.match(String(await squid.logged(v4)), new RegExp(`^${clientV4} `));
      assert.ok(!squid.log().some((line) => line.includes(v6)));
    });

    test('clients on this host: those of loopback are connected ordinarily, others as themselves', async (t) => {
      const router = new Sockets(topology.router);
      await startTproxy(t, topology.router, '-s', '9000', '--spoof', '-r', 'nobody', '-t', originV4, '80');
      for (const [to, from] of [
        ['127.0.0.1', ADDRESS.routerToInternet[0]],
        [routerV4, routerV4],
      ] as const) {
        const near = await router.connect(to, 9000);
        const far = await origin.accept();
        assert.equal(plain(far.remote.ip), from);
        await assertRelays({ near, far });
      }
    });
  });

  describe('loops with --spoof', () => {
    test('a rule that catches what we send for a client on this host is found at once', async (t) => {
      const rule = ['-p', 'tcp', '--dport', '80', '-j', 'REDIRECT', '--to-ports', '8081'];
      await topology.router.run('iptables', '-t', 'nat', '-A', 'OUTPUT', ...rule);
      t.after(() => topology.router.run('iptables', '-t', 'nat', '-F', 'OUTPUT'));
      const running = await startTproxy(t, topology.router, '-s', '8081', '--spoof', '-t');
      // The reset may come before connect(2) has said that it is done.
      const near = await new Sockets(topology.router).connect(originV4, 80).catch(() => null);
      await near?.expectEnd();
      await running.says(/loop: .*our own/);
      assert.equal(await origin.waiting(), 0);
    });

    test('a relay that is its own target ends its connections', async (t) => {
      const [at] = ADDRESS.routerToProxy;
      await follow(t, topology.router, ['routing', 'local-nft'], { ...words, '192.0.2.1': at });
      const running = await startTproxy(t, topology.router, '-s', SQUID_PORT, '--spoof', '-t', at, SQUID_PORT);
      const near = await client.connect(routerV4, Number(SQUID_PORT));
      await near.expectEnd();
      await running.says(/loop: .*our own/);
    });
  });

  describe('--source', () => {
    test('connects come from that address, and so do probes', async (t) => {
      await startTproxy(t, topology.router, '-s', '9000', '--source', routerV4, '-t', originV4, '80');
      const both = await relay(routerV4, 9000);
      assert.equal(plain(both.far.remote.ip), routerV4);
      await assertRelays(both);
      const checked = ['--check', '0.2', '--upstream', `http://${originV4}:80`];
      await startTproxy(t, topology.router, '-s', '9001', '--source', routerV4, ...checked, '-t');
      assert.equal(plain((await origin.accept()).remote.ip), routerV4);
    });

    test('an address that is not of this host is an error that says so', async (t) => {
      const args = ['--source', '192.0.2.9', '-t', originV4, '80'];
      const running = await startTproxy(t, topology.router, '-s', '9000', ...args);
      const why = /bind 192\.0\.2\.9 for 10\.77\.2\.2:80: EADDRNOTAVAIL \(no address of this host is 192\.0\.2\.9\)/;
      await assertRefused(running, routerV4, 9000, why);
    });
  });
});
