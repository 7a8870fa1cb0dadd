import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets } from '../support/sockets.js';
import { buildGateway, endTproxy, TPROXY, tproxyProcesses } from '../support/tproxy.js';

const ECHO_PORT = 7000;
const RINETD = [...TPROXY, '--as', 'rinetd'];
const rule = (port: number, more = ''): string => `0.0.0.0 ${port} origin.lab ${ECHO_PORT}${more}\n`;

describe('a rinetd.conf that is read again', { skip: unless('root') }, () => {
  let topology: Topology;
  let client: Sockets;
  let folders = 0;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    const echo = fileURLToPath(new URL('../support/echo.js', import.meta.url));
    const running = await topology.internet.spawn([process.execPath, echo, String(ECHO_PORT)]);
    await running.says(/listening/);
  });
  after(() => topology?.lab.close());

  const newFolder = (): string => {
    const folder = topology.lab.path(`rinetd-${++folders}`);
    mkdirSync(folder);
    return folder;
  };

  /** Whole at once, as an editor does it. */
  const write = (file: string, text: string): void => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };

  const start = async (t: TestContext, ...args: string[]): Promise<Running> => {
    const running = await topology.router.spawn([...RINETD, '-f', ...args]);
    t.after(() => running.end('SIGKILL'));
    await running.says(/ready:/);
    return running;
  };

  /** What the log says of a reload. */
  const reload = async (running: Running): Promise<string> => {
    const before = running.stderr.length;
    running.signal('SIGHUP');
    const over = /reloaded: .*\n|nothing was changed\n/;
    await until('the reload', () => over.test(running.stderr.slice(before)));
    return running.stderr.slice(before);
  };

  const assertServes = async (port: number): Promise<void> => {
    const socket = await client.connect(routerV4, port);
    await socket.send('ping');
    assert.equal(await socket.receive(4), 'ping');
    await socket.closed();
  };

  const assertRefuses = (port: number): Promise<void> =>
    assert.rejects(client.connect(routerV4, port), { code: 'ECONNREFUSED' });

  test('brings ports below 1024 and takes them away, as nobody, and open connections go on', async (t) => {
    const file = `${newFolder()}/rinetd.conf`;
    write(file, rule(81) + rule(82));
    const running = await start(t, '-r', 'nobody', '-c', file);
    const open = await client.connect(routerV4, 82);
    await open.send('ping');
    assert.equal(await open.receive(4), 'ping');
    write(file, `${rule(81)}buffersize 8192\n${rule(83)}`);
    const said = await reload(running);
    assert.ok(said.includes(`warn   ${file}:2:1: warning: buffersize `), said);
    assert.match(said, /listening on 0\.0\.0\.0:83\n/);
    assert.match(said, /reloaded: 2 services, 1 new or changed, 1 gone or changed\n/);
    await Promise.all([81, 83].map(assertServes));
    await assertRefuses(82);
    await open.send('pong');
    assert.equal(await open.receive(4), 'pong');
    await open.closed();
  });

  test('changes nothing where it is wrong, and the log has each mistake with file, line and column', async (t) => {
    const folder = newFolder();
    const file = `${folder}/rinetd.conf`;
    write(file, rule(81));
    const running = await start(t, '-r', 'nobody', '-c', file);
    write(`${folder}/more.conf`, `\nallow 10.0.0.0/40\n`);
    const wrong: readonly (readonly [text: string, mistakes: readonly string[]])[] = [
      [`${rule(82)}0.0.0.0 70000 origin.lab 80\n${rule(81)}  0.0.0.0 84\n`, [`${file}:2:9: `, `${file}:4:`]],
      [`${rule(82)}include more.conf\n`, [`${folder}/more.conf:2:7: `]],
      [`${rule(82)}0.0.0.0 83 nowhere.lab 80\n`, ["can't find the host nowhere.lab: ENOTFOUND"]],
      [`${rule(82)}10.77.9.9 83 origin.lab 80\n`, ['bind 10.77.9.9:83: EADDRNOTAVAIL']],
      [rule(82, ' [spoof]'), ["to use clients' or origins' addresses (IP_TRANSPARENT) needs root"]],
    ];
    for (const [text, mistakes] of wrong) {
      write(file, text);
      const said = await reload(running);
      for (const mistake of mistakes) assert.ok(said.includes(`error  reload: ${mistake}`), `${mistake}: ${said}`);
      assert.match(said, /error {2}reload: nothing was changed\n$/);
      await assertServes(81);
      await assertRefuses(82);
    }
    write(file, rule(82));
    assert.match(await reload(running), /reloaded: 1 services, 1 new or changed, 1 gone or changed\n/);
    await assertServes(82);
    await assertRefuses(81);
  });

  test('may have other lists of clients, another log, and status of what services have done', async (t) => {
    const folder = newFolder();
    const file = `${folder}/rinetd.conf`;
    const lines = (name: string): string[] => readFileSync(`${folder}/${name}`, 'latin1').split('\n').slice(0, -1);
    write(file, `logfile ${folder}/tab.log\nstatusfile ${folder}/status\n${rule(81)}${rule(82)}`);
    const running = await start(t, '-c', file);
    await assertServes(81);
    await until('the line of its end', () => lines('tab.log').length === 2);
    assert.match(lines('tab.log')[1] as string, /\t0\.0\.0\.0\t81\torigin\.lab\t7000\t4\t4\tdone-remote-closed$/);
    write(file, `logfile ${folder}/common.log\nlogcommon\nstatusfile ${folder}/status\n${rule(81)}${rule(82)}deny *\n`);
    await reload(running);
    await client.expectReset(routerV4, 82);
    await assertServes(81);
    await until('the lines of both', () => lines('common.log').length === 3);
    assert.match(
      lines('common.log')[0] as string,
      /"GET \/rinetd-services\/0\.0\.0\.0\/82\/origin\.lab\/7000\/denied /,
    );
    assert.equal(lines('tab.log').length, 2);
    await reload(running);
    const { config_reloads, connections, errors, rules } = JSON.parse(lines('status').join('\n'));
    assert.deepEqual([config_reloads, connections.total, errors.denied], [2, 2, 1]);
    // The second is another service than before.
    assert.deepEqual(
      rules.map((of: { connections_total: number; denied: number }) => [of.connections_total, of.denied]),
      [
        [2, 0],
        [0, 1],
      ],
    );
  });

  test('by a daemon that began in another folder', async (t) => {
    t.after(() => endTproxy(topology.router));
    const folder = newFolder();
    write(`${folder}/rinetd.conf`, `pidlogfile ${folder}/pid\n${rule(81)}`);
    const command = `cd ${folder} && exec ${RINETD.join(' ')} -c rinetd.conf`;
    await topology.router.run('sh', '-c', command);
    const pid = readFileSync(`${folder}/pid`, 'latin1').trim();
    write(`${folder}/rinetd.conf`, `pidlogfile ${folder}/pid\n${rule(82)}`);
    await topology.router.run('kill', '-HUP', pid);
    await until('the new port', () =>
      assertServes(82).then(
        () => true,
        () => false,
      ),
    );
    await assertRefuses(81);
  });

  test('by another process, which takes over from the one that serves', async (t) => {
    t.after(() => endTproxy(topology.router));
    const folder = newFolder();
    write(`${folder}/rinetd.conf`, rule(81) + rule(82));
    const args = ['-c', `${folder}/rinetd.conf`, '--pid-file', `${folder}/pid`, '--takeover', `${folder}/pid`];
    await topology.router.run(...RINETD, ...args);
    const open = await client.connect(routerV4, 82);
    await open.send('ping');
    assert.equal(await open.receive(4), 'ping');
    const first = readFileSync(`${folder}/pid`, 'latin1');
    write(`${folder}/rinetd.conf`, rule(81) + rule(83));
    await topology.router.run(...RINETD, ...args, '--drain', '30');
    assert.notEqual(readFileSync(`${folder}/pid`, 'latin1'), first);
    await Promise.all([81, 83].map(assertServes));
    await assertRefuses(82);
    await open.send('pong');
    assert.equal(await open.receive(4), 'pong');
    await open.closed();
    await until('the first to end', async () => (await tproxyProcesses(topology.router)).length === 1);
  });
});
