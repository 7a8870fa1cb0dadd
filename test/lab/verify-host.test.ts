import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const UPSTREAM_PORT = 3128;
const END = '\r\n\r\n';
const ANSWER = `HTTP/1.1 204 No Content${END}`;

describe('--verify-host', { skip: unless('ipv6', 'program iptables', 'program ip6tables') }, () => {
  let topology: Topology;
  let client: Sockets;
  let upstream: TestListener;
  const [originV4, originV6] = ADDRESS.internet;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    topology.lab.name('elsewhere.lab', ['10.77.2.99']);
    topology.lab.name('many.lab', ['10.77.2.98', originV4]);
    client = new Sockets(topology.client);
    upstream = await new Sockets(topology.proxy).listen(UPSTREAM_PORT);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, how: string, port = 80) => {
    await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
    await redirectFor(t, topology.router, 'ip6tables', { port, to: 8081 });
    const options = ['-s', '8081', '--verify-host', how];
    return startTproxy(t, topology.router, ...options, 'proxy.lab', String(UPSTREAM_PORT));
  };

  /** Request line and Host as the upstream gets them. */
  const seen = async (host: string, to: string = originV4, port = 80): Promise<string> => {
    const near = await client.connect(to, port);
    await near.send(`GET /x HTTP/1.1\r\nHost: ${host}${END}`);
    const far = await upstream.accept();
    const head = await far.receiveThrough(END);
    await near.reset();
    const [line, ...fields] = head.split('\r\n');
    return `${line?.split(' ')[1]} ${fields.find((field) => field.startsWith('Host:'))?.slice('Host: '.length)}`;
  };

  for (const [name, host, to] of [
    ['a name that has the original destination', 'origin.lab', originV4],
    ['the same in IPv6', 'origin.lab', originV6],
    ['a name that has it among others', 'many.lab', originV4],
    ['a name in another case', 'Origin.LAB', originV4],
    ['the address itself', originV4, originV4],
    ['the address itself in IPv6', `[${originV6}]`, originV6],
  ] as const) {
    test(`${name} goes as ever`, async (t) => {
      const running = await startWith(t, 'address');
      assert.equal((await seen(host, to)).toLowerCase(), `http://${host}/x ${host}`.toLowerCase());
      assert.doesNotMatch(running.stderr, /is not at/);
    });
  }

  for (const [name, host, to, shown] of [
    ['a name that is elsewhere', 'elsewhere.lab', originV4, originV4],
    ['the same in IPv6', 'elsewhere.lab', originV6, `[${originV6}]`],
    ['a name that nobody knows', 'nowhere.lab', originV4, originV4],
    ['another address', '10.77.2.99', originV4, originV4],
  ] as const) {
    test(`${name} goes by the original destination's address, and that is logged`, async (t) => {
      const running = await startWith(t, 'address');
      assert.equal(await seen(host, to), `http://${shown}/x ${shown}`);
      await running.says(new RegExp(`Host ${host} is not at the original destination`));
    });

    test(`${name} is answered 409 with strict, and reaches nobody`, async (t) => {
      const running = await startWith(t, 'strict');
      const near = await client.connect(to, 80);
      await near.send(`GET /x HTTP/1.1\r\nHost: ${host}${END}`);
      assert.match(await near.receiveAll(), /^HTTP\/1\.1 409 /);
      await running.says(new RegExp(`Host ${host} is not at the original destination`));
      assert.equal(await upstream.waiting(), 0);
    });
  }

  test('the original port stays in the address', async (t) => {
    await startWith(t, 'address', 8080);
    assert.equal(await seen('elsewhere.lab:81', originV4, 8080), `http://${originV4}:8080/x ${originV4}:8080`);
  });

  test('an absolute-form request is judged by its URL', async (t) => {
    await startWith(t, 'strict');
    const near = await client.connect(originV4, 80);
    await near.send(`GET http://elsewhere.lab/ HTTP/1.1\r\nHost: origin.lab${END}`);
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 409 /);
  });

  test('a connection that was not redirected is not judged', async (t) => {
    await startWith(t, 'strict');
    assert.equal(await seen('elsewhere.lab', routerV4, 8081), 'http://elsewhere.lab/x elsewhere.lab');
  });

  test('pipelined requests keep their order while names are looked up', async (t) => {
    await startWith(t, 'address');
    const near = await client.connect(originV4, 80);
    const hosts = ['origin.lab', 'elsewhere.lab', 'many.lab', originV4];
    await near.send(hosts.map((host, i) => `GET /${i} HTTP/1.1\r\nHost: ${host}${END}`).join(''));
    const far = await upstream.accept();
    for (const url of ['origin.lab/0', `${originV4}/1`, 'many.lab/2', `${originV4}/3`]) {
      const head = await far.receiveThrough(END);
      assert.ok(head.startsWith(`GET http://${url} HTTP/1.1\r\n`), head);
      await far.send(ANSWER);
      assert.equal(await near.receive(ANSWER.length), ANSWER);
    }
  });

  test('a body behind a head that waits for a name is not lost', async (t) => {
    await startWith(t, 'address');
    const near = await client.connect(originV4, 80);
    await near.send(`POST / HTTP/1.1\r\nHost: many.lab\r\nContent-Length: 300000${END}`);
    const sent = near.sendNoise(300_000, 7);
    const far = await upstream.accept();
    assert.match(await far.receiveThrough(END), /^POST http:\/\/many\.lab\/ /);
    assert.deepEqual(await far.digest(300_000), { bytes: 300_000, sha256: await sent });
  });

  test('another spelling of the address is the address', async (t) => {
    const running = await startWith(t, 'strict');
    assert.match(await seen('[fd77:2:0::0002]', originV6), /^http:\/\/\[fd77:2:[0:]*2\]\/x \[fd77:2:[0:]*2\]$/);
    assert.doesNotMatch(running.stderr, /is not at/);
  });
});
