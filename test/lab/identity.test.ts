import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { type Certificate, makeCertificate, tlsServer } from '../support/certificate.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const PROXY_HEADER_PORT = 3129;
const FORWARDED_PORT = 3130;
const AUTH_PORT = 3131;
const BARE_UPSTREAM_PORT = 3132;
const CLOSED_PORT = 3133;
/** An origin that the test plays itself. */
const BARE_ORIGIN_PORT = 8888;
const END = '\r\n\r\n';

const needs = ['curl', 'nginx', 'squid', 'iptables', 'ip6tables', 'openssl'].map((name) => `program ${name}` as const);

describe('who the upstream thinks that the client is', { skip: unless('ipv6', ...needs) }, () => {
  let topology: Topology;
  let certificate: Certificate;
  let nginx: Peer;
  let readsProxyHeader: Peer;
  let readsForwardedFor: Peer;
  let demandsAuth: Peer;
  let client: Sockets;
  let upstream: TestListener;
  let origin: TestListener;
  let passwordFile: string;
  let wrongPasswordFile: string;
  const [originV4, originV6] = ADDRESS.internet;
  const [clientV4, clientV6] = ADDRESS.client;
  const [routerV4] = ADDRESS.routerToClient;
  const [proxyV4] = ADDRESS.proxy;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    certificate = makeCertificate(lab.folder, 'DNS:origin.lab');
    nginx = await startNginx(lab, internet, [80], tlsServer(443, certificate));
    writeFileSync(`${nginx.folder}/files/page.txt`, 'a page of the origin\n');
    readsProxyHeader = await startSquid(lab, proxy, PROXY_HEADER_PORT, {
      portOptions: 'require-proxy-header',
      rules: 'proxy_protocol_access allow all',
    });
    readsForwardedFor = await startSquid(lab, proxy, FORWARDED_PORT, { rules: 'follow_x_forwarded_for allow all' });
    const users = lab.path('users');
    writeFileSync(users, `lab:${execFileSync('openssl', ['passwd', '-apr1', 'se:cret'], { encoding: 'latin1' })}`);
    demandsAuth = await startSquid(lab, proxy, AUTH_PORT, {
      rules: `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${users}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all`,
    });
    passwordFile = lab.path('password');
    writeFileSync(passwordFile, 'lab:se:cret\n');
    wrongPasswordFile = lab.path('wrong-password');
    writeFileSync(wrongPasswordFile, 'lab:secret\n');
    client = new Sockets(topology.client);
    upstream = await new Sockets(proxy).listen(BARE_UPSTREAM_PORT);
    origin = await new Sockets(internet).listen(BARE_ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, upstreamPort: number, ...options: string[]) => {
    for (const port of [80, 443, BARE_ORIGIN_PORT]) {
      await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
      await redirectFor(t, topology.router, 'ip6tables', { port, to: 8081 });
    }
    return startTproxy(t, topology.router, '-s', '8081', ...options, proxyV4, String(upstreamPort));
  };

  const curl = (...args: string[]) =>
    topology.client.attempt('curl', '-sS', '--max-time', '20', '--cacert', certificate.certificate, ...args);

  const statusOf = async (...args: string[]): Promise<string> =>
    (await curl('-o', '/dev/null', '-w', '%{http_code}', ...args)).stdout;

  describe('by the PROXY protocol', () => {
    for (const version of ['v1', 'v2']) {
      for (const [family, from] of [
        ['-4', clientV4],
        ['-6', clientV6],
      ] as const) {
        test(`Squid reads ${version} and logs the client's address with curl ${family}`, async (t) => {
          await startWith(t, PROXY_HEADER_PORT, '--proxy-protocol', version);
          const url = `http://origin.lab/page.txt?${version}${family}`;
          assert.equal((await curl(family, url)).stdout, 'a page of the origin\n');
          assert.match(String(await readsProxyHeader.logged(url)), new RegExp(`^${from} TCP_MISS/200 GET `));
          const tunnels = readsProxyHeader.log().filter((line) => line.includes('CONNECT')).length;
          assert.equal((await curl(family, 'https://origin.lab/page.txt')).stdout, 'a page of the origin\n');
          const lines = await readsProxyHeader.logged('CONNECT origin.lab:443', tunnels + 1);
          assert.ok(lines[tunnels]?.startsWith(`${from} `), lines.join());
        });
      }
    }

    test('the header has both ends of the connection as the client has them', async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT, '--proxy-protocol', 'v1');
      const near = await client.connect(originV4, 80);
      await near.send(`GET / HTTP/1.1\r\nHost: a.example${END}`);
      const far = await upstream.accept();
      const head = await far.receiveThrough(END);
      const header = `PROXY TCP4 ${clientV4} ${originV4} ${near.local.port} 80\r\n`;
      assert.ok(head.startsWith(`${header}GET http://a.example/ HTTP/1.1\r\n`), head);
    });

    test('a relay to a target has it, too', async (t) => {
      const target = ['-t', proxyV4, String(BARE_UPSTREAM_PORT)];
      await startTproxy(t, topology.router, '-s', '9000', '--proxy-protocol', 'v1', ...target);
      const near = await client.connect(routerV4, 9000);
      await near.send('hello');
      const far = await upstream.accept();
      const all = `PROXY TCP4 ${clientV4} ${routerV4} ${near.local.port} 9000\r\nhello`;
      assert.equal(await far.receive(all.length), all);
    });

    test('an origin gets none when the upstream is passed by', async (t) => {
      await startWith(t, CLOSED_PORT, '--proxy-protocol', 'v1');
      const near = await client.connect(originV4, BARE_ORIGIN_PORT);
      const request = `GET / HTTP/1.1\r\nHost: a.example${END}`;
      await near.send(request);
      assert.equal(await (await origin.accept()).receive(request.length), request);
    });

    test('a Squid that misses it ends the connection, which is a 502 for the client', async (t) => {
      await startWith(t, PROXY_HEADER_PORT);
      assert.equal(await statusOf('-4', 'http://origin.lab/page.txt'), '502');
    });
  });

  describe('by X-Forwarded-For', () => {
    for (const [family, from] of [
      ['-4', clientV4],
      ['-6', clientV6],
    ] as const) {
      test(`Squid logs the client's address with curl ${family}, not one that the client makes up`, async (t) => {
        await startWith(t, FORWARDED_PORT, '--forwarded-for');
        const url = `http://origin.lab/page.txt?forwarded${family}`;
        await curl(family, '-H', 'X-Forwarded-For: 192.0.2.1', url);
        assert.match(String(await readsForwardedFor.logged(url)), new RegExp(`^${from} TCP_MISS/200 GET `));
      });
    }

    const forwardedFor = async (...fields: string[]): Promise<string[]> => {
      const near = await client.connect(originV4, 80);
      await near.send(`GET / HTTP/1.1\r\nHost: a.example\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`);
      const head = await (await upstream.accept()).receiveThrough(END);
      return head.split('\r\n').filter((line) => /^x-forwarded-for:/i.test(line));
    };
    const said = ['X-Forwarded-For: 192.0.2.1', 'X-Forwarded-For: 192.0.2.2, 192.0.2.3'];

    test("a client's own value is replaced", async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT, '--forwarded-for', '--trust', '192.0.2.0/24');
      assert.deepEqual(await forwardedFor(...said), [`X-Forwarded-For: ${clientV4}`]);
    });

    test('it is kept for a client of --trust, and added to', async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT, '--forwarded-for', '--trust', '10.77.1.0/24');
      assert.deepEqual(await forwardedFor(...said), [`X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, ${clientV4}`]);
    });

    test('a client cannot have it taken away by naming it in Connection', async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT, '--forwarded-for');
      assert.deepEqual(await forwardedFor('Connection: X-Forwarded-For'), [`X-Forwarded-For: ${clientV4}`]);
    });

    test('without the option what the client says passes', async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT);
      assert.deepEqual(await forwardedFor(...said), said);
    });
  });

  describe('by a user name and a password', () => {
    test('with --proxy-auth Squid lets HTTP and TLS through', async (t) => {
      await startWith(t, AUTH_PORT, '--proxy-auth', passwordFile);
      const url = 'http://origin.lab/page.txt?let-in';
      assert.equal((await curl('-4', url)).stdout, 'a page of the origin\n');
      assert.equal((await curl('-4', 'https://origin.lab/page.txt')).stdout, 'a page of the origin\n');
      await demandsAuth.logged(`TCP_MISS/200 GET ${url}`);
      await demandsAuth.logged('TCP_TUNNEL/200 CONNECT origin.lab:443');
    });

    test('they may stand in --upstream, too', async (t) => {
      await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
      const url = `http://lab:se%3Acret@${proxyV4}:${AUTH_PORT}`;
      await startTproxy(t, topology.router, '-s', '8081', '--upstream', url);
      assert.equal(await statusOf('-4', 'http://origin.lab/page.txt'), '200');
    });

    for (const [name, options] of [
      ['a wrong password', () => ['--proxy-auth', wrongPasswordFile]],
      ['no password', () => []],
    ] as const) {
      test(`with ${name} an intercepted client gets 502, and no demand for one`, async (t) => {
        const running = await startWith(t, AUTH_PORT, ...options());
        const { stdout } = await curl('-4', '-i', 'http://origin.lab/page.txt?kept-out');
        assert.match(stdout, /^HTTP\/1\.1 502 /);
        assert.doesNotMatch(stdout, /Proxy-Authenticate|407/i);
        await running.says(/407.*--proxy-auth/);
        assert.deepEqual(
          nginx.log().filter((line) => line.includes('?kept-out')),
          [],
        );
      });

      test(`with ${name} TLS ends, and the upstream's status is logged`, async (t) => {
        const running = await startWith(t, AUTH_PORT, ...options());
        assert.notEqual((await curl('-4', 'https://origin.lab/page.txt')).code, 0);
        await running.says(/origin\.lab:443: .*407/);
      });
    }

    test('a client that knows of the proxy sees its 407, and its own password passes', async (t) => {
      await startWith(t, AUTH_PORT);
      const proxy = ['-x', `http://${routerV4}:8081`];
      const { stdout } = await curl(...proxy, '-i', 'http://origin.lab/page.txt?own');
      assert.match(stdout, /^HTTP\/1\.1 407 [\s\S]*Proxy-Authenticate: Basic/);
      assert.equal(await statusOf(...proxy, '-U', 'lab:se:cret', 'http://origin.lab/page.txt?own'), '200');
      const tunnel = await curl(...proxy, '-p', '-U', 'lab:se:cret', 'http://origin.lab/page.txt?own');
      assert.equal(tunnel.stdout, 'a page of the origin\n');
    });

    test('the password reaches the upstream, and never an origin', async (t) => {
      await startWith(t, BARE_UPSTREAM_PORT, '--proxy-auth', passwordFile);
      const near = await client.connect(originV4, 80);
      await near.send(`GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket${END}`);
      const far = await upstream.accept();
      const credentials = `Proxy-Authorization: Basic ${Buffer.from('lab:se:cret').toString('base64')}\r\n`;
      const connect = await far.receiveThrough(END);
      assert.ok(connect.startsWith('CONNECT a.example:80 ') && connect.includes(credentials), connect);
      await far.send(`HTTP/1.1 200 OK${END}`);
      assert.doesNotMatch(await far.receiveThrough(END), /authorization/i);
    });
  });

  test('an IPv6 origin by its address keeps its brackets with all of them at once', async (t) => {
    await startWith(t, BARE_UPSTREAM_PORT, '--proxy-protocol', 'v1', '--forwarded-for', '--proxy-auth', passwordFile);
    const near = await client.connect(originV6, 80);
    await near.send('GET /v6 HTTP/1.0\r\n\r\n');
    const head = await (await upstream.accept()).receiveThrough(END);
    const header = `PROXY TCP6 ${clientV6} ${originV6} ${near.local.port} 80\r\n`;
    assert.ok(head.startsWith(`${header}GET http://[${originV6}]/v6 HTTP/1.`), head);
    assert.ok(head.includes(`X-Forwarded-For: ${clientV6}\r\n`), head);
  });
});
