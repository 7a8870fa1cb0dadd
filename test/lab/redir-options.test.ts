import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Peer, startSquid, startVsftpd } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { Syslog } from '../../scripts/lab/syslog.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { curlCommand, WAYS } from '../support/ftp.js';
import { unless } from '../support/needs.js';
import { follow } from '../support/recipes.js';
import { endRelays, ORIGIN, ORIGIN_PORT, OURS, PROGRAMS, startRelay } from '../support/redir.js';
import { assertRelays, Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup } from '../support/tproxy.js';

const PORT = 9000;
const SQUID_PORT = 3128;

/** A relay to the origin as redir 3 and as redir 2 have it, in the foreground. */
const SPELLINGS = {
  'redir 3': ['-n', `:${PORT}`, ORIGIN],
  'redir 2': [`--lport=${PORT}`, '--caddr=origin.lab', `--cport=${ORIGIN_PORT}`],
} as const;

describe('options of redir', { skip: unless() }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const [clientV4, clientV6] = ADDRESS.client;
  const [originV4] = ADDRESS.internet;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const start = (t: Cleanup, ...command: string[]): Promise<Running> =>
    startRelay(t, topology.router, PORT, ...command);

  /** The address that the origin saw. */
  const relay = (address: string = routerV4): Promise<string> => assertRelays(client, origin, address, PORT);

  const startSyslog = async (t: Cleanup): Promise<Syslog> => {
    const syslog = await Syslog.start(topology.lab, topology.router);
    t.after(() => syslog.stop());
    return syslog;
  };

  for (const [name, { command, needs }] of Object.entries(PROGRAMS)) {
    describe(`given to ${name}`, { skip: needs }, () => {
      for (const [way, options] of [
        ['redir 3', ['-b', routerV4]],
        ['redir 3', [`--bind=${routerV4}`]],
        ['redir 2', [`--bind_addr=${routerV4}`]],
      ] as const) {
        test(`${options[0]} as of ${way} is the address that connects come from`, async (t) => {
          await start(t, ...command, ...options, ...SPELLINGS[way]);
          assert.equal(await relay(), routerV4);
        });
      }

      for (const [way, options, ident] of [
        ['redir 3', ['-s', '-l', 'info'], 'redir'],
        ['redir 3', ['-sI', 'web', '-l', 'info'], 'web'],
        ['redir 3', ['--syslog', '--ident=web', '--loglevel=info'], 'web'],
        ['redir 2', ['--syslog', '--name=web', '-l', 'info'], 'web'],
      ] as const) {
        test(`${options.join(' ')} as of ${way} has the syslog daemon told of connections`, {
          skip: unless('program rsyslogd'),
        }, async (t) => {
          const syslog = await startSyslog(t);
          await start(t, ...command, ...options, ...SPELLINGS[way]);
          await relay();
          await syslog.logged(new RegExp(`^daemon\\.(?:info|notice) ${ident}: Connecting 10\\.77\\.1\\.2:\\d+ to `));
          await syslog.logged(
            new RegExp(`^daemon\\.(?:info|notice) ${ident}: Disconnect after \\d+ sec, 4 bytes in, 4 bytes out`),
          );
        });
      }

      test('a daemon tells the syslog daemon why a connection came to nothing', {
        skip: unless('program rsyslogd'),
      }, async (t) => {
        const syslog = await startSyslog(t);
        t.after(() => endRelays(topology.router));
        await topology.router.run(...command, `:${PORT}`, `${originV4}:7001`);
        await topology.router.listening(PORT);
        const near = client.connect(routerV4, PORT);
        await near.then((socket) => socket.expectEnd()).catch((error) => assert.equal(error.code, 'ECONNRESET'));
        await syslog.logged(/^daemon\.\w+ redir: .*refused/i);
      });

      for (const [way, options] of [
        ['redir 3', ['-m', '100000000', '-o', '3', '-w', '1', '-z', '4096']],
        ['redir 3', ['--max-bandwidth=100000000', '--wait-in-out=1', '--random-wait=1', '--bufsize=256']],
        ['redir 2', ['--max_bandwidth=100000000', '--wait_in_out=2', '--random_wait=1', '--bufsize', '4096']],
      ] as const) {
        test(`${options.join(' ')} as of ${way} lets everything through`, async (t) => {
          await start(t, ...command, ...options, ...SPELLINGS[way]);
          await relay();
          const near = await client.connect(routerV4, PORT);
          const far = await origin.accept();
          const sent = await near.sendNoise(50_000, 1);
          assert.equal((await far.digest(50_000)).sha256, sent);
          const back = await far.sendNoise(50_000, 2);
          assert.equal((await near.digest(50_000)).sha256, back);
        });
      }

      test('-x goes through Squid', { skip: unless('program squid') }, async (t) => {
        const squid = await startTunnelling(t);
        const through = squid.log().length;
        await start(t, ...command, '-n', '-x', ORIGIN, `:${PORT}`, `proxy.lab:${SQUID_PORT}`);
        const near = await client.connect(routerV4, PORT);
        const far = await origin.accept();
        await far.send('pong');
        // redir passes Squid's own answer on.
        await near.receiveThrough('pong');
        await near.reset();
        await squid.logged(`CONNECT ${ORIGIN}`, through + 1);
      });
    });
  }

  /** Squid that takes CONNECT to the origin. */
  const startTunnelling = async (t: Cleanup): Promise<Peer> => {
    const squid = await startSquid(topology.lab, topology.proxy, SQUID_PORT);
    t.after(() => squid.running.end());
    return squid;
  };

  describe('where tproxy goes past redir', () => {
    for (const option of ['-p', '--transproxy', '--spoof']) {
      test(`${option} has the origin see the client, also after --user`, {
        skip: unless('root', 'ipv6', 'program nft'),
      }, async (t) => {
        await follow(t, topology.router, ['routing', 'spoof-nft'], { lan0: 'to-client' });
        await start(t, ...OURS, option, '--user', 'nobody', ...SPELLINGS['redir 2']);
        assert.equal(await relay(routerV4), clientV4);
        assert.equal(await relay(routerV6), clientV6);
      });
    }

    test("redir's own -p does not", { skip: unless('root', 'program redir', 'program nft') }, async (t) => {
      await follow(t, topology.router, ['routing', 'spoof-nft'], { lan0: 'to-client' });
      const running = await start(t, ...PROGRAMS.redir.command, '-p', ...SPELLINGS['redir 3']);
      const near = client.connect(routerV4, PORT);
      await near.then((socket) => socket.expectEnd()).catch((error) => assert.equal(error.code, 'ECONNRESET'));
      await running.says(/outbound address: Cannot assign requested address/);
      assert.equal(await origin.waiting(), 0);
    });

    describe('with a real FTP server', { skip: unless('ipv6', 'program vsftpd', 'program curl') }, () => {
      let vsftpd: Peer;
      before(async () => {
        vsftpd = await startVsftpd(topology.lab, topology.internet);
        writeFileSync(join(vsftpd.folder, 'files', 'file'), randomBytes(100_000));
      });

      for (const [options, works] of [
        [
          ['-f', 'both'],
          ['EPSV', 'PASV', 'EPRT', 'PORT'],
        ],
        [['--ftp=both'], ['EPSV', 'PASV', 'EPRT', 'PORT']],
        [
          ['-f', 'PASV', '--ftp-ports', '50000-50009'],
          ['EPSV', 'PASV'],
        ],
        [
          ['-f', 'port'],
          ['EPRT', 'PORT'],
        ],
      ] as const) {
        test(`${options.join(' ')} has data connections pass: ${works.join(', ')}`, async (t) => {
          await start(t, ...OURS, '-n', ...options, `:${PORT}`, 'origin.lab:21');
          const got = topology.lab.path('got');
          for (const { way, curl, ipv4Only } of WAYS) {
            if (!(works as readonly string[]).includes(way)) continue;
            for (const host of ipv4Only ? [routerV4] : [routerV4, `[${routerV6}]`]) {
              await topology.client.run(...curlCommand(...curl, '--output', got, `ftp://${host}:${PORT}/file`));
              assert.deepEqual(readFileSync(got), readFileSync(join(vsftpd.folder, 'files', 'file')));
              rmSync(got);
            }
          }
        });
      }
    });

    for (const options of [
      ['-m', '8000', '-o', '2'],
      ['--max_bandwidth=8000', '--wait_in_out=2'],
      ['-w', '200', '-z', '256', '-o', '2'],
    ]) {
      test(`${options.join(' ')} slows one direction down, and not the other`, async (t) => {
        const running = await start(t, ...OURS, '-n', ...options, `:${PORT}`, ORIGIN);
        const near = await client.connect(routerV4, PORT);
        const far = await origin.accept();
        await near.sendNoise(100_000, 1);
        const slow = far.digest().catch(() => ({ bytes: 0 }));
        const sent = await far.sendNoise(1_000_000, 2);
        assert.equal((await near.digest(1_000_000)).sha256, sent);
        // It would have taken more than a minute.
        await running.end();
        assert.ok((await slow).bytes < 100_000);
      });
    }

    test('-I is the name that TCP wrappers know it by, and redir is it without', {
      skip: unless('root', 'libwrap'),
    }, async (t) => {
      const deny = topology.lab.path('hosts.deny');
      writeFileSync(deny, 'redir: ALL\n');
      await topology.router.run('mount', '--bind', deny, '/etc/hosts.deny');
      t.after(() => topology.router.run('umount', '/etc/hosts.deny'));
      const plain = await start(t, ...OURS, '--tcp-wrappers', ...SPELLINGS['redir 3']);
      await client.expectReset(routerV4, PORT);
      await plain.says(/TCP wrappers refused from 10\.77\.1\.2:\d+: .* the service's redir\n/);
      await plain.end();
      const named = await start(t, ...OURS, '--tcp-wrappers', '--name=web', ...SPELLINGS['redir 2']);
      await relay();
      writeFileSync(deny, 'web: ALL\n');
      await client.expectReset(routerV4, PORT);
      await named.says(/TCP wrappers refused from 10\.77\.1\.2:\d+: .* the service's web\n/);
      assert.equal(await origin.waiting(), 0);
    });
  });
});
