import assert from 'node:assert/strict';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { endRelays, ORIGIN, ORIGIN_PORT, OURS, PROGRAMS, startRelay } from '../support/redir.js';
import { assertRelays, Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, TPROXY, tproxyProcesses } from '../support/tproxy.js';

/** The name of that port in services(5). */
const ORIGIN_SERVICE = 'postgresql';

describe('the command line of redir', { skip: unless() }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const [otherV4] = ADDRESS.routerToProxy;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const endAll = (): Promise<void> => endRelays(topology.router);

  const start = (t: Cleanup, port: number, ...command: string[]): Promise<Running> =>
    startRelay(t, topology.router, port, ...command);

  const startInetd = async (t: Cleanup, ...command: string[]): Promise<void> => {
    const file = topology.lab.path('inetd.conf');
    writeFileSync(file, `9000 stream tcp nowait root ${command[0]} ${command.join(' ')}\n`);
    await start(t, 9000, 'inetd', '-i', file);
  };

  const assertServes = async (address: string, port: number): Promise<void> => {
    await assertRelays(client, origin, address, port);
  };

  for (const [name, { command, needs }] of Object.entries(PROGRAMS)) {
    describe(`given to ${name}`, { skip: needs }, () => {
      const relays: readonly { what: string; args: readonly string[]; port?: number }[] = [
        { what: 'redir 3', args: ['-n', ':9000', ORIGIN] },
        { what: 'redir 3, options behind the ends', args: [':9000', ORIGIN, '-n'] },
        {
          what: 'redir 3 with names for its ports',
          args: ['-n', ':http-alt', `origin.lab:${ORIGIN_SERVICE}`],
          port: 8080,
        },
        { what: 'redir 3 with a name to listen on', args: ['-n', 'router:9000', ORIGIN] },
        { what: 'redir 3 with a good many options', args: ['-nsI', 'web', '-l', 'debug', '-t', '60', ':9000', ORIGIN] },
        { what: 'redir 2', args: ['--lport=9000', '--caddr=origin.lab', `--cport=${ORIGIN_PORT}`] },
        {
          what: 'redir 2 with names for its ports',
          args: ['--lport=http-alt', '--caddr', 'origin.lab', '--cport', ORIGIN_SERVICE],
          port: 8080,
        },
        {
          what: 'redir 2 with a good many options',
          args: [
            '--name=web',
            '--syslog',
            '--timeout=60',
            '--laddr=router',
            '--lport=9000',
            '--caddr=origin.lab',
          ].concat(`--cport=${ORIGIN_PORT}`),
        },
      ];
      for (const { what, args, port = 9000 } of relays) {
        test(`a relay as of ${what} serves one connection after another, in the foreground`, async (t) => {
          const running = await start(t, port, ...command, ...args);
          await assertServes(routerV4, port);
          await assertServes(routerV4, port);
          running.signal('SIGTERM');
          await running.outcome();
          await assert.rejects(client.connect(routerV4, port), { code: 'ECONNREFUSED' });
        });
      }

      test('SRC is the one address that is listened on', async (t) => {
        await start(t, 9000, ...command, '-n', `${routerV4}:9000`, ORIGIN);
        await assertServes(routerV4, 9000);
        await assert.rejects(client.connect(otherV4, 9000), { code: 'ECONNREFUSED' });
      });

      test('without DST, connections go to this host', async (t) => {
        const here = await new Sockets(topology.router).listen(7100, '127.0.0.1');
        t.after(() => here.close());
        await start(t, 9000, ...command, '-n', ':9000', ':7100');
        await (await client.connect(routerV4, 9000)).send('ping');
        assert.equal(await (await here.accept()).receive(4), 'ping');
      });

      test('without -n it is a daemon, whose first process ends with 0 and says nothing', async (t) => {
        t.after(endAll);
        const outcome = await topology.router.attempt(...command, ':9000', ORIGIN);
        assert.deepEqual(outcome, { code: 0, signal: null, stdout: '', stderr: '' });
        // redir's first process ends before it listens.
        await topology.router.listening(9000);
        await assertServes(routerV4, 9000);
      });

      for (const args of [
        ['-i', ORIGIN],
        ['--inetd', '--caddr=origin.lab', `--cport=${ORIGIN_PORT}`],
      ]) {
        test(`a line of inetd.conf with ${args[0]} serves a connection`, {
          skip: unless('program inetd'),
        }, async (t) => {
          await startInetd(t, ...command, ...args);
          await assertServes(routerV4, 9000);
          await assertServes(routerV4, 9000);
        });
      }

      test('-t ends a connection without a byte either way', async (t) => {
        await start(t, 9000, ...command, '-n', '-t', '1', ':9000', ORIGIN);
        const near = await client.connect(routerV4, 9000);
        const far = await origin.accept();
        await Promise.all([near.expectEnd(), far.expectEnd()]);
      });

      test('-t lets a connection live whose bytes come from one side only', async (t) => {
        await start(t, 9000, ...command, '-n', '-t', '3', ':9000', ORIGIN);
        const near = await client.connect(routerV4, 9000);
        const far = await origin.accept();
        for (let i = 0; i < 10; i++) {
          await far.send('x');
          await sleep(500);
        }
        await far.send('end');
        assert.equal(await near.receiveThrough('end'), 'xxxxxxxxxxend');
      });

      test('where the target refuses, so does the relay, and goes on', async (t) => {
        const running = await start(t, 9000, ...command, '-n', ':9000', 'origin.lab:7001');
        for (let i = 0; i < 2; i++) {
          const near = client.connect(routerV4, 9000);
          await near.then((socket) => socket.expectEnd()).catch((error) => assert.equal(error.code, 'ECONNRESET'));
        }
        await running.says(/refused/i);
      });

      const refused: readonly { what: string; args: readonly string[] }[] = [
        { what: 'no arguments', args: [] },
        { what: 'an unknown option', args: ['-n', '--nonsense', ':9000', ORIGIN] },
        { what: 'an option without its value', args: ['-n', ':9000', ORIGIN, '-I'] },
        { what: 'an end without a colon', args: ['-n', '9000', ORIGIN] },
        { what: 'a buffer that is too small', args: ['-n', '-z', '10', ':9000', ORIGIN] },
        { what: 'an unknown kind of FTP', args: ['-n', '--ftp=active', ':9000', ORIGIN] },
        { what: 'a name to listen on that has no address', args: ['-n', 'nowhere.lab:9000', ORIGIN] },
        { what: 'a target that has no address', args: ['-n', ':9000', 'nowhere.lab:7000'] },
        { what: 'a port in use', args: ['-n', ':7777', ORIGIN] },
      ];
      for (const { what, args } of refused) {
        test(`${what} is an error that is said, and the end`, async (t) => {
          t.after(endAll);
          const taken = await new Sockets(topology.router).listen(7777);
          t.after(() => taken.close());
          const { code, stdout, stderr } = await topology.router.attempt(...command, ...args);
          assert.notEqual(code, 0);
          assert.notEqual(stdout + stderr, '');
        });
      }
    });
  }

  describe('where tproxy goes past redir', () => {
    test('errors have the exit codes of sysexits, one line on stderr, and the usage where the command line is wrong', async (t) => {
      t.after(endAll);
      const taken = await new Sockets(topology.router).listen(7777);
      t.after(() => taken.close());
      const cases: readonly { args: readonly string[]; code: number; says: RegExp }[] = [
        {
          args: [':9000'],
          code: 64,
          says: /^tproxy: \[DST\]:PORT is missing behind ":9000"\nusage: tproxy-redir .*\n$/,
        },
        {
          args: [':0', ORIGIN],
          code: 64,
          says: /^tproxy: \[SRC\]:PORT: "0" is not a port.*\nusage: tproxy-redir .*\n$/,
        },
        // As a daemon: redir says 0, and is not there.
        { args: [':7777', ORIGIN], code: 69, says: /^tproxy: bind .*:7777: EADDRINUSE.*\n$/ },
        {
          args: ['192.0.2.9:9000', ORIGIN],
          code: 71,
          says: /^tproxy: bind 192\.0\.2\.9:9000: .*no address of this host/,
        },
        { args: [':9000', 'nowhere.lab:7000'], code: 68, says: /^tproxy: .*nowhere\.lab.*\n$/ },
      ];
      for (const { args, code, says } of cases) {
        const outcome = await topology.router.attempt(...OURS, ...args);
        assert.match(outcome.stderr, says);
        assert.equal(outcome.code, code);
        assert.equal(outcome.stdout, '');
      }
      assert.deepEqual(await tproxyProcesses(topology.router), []);
    });

    for (const name of ['redir', 'tproxy-redir']) {
      test(`a link named ${name} speaks redir, in the daemon too`, async (t) => {
        const link = topology.lab.path(name);
        const [node, main] = TPROXY as [string, string];
        symlinkSync(main, link);
        const pidFile = topology.lab.path(`${name}.pid`);
        t.after(async () => {
          const pid = readFileSync(pidFile, 'utf8').trim();
          await topology.router.attempt('kill', pid);
          // Of a process that has ended nothing is left here.
          const command = async () => (await topology.router.attempt('cat', `/proc/${pid}/cmdline`)).stdout;
          await until('the daemon to end', async () => (await command()) === '');
        });
        const { code, stderr } = await topology.router.attempt(node, link, '--pid-file', pidFile, ':9000', ORIGIN);
        assert.deepEqual([code, stderr], [0, '']);
        await assertServes(routerV4, 9000);
      });
    }

    test('SIGUSR2 logs open connections at its own default level too', async (t) => {
      const running = await start(t, 9000, ...OURS, '-n', ':9000', ORIGIN);
      const near = await client.connect(routerV4, 9000);
      const far = await origin.accept();
      running.signal('SIGUSR2');
      await running.says(/notice SIGUSR2: 1 connections open, 1 accepted/);
      await running.says(new RegExp(`notice .*client 10\\.77\\.1\\.2:${near.local.port}, upstream .*: open`));
      await far.reset();
      await near.expectEnd();
    });

    test('IPv6 in brackets and names of both families, at both ends', async (t) => {
      await start(t, 9000, ...OURS, '-n', `[${routerV6}]:9000`, `[${ADDRESS.internet[1]}]:${ORIGIN_PORT}`);
      await assertServes(routerV6, 9000);
      await assert.rejects(client.connect(routerV4, 9000), { code: 'ECONNREFUSED' });
      await start(t, 9001, ...OURS, '-n', ':9001', ORIGIN);
      await assertServes(routerV6, 9001);
      await assertServes(routerV4, 9001);
    });

    test('the end of one direction leaves the other open', async (t) => {
      await start(t, 9000, ...OURS, '-n', ':9000', ORIGIN);
      const near = await client.connect(routerV4, 9000);
      await near.send('question');
      await near.sendFin();
      const far = await origin.accept();
      assert.equal(await far.receiveAll(), 'question');
      await far.send('answer');
      await far.sendFin();
      assert.equal(await near.receiveAll(), 'answer');
    });

    test('-x asks the proxy by a whole CONNECT, and keeps the bytes behind its answer', async (t) => {
      const proxy = await new Sockets(topology.proxy).listen(3128);
      t.after(() => proxy.close());
      const auth = topology.lab.path('auth');
      writeFileSync(auth, 'me:secret\n');
      await start(t, 9000, ...OURS, '-n', '-x', 'ssh.example.net:22', '--proxy-auth', auth, ':9000', 'proxy.lab:3128');
      const near = await client.connect(routerV4, 9000);
      const far = await proxy.accept();
      const head = await far.receiveThrough('\r\n\r\n');
      assert.match(head, /^CONNECT ssh\.example\.net:22 HTTP\/1\.1\r\n/);
      assert.match(head, /\r\nHost: ssh\.example\.net:22\r\n/);
      assert.match(head, new RegExp(`\r\nProxy-Authorization: Basic ${btoa('me:secret')}\r\n`));
      await far.send('HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-banner\r\n');
      assert.equal(await near.receiveThrough('\r\n'), 'SSH-2.0-banner\r\n');
      await near.send('SSH-2.0-client\r\n');
      assert.equal(await far.receiveThrough('\r\n'), 'SSH-2.0-client\r\n');
    });

    test('-x resets the connection where the proxy refuses, and logs its status', async (t) => {
      const proxy = await new Sockets(topology.proxy).listen(3128);
      t.after(() => proxy.close());
      const running = await start(t, 9000, ...OURS, '-n', '-x', 'ssh.example.net:22', ':9000', 'proxy.lab:3128');
      const reset = client.expectReset(routerV4, 9000);
      const far = await proxy.accept();
      await far.receiveThrough('\r\n\r\n');
      await far.send('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
      await reset;
      await running.says(/403/);
    });

    test('--user gives root up', { skip: unless('root') }, async (t) => {
      await start(t, 80, ...OURS, '-n', '--user', 'nobody', ':80', ORIGIN);
      await assertServes(routerV4, 80);
      const [pid] = await tproxyProcesses(topology.router);
      const { stdout } = await topology.router.run('sh', '-c', `grep -h ^Uid: /proc/${pid}/task/*/status | sort -u`);
      assert.equal(stdout, `Uid:${'\t65534'.repeat(4)}\n`);
    });

    test('with pipes as standard input and output it relays them, as ssh wants its ProxyCommand', async (t) => {
      const running = await topology.router.spawn([...OURS, '--inetd', ORIGIN], { stdin: 'pipe' });
      t.after(() => running.end());
      running.stdin?.end('question', 'latin1');
      const far = await origin.accept();
      assert.equal(await far.receiveAll(), 'question');
      await far.send('answer');
      await far.sendFin();
      const { code, stdout, stderr } = await running.outcome();
      assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'answer', stderr: '' });
    });
  });
});
