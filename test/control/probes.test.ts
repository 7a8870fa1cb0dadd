import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { until } from '../../scripts/lab/until.js';
import type { UpstreamAddress } from '../../src/address.js';
import { Probes } from '../../src/control/probes.js';
import type { Service } from '../../src/plan.js';
import { planOf, recordingLog } from './plans.js';

const LOOPBACK = '127.0.0.1';

const listen = async (port = 0): Promise<Server> => {
  const server = createServer((socket) => socket.resume());
  server.listen(port, LOOPBACK);
  await once(server, 'listening');
  return server;
};
const portOf = (server: Server): number => (server.address() as AddressInfo).port;
const close = async (server: Server): Promise<void> => {
  server.close();
  await once(server, 'close');
};
/** A port of the loopback address that nobody listens on. */
const freePort = async (): Promise<number> => {
  const server = await listen();
  const port = portOf(server);
  await close(server);
  return port;
};

/** Listens and accepts nothing: when its queue is full, the kernel lets connects wait. */
const startDeaf = async (): Promise<{ readonly port: number; end(): Promise<unknown> }> => {
  const program = `
    const { parentPort } = require('node:worker_threads');
    const server = require('node:net').createServer().listen({ port: 0, host: '${LOOPBACK}', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
    });`;
  const thread = new Worker(program, { eval: true });
  const [port] = await once(thread, 'message');
  return { port, end: () => thread.terminate() };
};

interface Change {
  readonly service: number;
  readonly upstream: number;
  readonly up: boolean;
}

/** Probes the upstreams of a command line every 10 ms; `addresses` by upstream. */
const startProbing = (line: string, addresses: (readonly UpstreamAddress[])[]) => {
  const log = recordingLog();
  const changes: Change[] = [];
  let probed = 0;
  const probes = new Probes({
    log,
    addressesOf: (_, upstream) => {
      probed++;
      return addresses[upstream] ?? [];
    },
    onHealth: (service, upstream, up) => changes.push({ service, upstream, up }),
  });
  probes.begin(planOf(`--check 0.01 ${line}`).services.entries());
  const stop = (): void => probes.end([0]);
  return { log, changes, addresses, stop, probed: () => probed };
};

describe('probes of upstreams', () => {
  test('an upstream that nobody listens for is down once, and up again once somebody does', async (t) => {
    const port = await freePort();
    const probes = startProbing(`${LOOPBACK} ${port}`, [[{ ip: LOOPBACK, port }]]);
    t.after(probes.stop);
    await until('the upstream to be down', () => probes.changes.length === 1);
    const before = probes.probed();
    await until('three more probes', () => probes.probed() >= before + 3);
    assert.deepEqual(probes.changes, [{ service: 0, upstream: 0, up: false }]);

    const server = await listen(port);
    await until('the upstream to be up', () => probes.changes.length === 2);
    assert.deepEqual(probes.changes[1], { service: 0, upstream: 0, up: true });
    probes.stop();
    await close(server);
    assert.deepEqual(probes.log.lines, [
      `warn upstream http://${LOOPBACK}:${port} is down: connect ${LOOPBACK}:${port}: ECONNREFUSED`,
      `info upstream http://${LOOPBACK}:${port} is up again`,
    ]);
  });

  test('an upstream that takes connections is up, which nobody is told', async (t) => {
    const server = await listen();
    t.after(() => close(server));
    const ended: string[] = [];
    server.on('connection', (socket) => socket.on('close', () => ended.push('a connection')));
    const probes = startProbing(`${LOOPBACK} 80`, [[{ ip: LOOPBACK, port: portOf(server) }]]);
    t.after(probes.stop);
    await until('three probes to be hung up', () => ended.length >= 3);
    assert.deepEqual(probes.changes, []);
    assert.deepEqual(probes.log.lines, []);
  });

  test('one address of several is enough, and each upstream counts for itself', async (t) => {
    const server = await listen();
    t.after(() => close(server));
    const good = { ip: LOOPBACK, port: portOf(server) };
    const bad = { ip: LOOPBACK, port: await freePort() };
    const probes = startProbing('a 1 --upstream socks5://b:2 --upstream c:3', [[bad, good], [bad, bad], []]);
    t.after(probes.stop);
    await until('two upstreams to be down', () => probes.changes.length === 2);
    await until('a few more probes', () => probes.probed() >= 12);
    assert.deepEqual(probes.changes.map(({ upstream }) => upstream).sort(), [1, 2]);
    const failure = `connect ${LOOPBACK}:${bad.port}: ECONNREFUSED`;
    assert.deepEqual([...probes.log.lines].sort(), [
      'warn upstream http://c:3 is down: it has no address',
      `warn upstream socks5://b:2 is down: ${failure}; ${failure}`,
    ]);
  });

  test('an address that does not answer in time is a failure', async (t) => {
    const deaf = await startDeaf();
    const probes = startProbing(`--connect-timeout 0.1 ${LOOPBACK} 80`, [[{ ip: LOOPBACK, port: deaf.port }]]);
    t.after(async () => {
      probes.stop();
      await deaf.end();
    });
    await until('the upstream to be down', () => probes.changes.length === 1);
    assert.match(probes.log.lines[0] ?? '', /is down: connect .*: ETIMEDOUT$/);
  });

  test('they go to the addresses that the upstream has by then', async (t) => {
    const server = await listen();
    t.after(() => close(server));
    const probes = startProbing('a 1', [[{ ip: LOOPBACK, port: await freePort() }]]);
    t.after(probes.stop);
    await until('the upstream to be down', () => probes.changes.length === 1);
    probes.addresses[0] = [{ ip: LOOPBACK, port: portOf(server) }];
    await until('the upstream to be up', () => probes.changes.length === 2);
  });

  test('there are none without --check, nor after their end', async (t) => {
    const probes = new Probes({
      log: recordingLog(),
      addressesOf: () => assert.fail('probed'),
      onHealth: () => assert.fail('changed'),
    });
    probes.begin(planOf('a 1').services.entries());
    probes.begin([[7, planOf('--check 0.01 a 1').services[0] as Service]]);
    probes.end([7]);
    const others = startProbing('a 1', [[]]);
    t.after(others.stop);
    await until('five probes of another plan', () => others.probed() >= 5);
  });
});
