import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  formatBytes,
  formatStatus,
  formatUptime,
  type Running,
  replaceFile,
  statusOf,
  summaryOf,
} from '../../src/control/status.js';
import { StatusReports } from '../../src/control/status-reports.js';
import { CounterRow, Counters } from '../../src/counters.js';
import { DEFAULT_PLAN, DEFAULT_SERVICE, type Plan, type Service, targetTo } from '../../src/plan.js';
import { Child, folder, freePort, readAll, server } from './children.js';
import { recordingLog } from './plans.js';

const SERVE_PLAN = fileURLToPath(new URL('../support/serve-plan.js', import.meta.url));

const serviceOf = (name: string, more: Partial<Service> = {}): Service => ({
  ...DEFAULT_SERVICE,
  name,
  listen: [{ host: '127.0.0.1', port: 80 }],
  ...more,
});

/** Three services, of which the first has done something. */
const running = (): Running => {
  const services = [
    serviceOf('web'),
    serviceOf('names', { protocol: 'udp' }),
    serviceOf('socket', { listen: [{ path: '/run/front', mode: null }] }),
  ];
  const counters = new Counters(2);
  const rows = services.flatMap((_, id) => {
    const memory = counters.add(id);
    return [new CounterRow(memory, 0), new CounterRow(memory, 1)];
  });
  const count = { accepted: 7, open: 2, refused: 3, bytesFromClients: 1536, bytesToClients: 20_000, connectErrors: 1 };
  for (const [slot, amount] of Object.entries(count)) rows[1]?.add(slot as keyof typeof count, amount);
  rows[2]?.add('open', 4);
  rows[5]?.add('accepted', 5);
  rows[5]?.add('acceptErrors', 6);
  return { services: services.map((service, id) => ({ id, service })), counters, uptime: 93_784_500, reloads: 8 };
};

const NOW = new Date('2026-11-22T20:48:41.900Z');

describe('the status', () => {
  test('has sums of all services, by kind too, and what each has done', () => {
    const status = statusOf(running(), NOW);
    const { rules, ...sums } = status;
    assert.deepEqual(sums, {
      timestamp: '2026-11-22T20:48:41Z',
      uptime_seconds: 93_784,
      config_reloads: 8,
      connections: {
        active: 6,
        active_tcp: 2,
        active_udp: 4,
        active_unix: 0,
        total: 12,
        total_tcp: 7,
        total_udp: 0,
        total_unix: 5,
      },
      traffic: { bytes_in: 1536, bytes_out: 20_000 },
      errors: { accept: 6, connect: 1, denied: 3 },
      servers: 3,
    });
    assert.deepEqual(
      rules.map(({ name }) => name),
      ['web', 'names', 'socket'],
    );
    assert.deepEqual(rules[0], {
      name: 'web',
      connections_active: 2,
      connections_total: 7,
      bytes_in: 1536,
      bytes_out: 20_000,
      errors_accept: 0,
      errors_connect: 1,
      denied: 3,
    });
  });

  test('in JSON is the same again when it is read', () => {
    const status = statusOf(running(), NOW);
    assert.deepEqual(JSON.parse(formatStatus(status, 'json')), status);
  });

  test('as text is for people', () => {
    const lines = formatStatus(statusOf(running(), NOW), 'text').split('\n');
    for (const line of [
      'Uptime: 1 day, 2:03:04',
      'Active: 6 (TCP: 2, UDP: 4, Unix: 0)',
      'Total: 12 (TCP: 7, UDP: 0, Unix: 5)',
      'Bytes in: 1.5K',
      'Denied: 3',
      '  web: active 2, total 7, in 1.5K, out 19.5K, errors 1, denied 3',
      '  socket: active 0, total 5, in 0B, out 0B, errors 6, denied 0',
    ]) {
      assert.ok(lines.includes(line), `${line} in ${lines.join('\n')}`);
    }
    assert.equal(lines.at(-1), '');
  });

  test('in one line has pairs of what is and what was', () => {
    assert.equal(
      summaryOf(statusOf(running(), NOW)),
      'STATS: uptime=93784s conns=6/12 tcp=2/7 udp=4/0 unix=0/5 traffic=1.5K/19.5K errors=6/1/3',
    );
  });

  test('has bytes in units of 1024, and times in days and hours', () => {
    const bytes = [0, 1023, 1024, 1024 ** 2 * 1.25, 1024 ** 3, 1024 ** 4 * 2000];
    assert.deepEqual(bytes.map(formatBytes), ['0B', '1023B', '1.0K', '1.3M', '1.0G', '2000.0T']);
    assert.deepEqual([0, 59, 3600, 86_399, 86_400, 200_000].map(formatUptime), [
      '0:00:00',
      '0:00:59',
      '1:00:00',
      '23:59:59',
      '1 day, 0:00:00',
      '2 days, 7:33:20',
    ]);
  });
});

