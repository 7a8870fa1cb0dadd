import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import type { GivenPlan, GivenService } from '../support/serve-plan.js';
import { Sockets } from '../support/sockets.js';
import type { SteadyOutcome } from '../support/steady-load.js';
import { buildGateway, endTproxy, runTproxy, tproxyProcesses } from '../support/tproxy.js';

const ECHO_PORT = 7000;
/** What is in every version of the file. */
const KEPT = [81, 82, 83, 84];
/** What comes and goes. */
const PASSING = [91, 92, 93];
const RATE = 200;
const LONG = 50;

const SERVE = ['/run/tproxy/node', '/run/tproxy/package/dist/test/support/serve-plan.js'];
const support = (name: string): string => fileURLToPath(new URL(`../support/${name}`, import.meta.url));

const serviceAt = (port: number, more: Partial<GivenService> = {}): GivenService => ({
  name: `echo ${port}`,
  listen: [{ host: null, port }],
  targets: [{ to: { host: 'origin.lab', port: ECHO_PORT }, weight: 1, source: null }],
  ...more,
});

const residentOf = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;

/** What a process has open: sockets, and other things, some of which it keeps for the next use. */
const descriptorsOf = (pid: number): { sockets: number; others: number } => {
  const all = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  const sockets = all.filter((target) => target.startsWith('socket:')).length;
  return { sockets, others: all.length - sockets };
};

