import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { OPENSSL } from '../protocol/hellos.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
const BARE_UPSTREAM_PORT = 3130;
/** An origin that the test plays itself. */
const BARE_ORIGIN_PORT = 80;
const H2C_PORT = 8082;
const END = '\r\n\r\n';
const ESTABLISHED = `HTTP/1.1 200 Connection established${END}`;

const needs = ['curl', 'nginx', 'squid', 'iptables'].map((name) => `program ${name}` as const);

describe('what is neither HTTP/1 nor TLS', { skip: unless(...needs) }, () => {
  let topology: Topology;
  let squid: Peer;
  let client: Sockets;
  let upstream: TestListener;
  let origin: TestListener;
  const [originV4] = ADDRESS.internet;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    const h2c = `server { listen ${H2C_PORT} http2; location / { return 200 "$server_protocol $request_method"; } }`;
    await startNginx(lab, internet, [8080], h2c);
    squid = await startSquid(lab, proxy, SQUID_PORT);
    client = new Sockets(topology.client);
    upstream = await new Sockets(proxy).listen(BARE_UPSTREAM_PORT);
    origin = await new Sockets(internet).listen(BARE_ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, port: number, upstreamPort: number, ...options: string[]) => {
    await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
    return startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(upstreamPort));
  };

  const greet = async (near: TestSocket, far: TestSocket): Promise<void> => {
    await far.send('220 mail.lab ESMTP\r\n');
    assert.equal(await near.receiveThrough('\r\n'), '220 mail.lab ESMTP\r\n');
    await near.send('EHLO client\r\n');
    assert.equal(await far.receiveThrough('\r\n'), 'EHLO client\r\n');
  };

  test('HTTP/2 with prior knowledge goes to its origin', async (t) => {
    await startWith(t, H2C_PORT, SQUID_PORT);
    const url = `http://origin.lab:${H2C_PORT}/`;
    const { stdout } = await topology.client.run('curl', '-sS', '-4', '--http2-prior-knowledge', url);
    assert.equal(stdout, 'HTTP/2.0 GET');
    assert.deepEqual(squid.log(), []);
  });

  test('with -p HTTP/2 goes through CONNECT to its original destination', async (t) => {
    await startWith(t, H2C_PORT, SQUID_PORT, '-p');
    const url = `http://origin.lab:${H2C_PORT}/`;
    const { stdout } = await topology.client.run('curl', '-sS', '-4', '--http2-prior-knowledge', url);
    assert.equal(stdout, 'HTTP/2.0 GET');
    await squid.logged(`CONNECT ${originV4}:${H2C_PORT}`);
  });

  test('a client that waits for the server to speak first gets to hear it after --first-byte', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT);
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await greet(near, await origin.accept());
    assert.equal(await upstream.waiting(), 0);
  });

  test('with -p such a client goes through CONNECT to its original destination', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '-p', '--first-byte', '0.2');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    const far = await upstream.accept();
    assert.match(await far.receiveThrough(END), new RegExp(`^CONNECT ${originV4}:${BARE_ORIGIN_PORT} HTTP/1\\.1\r\n`));
    await far.send(ESTABLISHED);
    await greet(near, far);
    assert.equal(await origin.waiting(), 0);
  });

  test('what such a client says before the way is open is not lost', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '-p', '--first-byte', '0.2');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    const far = await upstream.accept();
    await far.receiveThrough(END);
    await near.send('EHLO early\r\n');
    await far.send(ESTABLISHED);
    assert.equal(await far.receiveThrough('\r\n'), 'EHLO early\r\n');
  });

  test('--unknown close ends such a connection', async (t) => {
    const running = await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '--unknown', 'close');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await assert.rejects(near.receiveAll(), { code: 'ECONNRESET' });
    await running.says(/10\.77\.2\.2:80/);
    assert.equal(await origin.waiting(), 0);
    assert.equal(await upstream.waiting(), 0);
  });

  for (const [name, first] of [
    ['an SSH banner', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a protocol that nobody knows', '\x00\x01\x02\xfe hello'],
    ['SOCKS', '\x05\x01\x00'],
    ['a line of text that is no request', 'HELO\r\n'],
    ['a TLS record that is no hello', '\x16\x03\x01\x00\x04\x02\x00\x00\x00'],
  ] as const) {
    test(`${name} reaches the origin as it is`, async (t) => {
      await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT);
      const near = await client.connect(originV4, BARE_ORIGIN_PORT);
      await near.send(first);
      const far = await origin.accept();
      assert.equal(await far.receive(first.length), first);
      await near.sendFin();
      assert.equal(await far.receiveAll(), '');
      await far.send('answer');
      await far.sendFin();
      assert.equal(await near.receiveAll(), 'answer');
      assert.equal(await upstream.waiting(), 0);
    });
  }

  test('--unknown connect takes it through the upstream', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '--unknown', 'connect');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await near.send('SSH-2.0-x\r\n');
    const far = await upstream.accept();
    assert.match(await far.receiveThrough(END), new RegExp(`^CONNECT ${originV4}:80 HTTP/1\\.1\r\n`));
    await far.send(`${ESTABLISHED}SSH-2.0-y\r\n`);
    assert.equal(await near.receive(11), 'SSH-2.0-y\r\n');
    assert.equal(await far.receive(11), 'SSH-2.0-x\r\n');
    assert.equal(await origin.waiting(), 0);
  });

  test('a CONNECT that the upstream refuses ends an unknown protocol, too', async (t) => {
    const running = await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '--unknown', 'connect');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await near.send('SSH-2.0-x\r\n');
    const far = await upstream.accept();
    await far.receiveThrough(END);
    await far.send('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
    await assert.rejects(near.receiveAll(), { code: 'ECONNRESET' });
    await running.says(/10\.77\.2\.2:80: .*407/);
    assert.equal(await origin.waiting(), 0);
  });

  test('half a ClientHello reaches the origin as it is after --head-timeout', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT, '--head-timeout', '1');
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    const half = OPENSSL.subarray(0, 100);
    await near.send(half);
    assert.equal(await (await origin.accept()).receive(half.length), half.toString('latin1'));
    assert.equal(await upstream.waiting(), 0);
  });

  test('bytes too few to say what they are reach the origin with the end behind them', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT);
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await near.send('PR');
    await near.sendFin();
    const far = await origin.accept();
    assert.equal(await far.receiveAll(), 'PR');
  });

  test('a connection that ends without a byte goes nowhere', async (t) => {
    await startWith(t, BARE_ORIGIN_PORT, BARE_UPSTREAM_PORT);
    const near = await client.connect(originV4, BARE_ORIGIN_PORT);
    await near.sendFin();
    assert.equal(await near.receiveAll(), '');
    assert.equal(await origin.waiting(), 0);
    assert.equal(await upstream.waiting(), 0);
  });
});
