import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, endTproxy, redirectFor, TPROXY, tproxyProcesses } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const NOBODY = '65534';
const RELAY = ['-t', 'origin.lab', String(ORIGIN_PORT)];
const LISTEN_FDS = fileURLToPath(new URL('../support/listen-fds.js', import.meta.url));

describe('started by another program', { skip: unless('program iptables') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [originV4] = ADDRESS.internet;
  const [routerV4, routerV6] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const spawnOnRouter = async (t: Cleanup, ...command: string[]): Promise<Running> => {
    const running = await topology.router.spawn(command);
    t.after(async () => {
      await running.end();
      await endTproxy(topology.router);
    });
    return running;
  };

  /** Starts inetd with one service on a port of both families. */
  const startInetd = async (t: Cleanup, port: number, mode: 'wait' | 'nowait', ...args: string[]): Promise<void> => {
    const file = topology.lab.path('inetd.conf');
    const [program] = TPROXY;
    writeFileSync(file, `${port} stream tcp ${mode} nobody ${program} ${[...TPROXY, ...args].join(' ')}\n`);
    await spawnOnRouter(t, 'inetd', '-i', file);
    await topology.router.listening(port, 2);
  };

  const noneLeft = (): Promise<boolean> =>
    until('every tproxy of the router to end', async () => (await tproxyProcesses(topology.router)).length === 0);

  /** Connects, and shows that bytes and ends pass both ways. */
  const assertRelays = async (address: string, port: number): Promise<void> => {
    const near = await client.connect(address, port);
    await near.send('ping');
    const far = await origin.accept();
    assert.equal(await far.receive(4), 'ping');
    await far.send('pong');
    assert.equal(await near.receive(4), 'pong');
    await near.sendFin();
    assert.equal(await far.receiveAll(), '');
    await far.send('late');
    await far.sendFin();
    assert.equal(await near.receiveAll(), 'late');
  };

  const usersOf = async (pid: number): Promise<string[]> => {
    const { stdout } = await topology.router.run('sh', '-c', `grep -h '^[UG]id:' /proc/${pid}/task/*/status`);
    return [
      ...new Set(
        stdout
          .trim()
          .split(/\s+/)
          .filter((word) => /^\d+$/.test(word)),
      ),
    ];
  };

  const inetd = unless('program inetd', 'root');
  const activate = unless('program systemd-socket-activate');

  test("an inetd 'nowait' line serves one connection as nobody and ends with it", { skip: inetd }, async (t) => {
    await startInetd(t, 9000, 'nowait', ...RELAY);
    const near = await client.connect(routerV4, 9000);
    const far = await origin.accept();
    const [pid] = await tproxyProcesses(topology.router);
    assert.deepEqual(await usersOf(pid as number), [NOBODY]);
    await far.send('banner');
    assert.equal(await near.receive(6), 'banner');
    await near.sendFin();
    await far.sendFin();
    assert.equal(await near.receiveAll(), '');
    await noneLeft();
  });

  test('a file whose service listens nowhere serves what inetd gives it', { skip: inetd }, async (t) => {
    const file = topology.lab.path('inetd.yaml');
    writeFileSync(file, `{ global: { exit_idle: 1 }, rules: [{ bind: [], connect: "origin.lab:${ORIGIN_PORT}" }] }\n`);
    await startInetd(t, 9000, 'nowait', '-c', file);
    await startInetd(t, 9001, 'wait', '-c', file);
    for (const port of [9000, 9001]) await assertRelays(routerV4, port);
    await noneLeft();
  });

  test("an inetd 'wait' line serves many connections in one process as nobody", { skip: inetd }, async (t) => {
    await startInetd(t, 9000, 'wait', '--exit-idle', '1', ...RELAY);
    await assertRelays(routerV4, 9000);
    const first = await tproxyProcesses(topology.router);
    assert.equal(first.length, 1);
    assert.deepEqual(await usersOf(first[0] as number), [NOBODY]);
    await Promise.all([1, 2, 3].map(async () => (await client.connect(routerV4, 9000)).sendFin()));
    for (let i = 0; i < 3; i++) await (await origin.accept()).sendFin();
    assert.deepEqual(await tproxyProcesses(topology.router), first);
    await noneLeft();
    await assertRelays(routerV4, 9000);
    const second = await tproxyProcesses(topology.router);
    assert.equal(second.length, 1);
    assert.notDeepEqual(second, first);
  });

  test('under inetd, -t alone relays to the original destination', { skip: inetd }, async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: ORIGIN_PORT, to: 9000 });
    await startInetd(t, 9000, 'nowait', '-t');
    await assertRelays(originV4, ORIGIN_PORT);
    await noneLeft();
  });

  test('under inetd, a target that refuses is a reset, and no message gets into the stream', {
    skip: inetd,
  }, async (t) => {
    await startInetd(t, 9000, 'nowait', '-t', 'origin.lab', '7001');
    await client.expectReset(routerV4, 9000);
    await noneLeft();
  });

  describe('and translating for Squid', { skip: unless('program curl', 'program squid', 'program nginx') }, () => {
    let squid: Peer;
    before(async () => {
      const nginx = await startNginx(topology.lab, topology.internet);
      writeFileSync(`${nginx.folder}/files/page.txt`, 'a page\n');
      squid = await startSquid(topology.lab, topology.proxy);
    });

    for (const how of ['nowait', 'wait'] as const) {
      test(`redirected requests reach Squid through an inetd '${how}' line`, { skip: inetd }, async (t) => {
        await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
        await startInetd(t, 8081, how, 'proxy.lab', '3128');
        for (const i of [1, 2]) {
          const url = `http://${originV4}/page.txt?${how}${i}`;
          const { stdout } = await topology.client.run('curl', '-sS', url, `${url}again`);
          assert.equal(stdout, 'a page\na page\n');
          await squid.logged(`GET ${url}again`);
        }
      });
    }

    test('redirected requests reach Squid through systemd-socket-activate', { skip: activate }, async (t) => {
      await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
      await spawnOnRouter(t, 'systemd-socket-activate', '-l', '8081', ...TPROXY, 'proxy.lab', '3128');
      await topology.router.listening(8081);
      const url = `http://${originV4}/page.txt?activated`;
      assert.equal((await topology.client.run('curl', '-sS', url)).stdout, 'a page\n');
      await squid.logged(`GET ${url}`);
    });
  });

  test('systemd-socket-activate with two sockets: both are served', {
    skip: unless('program systemd-socket-activate'),
  }, async (t) => {
    await spawnOnRouter(t, 'systemd-socket-activate', '-l', '9000', '-l', '9001', ...TPROXY, ...RELAY);
    await topology.router.listening(9001);
    await assertRelays(routerV4, 9000);
    await assertRelays(routerV6, 9001);
    assert.equal((await tproxyProcesses(topology.router)).length, 1);
  });

  test('systemd-socket-activate --inetd --accept: one process a connection', {
    skip: unless('program systemd-socket-activate'),
  }, async (t) => {
    await spawnOnRouter(t, 'systemd-socket-activate', '--accept', '--inetd', '-l', '9000', ...TPROXY, ...RELAY);
    await topology.router.listening(9000);
    await assertRelays(routerV4, 9000);
    await noneLeft();
  });

  test('systemd-socket-activate --accept: a connection as descriptor 3 is served', { skip: activate }, async (t) => {
    await spawnOnRouter(t, 'systemd-socket-activate', '--accept', '-l', '9000', ...TPROXY, ...RELAY);
    await topology.router.listening(9000);
    await assertRelays(routerV6, 9000);
    await noneLeft();
  });

  test('LISTEN_FDS sockets are served, and after --exit-idle seconds without a connection it ends with 0', async (t) => {
    const command = [process.execPath, LISTEN_FDS, '9000,9001', ...TPROXY, '--exit-idle', '1', ...RELAY];
    const running = await spawnOnRouter(t, ...command);
    await topology.router.listening(9001);
    await assertRelays(routerV4, 9000);
    await assertRelays(routerV6, 9001);
    const { code, stdout } = await running.outcome();
    assert.equal(code, 0);
    assert.equal(stdout, '');
  });

  test('LISTEN_FDS that were meant for another process are not taken', async (t) => {
    const env = ['env', 'LISTEN_FDS=1', 'LISTEN_PID=1'];
    const running = await spawnOnRouter(t, ...env, ...TPROXY, 'proxy.lab', '3128');
    const { code, stdout } = await running.outcome();
    assert.equal(code, 64);
    assert.equal(stdout, '');
  });

  test('tcpserver hands over a connection, over which bytes and ends pass both ways', {
    skip: unless('program tcpserver'),
  }, async (t) => {
    await spawnOnRouter(t, 'tcpserver', '-HR', '-l', 'router', '0', '9000', ...TPROXY, ...RELAY);
    await topology.router.listening(9000);
    await assertRelays(routerV4, 9000);
    await noneLeft();
  });

  test('with a pipe as standard input, input and output are relayed to the target', async (t) => {
    const running = await topology.router.spawn([...TPROXY, ...RELAY], { stdin: 'pipe' });
    t.after(() => running.end());
    running.stdin?.end('the question', 'latin1');
    const far = await origin.accept();
    assert.equal(await far.receiveAll(), 'the question');
    await far.send('the \x00\xff answer');
    await far.sendFin();
    const { code, stdout, stderr } = await running.outcome();
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'the \x00\xff answer', stderr: '' });
  });

  test('with a pipe as standard input, 50 MB pass each way byte for byte', async (t) => {
    const bytes = 50_000_000;
    const file = topology.lab.path('input');
    const made = 'head -c "$1" /dev/urandom >"$2"; sha256sum <"$2"';
    const [sent] = (await topology.router.run('sh', '-c', made, 'sh', String(bytes), file)).stdout.split(' ');
    const script = 'cat "$1" | { shift; "$@"; } | sha256sum';
    const running = await topology.router.spawn(['sh', '-c', script, 'sh', file, ...TPROXY, ...RELAY]);
    t.after(() => running.end());
    const far = await origin.accept();
    const arriving = far.digest();
    const answered = await far.sendNoise(bytes, 3);
    await far.sendFin();
    assert.deepEqual(await arriving, { bytes, sha256: sent });
    assert.equal((await running.outcome()).stdout.split(' ')[0], answered);
  });

  test('with a pipe as standard input and no target, it says how it is used', async () => {
    const running = await topology.router.spawn([...TPROXY, 'proxy.lab', '3128'], { stdin: 'pipe' });
    const { code, stdout, stderr } = await running.outcome();
    assert.equal(code, 64);
    assert.equal(stdout, '');
    assert.match(stderr, /usage/i);
  });
});
