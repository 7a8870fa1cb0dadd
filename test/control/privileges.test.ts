import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findUser } from '../../src/control/privileges.js';
import { Child, moduleLines } from './children.js';

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
