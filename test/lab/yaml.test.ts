import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { probe, startOrigin } from '../support/rinetd.js';
import type { Probe } from '../support/rinetd-clients.js';
import { assertRelays, Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, endTproxy, runTproxy, startTproxy, TPROXY } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const FARM_PORT = 7001;
const DATAGRAM_PORT = 7002;
const LISTED_PORT = 7003;
const DOCUMENT = new URL('../../../docs/yaml.md', import.meta.url);

/** A file of docs/yaml.md by the name behind its language, with the lab's hosts in place of the document's. */
const example = (name: string, words: Readonly<Record<string, string>>): string => {
  const [, block] = new RegExp(`^\`\`\`yaml ${name}\\n([^]*?)^\`\`\`$`, 'm').exec(readFileSync(DOCUMENT, 'utf8')) ?? [];
  if (block === undefined) throw new Error(`${DOCUMENT} has no file ${name}`);
  return Object.entries(words).reduce((text, [word, put]) => text.replaceAll(word, put), block);
};

describe('a plan in YAML', { skip: unless('program squid', 'program curl', 'program socat') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  let squid: Peer;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    const internet = new Sockets(topology.internet);
    origin = await internet.listen(ORIGIN_PORT);
    await internet.serveHttp(80);
    squid = await startSquid(topology.lab, topology.proxy);
  });
  after(() => topology?.lab.close());

  const write = (name: string, text: string): string => {
    const path = topology.lab.path(name);
    writeFileSync(path, text);
    return path;
  };
  const start = (t: Cleanup, name: string, words: Readonly<Record<string, string>>) =>
    startTproxy(t, topology.router, '-c', write(`${name}.yaml`, example(name, words)));

  /** Connects, and shows that bytes pass both ways and that an end passes on. */
  const assertServes = (port: number): Promise<string> => assertRelays(client, origin, routerV4, port);

  test('relays to a target, and to one of several', async (t) => {
    await start(t, 'relay', { 'www.example.net:80': `origin.lab:${ORIGIN_PORT}` });
    await assertServes(8080);
    await start(t, 'targets', {
      'web1.example.net:443': `origin.lab:${ORIGIN_PORT}`,
      'web2.example.net:443': `${ADDRESS.internet[0]}:${ORIGIN_PORT}`,
      '        src: 192.0.2.1\n': '',
    });
    await assertServes(8443);
    await assertServes(8443);
  });

  test('relays to several targets in turn, and past one that is down', async (t) => {
    const words = {
      'web1.example.net:443': `origin.lab:${FARM_PORT}`,
      'web2.example.net:443': `proxy.lab:${FARM_PORT}`,
      '        src: 192.0.2.1\n': '',
      leastconn: 'roundrobin',
      '        weight: 3\n': '',
      '      affinity_ttl: 3600 # a client that comes again so soon gets the same one\n': '',
      '      affinity_max_entries: 50000\n': '',
    };
    await start(t, 'targets', words);
    const listeners = [];
    for (const host of [topology.internet, topology.proxy]) listeners.push(await new Sockets(host).listen(FARM_PORT));
    const [first, second] = listeners as [TestListener, TestListener];
    const connect = async (times: number): Promise<number[]> => {
      const before = [await first.waiting(), await second.waiting()];
      for (let i = 0; i < times; i++) await (await client.connect(routerV4, 8443)).send('x');
      return until('the connections to come', async () => {
        const came = [(await first.waiting()) - (before[0] ?? 0), (await second.waiting()) - (before[1] ?? 0)];
        return came.reduce((sum, n) => sum + n) === times ? came : null;
      });
    };
    const came = await connect(12);
    assert.ok(
      came.every((n) => n > 0),
      String(came),
    );
    await second.close();
    const near = [];
    for (let i = 0; i < 4; i++) near.push(await client.connect(routerV4, 8443));
    for (const socket of near) await socket.send('x');
    await until('all of them at the other', async () => (await first.waiting()) === (came[0] ?? 0) + 4);
  });

  test('relays datagrams, to one of several targets', async (t) => {
    await startOrigin(topology.internet, DATAGRAM_PORT);
    await start(t, 'udp', {
      '"192.0.2.53:53", "192.0.2.54:53"': `"origin.lab:${DATAGRAM_PORT}", "${ADDRESS.internet[0]}:${DATAGRAM_PORT}"`,
    });
    const asks: Probe = { from: ADDRESS.client[0], to: routerV4, port: 53, by: 'udp', pause: 100 };
    const from = (ip: string): string => `${ip}, then ${ip} by the same flow`;
    for (const answer of await probe(topology.client, [asks, asks, asks])) {
      assert.ok(ADDRESS.routerToInternet.map(from).includes(answer), answer);
    }
  });

  test('listens on unix sockets of both kinds and connects to one', async (t) => {
    const folder = topology.lab.path('sockets');
    mkdirSync(folder);
    const echo = await topology.router.spawn(['socat', `UNIX-LISTEN:${folder}/docker.sock,fork`, 'EXEC:cat']);
    t.after(() => echo.end('SIGKILL'));
    await until('socat to listen', () => existsSync(`${folder}/docker.sock`));
    await start(t, 'unix', {
      '127.0.0.1:2375': `${routerV4}:2375`,
      '/var/run/docker.sock': `${folder}/docker.sock`,
      '/run/front.sock': `${folder}/front.sock`,
      '192.0.2.10:8080': 'origin.lab:80',
    });
    const near = await client.connect(routerV4, 2375);
    await near.send('ping');
    assert.equal(await near.receive(4), 'ping');
    assert.equal(statSync(`${folder}/front.sock`).mode & 0o777, 0o660);
    for (const by of [
      ['--unix-socket', `${folder}/front.sock`],
      ['--abstract-unix-socket', 'front'],
    ]) {
      const { stdout } = await topology.router.run('curl', '-sSf', ...by, 'http://origin.lab/by-socket');
      assert.match(stdout, /"url":"\/by-socket"/);
    }
  });

  test('lets in whom its lists let in', async (t) => {
    await startOrigin(topology.internet, LISTED_PORT);
    await topology.client.address('to-router', '10.77.1.21/24');
    await start(t, 'access', {
      '192.0.2.22:22': `${ADDRESS.internet[0]}:${LISTED_PORT}`,
      'src: 192.0.2.1': `src: ${ADDRESS.routerToInternet[0]}`,
      '"192.168.2.1?"': '"10.77.1.2?"',
      '    tcp_wrappers: true # or a name for hosts_access(5) other than that of global.ident\n': '',
    });
    const asks = (from: string): Probe => ({ from, to: routerV4, port: 2222, by: 'tcp' });
    const answers = await probe(topology.client, [asks(ADDRESS.client[0]), asks('10.77.1.21')]);
    assert.deepEqual(answers, [ADDRESS.routerToInternet[0], 'refused']);
  });

  test('translates HTTP for a Squid', async (t) => {
    await start(t, 'http', { 'proxy.example.net:3128': 'proxy.lab:3128' });
    await topology.client.run('curl', '-sSf', '-H', 'Host: origin.lab', `http://${routerV4}:8081/yaml`);
    await squid.logged('http://origin.lab/yaml');
  });

  test('serves several rules of several kinds with one process', async (t) => {
    const rules = ['relay', 'http', 'shaping'].map((name) =>
      example(name, { 'www.example.net:80': `origin.lab:${ORIGIN_PORT}`, 'proxy.example.net': 'proxy.lab' }).replace(
        'rules:\n',
        '',
      ),
    );
    await startTproxy(t, topology.router, '-c', write('all.yaml', `rules:\n${rules.join('')}`));
    await assertServes(8080);
    await assertServes(8083);
    await topology.client.run('curl', '-sSf', '-H', 'Host: origin.lab', `http://${routerV4}:8081/several`);
    await squid.logged('http://origin.lab/several');
  });

  test('is made of a command line, and does the same', async (t) => {
    const redir = [...TPROXY, '--as', 'redir', '--to-yaml', '-n', ':9000', `origin.lab:${ORIGIN_PORT}`];
    const { stdout } = await topology.router.run(redir[0] as string, ...redir.slice(1));
    // Which goes before redir's level, notice.
    await startTproxy(t, topology.router, '--log-level', 'info', '-c', write('redir.yaml', stdout));
    await assertServes(9000);
  });

  test('is checked without being started: 0 and the plan, or 78 and every mistake', async (t) => {
    t.after(() => endTproxy(topology.router));
    const right = write('right.yaml', example('relay', {}));
    const checked = await runTproxy(topology.router, '--check', '-c', right);
    assert.equal(checked.code, 0, checked.stderr);
    assert.match(checked.stdout, /^ {4}connect: www\.example\.net:80$/m);
    assert.match(checked.stdout, /^ {4}timeout: 0$/m);
    const again = await runTproxy(topology.router, '-c', write('again.yaml', checked.stdout), '--check');
    assert.equal(again.stdout, checked.stdout);

    const wrong = write('wrong.yaml', 'rules:\n  - bind: "x"\n    timeout: -1\n');
    for (const more of [['--check'], []]) {
      const { code, stdout, stderr } = await runTproxy(topology.router, ...more, '-c', wrong);
      assert.deepEqual([code, stdout], [78, '']);
      assert.deepEqual(stderr.trimEnd().split('\n'), [
        `tproxy: ${wrong}:2:11: rules[0].bind: "x" has no colon in it`,
        `tproxy: ${wrong}:3:14: rules[0].timeout: needs at least 0, and has -1`,
      ]);
    }
    const options = await runTproxy(topology.router, '--check', '-s', '0', 'proxy', '80');
    assert.deepEqual([options.code, options.stdout], [64, '']);
  });
});