describe('replaceFile', () => {
  test('puts a new file in the place of the old one, and leaves nothing beside it', (t) => {
    const place = folder(t);
    const path = join(place, 'status');
    replaceFile(path, 'one');
    const { ino } = statSync(path);
    replaceFile(path, 'two');
    assert.equal(readFileSync(path, 'utf8'), 'two');
    assert.notEqual(statSync(path).ino, ino, 'whoever has the old one open reads it to its end');
    assert.deepEqual(readdirSync(place), ['status']);
  });

  test('does not write through what somebody put in the way', (t) => {
    const place = folder(t);
    const path = join(place, 'status');
    writeFileSync(join(place, 'precious'), 'precious');
    symlinkSync(join(place, 'precious'), `${path}.${process.pid}.tmp`);
    replaceFile(path, 'status');
    assert.equal(readFileSync(join(place, 'precious'), 'utf8'), 'precious');
    assert.equal(readFileSync(path, 'utf8'), 'status');
  });

  test('leaves nothing behind when it fails', (t) => {
    const place = folder(t);
    mkdirSync(join(place, 'status'));
    assert.throws(() => replaceFile(join(place, 'status'), 'text'), { code: 'EISDIR' });
    assert.deepEqual(readdirSync(place), ['status']);
  });
});

describe('status reports', () => {
  const planOf = (more: Partial<Plan>): Plan => ({ ...DEFAULT_PLAN, services: [], ...more });

  test('are written at once and then at their interval, until another plan wants none', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const path = join(folder(t), 'status');
    let asked = 0;
    const log = recordingLog();
    const reports = new StatusReports(log, () => ({ ...running(), reloads: ++asked }));
    const reloads = (): number => (JSON.parse(readFileSync(path, 'utf8')) as { config_reloads: number }).config_reloads;
    reports.begin(planOf({ status: { path, interval: 1000, format: 'json' }, statsInterval: 1500 }));
    assert.equal(reloads(), 1);
    t.mock.timers.tick(1000);
    assert.equal(reloads(), 2);
    assert.deepEqual(log.lines, []);
    t.mock.timers.tick(500);
    assert.equal(log.lines.length, 1);
    assert.match(log.lines[0] ?? '', /^info STATS: uptime=93784s /);
    reports.begin(planOf({}));
    t.mock.timers.tick(10_000);
    assert.equal(asked, 3);
  });

  test('that can not be written are an error once, until they can', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const path = join(folder(t), 'status');
    const log = recordingLog();
    const reports = new StatusReports(log, running);
    mkdirSync(path);
    reports.begin(planOf({ status: { path, interval: 1000, format: 'text' } }));
    t.mock.timers.tick(3000);
    assert.deepEqual(log.lines, [`error status file ${path}: rename: EISDIR`]);
    rmdirSync(path);
    t.mock.timers.tick(1000);
    assert.match(readFileSync(path, 'utf8'), /^tproxy status\n/);
    reports.end();
  });
});

test('a program of several services tells what each has done', { timeout: 60_000 }, async (t) => {
  const place = folder(t);
  const [status, file] = [join(place, 'status.json'), join(place, 'plan.json')];
  const target = await server(t, (socket) => socket.end('hello'));
  const [open, closed, nowhere] = [await freePort(), await freePort(), await freePort()];
  const at = (port: number) => [{ host: '127.0.0.1', port }];
  const to = [targetTo({ host: '127.0.0.1', port: target })];
  const plan: Partial<Plan> = {
    workers: 2,
    status: { path: status, interval: 50, format: 'json' },
    statsInterval: 100,
    services: [
      serviceOf('open', { listen: at(open), targets: to }),
      serviceOf('closed', { listen: at(closed), targets: to, access: [{ allow: [], deny: [] }] }),
      serviceOf('nowhere', { listen: at(nowhere), targets: [targetTo({ host: '127.0.0.1', port: await freePort() })] }),
    ],
  };
  writeFileSync(file, JSON.stringify(plan));
  const child = new Child(t, [SERVE_PLAN, file]);
  await child.says(/ready: 2 workers/);
  for (const port of [open, open, open, closed, nowhere]) {
    const socket = connect({ host: '127.0.0.1', port });
    await readAll(socket);
    socket.destroy();
  }
  await child.says(/STATS: uptime=\d+s conns=0\/4 tcp=0\/4 udp=0\/0 unix=0\/0 traffic=0B\/15B errors=0\/1\/1/);
  await child.says(/warn {3}nowhere: .*ECONNREFUSED/);
  await child.says(/warn {3}closed: ACL refused from 127\.0\.0\.1:\d+: not-allowed/);
  const last = statSync(status).mtimeMs;
  while (statSync(status).mtimeMs === last) await new Promise((settle) => setTimeout(settle, 20));
  const { rules, errors, connections } = JSON.parse(readFileSync(status, 'utf8')) as ReturnType<typeof statusOf>;
  assert.deepEqual(errors, { accept: 0, connect: 1, denied: 1 });
  assert.equal(connections.total, 4);
  assert.deepEqual(
    rules.map((rule) => [rule.name, rule.connections_total, rule.bytes_out, rule.denied, rule.errors_connect]),
    [
      ['open', 3, 15, 0, 0],
      ['closed', 0, 0, 1, 0],
      ['nowhere', 1, 0, 0, 1],
    ],
  );
  child.process.kill('SIGTERM');
  assert.equal(await child.exit(), 0);
  assert.ok(existsSync(status));
  assert.deepEqual(readdirSync(place).sort(), ['plan.json', 'status.json']);
});
