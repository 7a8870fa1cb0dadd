import assert from 'node:assert/strict';
import { chownSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const UPSTREAM_PORT = 3128;
const NOBODY = 65534;
/** A line of transproxy's log: local time, kind padded to 13, number of the request on its connection, client, URL. */
const LINE =
  /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d {2}(?:Transparent {2}|Forced {7}|Request {6}|Request_NoDNS) \d+ \S+ -> \S+$/;

describe('the access log', { skip: unless('program iptables') }, () => {
  let topology: Topology;
  let client: Sockets;
  let upstream: TestListener;
  let lastFolder = 0;
  const [originV4] = ADDRESS.internet;
  const [clientV4, clientV6] = ADDRESS.client;
  const [routerV4, routerV6] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    upstream = await new Sockets(topology.proxy).listen(UPSTREAM_PORT);
  });
  after(() => topology?.lab.close());

  /** A folder of its own for the log of one test; like /var/log, it belongs to root. */
  const newFolder = (): string => {
    const folder = topology.lab.path(`log-${++lastFolder}`);
    mkdirSync(folder);
    return folder;
  };

  const linesOf = (file: string): string[] =>
    existsSync(file)
      ? readFileSync(file, 'latin1')
          .split('\n')
          .filter((line) => line !== '')
      : [];

  const logged = (file: string, text: string): Promise<string> =>
    until(`${file} to contain ${text}`, () => linesOf(file).find((line) => line.includes(text)));

  const start = async (t: Cleanup, ...options: string[]) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    return startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(UPSTREAM_PORT));
  };

  const request = async (path: string): Promise<void> => {
    const near = await client.connect(originV4, 80);
    await near.send(`GET ${path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n`);
    const far = await upstream.accept();
    await far.receiveThrough('\r\n\r\n');
    await far.send('HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n');
    await far.sendFin();
    await near.receiveAll();
    await near.sendFin();
  };

  test("a request is a line in transproxy's own format", async (t) => {
    const file = `${newFolder()}/access.log`;
    await start(t, '-l', file);
    await request('/first');
    const line = await logged(file, '/first');
    assert.match(line, LINE);
    assert.ok(line.endsWith(`Request_NoDNS 1 ${clientV4} -> http://a.example/first`), line);
  });

  test('a client that the ACL refuses gets a reset and a line in both logs; another one is served', async (t) => {
    const file = `${newFolder()}/access.log`;
    const running = await start(t, '-l', file, '-a', clientV4);
    await request('/allowed');
    await client.expectReset(routerV6, 8081);
    assert.match(await logged(file, 'refused'), new RegExp(`ACL refused from ${clientV6}$`));
    await running.says(new RegExp(`refused.*${clientV6}|${clientV6}.*refused`));
    assert.equal(await upstream.waiting(), 0);
  });

  test('an ACL with IPv6 networks refuses other clients', async (t) => {
    const file = `${newFolder()}/access.log`;
    await start(t, '-l', file, '-a', 'fd77:1::/64', '-a', '10.99.0.0/16');
    await client.expectReset(routerV4, 8081);
    assert.match(await logged(file, 'refused'), new RegExp(`ACL refused from ${clientV4.replaceAll('.', '\\.')}$`));
    const allowed = await client.connect(routerV6, 8081);
    await allowed.send('GET /v6 HTTP/1.1\r\nHost: a.example\r\n\r\n');
    assert.match(await (await upstream.accept()).receiveThrough('\r\n\r\n'), /^GET http:\/\/a\.example/);
  });

  /** logrotate's own configuration; `create` makes the new file before the daemon is told. */
  const rotate = async (file: string, owner: string, pidFile: string): Promise<void> => {
    const configuration = topology.lab.path('logrotate.conf');
    const postrotate = `postrotate\n kill -HUP $(cat ${pidFile})\nendscript`;
    writeFileSync(configuration, `${file} {\n su root root\n rotate 3\n create 0640 ${owner}\n ${postrotate}\n}\n`);
    const state = topology.lab.path('logrotate.state');
    await topology.router.run('logrotate', '--force', '--state', state, configuration);
  };

  test('after logrotate has renamed the log and sent SIGHUP, lines go to the new file', {
    skip: unless('program logrotate'),
  }, async (t) => {
    const folder = newFolder();
    const file = `${folder}/access.log`;
    await start(t, '-l', file, '-P', `${folder}/tproxy.pid`);
    await request('/before');
    await logged(file, '/before');
    await rotate(file, 'root root', `${folder}/tproxy.pid`);
    await until('lines in the new file', async () => {
      await request('/after');
      return linesOf(file).length > 0;
    });
    assert.ok(linesOf(`${file}.1`).some((line) => line.includes('/before')));
    assert.ok(linesOf(file).every((line) => LINE.test(line) && line.includes('/after')));
  });

  test('SIGHUP reopens the log also after the privileges went', {
    skip: unless('program logrotate', 'root'),
  }, async (t) => {
    const folder = newFolder();
    const file = `${folder}/access.log`;
    await start(t, '-r', 'nobody', '-l', file, '-P', `${folder}/tproxy.pid`);
    await request('/before');
    await logged(file, '/before');
    for (const round of [1, 2]) {
      await rotate(file, 'nobody nogroup', `${folder}/tproxy.pid`);
      const rotated = statSync(`${file}.1`).ino;
      await until('lines in the new file', async () => {
        await request(`/after${round}`);
        return linesOf(file).length > 0;
      });
      assert.notEqual(statSync(file).ino, rotated);
      assert.ok(linesOf(file).every((line) => line.includes(`/after${round}`)));
    }
  });

  test('when the log cannot be reopened, that is logged and lines go on in the old file', {
    skip: unless('root'),
  }, async (t) => {
    const folder = newFolder();
    const file = `${folder}/access.log`;
    writeFileSync(file, '');
    chownSync(file, NOBODY, NOBODY);
    const running = await start(t, '-r', 'nobody', '-l', file);
    await topology.router.run('mv', file, `${file}.old`);
    running.signal('SIGHUP');
    await running.says(/access\.log.*EACCES|EACCES.*access\.log/);
    await request('/still');
    await logged(`${file}.old`, '/still');
  });
});
