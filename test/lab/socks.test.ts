import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSocks, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { type Certificate, makeCertificate, tlsServer } from '../support/certificate.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
const SOCKS_PORT = 1080;
const AUTH_SOCKS_PORT = 1081;
const CLOSED_PORT = 1082;
const BARE_ORIGIN_PORT = 2525;
const BANNER = '220 mail.lab ESMTP\r\n';

const needs = ['curl', 'nginx', 'squid', 'microsocks', 'iptables', 'ip6tables', 'openssl'] as const;

describe('a SOCKS5 upstream', { skip: unless('ipv6', ...needs.map((name) => `program ${name}` as const)) }, () => {
  let topology: Topology;
  let certificate: Certificate;
  let nginx: Peer;
  let squid: Peer;
  let socks: Peer;
  let client: Sockets;
  let origin: TestListener;
  const [originV4, originV6] = ADDRESS.internet;
  const [routerV4] = ADDRESS.routerToClient;
  const [proxyV4] = ADDRESS.proxy;
  const open = `socks5://${proxyV4}:${SOCKS_PORT}`;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    certificate = makeCertificate(lab.folder, 'DNS:origin.lab', `IP:${originV4}`, `IP:${originV6}`);
    nginx = await startNginx(lab, internet, [80], tlsServer(443, certificate));
    writeFileSync(`${nginx.folder}/files/page.txt`, 'a page of the origin\n');
    squid = await startSquid(lab, proxy, SQUID_PORT);
    socks = await startSocks(lab, proxy, SOCKS_PORT);
    await startSocks(lab, proxy, AUTH_SOCKS_PORT, '-u', 'lab', '-P', 'secret');
    client = new Sockets(topology.client);
    origin = await new Sockets(internet).listen(BARE_ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const redirectPorts = async (t: Cleanup): Promise<void> => {
    for (const port of [80, 443, BARE_ORIGIN_PORT]) {
      await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
      await redirectFor(t, topology.router, 'ip6tables', { port, to: 8081 });
    }
  };

  const curl = (...args: string[]) =>
    topology.client.attempt('curl', '-sS', '-g', '--max-time', '20', '--cacert', certificate.certificate, ...args);

  test('TLS goes through one of the two that there are, by its name; HTTP always through the HTTP proxy', async (t) => {
    await redirectPorts(t);
    const upstreams = ['--upstream', open, '--upstream', `${proxyV4}:${SQUID_PORT}`];
    await startTproxy(t, topology.router, '-s', '8081', '-w', '1', '-p', ...upstreams);
    for (const i of [1, 2]) {
      assert.equal((await curl('-4', `https://origin.lab/page.txt?${i}`)).stdout, 'a page of the origin\n');
      assert.equal((await curl('-4', `http://origin.lab/page.txt?${i}`)).stdout, 'a page of the origin\n');
    }
    await squid.logged('GET http://origin.lab/page.txt', 2);
    assert.equal((await squid.logged('CONNECT origin.lab:443')).length, 1);
    assert.match(socks.running.stderr, /connected to origin\.lab:443/);
    assert.doesNotMatch(socks.running.stderr, /:80$/m);
  });

  for (const [family, host, address] of [
    ['IPv4', originV4, originV4],
    ['IPv6', originV6, originV6],
  ] as const) {
    test(`-t without a target goes through it to the original destination over ${family}`, async (t) => {
      await redirectPorts(t);
      await startTproxy(t, topology.router, '-s', '8081', '-p', '--upstream', open, '-t');
      const near = await client.connect(host, BARE_ORIGIN_PORT);
      const far = await origin.accept();
      await far.send(BANNER);
      assert.equal(await near.receive(BANNER.length), BANNER);
      const sent = near.sendNoise(3_000_000, 3);
      assert.deepEqual(await far.digest(3_000_000), { bytes: 3_000_000, sha256: await sent });
      await near.sendFin();
      assert.equal(await far.receiveAll(), '');
      assert.match(socks.running.stderr, new RegExp(`connected to \\[?${address}\\]?:${BARE_ORIGIN_PORT}`));
    });
  }

  test('-t HOST PORT goes through it, with a user and a password', async (t) => {
    const upstream = `socks5://lab:secret@${proxyV4}:${AUTH_SOCKS_PORT}`;
    const target = ['-t', 'origin.lab', String(BARE_ORIGIN_PORT)];
    await startTproxy(t, topology.router, '-s', '9000', '-p', '--upstream', upstream, ...target);
    const near = await client.connect(routerV4, 9000);
    await near.send('hello');
    assert.equal(await (await origin.accept()).receive(5), 'hello');
  });

  test('a wrong password ends the connection, and is no way past it', async (t) => {
    const upstream = `socks5://lab:wrong@${proxyV4}:${AUTH_SOCKS_PORT}`;
    const target = ['-t', 'origin.lab', String(BARE_ORIGIN_PORT)];
    const running = await startTproxy(t, topology.router, '-s', '9000', '--upstream', upstream, ...target);
    await client.expectReset(routerV4, 9000);
    await running.says(new RegExp(`upstream ${proxyV4}:${AUTH_SOCKS_PORT} for origin\\.lab:${BARE_ORIGIN_PORT}: `));
    assert.equal(await origin.waiting(), 0);
  });

  test('a destination that it can not connect to ends the connection, with the reason in the log', async (t) => {
    const target = ['-t', originV4, '1'];
    const running = await startTproxy(t, topology.router, '-s', '9000', '--upstream', open, ...target);
    await client.expectReset(routerV4, 9000);
    await running.says(new RegExp(`for ${originV4}:1: .*refused`, 'i'));
  });

  test('when it is down a relay goes past it, but not with -p', async (t) => {
    const down = ['--upstream', `socks5://${proxyV4}:${CLOSED_PORT}`];
    const target = ['-t', originV4, String(BARE_ORIGIN_PORT)];
    await startTproxy(t, topology.router, '-s', '9000', ...down, ...target);
    await startTproxy(t, topology.router, '-s', '9001', '-p', ...down, ...target);
    await client.expectReset(routerV4, 9001);
    assert.equal(await origin.waiting(), 0);
    const near = await client.connect(routerV4, 9000);
    await near.send('hello');
    assert.equal(await (await origin.accept()).receive(5), 'hello');
  });

  test('what speaks another protocol goes through it with --unknown connect', async (t) => {
    await redirectPorts(t);
    const upstreams = ['--upstream', `${proxyV4}:${CLOSED_PORT}`, '--upstream', open];
    await startTproxy(t, topology.router, '-s', '8081', '-p', '--first-byte', '0.2', ...upstreams);
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await (await origin.accept()).send(BANNER);
    assert.equal(await near.receive(BANNER.length), BANNER);
  });
});
