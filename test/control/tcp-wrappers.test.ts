import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { TcpWrappers } from '../../src/control/tcp-wrappers.js';
import { Child, folder, moduleLines } from './children.js';

const NOBODY = 65534;

/** Wrappers that answer `allowed` and remember what they were asked; names come from `names`. */
const recording = (allowed: boolean, names: Record<string, string> = {}) => {
  const asked: string[][] = [];
  const judge = (...question: string[]): boolean => {
    asked.push(question);
    return allowed;
  };
  const nameOf = async (ip: string): Promise<string[]> => (names[ip] === undefined ? [] : [names[ip]]);
  return { asked, wrappers: new TcpWrappers(judge, nameOf, []) };
};

describe('TCP wrappers', () => {
  test('are asked with the service, the name that the client is found by, and its address', async () => {
    const { asked, wrappers } = recording(true, { '192.0.2.1': 'client.test' });
    assert.equal(await wrappers.refusal('relayd', '192.0.2.1'), null);
    assert.deepEqual(asked, [['relayd', 'client.test', '192.0.2.1']]);
  });

  test('are told that a client is unknown when it has no name, or no address', async () => {
    const { asked, wrappers } = recording(true);
    await wrappers.refusal('relayd', '2001:db8::1');
    await wrappers.refusal('relayd', null);
    assert.deepEqual(asked, [
      ['relayd', 'unknown', '2001:db8::1'],
      ['relayd', 'unknown', 'unknown'],
    ]);
  });

  test('know a link-local client by its address without the interface', async () => {
    const { asked, wrappers } = recording(true);
    await wrappers.refusal('relayd', 'fe80::1%3');
    assert.deepEqual(asked, [['relayd', 'unknown', 'fe80::1']]);
  });

  test('refuse with who was refused what', async () => {
    const { wrappers } = recording(false, { '192.0.2.1': 'client.test' });
    assert.equal(await wrappers.refusal('relayd', '192.0.2.1'), "its name is client.test, the service's relayd");
  });

  test('take a client for unknown when its name is not found soon', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const asked: string[][] = [];
    const judge = (...question: string[]): boolean => {
      asked.push(question);
      return true;
    };
    const wrappers = new TcpWrappers(judge, () => new Promise(() => {}), []);
    const answer = wrappers.refusal('relayd', '192.0.2.1');
    t.mock.timers.tick(2999);
    assert.deepEqual(asked, []);
    t.mock.timers.tick(1);
    assert.equal(await answer, null);
    assert.deepEqual(asked, [['relayd', 'unknown', '192.0.2.1']]);
  });

  test('refuse everybody while a table is there that may not be read: for the library it would not be there', {
    skip: process.getuid?.() === 0 ? false : 'it changes users, which needs root',
  }, async (t) => {
    const place = folder(t);
    chmodSync(place, 0o755);
    const table = `${place}/hosts.deny`;
    writeFileSync(table, 'ALL: ALL\n');
    chmodSync(table, 0o600);
    const child = new Child(
      t,
      moduleLines(`
        import { TcpWrappers } from './control/tcp-wrappers.js';
        const wrappers = new TcpWrappers(() => true, async () => [], ['/nonexistent/hosts.allow', '${table}']);
        process.stdout.write(String(await wrappers.refusal('relayd', '192.0.2.1')));
      `),
      { uid: NOBODY },
    );
    await child.exit();
    assert.equal(child.stdout, `${table}: EACCES`, child.stderr);
  });

  test('find the name of an address by /etc/hosts too', async () => {
    const asked: string[][] = [];
    const wrappers = new TcpWrappers(
      (...question) => {
        asked.push(question);
        return true;
      },
      undefined,
      [],
    );
    await wrappers.refusal('relayd', '127.0.0.1');
    assert.deepEqual(asked, [['relayd', 'localhost', '127.0.0.1']]);
  });
});
