import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, endTproxy, runTproxy, startTproxy, tproxyProcesses } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const RELAY = ['-t', 'origin.lab', String(ORIGIN_PORT)];

describe('the daemon', { skip: unless() }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4, routerV6] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const assertServes = async (address: string, port: number): Promise<void> => {
    const near = await client.connect(address, port);
    const far = await origin.accept();
    await near.send('ping');
    assert.equal(await far.receive(4), 'ping');
    await near.reset();
  };

  /** Ends what a test left in the background. */
  const endAll = () => endTproxy(topology.router);

  test('when the first process has ended with 0, every port is bound and the pid file names the daemon', async (t) => {
    t.after(endAll);
    const pidFile = topology.lab.path('tproxy.pid');
    const outcome = await runTproxy(topology.router, '-s', '9000', '-s', '9001', '-P', pidFile, ...RELAY);
    assert.deepEqual(outcome, { code: 0, signal: null, stdout: '', stderr: '' });
    for (const port of [9000, 9001]) {
      await assertServes(routerV4, port);
      await assertServes(routerV6, port);
    }
    const pids = await tproxyProcesses(topology.router);
    assert.deepEqual(pids, [Number(readFileSync(pidFile, 'latin1'))]);
    const [pid] = pids;
    const session = await topology.router.run(
      'sh',
      '-c',
      `cut -d' ' -f6 /proc/${pid}/stat; readlink /proc/${pid}/fd/[012]`,
    );
    const [sid, ...streams] = session.stdout.trim().split('\n');
    assert.equal(sid, String(pid));
    assert.deepEqual(streams, ['/dev/null', '/dev/null', '/dev/null']);

    await topology.router.run('kill', '-TERM', String(pid));
    await until('the daemon to end', async () => (await tproxyProcesses(topology.router)).length === 0);
    assert.equal(existsSync(pidFile), false);
  });

  test('-b takes one address of one family and no other', async (t) => {
    await startTproxy(t, topology.router, '-b', routerV4, '-s', '9000', ...RELAY);
    await startTproxy(t, topology.router, '-b', routerV6, '-s', '9001', ...RELAY);
    await assertServes(routerV4, 9000);
    await assertServes(routerV6, 9001);
    await assert.rejects(client.connect(routerV6, 9000), { code: 'ECONNREFUSED' });
    await assert.rejects(client.connect(routerV4, 9001), { code: 'ECONNREFUSED' });
    const [otherV4] = ADDRESS.routerToProxy;
    await assert.rejects(client.connect(otherV4, 9000), { code: 'ECONNREFUSED' });
  });

  test('the daemon drops its privileges before the first process ends', { skip: unless('root') }, async (t) => {
    t.after(endAll);
    const outcome = await runTproxy(topology.router, '-r', 'nobody', '-s', '80', ...RELAY);
    assert.equal(outcome.code, 0);
    const [pid] = await tproxyProcesses(topology.router);
    const { stdout } = await topology.router.run('sh', '-c', `grep -h ^Uid: /proc/${pid}/task/*/status | sort -u`);
    assert.equal(stdout, `Uid:${'\t65534'.repeat(4)}\n`);
    await assertServes(routerV4, 80);
  });

  const failures: readonly { what: string; args: readonly string[]; code: number; says: RegExp }[] = [
    { what: 'a port in use', args: ['-s', '7777', ...RELAY], code: 69, says: /7777.*EADDRINUSE/ },
    { what: 'the second of two ports in use', args: ['-s', '9000', '-s', '7777', ...RELAY], code: 69, says: /7777/ },
    {
      what: 'an address of another host',
      args: ['-b', '10.77.2.2', '-s', '9000', ...RELAY],
      code: 71,
      says: /EADDRNOTAVAIL/,
    },
    {
      what: 'an upstream that has no address',
      args: ['-s', '9000', 'nowhere.lab', '3128'],
      code: 68,
      says: /nowhere\.lab/,
    },
    {
      what: 'a bind name that has no address',
      args: ['-b', 'nowhere.lab', '-s', '9000', ...RELAY],
      code: 68,
      says: /nowhere\.lab/,
    },
    { what: 'an unknown user', args: ['-r', 'nosuchuser', '-s', '9000', ...RELAY], code: 67, says: /nosuchuser/ },
    {
      what: 'a pid file that cannot be made',
      args: ['-P', '/nowhere/pid', '-s', '9000', ...RELAY],
      code: 73,
      says: /\/nowhere\/pid.*ENOENT/,
    },
    {
      what: 'a log that cannot be made',
      args: ['-l', '/nowhere/log', '-s', '9000', ...RELAY],
      code: 73,
      says: /\/nowhere\/log.*ENOENT/,
    },
  ];
  for (const { what, args, code, says } of failures) {
    for (const mode of ['daemon', 'foreground']) {
      test(`${what}: one line says so, exit ${code}, nothing is left (${mode})`, async (t) => {
        t.after(endAll);
        const taken = await new Sockets(topology.router).listen(7777);
        t.after(() => taken.close());
        const outcome = await runTproxy(topology.router, ...(mode === 'daemon' ? [] : ['-d']), ...args);
        assert.equal(outcome.stdout, '');
        const lines = outcome.stderr.trimEnd().split('\n');
        assert.match(String(lines.at(-1)), says);
        // In the foreground the log comes before it, on the same stream.
        if (mode === 'daemon') assert.equal(lines.length, 1, outcome.stderr);
        assert.equal(outcome.code, code, outcome.stderr);
        assert.deepEqual(await tproxyProcesses(topology.router), []);
      });
    }
  }

  test('wrong options: a line that says what, usage, exit 64, nothing on stdout', async () => {
    for (const args of [
      ['--nonsense'],
      ['-s', '99999', 'proxy.lab', '3128'],
      ['-s', '9000', 'proxy.lab'],
      ['-s', '9000'],
    ]) {
      const { code, stdout, stderr } = await runTproxy(topology.router, ...args);
      assert.equal(code, 64, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, /usage/i);
    }
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal} ends it with 0, open connections or not`, async (t) => {
      const running = await startTproxy(t, topology.router, '-s', '9000', ...RELAY);
      const near = await client.connect(routerV4, 9000);
      const far = await origin.accept();
      await near.send('ping');
      assert.equal(await far.receive(4), 'ping');
      running.signal(signal);
      const { code, stdout } = await running.outcome();
      assert.equal(code, 0);
      assert.equal(stdout, '');
    });
  }

  test('SIGUSR2 logs every open connection, and they go on', async (t) => {
    const running = await startTproxy(t, topology.router, '-w', '2', '-s', '9000', ...RELAY);
    const nears = [];
    const fars = [];
    for (let i = 0; i < 3; i++) {
      nears.push(await client.connect(routerV4, 9000));
      fars.push(await origin.accept());
    }
    running.signal('SIGUSR2');
    for (const { local } of nears) await running.says(new RegExp(`10\\.77\\.1\\.2:${local.port}\\b`));
    const [near] = nears;
    await near?.send('ping');
    const received = await Promise.race(fars.map((far) => far.receive(4)));
    assert.equal(received, 'ping');
  });

  /** Makes every call of epoll_wait fail; libuv's own loop on the main thread calls epoll_pwait. */
  const breakWorkers = async (t: Cleanup, pid: number): Promise<void> => {
    const strace = await topology.router.spawn([
      'strace',
      '-f',
      '-qq',
      '-e',
      'trace=epoll_wait',
      '-e',
      'inject=epoll_wait:error=EBADF',
      '-p',
      String(pid),
    ]);
    t.after(() => strace.end('SIGKILL'));
  };

  test('a worker that dies takes the whole process down, which says so', {
    skip: process.arch === 'x64' ? unless('program strace') : 'epoll_wait is a system call only on x64',
  }, async (t) => {
    const running = await startTproxy(t, topology.router, '-w', '2', '-s', '9000', ...RELAY);
    const [inside] = await tproxyProcesses(topology.router);
    await breakWorkers(t, inside as number);
    const { code, stderr } = await running.outcome();
    assert.notEqual(code, 0);
    assert.notEqual(code, null);
    assert.match(stderr, /error .*worker/);
    assert.match(stderr, /EBADF/);
  });

  test('the program text says its version and its usage on stdout', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
    for (const option of ['-v', '--version']) {
      const { code, stdout, stderr } = await runTproxy(topology.router, option);
      assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
      assert.ok(stdout.includes(version), stdout);
    }
    for (const option of ['-h', '--help']) {
      const { code, stdout } = await runTproxy(topology.router, option);
      assert.equal(code, 0);
      assert.match(stdout, /usage/i);
    }
  });
});
