import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestListener } from '../support/sockets.js';
import { buildGateway, runTproxy, TPROXY, tproxyProcesses } from '../support/tproxy.js';

const ORIGIN_PORT = 7000;
const RELAY = ['-t', 'origin.lab', String(ORIGIN_PORT)];
const NOBODY = '65534';
const LAB_GROUP = '4242';

/** What /proc/PID/status says of each thread, as `name: [values]`. */
const statusOfThreads = (pid: number): Map<string, string[]>[] =>
  readdirSync(`/proc/${pid}/task`).map((tid) => {
    const lines = readFileSync(`/proc/${pid}/task/${tid}/status`, 'latin1').trim().split('\n');
    return new Map(
      lines.map((line) => {
        const [name = '', value = ''] = line.split(':\t');
        return [name, value.trim().split(/\s+/)];
      }),
    );
  });

describe('privileges', { skip: unless('root') }, () => {
  let topology: Topology;
  let client: Sockets;
  let origin: TestListener;
  const [routerV4] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    origin = await new Sockets(topology.internet).listen(ORIGIN_PORT);
    // A supplementary group of nobody, which only the group file knows.
    const group = topology.lab.path('group');
    writeFileSync(group, `${readFileSync('/etc/group', 'latin1')}lab:x:${LAB_GROUP}:nobody\n`);
    await topology.router.run('mount', '--bind', group, '/etc/group');
  });
  after(() => topology?.lab.close());

  const assertServes = async (port: number): Promise<void> => {
    const near = await client.connect(routerV4, port);
    const far = await origin.accept();
    await near.send('ping');
    assert.equal(await far.receive(4), 'ping');
  };

  for (const [user, groups] of [
    ['nobody', [LAB_GROUP, NOBODY]],
    [`#${NOBODY}`, [LAB_GROUP, NOBODY]],
  ] as const) {
    test(`-r ${user} on port 80: every thread has its user, group and groups, and no capability`, async (t) => {
      // Started with groups of others, which must all be gone.
      const command = ['setpriv', '--groups', '0,4,27', ...TPROXY, '-d', '-w', '2', '-r', user, '-s', '80', ...RELAY];
      const running = await topology.router.spawn(command);
      t.after(() => running.end());
      await running.says(/ready/);
      const threads = statusOfThreads(running.pid);
      assert.ok(threads.length >= 3, `${threads.length} threads`);
      for (const status of threads) {
        const name = `thread ${status.get('Pid')} ${status.get('Name')}`;
        assert.deepEqual(status.get('Uid'), Array(4).fill(NOBODY), name);
        assert.deepEqual(status.get('Gid'), Array(4).fill(NOBODY), name);
        assert.deepEqual(status.get('Groups'), groups, name);
        for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb']) {
          assert.match(String(status.get(set)), /^0+$/, `${set} of ${name}`);
        }
      }
      await assertServes(80);
    });
  }

  test('an unknown user is an error, and nothing is left running', async () => {
    for (const mode of [[], ['-d']]) {
      const { code, stdout, stderr } = await runTproxy(
        topology.router,
        ...mode,
        '-r',
        'nosuchuser',
        '-s',
        '80',
        ...RELAY,
      );
      assert.equal(code, 67);
      assert.equal(stdout, '');
      assert.match(stderr, /^[^\n]*nosuchuser[^\n]*\n$/);
      assert.deepEqual(await tproxyProcesses(topology.router), []);
    }
  });

  test('a port that needs a privilege which is missing is an error', async () => {
    const nobody = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
    for (const mode of [[], ['-d']]) {
      const outcome = await topology.router.attempt(...nobody, ...TPROXY, ...mode, '-s', '80', ...RELAY);
      assert.equal(outcome.code, 77);
      assert.equal(outcome.stdout, '');
      assert.match(outcome.stderr, /^[^\n]*80[^\n]*EACCES[^\n]*\n$/);
      assert.deepEqual(await tproxyProcesses(topology.router), []);
    }
  });

  test('-r without the privilege to change users is an error, and no pid file is left', async () => {
    const folder = topology.lab.path('writable');
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    const nobody = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
    const options = ['-d', '-r', 'proxy', '-P', `${folder}/pid`, '-s', '9000'];
    const outcome = await topology.router.attempt(...nobody, ...TPROXY, ...options, ...RELAY);
    assert.equal(outcome.code, 77);
    assert.equal(outcome.stdout, '');
    assert.match(outcome.stderr, /EPERM/);
    assert.deepEqual(readdirSync(folder), []);
  });
});
