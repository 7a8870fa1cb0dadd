import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Peer, startSquid, startUnbound, startVsftpd } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { curlCommand } from '../support/ftp.js';
import { unless } from '../support/needs.js';
import { follow } from '../support/recipes.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, startTproxy } from '../support/tproxy.js';

const ECHO_PORT = 7000;
const SILENT_PORT = 7001;

const needs = ['squid', 'unbound', 'vsftpd', 'curl', 'dig', 'nft'].map((name) => `program ${name}` as const);

describe('a file with services of every kind', { skip: unless('root', 'ipv6', ...needs) }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  let silent: TestListener;
  let squid: Peer;
  /** Nobody's, as the program is. */
  let folder: string;
  const [originV4] = ADDRESS.internet;
  const [clientV4] = ADDRESS.client;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    const internet = new Sockets(topology.internet);
    origin = await internet.listen(80);
    silent = await internet.listen(SILENT_PORT);
    await internet.serveHttp(8000);
    const echo = fileURLToPath(new URL('../support/echo.js', import.meta.url));
    const running = await topology.internet.spawn([process.execPath, echo, String(ECHO_PORT)]);
    await running.says(/listening/);
    const server = '  local-zone: "lab." static\n  local-data: "name.lab. 60 A 192.0.2.7"';
    await startUnbound(topology.lab, topology.internet, 53, { server });
    const vsftpd = await startVsftpd(topology.lab, topology.internet);
    writeFileSync(join(vsftpd.folder, 'files', 'greeting'), 'hello');
    squid = await startSquid(topology.lab, topology.proxy);
    folder = mkdtempSync(topology.lab.path('nobody-'));
    await topology.router.run('chown', 'nobody', folder);
  });
  after(() => topology?.lab.close());

  /** Every rule has the time-out. */
  const fileOf = (timeout: number): string => `
global:
  user: nobody
  workers: 2
  pid_file: ${folder}/pid
  log_file: ${folder}/log
  log_format: tab
  status: { file: ${folder}/status, interval: 1 }
  access: { allow: ["10.77.1.*"] }
rules:
  - { name: relay, bind: ":81", connect: "origin.lab:${ECHO_PORT}", timeout: ${timeout} }
  - { name: closed, bind: ":82", connect: "origin.lab:${ECHO_PORT}", timeout: ${timeout}, access: { deny: ["${clientV4}"] } }
  - { name: brief, bind: ":83", connect: "origin.lab:${SILENT_PORT}", timeout: 1 }
  - { name: http, bind: ":8080", mode: http, upstreams: "proxy.lab:3128", timeout: ${timeout} }
  - { name: names, bind: ":53/udp", connect: "origin.lab:53", timeout: ${timeout} }
  - { name: front, bind: ":84", connect: "unix:${folder}/socket", timeout: ${timeout} }
  - { name: back, bind: "unix:${folder}/socket", mode: "0666", connect: "origin.lab:${ECHO_PORT}", timeout: ${timeout} }
  - { name: transparent, bind: ":8081", connect: "*", intercept: tproxy, spoof: true, timeout: ${timeout} }
  - { name: ftp, bind: ":21", connect: "origin.lab:ftp", ftp: both, timeout: ${timeout} }
  - { name: slow, bind: ":85", connect: "origin.lab:${ECHO_PORT}", max_bandwidth: 8000000, wait_in_out: 1, timeout: ${timeout} }
`;

  const write = (file: string, text: string): void => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };

  const assertEchoes = async (socket: TestSocket): Promise<void> => {
    await socket.send('ping');
    assert.equal(await socket.receive(4), 'ping');
  };

  const ECHOING = [81, 84, 85];

  /** Uses every service once, but for `brief`. */
  const useAll = async (path: string): Promise<void> => {
    for (const port of ECHOING) {
      const socket = await client.connect(routerV4, port);
      await assertEchoes(socket);
      await socket.closed();
    }
    await client.expectReset(routerV4, 82);
    await topology.client.run('curl', '-sSf', '-H', 'Host: origin.lab:8000', `http://${routerV4}:8080/${path}`);
    await squid.logged(`http://origin.lab:8000/${path}`);
    const dig = await topology.client.run('dig', '+short', '+notcp', `@${routerV4}`, 'name.lab');
    assert.equal(dig.stdout, '192.0.2.7\n');
    const curl = curlCommand(`ftp://${routerV4}/greeting`);
    assert.equal((await topology.client.run(...(curl as [string, ...string[]]))).stdout, 'hello');
    const near = await client.connect(originV4, 80);
    const far = await origin.accept();
    assert.equal(far.remote.ip.replace('::ffff:', ''), clientV4);
    await Promise.all([near.closed(), far.closed()]);
  };

  /** A connection of each kind, which is open. */
  const holdAll = async (): Promise<() => Promise<void>> => {
    const echoing = await Promise.all(ECHOING.map((port) => client.connect(routerV4, port)));
    const near = await client.connect(originV4, 80);
    const far = await origin.accept();
    const control = await client.connect(routerV4, 21);
    assert.match(await control.receiveThrough('\r\n'), /^220 /);
    const goOn = async (): Promise<void> => {
      await Promise.all(echoing.map(assertEchoes));
      await near.send('ping');
      assert.equal(await far.receive(4), 'ping');
      await control.send('SYST\r\n');
      assert.match(await control.receiveThrough('\r\n'), /^\d+ /);
    };
    await goOn();
    return async () => {
      await goOn();
      await Promise.all([...echoing, near, far, control].map((socket) => socket.closed()));
    };
  };

  const status = () => {
    const { config_reloads, rules } = JSON.parse(readFileSync(`${folder}/status`, 'utf8')) as {
      config_reloads: number;
      rules: { name: string; connections_total: number; connections_active: number; denied: number }[];
    };
    return { config_reloads, rules: new Map(rules.map((rule) => [rule.name, rule])) };
  };

  const start = async (t: Parameters<typeof startTproxy>[0], ...args: string[]): Promise<Running> =>
    startTproxy(t, topology.router, '-c', `${folder}/all.yaml`, ...args);

  test('each with its own clients, time-outs and counters; and all outlive a reload and a takeover', async (t) => {
    await follow(t, topology.router, ['routing', 'tproxy-nft'], { lan0: 'to-client' });
    const file = `${folder}/all.yaml`;
    write(file, fileOf(100));
    const first = await start(t);
    await useAll('first');

    const idle = await client.connect(routerV4, 83);
    const patient = await client.connect(routerV4, 81);
    await silent.accept();
    await idle.expectEnd();
    await assertEchoes(patient);
    await patient.closed();

    const expected = { relay: 2, closed: 0, brief: 1, http: 1, names: 1, front: 1, back: 1, transparent: 1, ftp: 1 };
    await until('the counters', () => {
      const { rules } = status();
      return Object.entries(expected).every(([name, count]) => (rules.get(name)?.connections_total ?? 0) >= count);
    });
    const { rules } = status();
    for (const [name, count] of Object.entries(expected)) {
      const rule = rules.get(name);
      assert.deepEqual([name, rule?.denied], [name, name === 'closed' ? 1 : 0]);
      if (name !== 'ftp') assert.deepEqual([name, rule?.connections_total], [name, count]);
    }
    const lines = (): string[] => readFileSync(`${folder}/log`, 'latin1').split('\n');
    await until('lines of each service', () =>
      ['81', '82', '83', '84', '85', '53', '8080', '21'].every((port) =>
        lines().some((line) => line.split('\t')[3] === port),
      ),
    );

    const goOnAfterReload = await holdAll();
    write(file, `${fileOf(200)}  - { name: more, bind: ":86", connect: "origin.lab:${ECHO_PORT}" }\n`);
    first.signal('SIGHUP');
    await first.says(/reloaded: 11 services, 10 new or changed, 9 gone or changed/);
    assert.doesNotMatch(first.stderr, /not listening on/);
    await goOnAfterReload();
    await useAll('second');
    await until('the counters of the new plan', () => status().rules.get('more') !== undefined);
    assert.equal(status().config_reloads, 1);

    const goOnAfterTakeover = await holdAll();
    const second = await start(t, '--takeover', `${folder}/pid`);
    await first.says(/takeover: \d+ connections may go on/);
    await useAll('third');
    // The old one goes on with its connections, and its status is nobody's business any more: it has read a file again.
    for (const end = Date.now() + 2500; Date.now() < end; await sleep(20)) assert.equal(status().config_reloads, 0);
    assert.equal(first.alive, true);
    await goOnAfterTakeover();
    assert.equal((await first.outcome()).code, 0);
    await useAll('fourth');

    write(file, fileOf(200).replace(/^.*unix:.*\n/gm, ''));
    second.signal('SIGHUP');
    await second.says(/not listening on .*socket any more/);
    assert.equal(existsSync(`${folder}/socket`), false);
    second.signal('SIGTERM');
    assert.equal((await second.outcome()).code, 0);
    assert.equal(existsSync(`${folder}/pid`), false);
  });
});
