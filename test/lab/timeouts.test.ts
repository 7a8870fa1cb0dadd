import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, startTproxy } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const PORT = 9000;
const RELAY = ['-s', String(PORT), '-t', 'origin.lab', String(ORIGIN_PORT)];

describe('a connection on which nothing passes', { skip: unless() }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
  });
  after(() => topology?.lab.close());

  const connect = async (): Promise<[TestSocket, TestSocket]> => {
    const near = await client.connect(routerV4, PORT);
    const far = await origin.accept();
    await near.send('x');
    assert.equal(await far.receive(1), 'x');
    return [near, far];
  };

  test('ends after --timeout, on both sides; a byte in either direction counts', async (t) => {
    const running = await startTproxy(t, topology.router, '--log-level', 'debug', '--timeout', '2', ...RELAY);
    for (const speaker of ['client', 'origin'] as const) {
      const [near, far] = await connect();
      const [from, to] = speaker === 'client' ? [near, far] : [far, near];
      // Longer than the time-out, all in all, in one direction only.
      for (let i = 0; i < 6; i++) {
        await sleep(500);
        await from.send('y');
        assert.equal(await to.receive(1), 'y');
      }
      assert.equal(await near.receiveAll(), '');
      assert.equal(await far.receiveAll(), '');
    }
    await running.says(/closed: idle for \d s; 7 bytes from the client, 0 bytes to it/);
    await running.says(/closed: idle for \d s; 1 bytes from the client, 6 bytes to it/);
  });

  test('stays with --timeout 0, and the kernel looks whether its ends are still there', {
    skip: unless('program ss'),
  }, async (t) => {
    await startTproxy(t, topology.router, '--timeout', '0', ...RELAY);
    const [near, far] = await connect();
    const timers = await until('the timers of both sockets', async () => {
      const { stdout } = await topology.router.run('ss', '-Htno', 'state', 'established');
      const lines = stdout.split('\n').filter((line) => / \S+:(?:7000|9000)\b|:(?:7000|9000) /.test(line));
      return lines.length === 2 && lines.every((line) => line.includes('timer:(keepalive')) ? lines : null;
    });
    assert.equal(timers.length, 2);
    await far.send('later');
    assert.equal(await near.receive(5), 'later');
    await near.reset();
  });
});
