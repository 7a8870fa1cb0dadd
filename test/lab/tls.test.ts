import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { CHROMIUM, OPENSSL } from '../protocol/hellos.js';
import { type Certificate, makeCertificate, tlsServer } from '../support/certificate.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
const STRICT_SQUID_PORT = 3129;
/** Upstreams and an origin that the test plays itself. */
const BARE_UPSTREAM_PORT = 3130;
const BARE_ORIGIN_PORT = 4443;
const CLOSED_PORT = 3131;
const END = '\r\n\r\n';

const needs = ['curl', 'nginx', 'squid', 'iptables', 'ip6tables', 'openssl'].map((name) => `program ${name}` as const);

describe('TLS behind a redirect', { skip: unless('ipv6', ...needs) }, () => {
  let topology: Topology;
  let certificate: Certificate;
  let nginx: Peer;
  let squid: Peer;
  let strictSquid: Peer;
  let client: Sockets;
  let upstream: TestListener;
  let origin: TestListener;
  const [originV4, originV6] = ADDRESS.internet;
  const [clientV4] = ADDRESS.client;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    certificate = makeCertificate(lab.folder, 'DNS:origin.lab', `IP:${originV4}`, `IP:${originV6}`);
    nginx = await startNginx(lab, internet, [80], tlsServer(443, certificate) + tlsServer(8443, certificate));
    squid = await startSquid(lab, proxy, SQUID_PORT);
    strictSquid = await startSquid(lab, proxy, STRICT_SQUID_PORT, { rules: 'http_access deny CONNECT' });
    client = new Sockets(topology.client);
    upstream = await new Sockets(proxy).listen(BARE_UPSTREAM_PORT);
    origin = await new Sockets(internet).listen(BARE_ORIGIN_PORT);
    writeFileSync(`${nginx.folder}/files/page.txt`, 'a page of the origin\n');
  });
  after(() => topology?.lab.close());

  const startWith = async (
    t: Cleanup,
    ports: number[],
    upstreamPort: number,
    ...options: string[]
  ): Promise<Running> => {
    for (const port of ports) {
      await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
      await redirectFor(t, topology.router, 'ip6tables', { port, to: 8081 });
    }
    return startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(upstreamPort));
  };

  const curl = (...args: string[]) =>
    topology.client.attempt('curl', '-sS', '-g', '--max-time', '20', '--cacert', certificate.certificate, ...args);

  const PAGE = { code: 0, stdout: 'a page of the origin\n' };
  const outcomeOf = ({ code, stdout }: { code: number | null; stdout: string }) => ({ code, stdout });

  for (const family of ['-4', '-6']) {
    test(`with curl ${family} HTTP is translated, and TLS goes through CONNECT by its name`, async (t) => {
      await startWith(t, [80, 443], SQUID_PORT);
      const path = `/page.txt?tls${family}`;
      assert.deepEqual(outcomeOf(await curl(family, `http://origin.lab${path}`)), PAGE);
      assert.deepEqual(outcomeOf(await curl(family, `https://origin.lab${path}`)), PAGE);
      assert.equal((await squid.logged(`GET http://origin.lab${path}`)).length, 1);
      await squid.logged('CONNECT origin.lab:443');
      const seen = await nginx.logged(path, 2);
      assert.ok(
        seen.every((line) => !line.startsWith(clientV4) && !line.startsWith(ADDRESS.client[1])),
        seen.join(),
      );
    });
  }

  test('the port of the original destination is the one in CONNECT', async (t) => {
    await startWith(t, [8443], SQUID_PORT);
    assert.deepEqual(outcomeOf(await curl('https://origin.lab:8443/page.txt')), PAGE);
    await squid.logged('CONNECT origin.lab:8443');
  });

  for (const [address, host] of [
    [originV4, originV4],
    [originV6, `[${originV6}]`],
  ] as const) {
    test(`a client that names no server goes by the original destination, ${address}`, async (t) => {
      await startWith(t, [443], SQUID_PORT);
      assert.deepEqual(outcomeOf(await curl(`https://${host}/page.txt`)), PAGE);
      await squid.logged(`CONNECT ${host}:443`);
    });
  }

  test('an encrypted hello goes by the original destination, not by the name in front of it', async (t) => {
    await startWith(t, [443], SQUID_PORT);
    const browser = await client.connect(originV4, 443);
    await browser.send(CHROMIUM);
    assert.equal(await browser.receive(1), '\x16');
    await browser.reset();
    await squid.logged(`CONNECT ${originV4}:443`);
    assert.deepEqual(
      squid.log().filter((line) => line.includes('www.example.com')),
      [],
    );
  });

  test('a hello in many segments reaches the origin as it was sent, with what the origin said early', async (t) => {
    await startWith(t, [443], BARE_UPSTREAM_PORT);
    const browser = await client.connect(originV4, 443);
    for (let at = 0; at < OPENSSL.length; at += 50) await browser.send(OPENSSL.subarray(at, at + 50));
    const proxy = await upstream.accept();
    const head = await proxy.receiveThrough(END);
    assert.match(head, /^CONNECT www\.example\.com:443 HTTP\/1\.1\r\nHost: www\.example\.com:443\r\n/);
    await proxy.send(`HTTP/1.1 200 Connection established\r\nX-Of: the upstream${END}early`);
    assert.equal(await browser.receive(5), 'early');
    assert.equal(await proxy.receive(OPENSSL.length), OPENSSL.toString('latin1'));
    await browser.send('more');
    await browser.sendFin();
    assert.equal(await proxy.receiveAll(), 'more');
    await proxy.send('the end');
    await proxy.sendFin();
    assert.equal(await browser.receiveAll(), 'the end');
  });

  test('a CONNECT that Squid refuses ends the connection, is logged, and is no way past Squid', async (t) => {
    const running = await startWith(t, [BARE_ORIGIN_PORT], STRICT_SQUID_PORT);
    const browser = await client.connect(originV4, BARE_ORIGIN_PORT);
    await browser.send(OPENSSL);
    await assert.rejects(browser.receiveAll(), { code: 'ECONNRESET' });
    await running.says(/www\.example\.com:4443: .*403/);
    await strictSquid.logged('TCP_DENIED/403 CONNECT www.example.com:4443');
    assert.equal(await origin.waiting(), 0);
  });

  test('an upstream that ends the connection instead of answering CONNECT is not passed by either', async (t) => {
    const running = await startWith(t, [BARE_ORIGIN_PORT], BARE_UPSTREAM_PORT);
    const browser = await client.connect(originV4, BARE_ORIGIN_PORT);
    await browser.send(OPENSSL);
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    await proxy.sendFin();
    await assert.rejects(browser.receiveAll(), { code: 'ECONNRESET' });
    await running.says(/www\.example\.com:4443: it ended the connection/);
    assert.equal(await origin.waiting(), 0);
  });

  test('when the upstream can not be reached, TLS goes to the original destination', async (t) => {
    await startWith(t, [BARE_ORIGIN_PORT], CLOSED_PORT);
    const browser = await client.connect(originV4, BARE_ORIGIN_PORT);
    await browser.send(OPENSSL);
    assert.equal(await (await origin.accept()).receive(OPENSSL.length), OPENSSL.toString('latin1'));
  });

  test('with -p it does not', async (t) => {
    const running = await startWith(t, [BARE_ORIGIN_PORT], CLOSED_PORT, '-p');
    const browser = await client.connect(originV4, BARE_ORIGIN_PORT);
    await browser.send(OPENSSL);
    await assert.rejects(browser.receiveAll(), { code: 'ECONNRESET' });
    await running.says(/ECONNREFUSED/);
    assert.equal(await origin.waiting(), 0);
  });

  test('--tls direct sends TLS past the upstream, and HTTP through it', async (t) => {
    await startWith(t, [80, 443], SQUID_PORT, '--tls', 'direct');
    const before = squid.log().length;
    assert.deepEqual(outcomeOf(await curl('-4', 'https://origin.lab/page.txt?direct')), PAGE);
    assert.deepEqual(outcomeOf(await curl('-4', 'http://origin.lab/page.txt?direct')), PAGE);
    await squid.logged('GET http://origin.lab/page.txt?direct');
    assert.equal(squid.log().length, before + 1);
    const seen = await nginx.logged('/page.txt?direct', 2);
    const from = seen.map((line) => line.split(' ')[0]);
    assert.equal(from[0], ADDRESS.routerToInternet[0]);
    assert.ok(
      ADDRESS.proxy.some((address) => address === from[1]),
      from[1],
    );
  });

  test('--tls close lets no TLS through, and HTTP as ever', async (t) => {
    await startWith(t, [80, 443, BARE_ORIGIN_PORT], SQUID_PORT, '--tls', 'close');
    const browser = await client.connect(originV4, BARE_ORIGIN_PORT);
    await browser.send(OPENSSL);
    await assert.rejects(browser.receiveAll(), { code: 'ECONNRESET' });
    assert.notEqual((await curl('-4', 'https://origin.lab/page.txt?close')).code, 0);
    assert.deepEqual(outcomeOf(await curl('-4', 'http://origin.lab/page.txt?close')), PAGE);
    assert.equal((await nginx.logged('?close')).length, 1);
    assert.equal(await origin.waiting(), 0);
  });
});
