import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { until } from '../../scripts/lab/until.js';
import { isUnix, type UpstreamAddress } from '../../src/address.js';
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
  readonly host: number;
  readonly port: number;
  readonly up: boolean;
}

/** Probes the hosts of a command line every 10 ms; `addresses` by host. */
const startProbing = (line: string, addresses: (readonly UpstreamAddress[])[]) => {
  const log = recordingLog();
  const changes: Change[] = [];
  let probed = 0;
  const probes = new Probes({
    log,
    addressesOf: (_, host) => {
      probed++;
      return addresses[host] ?? [];
    },
    onHealth: (service, host, address, up) => {
      if (!isUnix(address)) changes.push({ service, host, port: address.port, up });
    },
  });
  probes.begin(planOf(`--check 0.01 ${line}`).services.entries());
  const stop = (): void => probes.end([0]);
  return { log, changes, addresses, stop, probed: () => probed };
};

describe('probes', () => {
  test('an upstream that nobody listens for is down once, and up again once somebody does', async (t) => {
    const port = await freePort();
    const probes = startProbing(`${LOOPBACK} ${port}`, [[{ ip: LOOPBACK, port }]]);
    t.after(probes.stop);
    await until('the upstream to be down', () => probes.changes.length === 1);
    const before = probes.probed();
    await until('three more probes', () => probes.probed() >= before + 3);
    assert.deepEqual(probes.changes, [{ service: 0, host: 0, port, up: false }]);

    const server = await listen(port);
    await until('the upstream to be up', () => probes.changes.length === 2);
    assert.deepEqual(probes.changes[1], { service: 0, host: 0, port, up: true });
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

  test('each address counts for itself, of whichever upstream', async (t) => {
    const server = await listen();
    t.after(() => close(server));
    const good = { ip: LOOPBACK, port: portOf(server) };
    const bad = { ip: LOOPBACK, port: await freePort() };
    const upstreams = '-t d 4 --upstream a:1 --upstream socks5://b:2 --upstream c:3';
    const probes = startProbing(upstreams, [[bad, good], [bad], [], [bad]]);
    t.after(probes.stop);
    await until('two addresses to be down', () => probes.changes.length === 2);
    await until('a few more probes', () => probes.probed() >= 12);
    assert.deepEqual(
      probes.changes.toSorted((a, b) => a.host - b.host),
      [0, 1].map((host) => ({ service: 0, host, port: bad.port, up: false })),
    );
    const failure = `connect ${LOOPBACK}:${bad.port}: ECONNREFUSED`;
    assert.deepEqual([...probes.log.lines].sort(), [
      `warn upstream http://a:1 at ${LOOPBACK}:${bad.port} is down: ${failure}`,
      `warn upstream socks5://b:2 is down: ${failure}`,
    ]);
  });

  test('a relay’s target is probed where no upstream comes before it', async (t) => {
    const bad = { ip: LOOPBACK, port: await freePort() };
    const probes = startProbing('-t d 4', [[bad]]);
    t.after(probes.stop);
    await until('the target to be down', () => probes.changes.length === 1);
    assert.deepEqual(probes.log.lines, [`warn target d:4 is down: connect ${LOOPBACK}:${bad.port}: ECONNREFUSED`]);
  });

  test('they come from where connections do', async (t) => {
    const server = await listen();
    t.after(() => close(server));
    const seen = new Set<string | undefined>();
    server.on('connection', (socket) => seen.add(socket.remoteAddress));
    const [first] = planOf('--check 0.01 -t --source 127.0.0.7 a 1').services;
    assert.ok(first !== undefined);
    const of = (source: string | null) => ({ ...first, targets: [{ to: { host: 'a', port: 1 }, weight: 1, source }] });
    const probes = new Probes({
      log: recordingLog(),
      addressesOf: () => [{ ip: LOOPBACK, port: portOf(server) }],
      onHealth: () => assert.fail('changed'),
    });
    probes.begin([of(null), of('127.0.0.8')].entries());
    t.after(() => probes.end([0, 1]));
    await until('a probe from each', () => seen.size >= 2);
    assert.deepEqual([...seen].sort(), ['127.0.0.7', '127.0.0.8']);
  });

  test('they leave UDP alone, to which nobody can connect', async (t) => {
    const [service] = planOf('--check 0.01 -t a 1').services;
    assert.ok(service !== undefined);
    const probes = new Probes({
      log: recordingLog(),
      addressesOf: () => assert.fail('probed'),
      onHealth: () => assert.fail('changed'),
    });
    probes.begin([[0, { ...service, protocol: 'udp' }]]);
    t.after(() => probes.end([0]));
    const others = startProbing('a 1', [[]]);
    t.after(others.stop);
    await until('five probes of another plan', () => others.probed() >= 5);
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
    const bad = probes.addresses[0] ?? [];
    probes.addresses[0] = [{ ip: LOOPBACK, port: portOf(server) }];
    const before = probes.probed();
    await until('two probes of the new one', () => probes.probed() >= before + 2);
    assert.equal(probes.changes.length, 1);
    // Back again, the first one is as good as new, and so it is said anew that it is down.
    probes.addresses[0] = bad;
    await until('the upstream to be down again', () => probes.changes.length === 2);
    assert.deepEqual(probes.changes[1], probes.changes[0]);
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
