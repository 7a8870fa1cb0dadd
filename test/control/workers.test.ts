import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Workers, type WorkersOwner } from '../../src/control/workers.js';
import { allocateCounters, total } from '../../src/counters.js';
import type { Command, Report, ServiceStart, WorkerStart } from '../../src/messages.js';
import { allocateOwnSockets } from '../../src/own-sockets.js';
import { DEFAULT_PLAN, type Plan } from '../../src/plan.js';
import { Door, serviceOf } from '../data/rig.js';
import { readAll, server } from './children.js';

const service = serviceOf({ name: 'relay' });

const { services: _, ...settings }: Plan = {
  ...DEFAULT_PLAN,
  services: [],
  accessLog: { path: '/dev/null', format: 'transproxy' },
  foreground: true,
  workers: 1,
};

/** Collects what workers say. */
class Owner implements WorkersOwner {
  readonly reports: Exclude<Report, { kind: 'ready' }>[] = [];
  readonly deaths: string[] = [];
  #called: () => void = () => {};

  onReport(report: Exclude<Report, { kind: 'ready' }>): void {
    this.reports.push(report);
    this.#called();
  }

  onDeath(reason: string): void {
    this.deaths.push(reason);
    this.#called();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#called = resolve;
      });
    }
  }
}

const serviceStart = (over: Partial<ServiceStart> = {}): ServiceStart => ({
  id: 0,
  service,
  addresses: [[]],
  counters: allocateCounters(1),
  affinity: null,
  ...over,
});

const begin = (over: Partial<Omit<WorkerStart, 'wakeFd'>> = {}): Omit<WorkerStart, 'wakeFd'> => ({
  index: 0,
  settings,
  services: [serviceStart()],
  listeners: [],
  maxConnections: 10,
  maxPipes: 10,
  knockFd: null,
  ownSockets: allocateOwnSockets(),
  ...over,
});

const within = { timeout: 30_000 };

/** A worker that serves a door. */
const serve = async (t: TestContext, port: number): Promise<[Workers, Owner, Door, SharedArrayBuffer]> => {
  const owner = new Owner();
  const workers = new Workers(owner);
  const door = new Door();
  const counters = allocateCounters(1);
  await workers.start(
    begin({
      listeners: [{ service: 0, fd: door.fd, host: null }],
      services: [serviceStart({ addresses: [[{ ip: '127.0.0.1', port }]], counters })],
    }),
  );
  t.after(() => door.close());
  return [workers, owner, door, counters];
};

const ask = async ({ address }: Door): Promise<string> => {
  const socket = connect({ host: address.ip, port: address.port });
  const { text } = await readAll(socket);
  socket.destroy();
  return text;
};

describe('Workers', () => {
  test('a worker serves, counts, writes the access log, and stops when it is told', within, async (t) => {
    const target = await server(t, (socket) => socket.end('served'));
    const [workers, owner, door, counters] = await serve(t, target);
    assert.equal(await ask(door), 'served');
    await owner.until(() => owner.reports.some(({ kind }) => kind === 'access'));
    assert.equal(total(counters, 'accepted'), 1);
    await workers.stop();
    assert.deepEqual(owner.deaths, []);
    const lines = owner.reports.map((report) => (report.kind === 'access' ? report.lines : '')).join('');
    assert.match(lines, /^[\d/]{10} [\d:]{8} {2}Transparent {3}1 127\.0\.0\.1 -> target:1\n$/);
  });

  test('Commands reach a worker that waits: new addresses, and a dump', within, async (t) => {
    const first = await server(t, (socket) => socket.end('first'));
    const second = await server(t, (socket) => {
      socket.write('second');
      socket.on('end', () => socket.end());
    });
    const [workers, owner, door, counters] = await serve(t, first);
    assert.equal(await ask(door), 'first');
    workers.tell({ kind: 'addresses', service: 0, host: 0, addresses: [{ ip: '127.0.0.1', port: second }] });
    // Commands are obeyed in their order: once the dump has come, the addresses are the new ones.
    workers.tell({ kind: 'dump' });
    await owner.until(() => owner.reports.some(({ kind }) => kind === 'dump'));
    const socket = connect({ host: door.address.ip, port: door.address.port });
    const [data] = await once(socket, 'data');
    assert.equal(`${data}`, 'second');
    owner.reports.length = 0;
    workers.tell({ kind: 'dump' });
    await owner.until(() => owner.reports.some(({ kind }) => kind === 'dump'));
    const dump = owner.reports.find(({ kind }) => kind === 'dump');
    assert.match(dump?.kind === 'dump' ? (dump.lines[0] ?? '') : '', /^relay: client 127\.0\.0\.1:\d+, upstream /);
    socket.destroy();
    // A worker that ends leaves the sockets of open connections to the end of the process.
    while (total(counters, 'open') > 0) await setImmediate();
    await workers.stop();
  });

  test('that every address of a host failed is reported', within, async (t) => {
    const [workers, owner, door] = await serve(t, 1);
    await ask(door);
    await owner.until(() => owner.reports.some(({ kind }) => kind === 'unreachable'));
    assert.ok(owner.reports.some((report) => report.kind === 'log' && report.message.includes('ECONNREFUSED')));
    await workers.stop();
  });

  test('a worker that dies is reported once, with the reason', within, async () => {
    const owner = new Owner();
    const workers = new Workers(owner);
    await workers.start(begin());
    workers.tell({ kind: 'leave', fds: null } as unknown as Command);
    await owner.until(() => owner.deaths.length > 0);
    assert.match(owner.deaths[0] ?? '', /^worker 0: .*TypeError/s);
    // As the owner does at once.
    await workers.stop();
    assert.equal(owner.deaths.length, 1);
  });

  test('a worker that dies before it serves fails the start, and the others can be stopped', within, async () => {
    const owner = new Owner();
    const workers = new Workers(owner);
    const services = [serviceStart({ counters: allocateCounters(2) })];
    await workers.start(begin({ services }));
    await assert.rejects(
      workers.start(begin({ index: 1, services, listeners: [{ service: 0, fd: 987_654, host: null }] })),
      /EBADF/,
    );
    await workers.stop();
    assert.equal(owner.deaths.length, 1);
  });
});
