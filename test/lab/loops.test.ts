import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { OPENSSL } from '../protocol/hellos.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = '3128';
const ORIGIN_PORT = 80;
const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n';

/** Every wait of the program is longer than those of a test's socket: a loop that isn't seen fails the test. */
describe('loops', { skip: unless('program iptables', 'program squid') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [originV4] = ADDRESS.internet;
  const [proxyV4] = ADDRESS.proxy;
  const [routerV4] = ADDRESS.routerToClient;
  const [routerSecondV4] = ADDRESS.routerToInternet;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
    await startSquid(topology.lab, topology.proxy, Number(SQUID_PORT));
  });
  after(() => topology?.lab.close());

  /** Has what the router itself sends to a port redirected to another one, ours. */
  const redirectOutput = async (t: Cleanup, port: number | string, to: number): Promise<void> => {
    const rule = ['-p', 'tcp', '--dport', String(port), '-j', 'REDIRECT', '--to-ports', String(to)];
    await topology.router.run('iptables', '-t', 'nat', '-A', 'OUTPUT', ...rule);
    t.after(() => topology.router.run('iptables', '-t', 'nat', '-F', 'OUTPUT'));
  };

  /**
   * Waits until no connection of the router belongs to a process any more, but for those to the upstream, of which a few may
   * wait for other requests.
   */
  const leavesNothing = async (): Promise<void> => {
    await until('all connections of the router to end', async () => {
      const { stdout } = await topology.router.run('ss', '-Htnp');
      const held = stdout.split('\n').filter((line) => line.includes('users:'));
      return held.filter((line) => !line.includes(`:${SQUID_PORT} `)).length === 0 && held.length < 3;
    });
  };

  /** How a connection that sends `first` ends: what it read, or the error's name. */
  const ends = async (port: number, first: string | Uint8Array, host: string = originV4): Promise<string> => {
    let near: TestSocket | null = null;
    try {
      // The reset may come before there is anything to say.
      near = await client.connect(host, port);
      if (first.length > 0) await near.send(first);
      return await near.receiveAll();
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code ?? error);
    } finally {
      await near?.closed();
    }
  };

  // First those without rules: the kernel goes on tracking connections when the last rule is gone.
  for (const rules of ['without any redirect rule', 'where there are redirect rules']) {
    for (const [name, first] of [
      ['TLS', OPENSSL],
      ['an unknown protocol', '\x00\x01\x02\x03'],
      ['nothing', ''],
    ] as const) {
      test(`a connection to our own port with ${name} in it ends, ${rules}`, async (t) => {
        if (rules.startsWith('where')) await redirectFor(t, topology.router, 'iptables', { port: 8081, to: 8081 });
        const running = await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
        assert.equal(await ends(8081, first, routerV4), 'ECONNRESET');
        await running.says(/no original destination/);
        await leavesNothing();
      });
    }
  }

  test('a connection to our own port with HTTP in it goes by its Host', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const near = await client.connect(routerV4, 8081);
    await near.send(`GET /direct HTTP/1.1\r\nHost: ${originV4}\r\nConnection: close\r\n\r\n`);
    const far = await origin.accept();
    assert.match(await far.receiveThrough('\r\n\r\n'), /^GET \/direct HTTP\/1\.1\r\n/);
    await far.send('HTTP/1.1 204 No Content\r\n\r\n');
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 204 /);
    await near.sendFin();
    await far.reset();
    await leavesNothing();
  });

  test('a connection to our own port of a relay to the original destination ends', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', '-t');
    assert.equal(await ends(8081, '', routerV4), 'ECONNRESET');
    await running.says(/no original destination/);
    await leavesNothing();
  });

  test('a redirected connection to our own port at another address of this host ends', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 8081, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', '-t');
    assert.equal(await ends(8081, '', routerSecondV4), 'ECONNRESET');
    await running.says(/loop|no original destination/);
    await leavesNothing();
  });

  test('a redirected connection to another port of ours ends', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 8082, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', '-s', '8082', '-t');
    assert.equal(await ends(8082, '', routerV4), 'ECONNRESET');
    await running.says(/loop|no original destination/);
    await leavesNothing();
  });

  test('TLS to our own port at another address of this host ends', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 8081, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', '--tls', 'direct', 'proxy.lab', SQUID_PORT);
    assert.equal(await ends(8081, OPENSSL, routerSecondV4), 'ECONNRESET');
    await running.says(/loop|no original destination/);
    await leavesNothing();
  });

  test('a rule that catches our own connections to the upstream is found at once', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await redirectOutput(t, SQUID_PORT, 8081);
    const running = await startTproxy(t, topology.router, '-s', '8081', '-p', proxyV4, SQUID_PORT);
    assert.match(await ends(80, GET), /^HTTP\/1\.1 50[28] /);
    await running.says(/loop: .*our own/);
    await leavesNothing();
  });

  test('a rule that catches our own TLS tunnels is found at once', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 443, to: 8081 });
    await redirectOutput(t, SQUID_PORT, 8081);
    const running = await startTproxy(t, topology.router, '-s', '8081', proxyV4, SQUID_PORT);
    assert.equal(await ends(443, OPENSSL), 'ECONNRESET');
    await running.says(/loop: .*our own/);
    await leavesNothing();
  });

  test('a rule that catches our own connections to origins is found at once', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await redirectOutput(t, 80, 8081);
    const running = await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', '1');
    assert.match(await ends(80, GET), /^(ECONNRESET|HTTP\/1\.1 50[28] )/);
    await running.says(/loop: .*our own/);
    await leavesNothing();
    assert.equal(await origin.waiting(), 0);
  });

  test('the same of a relay', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await redirectOutput(t, 80, 8081);
    const running = await startTproxy(t, topology.router, '-s', '8081', '-t');
    assert.match(await ends(80, ''), /^(ECONNRESET)?$/);
    await running.says(/loop: .*our own/);
    await leavesNothing();
    assert.equal(await origin.waiting(), 0);
  });

  test('a program that is its own upstream answers in an instant', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', '-p', routerV4, '8081');
    assert.match(await ends(80, GET), /^HTTP\/1\.1 50[28] /);
    await running.says(/loop/);
    await leavesNothing();
  });

  test('a relay that is its own target ends its connections', async (t) => {
    const running = await startTproxy(t, topology.router, '-s', '8081', '-t', routerV4, '8081');
    assert.match(await ends(8081, '', routerV4), /^(ECONNRESET)?$/);
    await running.says(/loop/);
    await leavesNothing();
  });

  test('two programs that are the upstream of each other answer 508, which Via tells them', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', routerV4, '8082');
    await startTproxy(t, topology.router, '-s', '8082', routerV4, '8081');
    assert.match(await ends(80, GET), /^HTTP\/1\.1 508 /);
    await leavesNothing();
  });

  test('TLS through two programs that are the upstream of each other ends', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 443, to: 8081 });
    const running = await startTproxy(t, topology.router, '-s', '8081', routerV4, '8082');
    await startTproxy(t, topology.router, '-s', '8082', routerV4, '8081');
    assert.equal(await ends(443, OPENSSL), 'ECONNRESET');
    await running.says(/CONNECT with status 50[28]/);
    await leavesNothing();
  });

  test('a Host that is ours comes back through Squid, and is answered 508', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const request = `GET /back HTTP/1.1\r\nHost: ${routerV4}:8081\r\nConnection: close\r\n\r\n`;
    assert.match(await ends(8081, request, routerV4), /^HTTP\/1\.1 508 /);
    assert.match(await ends(80, request), /^HTTP\/1\.1 508 /);
    await leavesNothing();
  });
});