describe('a running server', { skip: unless('root') }, () => {
  let topology: Topology;
  let client: Sockets;
  let files = 0;
  const [routerV4, routerV6] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    const echo = await topology.internet.spawn([process.execPath, support('echo.js'), String(ECHO_PORT)]);
    await echo.says(/listening/);
  });
  after(() => topology?.lab.close());

  const newFile = (): string => topology.lab.path(`plan-${++files}.json`);

  /** As an editor or a tool does it that is not to be read half-way. */
  const write = (file: string, plan: GivenPlan | string): void => {
    writeFileSync(`${file}.new`, typeof plan === 'string' ? plan : JSON.stringify(plan));
    renameSync(`${file}.new`, file);
  };

  const start = async (t: TestContext, ...args: string[]): Promise<Running> => {
    const running = await topology.router.spawn([...SERVE, ...args]);
    t.after(() => running.end('SIGKILL'));
    await running.says(/ready:/, 20_000);
    return running;
  };

  const startLoad = async (): Promise<() => Promise<SteadyOutcome>> => {
    const args = [routerV4, KEPT.join(','), String(RATE), String(LONG)];
    const load = await topology.client.spawn([process.execPath, support('steady-load.js'), ...args], { stdin: 'pipe' });
    await load.says(/begun/);
    return async () => {
      load.stdin?.end();
      const { stdout } = await load.outcome(20_000);
      return JSON.parse(stdout.slice(stdout.indexOf('{'))) as SteadyOutcome;
    };
  };

  const assertNothingLost = ({ whole, lost, moved, cut }: SteadyOutcome, seconds: number): void => {
    assert.deepEqual({ lost, cut, moved }, { lost: [], cut: [], moved: LONG });
    assert.ok(whole > (RATE * seconds) / 4, `${whole} connections in ${seconds} s`);
  };

  const reloads = (running: Running): number =>
    running.stderr.split('\n').filter((line) => /reloaded: |nothing was changed/.test(line)).length;

  /** Has the file read again, and waits until that has come to something. */
  const reload = async (running: Running): Promise<void> => {
    const before = reloads(running);
    running.signal('SIGHUP');
    await until('the reload', () => reloads(running) > before);
  };

  const assertServes = async (port: number, address: string = routerV4): Promise<void> => {
    const socket = await client.connect(address, port);
    await socket.send('ping');
    assert.equal(await socket.receive(4), 'ping');
    await socket.closed();
  };

  test('a hundred reloads under load, as nobody: nothing is lost, and nothing grows', {
    timeout: 60_000,
  }, async (t) => {
    const file = newFile();
    const always = (version: number): GivenService[] =>
      // Every other version has each of them changed.
      KEPT.map((port) => serviceAt(port, { backlog: version % 2 === 0 ? null : 1000 }));
    const right = (version: number): GivenPlan => ({
      user: 'nobody',
      workers: 2,
      services: [
        ...always(version),
        ...PASSING.filter((_, i) => (version >> i) % 2 === 1).map((port) => serviceAt(port)),
      ],
    });
    const wrong: readonly [(version: number) => GivenPlan | string, RegExp][] = [
      [() => '{ "services": [', /plan-\d+\.json:1: /],
      [
        (version) => ({
          services: [...right(version).services, serviceAt(95, { listen: [{ host: '10.77.9.9', port: 95 }] })],
        }),
        /10\.77\.9\.9:95: EADDRNOTAVAIL/,
      ],
      [
        (version) => ({
          services: [
            ...right(version).services,
            serviceAt(96, { targets: [{ to: { host: 'nowhere.lab', port: 1 }, weight: 1, source: null }] }),
          ],
        }),
        /nowhere\.lab/,
      ],
    ];
    write(file, right(0));
    const running = await start(t, file);
    const begun = descriptorsOf(running.pid);
    const endLoad = await startLoad();
    const began = Date.now();
    let resident = 0;
    for (let version = 1; version <= 100; version++) {
      const [make, says] = wrong[version % 7] ?? [right, /reloaded: /];
      write(file, make(version));
      await reload(running);
      assert.match(running.stderr.slice(-1000), says, `version ${version}`);
      if (make === right) {
        for (const [i, port] of PASSING.entries()) if ((version >> i) % 2 === 1) await assertServes(port, routerV6);
      }
      await sleep(40);
      if (version === 10) resident = residentOf(running.pid);
    }
    const seconds = (Date.now() - began) / 1000;
    write(file, right(0));
    await reload(running);
    assertNothingLost(await endLoad(), seconds);
    await until('every other socket to be closed', () => descriptorsOf(running.pid).sockets === begun.sockets);
    const others = descriptorsOf(running.pid).others - begun.others;
    assert.ok(others < 100, `${others} other descriptors more than at the beginning`);
    const grown = residentOf(running.pid) - resident;
    assert.ok(grown < 40 * 2 ** 20, `${grown} bytes more than after the tenth`);
    for (const port of PASSING) await assert.rejects(client.connect(routerV4, port), { code: 'ECONNREFUSED' });
    running.signal('SIGTERM');
    assert.equal((await running.outcome()).code, 0);
  });

  test('twenty processes take over from each other under load: nothing is lost', { timeout: 120_000 }, async (t) => {
    const file = newFile();
    const pidFile = topology.lab.path('tproxy.pid');
    const version = (number: number): GivenPlan => ({
      user: 'nobody',
      pidFile,
      workers: 1 + (number % 3),
      drain: 60_000,
      services: [...KEPT, 90 + (number % 2)].map((port) => serviceAt(port)),
    });
    write(file, version(0));
    const processes = [await start(t, file)];
    const endLoad = await startLoad();
    const began = Date.now();
    for (let number = 1; number <= 20; number++) {
      write(file, version(number));
      const next = await start(t, file, pidFile);
      await processes.at(-1)?.says(/takeover: \d+ connections may go on/);
      await assertServes(90 + (number % 2));
      processes.push(next);
    }
    const seconds = (Date.now() - began) / 1000;
    assertNothingLost(await endLoad(), seconds);
    for (const old of processes.slice(0, -1)) assert.equal((await old.outcome()).code, 0);
    const last = processes.at(-1) as Running;
    const inside = (await topology.router.processes()).find(({ command }) => command.includes(file));
    assert.equal(readFileSync(pidFile, 'latin1'), `${inside?.pid}\n`);
    // Five ports of two families, each with a socket for each worker of the process that opened it.
    await until('every other socket to be closed', () => descriptorsOf(last.pid).sockets <= 5 * 2 * 3 + 1);
    last.signal('SIGTERM');
    await last.says(/SIGTERM: 0 connections/);
    assert.equal((await last.outcome()).code, 0);
  });

  test('a takeover that comes to nothing leaves the old process as it was', async (t) => {
    const file = newFile();
    const pidFile = topology.lab.path('old.pid');
    const plan: GivenPlan = { user: 'nobody', workers: 1, pidFile, services: [serviceAt(81)] };
    write(file, plan);
    const old = await start(t, file);
    const pid = readFileSync(pidFile, 'latin1');

    const broken = newFile();
    write(broken, { ...plan, services: [serviceAt(81), serviceAt(82, { listen: [{ host: '10.77.9.9', port: 82 }] })] });
    const failed = await topology.router.attempt(...SERVE, broken, pidFile);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /10\.77\.9\.9:82: EADDRNOTAVAIL/);
    await old.says(/takeover: the other process has ended it; this process goes on/);

    const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const denied = await topology.router.attempt(...nobody, ...SERVE, file, pidFile);
    assert.notEqual(denied.code, 0);
    await old.says(/takeover: process \d+ of user #65534 may not have the sockets; this process goes on/);

    assert.equal(readFileSync(pidFile, 'latin1'), pid);
    await assertServes(81);
  });

  test('a process that may not have so many descriptors takes nothing over', async (t) => {
    const file = newFile();
    const pidFile = topology.lab.path('many.pid');
    write(file, { workers: 1, pidFile, services: Array.from({ length: 40 }, (_, i) => serviceAt(100 + i)) });
    const old = await start(t, file);
    const failed = await topology.router.attempt('prlimit', '--nofile=60:60', ...SERVE, file, pidFile);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /takeover: only \d+ of 80 sockets have come: EMFILE/);
    await old.says(/takeover: the other process has ended it; this process goes on/);
    await assertServes(139);
  });

  test('an ordinary user takes over from a process of the same user', async (t) => {
    const file = newFile();
    const folder = topology.lab.path('nobody');
    await topology.router.run('install', '-d', '-o', 'nobody', folder);
    const pidFile = `${folder}/pid`;
    write(file, { workers: 1, pidFile, services: [serviceAt(8081)] });
    const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const old = await topology.router.spawn([...nobody, ...SERVE, file]);
    t.after(() => old.end('SIGKILL'));
    await old.says(/ready:/);
    const next = await topology.router.spawn([...nobody, ...SERVE, file, pidFile]);
    t.after(() => next.end('SIGKILL'));
    await next.says(/took 2 listening addresses over/);
    assert.equal((await old.outcome()).code, 0);
    assert.equal(existsSync(pidFile), true);
    await assertServes(8081);
  });

  test('TERM lets open connections go on and takes no new ones; a second one ends them', async (t) => {
    const file = newFile();
    write(file, { workers: 2, drain: 30_000, services: [serviceAt(81)] });
    const running = await start(t, file);
    const socket = await client.connect(routerV4, 81);
    await socket.send('ping');
    assert.equal(await socket.receive(4), 'ping');
    running.signal('SIGTERM');
    await running.says(/SIGTERM: 1 connections may go on for up to 30 s/);
    await until('new ones to be refused', async () => {
      try {
        await (await client.connect(routerV4, 81)).reset();
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
      }
    });
    await socket.send('pong');
    assert.equal(await socket.receive(4), 'pong');
    assert.equal(running.alive, true);
    running.signal('SIGTERM');
    assert.equal((await running.outcome()).code, 0);
    await socket.expectEnd();
  });

  test('a daemon takes over from a daemon, whose pid file says so when the first process ends', async (t) => {
    t.after(() => endTproxy(topology.router));
    const pidFile = topology.lab.path('daemon.pid');
    const args = ['-s', '85', '-r', 'nobody', '--takeover', pidFile, '-t', 'origin.lab', String(ECHO_PORT)];
    const pids: string[] = [];
    for (let i = 0; i < 2; i++) {
      assert.deepEqual(await runTproxy(topology.router, ...args), { code: 0, signal: null, stdout: '', stderr: '' });
      pids.push(readFileSync(pidFile, 'latin1'));
      await assertServes(85);
    }
    assert.notEqual(pids[0], pids[1]);
    await until('the first to end', async () => {
      const running = await tproxyProcesses(topology.router);
      return running.length === 1 && running[0] === Number(pids[1]);
    });
  });

  test('a service that goes away refuses, and resets nobody', async (t) => {
    const file = newFile();
    write(file, { user: 'nobody', workers: 2, services: [serviceAt(81), serviceAt(82)] });
    const running = await start(t, file);
    const args = [routerV4, '82', '1000', '0'];
    const command = [process.execPath, support('steady-load.js'), ...args];
    const load = await topology.client.spawn(command, { stdin: 'pipe' });
    await load.says(/begun/);
    await sleep(500);
    write(file, { user: 'nobody', workers: 2, services: [serviceAt(81)] });
    await reload(running);
    await sleep(1500);
    load.stdin?.end();
    const { stdout } = await load.outcome(20_000);
    const { whole, lost } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as SteadyOutcome;
    assert.ok(whole > 0);
    assert.ok(lost.length > 0);
    assert.deepEqual(
      lost.filter((why) => !why.endsWith('ECONNREFUSED')),
      [],
    );
  });

  test('what needs a restart is said, and stays', async (t) => {
    const file = newFile();
    write(file, { user: 'nobody', workers: 1, services: [serviceAt(81)] });
    const running = await start(t, file);
    // The threads that were there before, which have no part in it, have not even CAP_NET_BIND_SERVICE.
    for (const thread of readdirSync(`/proc/${running.pid}/task`)) {
      const status = readFileSync(`/proc/${running.pid}/task/${thread}/status`, 'latin1');
      const expected = thread === String(running.pid) ? /^CapPrm:\t0*400\nCapEff:\t0*400$/m : /^CapPrm:\t0*(400)?\n/m;
      assert.match(status, expected);
    }
    write(file, { user: 'root', workers: 2, services: [serviceAt(81)] });
    await reload(running);
    await running.says(/warn .*the user can't be changed without a restart/);
    await running.says(/warn .*the number of workers can't be changed without a restart/);
    await assertServes(81);
  });
});
