import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, redirectFor, startTproxy } from '../support/tproxy.js';

const UPSTREAM_PORT = 3128;
const CLOSED_PORT = '3129';
const REQUEST = 'POST /path?q=\xe9 HTTP/1.1\r\nhost:  a.example \r\nX-Odd:\r\nContent-Length: 4\r\n\r\nbody';

describe('where connections go', { skip: unless('program iptables') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  let upstream: TestListener;
  const [originV4] = ADDRESS.internet;
  const [routerV4] = ADDRESS.routerToClient;
  const [proxyV4] = ADDRESS.proxy;
  const proxySecondV4 = '10.77.3.3';
  const proxyThirdV4 = '10.77.3.4';

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(80);
    upstream = await new Sockets(topology.proxy).listen(UPSTREAM_PORT);
    for (const address of [proxySecondV4, proxyThirdV4]) await topology.proxy.address('to-router', `${address}/24`);
  });
  after(() => topology?.lab.close());

  test('an upstream that refuses is passed by: the origin gets the bytes as the client sent them', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', CLOSED_PORT);
    const near = await client.connect(originV4, 80);
    await near.send(REQUEST);
    const far = await origin.accept();
    assert.equal(await far.receive(REQUEST.length), REQUEST);
    await far.send('HTTP/1.1 204 No Content\r\n\r\n');
    assert.match(await near.receiveThrough('\r\n\r\n'), /^HTTP\/1\.1 204/);
    const again = 'GET /second HTTP/1.1\r\nHost: a.example\r\n\r\n';
    await near.send(again);
    assert.equal(await far.receive(again.length), again);
  });

  test('with -p an upstream that refuses is not passed by', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-p', '-s', '8081', 'proxy.lab', CLOSED_PORT);
    const near = await client.connect(originV4, 80);
    await near.send(REQUEST);
    const end = await near.receiveAll().catch((error: NodeJS.ErrnoException) => error.code);
    assert.match(String(end), /^(HTTP\/1\.1 50[234] |ECONNRESET$)/);
    assert.equal(await origin.waiting(), 0);
  });

  test('an upstream that never answers the connect is passed by after --connect-timeout', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    const { proxy } = topology;
    await proxy.run('iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', CLOSED_PORT, '-j', 'DROP');
    t.after(() => proxy.run('iptables', '-F', 'INPUT'));
    await startTproxy(t, topology.router, '--connect-timeout', '1', '-s', '8081', proxyV4, CLOSED_PORT);
    const near = await client.connect(originV4, 80);
    const bytes = 20_000_000;
    const head = `PUT /big HTTP/1.1\r\nHost: a.example\r\nContent-Length: ${bytes}\r\n\r\n`;
    await near.send(head);
    // Much more than may be held until it is known where it goes.
    const sending = near.sendNoise(bytes, 9);
    const far = await origin.accept();
    assert.equal(await far.receive(head.length), head);
    assert.deepEqual(await far.digest(bytes), { bytes, sha256: await sending });
  });

  test('a target of -t that refuses ends the connection with a reset', async (t) => {
    await startTproxy(t, topology.router, '-s', '9000', '-t', 'proxy.lab', CLOSED_PORT);
    await client.expectReset(routerV4, 9000);
  });

  test('the addresses behind one name are used in turn', async (t) => {
    const addresses = [proxyV4, proxySecondV4, proxyThirdV4];
    topology.lab.name('many.lab', addresses);
    await startTproxy(t, topology.router, '-w', '1', '-s', '9000', '-t', 'many.lab', String(UPSTREAM_PORT));
    const used: string[] = [];
    for (let i = 0; i < 6; i++) {
      const near = await client.connect(routerV4, 9000);
      used.push((await upstream.accept()).local.ip.replace('::ffff:', ''));
      await near.reset();
    }
    assert.deepEqual([...new Set(used)].sort(), addresses);
    assert.deepEqual(used.slice(0, 3), used.slice(3));
  });

  test('when one of the addresses refuses, the next one is taken', async (t) => {
    const absent = '10.77.3.1';
    topology.lab.name('some.lab', [absent, proxyV4]);
    await startTproxy(t, topology.router, '-w', '1', '-s', '9000', '-t', 'some.lab', String(UPSTREAM_PORT));
    for (let i = 0; i < 4; i++) {
      const near = await client.connect(routerV4, 9000);
      assert.equal((await upstream.accept()).local.ip.replace('::ffff:', ''), proxyV4);
      await near.reset();
    }
  });

  test('a name that moves is followed without a restart', async (t) => {
    topology.lab.name('moving.lab', [proxyV4]);
    await startTproxy(t, topology.router, '-s', '9000', '-t', 'moving.lab', String(UPSTREAM_PORT));
    const connect = async (): Promise<string> => {
      const near = await client.connect(routerV4, 9000);
      const { local } = await upstream.accept();
      await near.reset();
      return local.ip.replace('::ffff:', '');
    };
    assert.equal(await connect(), proxyV4);
    topology.lab.name('moving.lab', [proxySecondV4]);
    await until('the new address to be used', async () => (await connect()) === proxySecondV4, {
      within: 60_000,
      every: 200,
    });
  });
});
