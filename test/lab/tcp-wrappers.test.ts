import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, type Cleanup, endTproxy, startTproxy, TPROXY, tproxyProcesses } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const PORT = 9000;
const RELAY = ['-t', 'origin.lab', String(ORIGIN_PORT)];
const WRAPPED = ['--tcp-wrappers', '-s', String(PORT), ...RELAY];

describe('TCP wrappers', { skip: unless('libwrap') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const [clientV4, clientV6] = ADDRESS.client;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
    tables({});
    const [allow, deny] = ['hosts.allow', 'hosts.deny'].map((name) => topology.lab.path(name));
    const script = 'mount --bind "$1" /etc/hosts.allow && mount --bind "$2" /etc/hosts.deny';
    await topology.router.run('sh', '-c', script, 'tables', allow as string, deny as string);
  });
  after(() => topology?.lab.close());
  beforeEach(() => tables({}));

  /** What stands in the router's tables from now on. */
  const tables = ({ allow = '', deny = '' }: { allow?: string; deny?: string }): void => {
    writeFileSync(topology.lab.path('hosts.allow'), `${allow}\n`);
    writeFileSync(topology.lab.path('hosts.deny'), `${deny}\n`);
  };

  const assertServed = async (address: string = routerV4): Promise<void> => {
    const near = await client.connect(address, PORT);
    await near.send('hello');
    const far = await origin.accept();
    assert.equal(await far.receive(5), 'hello');
    await far.send('good day');
    assert.equal(await near.receive(8), 'good day');
    await near.reset();
  };

  const assertRefused = async (address: string = routerV4): Promise<void> => {
    await client.expectReset(address, PORT);
    assert.equal(await origin.waiting(), 0);
  };

  test('refuse a client with a reset, a line in both logs, and no connection to the origin', async (t) => {
    const file = topology.lab.path('access.log');
    const running = await startTproxy(t, topology.router, '-l', file, ...WRAPPED);
    await assertServed();
    tables({ deny: 'tproxy: ALL' });
    await assertRefused();
    await running.says(
      /warn {3}relay to \S+: TCP wrappers refused from 10\.77\.1\.2:\d+: its name is client, the service's tproxy\n/,
    );
    const entry = await until('an entry', () => /.*refused.*/.exec(readFileSync(file, 'latin1')));
    assert.match(entry[0], / {2}TCP wrappers refused from 10\.77\.1\.2$/);
    running.signal('SIGUSR2');
    await running.says(/1 accepted, 1 refused/);
    tables({});
    await assertServed();
  });

  test('know clients by address and by network, IPv4 and IPv6', async (t) => {
    await startTproxy(t, topology.router, ...WRAPPED);
    const rules: readonly [deny: string, refusesV4: boolean, refusesV6: boolean][] = [
      [`ALL: ${clientV4}`, true, false],
      ['ALL: 10.77.', true, false],
      ['ALL: 10.77.1.0/255.255.255.0', true, false],
      ['ALL: 10.77.2.0/255.255.255.0', false, false],
      [`ALL: [${clientV6}]`, false, true],
      ['ALL: [fd77:1::]/64', false, true],
      ['ALL: [fd77:2::]/64', false, false],
      ['ALL: ALL EXCEPT 10.77.1.2', false, true],
    ];
    for (const [deny, refusesV4, refusesV6] of rules) {
      tables({ deny });
      await (refusesV4 ? assertRefused(routerV4) : assertServed(routerV4)).catch((error) =>
        assert.fail(`${deny}: ${error}`),
      );
      await (refusesV6 ? assertRefused(routerV6) : assertServed(routerV6)).catch((error) =>
        assert.fail(`${deny}: ${error}`),
      );
    }
  });

  test('read hosts.allow before hosts.deny', async (t) => {
    await startTproxy(t, topology.router, ...WRAPPED);
    tables({ allow: 'tproxy: 10.77.1.2', deny: 'ALL: ALL' });
    await assertServed(routerV4);
    await assertRefused(routerV6);
  });

  test('know clients by the name that /etc/hosts has for them, if it leads back to them', async (t) => {
    await startTproxy(t, topology.router, ...WRAPPED);
    tables({ deny: 'ALL: client' });
    await assertRefused();
    tables({ deny: 'ALL: client.elsewhere' });
    await assertServed();
    tables({ allow: 'ALL: LOCAL', deny: 'ALL: ALL' });
    await assertServed();
    tables({ deny: 'ALL: PARANOID UNKNOWN' });
    await assertServed();
  });

  test('take a client without a name for unknown', async (t) => {
    topology.lab.name('client', [clientV6]);
    t.after(() => topology.lab.name('client', [...ADDRESS.client]));
    await startTproxy(t, topology.router, ...WRAPPED);
    tables({ deny: 'ALL: UNKNOWN' });
    await assertRefused(routerV4);
    await assertServed(routerV6);
    tables({ allow: 'ALL: KNOWN', deny: 'ALL: ALL' });
    await assertRefused(routerV4);
    await assertServed(routerV6);
  });

  test('know the service by --ident', async (t) => {
    await startTproxy(t, topology.router, '--ident', 'web-relay', ...WRAPPED);
    tables({ deny: 'tproxy: ALL' });
    await assertServed();
    tables({ deny: 'web-relay: ALL' });
    await assertRefused();
  });

  test('may run a command for a client, but never in the place of our process', async (t) => {
    const mark = topology.lab.path('mark');
    const running = await startTproxy(t, topology.router, ...WRAPPED);
    tables({ deny: `ALL: ALL: twist /bin/touch ${mark}.twist` });
    await assertRefused();
    await assertRefused();
    tables({ deny: `ALL: ALL: spawn (echo %d %h >${mark})` });
    await assertRefused();
    assert.equal(readFileSync(mark, 'latin1'), 'tproxy client\n');
    tables({});
    await assertServed();
    assert.ok(running.alive);
    assert.equal((await topology.router.attempt('test', '-e', `${mark}.twist`)).code, 1);
  });

  test('serve many clients at once, each by its own answer', async (t) => {
    await startTproxy(t, topology.router, '-w', '2', ...WRAPPED);
    tables({ deny: 'ALL: 10.77.' });
    const attempts = Array.from({ length: 100 }, (_, i) => i);
    await Promise.all(
      attempts.map(async (i) => {
        if (i % 2 === 0) return client.expectReset(routerV4, PORT);
        const near = await client.connect(routerV6, PORT);
        const far = await origin.accept();
        await far.sendFin();
        await near.sendFin();
        return near.receiveAll();
      }),
    );
    assert.equal(await origin.waiting(), 0);
  });

  test('are asked after the privileges went too, and a table that may not be read refuses everybody', {
    skip: unless('root'),
  }, async (t) => {
    const running = await startTproxy(t, topology.router, '-r', 'nobody', ...WRAPPED);
    await assertServed();
    tables({ deny: 'ALL: 10.77.1.2' });
    await assertRefused(routerV4);
    await assertServed(routerV6);
    await topology.router.run('chmod', '600', '/etc/hosts.deny');
    t.after(() => topology.router.run('chmod', '644', '/etc/hosts.deny'));
    await assertRefused(routerV6);
    await running.says(/TCP wrappers refused from \[fd77:1::2\]:\d+: \/etc\/hosts\.deny: EACCES/);
  });

  test('are asked under inetd too', { skip: unless('program inetd', 'root') }, async (t) => {
    const file = topology.lab.path('inetd-wrapped.conf');
    const [program] = TPROXY;
    const args = [...TPROXY, '--tcp-wrappers', '--ident', 'from-inetd', ...RELAY];
    writeFileSync(file, `${PORT} stream tcp nowait nobody ${program} ${args.join(' ')}\n`);
    const inetd = await topology.router.spawn(['inetd', '-i', file]);
    t.after(async () => {
      await inetd.end();
      await endTproxy(topology.router);
    });
    await topology.router.listening(PORT, 2);
    await assertServed();
    tables({ deny: 'from-inetd: client' });
    await assertRefused();
    await until('all to end', async () => (await tproxyProcesses(topology.router)).length === 0);
  });

  test('that are not installed are a reason not to start, which is named', async (t: Cleanup) => {
    t.after(() => endTproxy(topology.router));
    const { stdout } = await topology.router.run('ldconfig', '-p');
    const library = /libwrap\.so\.0 .*=> (\S+)/.exec(stdout)?.[1] as string;
    const script = 'mount --bind /dev/null "$1" && shift && exec "$@"';
    const without = ['unshare', '--mount', 'sh', '-c', script, 'without', library];
    const outcome = await topology.router.attempt(...without, ...TPROXY, '-d', ...WRAPPED);
    assert.equal(outcome.code, 69, outcome.stderr);
    assert.match(outcome.stderr, /^tproxy: TCP wrappers: libwrap\.so\.0: .+libwrap0\)\n$/);
  });
});
