import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Syslog } from '../../scripts/lab/syslog.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import {
  buildGateway,
  type Cleanup,
  endTproxy,
  redirectFor,
  runTproxy,
  TPROXY,
  tproxyProcesses,
} from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const PORT = 9000;
const LISTEN = ['-s', String(PORT)];
const RELAY = ['-t', 'origin.lab', String(ORIGIN_PORT)];

describe('syslog', { skip: unless('program rsyslogd') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  let syslog: Syslog;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const [originV4] = ADDRESS.internet;
  const [clientV4] = ADDRESS.client;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  // A daemon with a file of its own for each test.
  beforeEach(async (t) => {
    syslog = await Syslog.start(topology.lab, topology.router);
    (t as unknown as Cleanup).after(() => syslog.stop());
  });

  /** Starts the program with messages to syslog. */
  const start = async (t: Cleanup, ...args: string[]) => {
    const running = await topology.router.spawn([...TPROXY, '-d', '--syslog', ...args]);
    t.after(() => running.end());
    await topology.router.listening(PORT, 2);
    return running;
  };

  /** Five bytes there, ten back, and both ends in order. */
  const exchange = async (address: string = routerV4, port = PORT): Promise<number> => {
    const near = await client.connect(address, port);
    const far = await origin.accept();
    await near.send('hello');
    assert.equal(await far.receive(5), 'hello');
    await far.send('0123456789');
    assert.equal(await near.receive(10), '0123456789');
    await near.sendFin();
    await far.sendFin();
    await near.receiveAll();
    return near.local.port;
  };

  test('a daemon says there what it has to say, as facility daemon and under its own name', async (t) => {
    t.after(() => endTproxy(topology.router));
    const outcome = await runTproxy(topology.router, ...LISTEN, ...RELAY);
    assert.deepEqual(outcome, { code: 0, signal: null, stdout: '', stderr: '' });
    await syslog.logged(/^daemon\.info tproxy: ready: \d+ workers$/);
    await syslog.logged(/^daemon\.info tproxy: listening on .*9000$/);
  });

  test('--syslog is for the foreground too, and --ident names us; nothing is on stderr', async (t) => {
    const running = await start(t, '--ident', 'my-relay', ...LISTEN, '-t', 'origin.lab', '7001');
    await syslog.logged(/^daemon\.info my-relay: ready/);
    await client.expectReset(routerV4, PORT);
    await syslog.logged(/^daemon\.warning my-relay: .*connect \S+:7001: ECONNREFUSED$/);
    const { stdout, stderr } = await running.end();
    assert.deepEqual({ stdout, stderr }, { stdout: '', stderr: '' });
  });

  test('messages arrive after the syslog daemon was started anew; while there is none, connections are served', async (t) => {
    await start(t, '--log-connections', ...LISTEN, ...RELAY);
    const first = await exchange();
    await syslog.logged(new RegExp(`Disconnect .* 10\\.77\\.1\\.2:${first} `));
    for (let round = 0; round < 2; round++) {
      await syslog.stop();
      if (round > 0) await exchange();
      await syslog.start();
      const port = await exchange();
      await syslog.logged(new RegExp(`Connecting 10\\.77\\.1\\.2:${port} `));
      await syslog.logged(new RegExp(`Disconnect .* 10\\.77\\.1\\.2:${port} `));
    }
  });

  test('messages arrive after a restart also when we are nobody by then', { skip: unless('root') }, async (t) => {
    await start(t, '-r', 'nobody', '--log-connections', ...LISTEN, ...RELAY);
    await syslog.stop();
    await syslog.start();
    const port = await exchange();
    await syslog.logged(new RegExp(`Connecting 10\\.77\\.1\\.2:${port} `));
  });

  test('a connection is a line at level notice when it begins, and one when it ends', async (t) => {
    await start(t, '--log-level', 'notice', '--log-connections', ...LISTEN, ...RELAY);
    const port = await exchange();
    const ends = `10\\.77\\.1\\.2:${port} to origin\\.lab:7000`;
    await syslog.logged(new RegExp(`^daemon\\.notice tproxy: Connecting ${ends}$`));
    await syslog.logged(
      new RegExp(
        `^daemon\\.notice tproxy: Disconnect after \\d+ sec, 10 bytes in, 5 bytes out: ${ends}, ` +
          'upstream \\S+:7000, closed: done$',
      ),
    );
  });

  test('a redirected connection is named with its original destination, over IPv6 in brackets', {
    skip: unless('program nft'),
  }, async (t) => {
    await redirectFor(t, topology.router, 'nft', { port: ORIGIN_PORT, to: PORT });
    await start(t, '--log-connections', ...LISTEN, '-t');
    const port = await exchange(originV4, ORIGIN_PORT);
    await syslog.logged(new RegExp(`Connecting ${clientV4.replaceAll('.', '\\.')}:${port} to 10\\.77\\.2\\.2:7000$`));
    const [, originV6] = ADDRESS.internet;
    const portV6 = await exchange(originV6, ORIGIN_PORT);
    await syslog.logged(new RegExp(`Connecting \\[fd77:1::2\\]:${portV6} to \\[fd77:2::2\\]:7000$`));
  });

  test("redir's own lines are the beginning of ours", { skip: unless('program redir') }, async (t) => {
    const toOrigin = `${originV4}:${ORIGIN_PORT}`;
    const redir = await topology.router.spawn(['redir', '-n', '-s', '-l', 'info', ':9001', toOrigin]);
    t.after(() => redir.end());
    await topology.router.listening(9001);
    await start(t, '--log-connections', ...LISTEN, '-t', originV4, String(ORIGIN_PORT));
    await exchange(routerV4, 9001);
    await syslog.logged(/redir: Disconnect/);
    await exchange();
    await syslog.logged(/tproxy: Disconnect/);
    const linesOf = (program: string): string[] =>
      syslog
        .lines()
        .filter((line) => line.includes(` ${program}: `) && /Connecting|Disconnect/.test(line))
        .map((line) =>
          line
            .replace(/^.*?: /, '')
            .replace(/:\d{5}/, ':PORT')
            .replace(/after \d+/, 'after N'),
        );
    const [theirBeginning, theirEnd] = linesOf('redir');
    const [ourBeginning, ourEnd] = linesOf('tproxy');
    // redir 3.3 gives the client's address for the target's too: both come from one buffer of inet_ntoa(3).
    assert.equal(ourBeginning, theirBeginning?.replace(/ to \S+:/, ` to ${originV4}:`));
    assert.ok(ourEnd?.startsWith(`${theirEnd}: `), `${ourEnd}\n${theirEnd}`);
  });

  test('level debug tells all of a connection', async (t) => {
    await start(t, '--log-level', 'debug', ...LISTEN, ...RELAY);
    const port = await exchange(routerV6);
    const who = `^daemon\\.debug tproxy: relay to origin\\.lab:7000: client \\[fd77:1::2\\]:${port}`;
    for (const line of [
      `${who}: accepted$`,
      `${who}: connecting to \\S+(?: or \\S+)*$`,
      `${who}, upstream \\S+: connected from (?:10\\.77\\.2\\.1|\\[fd77:2::1\\]):\\d+$`,
      `${who}, upstream \\S+: closed: done; 5 bytes from the client, 10 bytes to it, [\\d.]+ s$`,
    ]) {
      await syslog.logged(new RegExp(line));
    }
  });

  test('a message of several lines is several messages', {
    skip: process.arch === 'x64' ? unless('program strace') : 'epoll_wait is a system call only on x64',
  }, async (t) => {
    const running = await start(t, '-w', '1', ...LISTEN, ...RELAY);
    await syslog.logged(/ready/);
    const [pid] = await tproxyProcesses(topology.router);
    const inject = ['-e', 'trace=epoll_wait', '-e', 'inject=epoll_wait:error=EBADF'];
    const strace = await topology.router.spawn(['strace', '-f', '-qq', ...inject, '-p', String(pid)]);
    t.after(() => strace.end('SIGKILL'));
    await running.outcome();
    await syslog.logged(/^daemon\.err tproxy: worker 0: .*EBADF$/);
    await syslog.logged(/^daemon\.err tproxy: {1,5}at .*loop\.js/);
    assert.ok(!syslog.lines().some((line) => line.includes('#012')), 'no newline is within a message');
  });

  test('why it does not start is said there too, at level err', async () => {
    const { code, stderr } = await runTproxy(topology.router, '-d', '--syslog', ...LISTEN, '-t', 'nowhere.lab', '1');
    assert.equal(code, 68);
    assert.match(stderr, /nowhere\.lab/);
    await syslog.logged(/^daemon\.err tproxy: .*nowhere\.lab/);
  });

  describe('under inetd', { skip: unless('program inetd', 'root') }, () => {
    const startInetd = (t: Cleanup, ...args: string[]): Promise<void> => startInetdWith(t, 'nowait', ...args);

    const startInetdWith = async (t: Cleanup, mode: 'wait' | 'nowait', ...args: string[]): Promise<void> => {
      const file = topology.lab.path('inetd-syslog.conf');
      const [program] = TPROXY;
      writeFileSync(file, `${PORT} stream tcp ${mode} nobody ${program} ${[...TPROXY, ...args].join(' ')}\n`);
      const inetd = await topology.router.spawn(['inetd', '-i', file]);
      t.after(async () => {
        await inetd.end();
        await endTproxy(topology.router);
      });
      await topology.router.listening(PORT, 2);
    };

    test('a connection is told of when it begins, not only when it is over', async (t) => {
      await startInetd(t, '--log-connections', '--ident', 'from-inetd', ...RELAY);
      const near = await client.connect(routerV4, PORT);
      const far = await origin.accept();
      await syslog.logged(
        new RegExp(`^daemon\\.notice from-inetd: Connecting 10\\.77\\.1\\.2:${near.local.port} to origin`),
      );
      assert.ok(!syslog.lines().some((line) => line.includes('Disconnect')));
      await near.sendFin();
      await far.sendFin();
      await syslog.logged(/^daemon\.notice from-inetd: Disconnect after \d+ sec, 0 bytes in, 0 bytes out: /);
      await until('it to end', async () => (await tproxyProcesses(topology.router)).length === 0);
    });

    for (const [what, mode, args] of [
      ['one connection', 'nowait', ['-d', '--log-connections', ...RELAY]],
      ['one connection in the command line of redir', 'nowait', ['--as', 'redir', '-n', '-i', 'origin.lab:7000']],
      ['a listening socket', 'wait', ['-d', '--log-connections', ...RELAY]],
    ] as const) {
      test(`standard error is no place for messages where it is ${what}, in the foreground either`, async (t) => {
        await startInetdWith(t, mode, ...args);
        const port = await exchange();
        await syslog.logged(new RegExp(`^daemon\\.notice \\w+: Connecting 10\\.77\\.1\\.2:${port} to origin`));
        await syslog.logged(/^daemon\.notice \w+: Disconnect after \d+ sec, 10 bytes in, 5 bytes out: /);
      });
    }

    test('why it does not start is said there, under the name that it was given', async (t) => {
      await startInetd(t, '--ident', 'from-inetd', '-t', 'nowhere.lab', '1');
      const near = await client.connect(routerV4, PORT);
      await near.expectEnd();
      await syslog.logged(/^daemon\.err from-inetd: .*nowhere\.lab/);
    });
  });
});
