import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy, TPROXY, tproxyProcesses } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const MB = 1_000_000;
const skip = unless('program iptables', 'program ip6tables', 'program nft', 'ipv6');

/** Resident memory of a process in bytes. */
const residentMemory = (pid: number): number => {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return Number(kilobytes) * 1024;
};

/** How many descriptors a process has open. */
const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

describe('raw relay', { skip }, () => {
  let topology: Topology;
  let client: Sockets;
  let internet: Sockets;
  let origin: TestListener;
  const [originV4, originV6] = ADDRESS.internet;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    internet = new Sockets(topology.internet);
    origin = await internet.listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  /** A client's socket and the origin's, with `tproxy -t` to the origin between them. */
  const relayed = async (t: Cleanup): Promise<{ near: TestSocket; far: TestSocket; pid: number }> => {
    const { pid } = await startTproxy(t, topology.router, '-s', '9000', '-t', 'origin.lab', String(ORIGIN_PORT));
    const near = await client.connect(routerV4, 9000);
    return { near, far: await origin.accept(), pid };
  };

  test('with a target, both directions are relayed to it, over IPv4 and IPv6', async (t) => {
    await startTproxy(t, topology.router, '-s', '9000', '-t', 'origin.lab', String(ORIGIN_PORT));
    for (const address of ADDRESS.routerToClient) {
      const near = await client.connect(address, 9000);
      const far = await origin.accept();
      await near.send('ping\x00\xff');
      assert.equal(await far.receive(6), 'ping\x00\xff');
      await far.send('pong');
      assert.equal(await near.receive(4), 'pong');
    }
  });

  for (const [tool, family, address] of [
    ['iptables', 'IPv4', originV4],
    ['nft', 'IPv4', originV4],
    ['ip6tables', 'IPv6', originV6],
    ['nft', 'IPv6', originV6],
  ] as const) {
    test(`without a target, an ${family} connection redirected by ${tool} reaches its original destination`, async (t) => {
      await redirectFor(t, topology.router, tool, { port: ORIGIN_PORT, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', '-t');
      const near = await client.connect(address, ORIGIN_PORT);
      const far = await origin.accept();
      const [routerV4ToInternet, routerV6ToInternet] = ADDRESS.routerToInternet;
      assert.equal(far.remote.ip.replace('::ffff:', ''), family === 'IPv4' ? routerV4ToInternet : routerV6ToInternet);
      await far.send('a banner first');
      assert.equal(await near.receive(14), 'a banner first');
      await near.send('hello');
      assert.equal(await far.receive(5), 'hello');
    });
  }

  test('without a target, a connection that was not redirected ends instead of looping', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: ORIGIN_PORT, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', '-t');
    await client.expectReset(routerV4, 8081);
  });

  test("the client's end of its direction reaches the origin, whose answer still arrives", async (t) => {
    const { near, far } = await relayed(t);
    await near.send('the question');
    await near.sendFin();
    assert.equal(await far.receiveAll(), 'the question');
    await far.send('the answer');
    await far.sendFin();
    assert.equal(await near.receiveAll(), 'the answer');
  });

  test("the origin's end of its direction reaches the client, whose bytes still arrive", async (t) => {
    const { near, far } = await relayed(t);
    await far.send('nothing more from here');
    await far.sendFin();
    assert.equal(await near.receiveAll(), 'nothing more from here');
    await near.send('but from here');
    await near.sendFin();
    assert.equal(await far.receiveAll(), 'but from here');
  });

  test('a reset by the client reaches the origin', async (t) => {
    const { near, far } = await relayed(t);
    await near.send('x');
    assert.equal(await far.receive(1), 'x');
    await near.reset();
    await assert.rejects(far.receiveAll(), { code: 'ECONNRESET' });
  });

  test('a reset by the origin reaches the client', async (t) => {
    const { near, far } = await relayed(t);
    await near.send('x');
    assert.equal(await far.receive(1), 'x');
    await far.reset();
    await assert.rejects(near.receiveAll(), { code: 'ECONNRESET' });
  });

  test('a reset after half-close still passes on', async (t) => {
    const { near, far } = await relayed(t);
    await near.sendFin();
    assert.equal(await far.receiveAll(), '');
    await far.send('x');
    assert.equal(await near.receive(1), 'x');
    await far.reset();
    await assert.rejects(near.receiveAll(), { code: 'ECONNRESET' });
  });

  test('50 transfers of random sizes, both ways at once, arrive byte for byte', async (t) => {
    await startTproxy(t, topology.router, '-s', '9000', '-t', 'origin.lab', String(ORIGIN_PORT));
    const transfers = Array.from({ length: 50 }, async (_, i) => {
      const near = await client.connect(routerV4, 9000);
      // The first byte tells the origin which of the connections this is.
      await near.send(Uint8Array.of(i));
      return near;
    });
    const nears = await Promise.all(transfers);
    const exchanges = nears.map(async () => {
      const far = await origin.accept();
      const near = nears[(await far.receive(1)).charCodeAt(0)] as TestSocket;
      const [up, down] = [randomInt(2 * MB), randomInt(2 * MB)];
      const oneWay = async (from: TestSocket, to: TestSocket, bytes: number): Promise<void> => {
        const arrived = to.digest();
        const sha256 = await from.sendNoise(bytes, bytes);
        await from.sendFin();
        assert.deepEqual(await arrived, { bytes, sha256 });
      };
      await Promise.all([oneWay(near, far, up), oneWay(far, near, down)]);
    });
    await Promise.all(exchanges);
  });

  test('500 MB arrive byte for byte', async (t) => {
    const { near, far } = await relayed(t);
    const arrived = near.digest();
    const sha256 = await far.sendNoise(500 * MB, 7);
    await far.sendFin();
    assert.deepEqual(await arrived, { bytes: 500 * MB, sha256 });
  });

  test('a slow reader holds the writer back, memory stays flat, and all arrives in the end', async (t) => {
    const { near, far, pid } = await relayed(t);
    // The first bytes take the relay to its usual size.
    const warm = near.digest(20 * MB);
    await far.sendNoise(20 * MB, 1);
    await warm;
    const before = residentMemory(pid);

    let sent = false;
    const sending = far.sendNoise(200 * MB, 2).then(async (sha256) => {
      sent = true;
      await far.sendFin();
      return sha256;
    });
    const samples: number[] = [];
    for (let i = 0; i < 20; i++) {
      await sleep(50);
      samples.push(residentMemory(pid));
    }
    assert.equal(sent, false, 'the writer was not held back');
    const arrived = await near.digest();
    samples.push(residentMemory(pid));
    assert.deepEqual(arrived, { bytes: 200 * MB, sha256: await sending });
    const growth = Math.max(...samples) - before;
    assert.ok(growth < 20 * MB, `resident memory grew by ${growth} bytes`);
  });

  test('connections that ended in every way leave no descriptor open', async (t) => {
    const { pid } = await startTproxy(
      t,
      topology.router,
      '-w',
      '1',
      '-s',
      '9000',
      '-t',
      'origin.lab',
      String(ORIGIN_PORT),
    );
    const endings: readonly ((near: TestSocket, far: TestSocket) => Promise<unknown>)[] = [
      async (near, far) => {
        await near.sendFin();
        await far.receiveAll();
        await far.sendFin();
      },
      async (near) => near.reset(),
      async (_, far) => far.reset(),
      async (near, far) => {
        await far.sendFin();
        await near.receiveAll();
        await near.reset();
      },
      async (near, far) => {
        // A reset in the middle of a bulk transfer, with bytes under way in a pipe.
        const sending = far.sendNoise(20 * MB, 5).catch(() => '');
        await near.digest(MB);
        await near.reset();
        await sending;
      },
      async (near, far) => {
        const sending = near.sendNoise(20 * MB, 5).catch(() => '');
        await far.digest(MB);
        await far.reset();
        await sending;
      },
    ];
    const before = openDescriptors(pid);
    for (let round = 0; round < 10; round++) {
      for (const end of endings) {
        const near = await client.connect(routerV4, 9000);
        const far = await origin.accept();
        // Bytes show that the relay stands: a reset before that would be a failed connect, which goes elsewhere.
        await near.send('x');
        assert.equal(await far.receive(1), 'x');
        await end(near, far);
        await Promise.all([near.closed(), far.closed()]);
      }
    }
    // Pipes, two descriptors each, are kept for the next: no more than there were in use at once, one each way.
    await until('the descriptors of all connections to be closed', () => openDescriptors(pid) <= before + 4);
  });

  test('connections beyond the limit of descriptors wait in the queue and are served when others end', async (t) => {
    const command = ['sh', '-c', 'ulimit -n 200; exec "$@"', 'sh', ...TPROXY, '-d', '-w', '1', '-s', '9000'];
    const running = await topology.router.spawn([...command, '-t', 'origin.lab', String(ORIGIN_PORT)]);
    t.after(() => running.end());
    await running.says(/ready/);
    const nears: TestSocket[] = [];
    for (let i = 0; i < 100; i++) {
      const near = await client.connect(routerV4, 9000);
      await near.send(Uint8Array.of(i));
      nears.push(near);
    }
    await running.says(/have to wait/);
    const served = new Set<number>();
    while (served.size < nears.length) {
      const far = await origin.accept();
      served.add((await far.receive(1)).charCodeAt(0));
      await far.reset();
    }
  });

  test('when descriptors run out all the same, accepting pauses and goes on when there are some again', async (t) => {
    const running = await startTproxy(
      t,
      topology.router,
      ...['-w', '1', '-s', '9000', '-t', 'origin.lab', String(ORIGIN_PORT)],
    );
    const { pid } = running;
    const [inside] = await tproxyProcesses(topology.router);
    const limitTo = (soft: number) => topology.router.run('prlimit', '--pid', String(inside), `--nofile=${soft}:`);
    await limitTo(openDescriptors(pid) + 8);
    const nears: TestSocket[] = [];
    for (let i = 0; i < 30; i++) nears.push(await client.connect(routerV4, 9000));
    await running.says(/accept: EMFILE/);
    await sleep(500);
    const complaints = running.stderr.split('\n').filter((line) => line.includes('EMFILE')).length;
    assert.ok(complaints < 30, `${complaints} lines of log about one shortage`);
    await limitTo(1024);
    for (const near of nears) await near.reset();
    // Those of before the shortage are waiting here as well.
    const last = await client.connect(routerV4, 9000);
    await last.send('after');
    await until('the connection of after the shortage', async () => {
      const far = await origin.accept();
      return (await far.receive(5).catch(() => '')) === 'after';
    });
  });
});
