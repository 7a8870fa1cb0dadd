import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
/** Squid as Debian ships it: CONNECT to 443 only. */
const STRICT_SQUID_PORT = 3129;
const PASSING_PORT = 3130;
const BARE_UPSTREAM_PORT = 3131;
const END = '\r\n\r\n';
const PROGRAM = fileURLToPath(new URL('../support/web-socket.js', import.meta.url));
const UPGRADE =
  'GET /chat?room=1 HTTP/1.1\r\nHost: origin.lab\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

const needs = ['nginx', 'squid', 'iptables'].map((name) => `program ${name}` as const);

describe('web sockets and other upgrades', { skip: unless(...needs) }, () => {
  let topology: Topology;
  let squid: Peer;
  let strictSquid: Peer;
  let passing: Peer;
  let client: Sockets;
  let upstream: TestListener;
  const [originV4] = ADDRESS.internet;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    await internet.spawn([process.execPath, PROGRAM, 'serve', '80']);
    await internet.listening(80);
    squid = await startSquid(lab, proxy, SQUID_PORT);
    strictSquid = await startSquid(lab, proxy, STRICT_SQUID_PORT, {
      rules: 'acl SSL_ports port 443\nhttp_access deny CONNECT !SSL_ports',
    });
    const forward =
      `location / { proxy_pass http://$host$request_uri; proxy_http_version 1.1; ` +
      `proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }`;
    const hosts = `upstream origin.lab { server ${originV4}:80; }`;
    passing = await startNginx(lab, proxy, [8080], `${hosts} server { listen ${PASSING_PORT}; ${forward} }`);
    client = new Sockets(topology.client);
    upstream = await new Sockets(proxy).listen(BARE_UPSTREAM_PORT);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, upstreamPort: number, ...options: string[]) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    return startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(upstreamPort));
  };

  const echo = async (path: string, ...texts: string[]): Promise<string[]> => {
    const { stdout } = await topology.client.run(process.execPath, PROGRAM, 'echo', `ws://origin.lab${path}`, ...texts);
    return stdout.split('\n').filter((line) => line !== '');
  };

  test('a web socket goes through CONNECT to its origin, as Squid does not pass Upgrade', async (t) => {
    await startWith(t, SQUID_PORT);
    const texts = ['one', 'two', 'x'.repeat(100_000)];
    assert.deepEqual(await echo('/echo', ...texts), texts);
    await squid.logged('CONNECT origin.lab:80');
  });

  test('a Squid that forbids such a CONNECT gets the request without the offer', async (t) => {
    await startWith(t, STRICT_SQUID_PORT);
    assert.deepEqual(await echo('/refused', 'one'), ['status 200 plain']);
    await strictSquid.logged('TCP_DENIED/403 CONNECT origin.lab:80');
    await strictSquid.logged('/200 GET http://origin.lab/refused');
  });

  test('with --upgrade pass the upstream gets the offer, and its 101 makes a tunnel', async (t) => {
    await startWith(t, PASSING_PORT, '--upgrade', 'pass');
    const texts = ['one', 'two', 'x'.repeat(100_000)];
    assert.deepEqual(await echo('/passed', ...texts), texts);
    const [line] = await passing.logged('/passed');
    assert.match(String(line), /"GET http:\/\/origin\.lab\/passed HTTP\/1\.1" 101/);
  });

  test('with --upgrade pass Squid answers as to any request', async (t) => {
    await startWith(t, SQUID_PORT, '--upgrade', 'pass');
    assert.deepEqual(await echo('/ignored', 'one'), ['status 200 plain']);
    await squid.logged('/200 GET http://origin.lab/ignored');
  });

  test('in the tunnel the origin gets its request in origin-form, with the offer', async (t) => {
    await startWith(t, BARE_UPSTREAM_PORT);
    const browser = await client.connect(originV4, 80);
    await browser.send(UPGRADE);
    const far = await upstream.accept();
    assert.match(await far.receiveThrough(END), /^CONNECT origin\.lab:80 HTTP\/1\.1\r\n/);
    await far.send(`HTTP/1.1 200 OK${END}`);
    const head = await far.receiveThrough(END);
    assert.match(head, /^GET \/chat\?room=1 HTTP\/1\.1\r\nHost: origin\.lab\r\n/);
    assert.match(head, /^Upgrade: websocket\r$/m);
    assert.match(head, /^Connection: upgrade\r$/im);
    const answer = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade${END}first`;
    await far.send(answer);
    assert.equal(await browser.receive(answer.length), answer);
    await browser.send('\x81\x00GET / HTTP/1.1\r\n\r\n');
    assert.equal(await far.receive(20), '\x81\x00GET / HTTP/1.1\r\n\r\n');
    await far.send('\x88\x00');
    await far.sendFin();
    assert.equal(await browser.receiveAll(), '\x88\x00');
  });

  test('an origin that declines the upgrade answers, and the connection ends with its answer', async (t) => {
    await startWith(t, BARE_UPSTREAM_PORT);
    const browser = await client.connect(originV4, 80);
    await browser.send(UPGRADE);
    const far = await upstream.accept();
    await far.receiveThrough(END);
    await far.send(`HTTP/1.1 200 OK${END}`);
    await far.receiveThrough(END);
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: 5${END}plain`;
    await far.send(answer);
    assert.equal(await browser.receiveAll(), answer);
  });

  test('a kept-alive connection goes on from requests to a web socket', async (t) => {
    await startWith(t, BARE_UPSTREAM_PORT);
    const browser = await client.connect(originV4, 80);
    await browser.send(`GET /page HTTP/1.1\r\nHost: origin.lab${END}`);
    const first = await upstream.accept();
    assert.match(await first.receiveThrough(END), /^GET http:\/\/origin\.lab\/page HTTP\/1\.1\r\n/);
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: 2${END}ok`;
    await first.send(answer);
    assert.equal(await browser.receive(answer.length), answer);
    await browser.send(UPGRADE);
    const second = await upstream.accept();
    assert.match(await second.receiveThrough(END), /^CONNECT origin\.lab:80 /);
    await second.send(`HTTP/1.1 200 OK${END}`);
    await second.receiveThrough(END);
    await second.send(`HTTP/1.1 101 Switching Protocols${END}`);
    assert.equal(await browser.receiveThrough(END), `HTTP/1.1 101 Switching Protocols${END}`);
  });

  test('a client that knows the proxy gets a tunnel by CONNECT', async (t) => {
    await startWith(t, SQUID_PORT);
    const near = await client.connect(originV4, 80);
    await near.send(`CONNECT origin.lab:80 HTTP/1.1\r\nHost: origin.lab:80${END}`);
    assert.match(await near.receiveThrough(END), /^HTTP\/1\.1 200 /);
    await near.send(`GET / HTTP/1.1\r\nHost: origin.lab\r\nConnection: close${END}`);
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 200 OK\r\n[\s\S]*plain/);
  });
});
