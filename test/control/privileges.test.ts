import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { capabilitiesFor, findUser } from '../../src/control/privileges.js';
import { DEFAULT_SERVICE } from '../../src/plan.js';
import { Child, moduleLines } from './children.js';
import { planOf } from './plans.js';

const asRoot = { skip: process.getuid?.() !== 0 && 'needs root' };

describe('findUser', () => {
  test('finds a user by name and by number', () => {
    assert.deepEqual(findUser('root'), { name: 'root', uid: 0, gid: 0 });
    assert.deepEqual(findUser('#0'), { name: 'root', uid: 0, gid: 0 });
    const { uid } = findUser('nobody');
    assert.equal(findUser(`#${uid}`).name, 'nobody');
  });

  test('a user that does not exist is a failure, whatever it is written like', () => {
    for (const text of ['no-such-user', '#4294967294', '', '0']) {
      assert.throws(() => findUser(text), {
        name: 'Failure',
        message: `there is no user ${text}`,
        exitCode: 67,
      });
    }
  });
});

describe('dropPrivileges', () => {
  test('gives up user, group and supplementary groups on every thread, for good', asRoot, async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { readdirSync, readFileSync } from 'node:fs';
        import { lookup } from 'node:dns/promises';
        import { dropPrivileges, findUser } from './control/privileges.js';
        process.setgroups([0, 4, 27]);
        await lookup('localhost'); // The thread pool has its threads now.
        dropPrivileges(findUser('nobody'));
        const ids = readdirSync('/proc/self/task').map((thread) => {
          const status = readFileSync('/proc/self/task/' + thread + '/status', 'latin1');
          return ['Uid', 'Gid', 'Groups', 'CapEff', 'CapPrm'].map((name) =>
            status.match(new RegExp('^' + name + ':\\\\t(.*)$', 'm'))[1].trim()).join(' | ');
        });
        let back = 'never';
        try { process.setuid(0); back = 'root'; } catch (error) { back = error.code; }
        console.log(JSON.stringify({ threads: ids.length, ids: [...new Set(ids)], back }));
      `),
    );
    assert.equal(await child.exit(), 0, child.stderr);
    const { uid, gid } = findUser('nobody');
    const { threads, ids, back } = JSON.parse(child.stdout);
    assert.ok(threads > 1);
    const four = (id: number): string => Array(4).fill(id).join('\t');
    assert.deepEqual(ids, [`${four(uid)} | ${four(gid)} | ${gid} | 0000000000000000 | 0000000000000000`]);
    assert.equal(back, 'EPERM');
  });

  test('keeps one capability on this thread and on those that it starts, and none on the others', asRoot, async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { readdirSync, readFileSync } from 'node:fs';
        import { lookup } from 'node:dns/promises';
        import { Worker } from 'node:worker_threads';
        import { once } from 'node:events';
        import { dropPrivileges, findUser } from './control/privileges.js';
        await lookup('localhost');
        const sets = () => Object.fromEntries(readdirSync('/proc/self/task').map((thread) => {
          const status = readFileSync('/proc/self/task/' + thread + '/status', 'latin1');
          return [thread, ['CapPrm', 'CapEff', 'CapInh', 'CapAmb'].map((name) =>
            Number('0x' + status.match(new RegExp('^' + name + ':\\\\t(.*)$', 'm'))[1])).join()];
        }));
        dropPrivileges(findUser('nobody'), [13]);
        const before = sets();
        const worker = new Worker('setInterval(() => {}, 1000)', { eval: true });
        await once(worker, 'online');
        const after = sets();
        await worker.terminate();
        let back = 'never';
        try { process.setuid(0); back = 'root'; } catch (error) { back = error.code; }
        console.log(JSON.stringify({ pid: process.pid, before, after, back }));
      `),
    );
    assert.equal(await child.exit(), 0, child.stderr);
    const { pid, before, after, back } = JSON.parse(child.stdout) as Record<
      'before' | 'after',
      Record<string, string>
    > & {
      pid: number;
      back: string;
    };
    const kept = `${1 << 13},${1 << 13},0,0`;
    const { [pid]: first, ...others } = before;
    assert.equal(first, kept);
    assert.ok(Object.keys(others).length > 0);
    assert.deepEqual(new Set(Object.values(others)), new Set(['0,0,0,0']));
    const started = Object.keys(after).filter((thread) => !(thread in before));
    assert.ok(started.length > 0);
    assert.deepEqual(new Set(started.map((thread) => after[thread])), new Set([kept]));
    assert.equal(back, 'EPERM');
  });

  test('is a failure that says which step was refused, for a user who may not', asRoot, async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { dropPrivileges, findUser } from './control/privileges.js';
        try { dropPrivileges(findUser('root')); } catch (error) { console.log(error.exitCode, error.message); }
      `),
      { uid: 65_534 },
    );
    assert.equal(await child.exit(), 0, child.stderr);
    assert.match(child.stdout, /^77 can't become user root \(uid 0, gid 0\): initgroups: /);
  });
});

describe('capabilitiesFor', () => {
  const transparency = {
    ...planOf('-d -s 1 -t'),
    services: [{ ...DEFAULT_SERVICE, name: '', listen: [], spoof: true }],
  };

  const tproxy = '-d -s 1 --intercept tproxy';

  test('is none for services that need none', () => {
    for (const line of ['-d -s 1 --ftp both', tproxy, `${tproxy} --ftp port`]) {
      assert.deepEqual(capabilitiesFor(planOf(`${line} -t`)), [], line);
    }
  });

  test('is CAP_NET_RAW for root, who has both', asRoot, () => {
    assert.deepEqual(capabilitiesFor(transparency), [13]);
    assert.deepEqual(capabilitiesFor(planOf(`${tproxy} --ftp pasv -t`)), [13]);
  });

  test('is CAP_NET_BIND_SERVICE too for datagrams, which may be answered from a port below 1024', asRoot, () => {
    const [service] = transparency.services;
    const udp = { ...DEFAULT_SERVICE, ...service, spoof: false, protocol: 'udp', intercept: 'tproxy' } as const;
    assert.deepEqual(capabilitiesFor({ ...transparency, services: [{ ...udp, name: '', listen: [] }] }), [13, 10]);
  });

  test('is a failure that names what is missing, for a user without', asRoot, async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { capabilitiesFor } from './control/privileges.js';
        const plan = ${JSON.stringify(transparency)};
        try { capabilitiesFor(plan); } catch (error) { console.log(error.exitCode, error.message); }
      `),
      { uid: 65_534 },
    );
    assert.equal(await child.exit(), 0, child.stderr);
    assert.match(child.stdout, /^77 .*root, CAP_NET_RAW or CAP_NET_ADMIN$/m);
  });
});
