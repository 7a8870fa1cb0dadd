import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startApache, startNginx, startSquid } from '../../scripts/lab/peers.js';
import type { RedirectTool } from '../../scripts/lab/redirect.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { type SeenRequest, Sockets } from '../support/sockets.js';
import { buildGateway, redirectFor, startTproxy } from '../support/tproxy.js';

const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

const SQUID_PORT = '3128';
const APACHE_PORT = '8000';
/** Where the origin that tells what it saw listens; nginx has 80 and 8080. */
const TELLING_PORT = 8888;
const FILES = 50;

const skip = unless(
  'program curl',
  'program nginx',
  'program squid',
  'program apache2',
  'program iptables',
  'program nft',
  'ipv6',
);

describe('real HTTP proxies behind a redirect', { skip }, () => {
  let topology: Topology;
  let nginx: Peer;
  let squid: Peer;
  let apache: Peer;
  let client: Sockets;
  let internet: Sockets;
  const [originV4, originV6] = ADDRESS.internet;
  const curl = async (...args: string[]): Promise<string> => (await topology.client.run('curl', '-sS', ...args)).stdout;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy } = topology;
    nginx = await startNginx(lab, topology.internet, [80, 8080]);
    squid = await startSquid(lab, proxy, Number(SQUID_PORT));
    apache = await startApache(lab, proxy, Number(APACHE_PORT));
    client = new Sockets(topology.client);
    internet = new Sockets(topology.internet);
    await internet.serveHttp(TELLING_PORT);
    writeFileSync(`${nginx.folder}/files/page.txt`, 'a page of the origin\n');
  });
  after(() => topology?.lab.close());

  const ways: readonly { tool: RedirectTool; family: string; host: string }[] = [
    { tool: 'iptables', family: 'IPv4', host: originV4 },
    { tool: 'nft', family: 'IPv4', host: originV4 },
    { tool: 'ip6tables', family: 'IPv6', host: `[${originV6}]` },
    { tool: 'nft', family: 'IPv6', host: `[${originV6}]` },
  ];

  for (const { tool, family, host } of ways) {
    test(`a page fetched twice over ${family} by way of ${tool} is a miss and then a hit in Squid`, async (t) => {
      await redirectFor(t, topology.router, tool, { port: 80, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
      const path = `/page.txt?squid-${tool}-${family}`;
      assert.equal(await curl('-g', `http://${host}${path}`), 'a page of the origin\n');
      assert.equal(await curl('-g', `http://${host}${path}`), 'a page of the origin\n');
      const lines = await squid.logged(`http://${host}${path}`, 2);
      assert.deepEqual(
        lines.map((line) => line.split(' ')[1]),
        ['TCP_MISS/200', 'TCP_MEM_HIT/200'],
      );
      assert.equal((await nginx.logged(path)).length, 1);
    });

    test(`a page fetched twice over ${family} by way of ${tool} is a miss and then a hit in Apache`, async (t) => {
      await redirectFor(t, topology.router, tool, { port: 80, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', APACHE_PORT);
      const path = `/page.txt?apache-${tool}-${family}`;
      assert.equal(await curl('-g', `http://${host}${path}`), 'a page of the origin\n');
      assert.equal(await curl('-g', `http://${host}${path}`), 'a page of the origin\n');
      const [first, second] = await apache.logged(`"GET http://${host}${path} HTTP/1.1" 200`, 2);
      assert.match(String(first), /cache miss/);
      assert.match(String(second), /cache hit/);
      assert.equal((await nginx.logged(path)).length, 1);
    });
  }

  test('the name in Host reaches Squid, not the address that the client connected to', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    assert.match(await curl('-4', 'http://origin.lab/whoami?named'), /origin\.lab GET \/whoami\?named/);
    await squid.logged('http://origin.lab/whoami?named');
  });

  test('a redirected port other than 80 comes into the URL when Host lacks it', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 8080, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    assert.match(await curl('-4', 'http://origin.lab:8080/whoami?curl'), /:8080 origin\.lab:8080 GET/);
    await squid.logged('http://origin.lab:8080/whoami?curl');

    const socket = await client.connect(originV4, 8080);
    await socket.send('GET /whoami?bare HTTP/1.1\r\nHost: origin.lab\r\nConnection: close\r\n\r\n');
    assert.match(await socket.receiveAll(), /^HTTP\/1\.1 200 OK\r\n[\s\S]*:8080 origin\.lab:8080 GET/);
    await squid.logged('http://origin.lab:8080/whoami?bare');
  });

  test('a redirected IPv6 destination with a port other than 80 comes into the URL in brackets', async (t) => {
    await redirectFor(t, topology.router, 'ip6tables', { port: 8080, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const socket = await client.connect(originV6, 8080);
    await socket.send('GET /whoami?nohost HTTP/1.0\r\n\r\n');
    assert.match(await socket.receiveAll(), /^HTTP\/1\.[01] 200 OK\r\n/);
    await squid.logged(`http://[${originV6}]:8080/whoami?nohost`);
  });

  test('an HTTP/1.0 request without Host goes to the original destination', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const socket = await client.connect(originV4, 80);
    await socket.send('GET /whoami?old HTTP/1.0\r\n\r\n');
    assert.match(await socket.receiveAll(), /^HTTP\/1\.[01] 200 OK\r\n/);
    await squid.logged(`http://${originV4}/whoami?old`);
  });

  test('a CONNECT passes and becomes a tunnel through Squid', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 8080, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const told = JSON.parse(
      await curl('-p', '-x', `http://${originV4}:8080`, `http://origin.lab:${TELLING_PORT}/tunnelled`),
    ) as SeenRequest;
    assert.equal(told.url, '/tunnelled');
    await squid.logged(`CONNECT origin.lab:${TELLING_PORT}`);
  });

  for (const [how, upload] of [
    ['Content-Length', []],
    ['chunked coding', ['-H', 'Transfer-Encoding: chunked']],
  ] as const) {
    const put = async (bytes: number): Promise<void> => {
      const body = randomBytes(bytes);
      const file = topology.lab.path('upload');
      writeFileSync(file, body);
      const url = `http://origin.lab:${TELLING_PORT}/upload`;
      const told = JSON.parse(await curl('-4', '-T', file, ...upload, url)) as SeenRequest;
      const { method, sha256: digest } = told;
      assert.deepEqual({ method, bytes: told.bytes, digest }, { method: 'PUT', bytes, digest: sha256(body) });
    };

    test(`an upload by ${how} arrives through Squid as it was sent`, async (t) => {
      await redirectFor(t, topology.router, 'iptables', { port: TELLING_PORT, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
      // Squid 5.7 takes a full buffer (client_request_buffer_max_size, 512 KB) for the client's end now and then.
      await put(300_000);
    });

    test(`an upload of 100 MB by ${how} arrives through Apache as it was sent`, async (t) => {
      await redirectFor(t, topology.router, 'iptables', { port: TELLING_PORT, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', APACHE_PORT);
      await put(100_000_000);
    });
  }

  test(`${FILES} files of random sizes arrive byte for byte over a few kept-alive connections`, async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const digests: string[] = [];
    for (let i = 1; i <= FILES; i++) {
      const content = randomBytes(i <= 3 ? i - 1 : randomInt(1, 2 * 1024 * 1024));
      digests.push(sha256(content));
      writeFileSync(`${nginx.folder}/files/file-${i}`, content);
    }
    const folder = topology.lab.path('downloads');
    mkdirSync(folder);
    await curl(
      '-4',
      '-f',
      '-Z',
      '--parallel-max',
      '5',
      `http://origin.lab/file-[1-${FILES}]`,
      '-o',
      `${folder}/file-#1`,
    );
    const arrived = digests.map((_, i) => sha256(readFileSync(`${folder}/file-${i + 1}`)));
    assert.deepEqual(arrived, digests);
  });

  test('500 MB arrive byte for byte', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: TELLING_PORT, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', SQUID_PORT);
    const bytes = 500_000_000;
    const socket = await client.connect(originV4, TELLING_PORT);
    await socket.send(`GET /noise/${bytes}/42 HTTP/1.1\r\nHost: origin.lab\r\nConnection: close\r\n\r\n`);
    assert.match(await socket.receiveThrough('\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n/);
    assert.deepEqual(await socket.digest(), { bytes, sha256: await internet.noiseDigest(bytes, 42) });
  });
});
