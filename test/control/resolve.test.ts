import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resolveHost, resolveUpstream } from '../../src/control/resolve.js';

describe('resolve', () => {
  test('an address stands for itself', async () => {
    assert.deepEqual(await resolveHost('192.0.2.1'), ['192.0.2.1']);
    assert.deepEqual(await resolveHost('2001:db8::1'), ['2001:db8::1']);
  });

  test('a name of /etc/hosts is found, each address once', async () => {
    const found = await resolveHost('localhost');
    assert.ok(found.includes('127.0.0.1') || found.includes('::1'));
    assert.equal(new Set(found).size, found.length);
  });

  test('an upstream has its port at each address', async () => {
    assert.deepEqual(await resolveUpstream({ host: '192.0.2.1', port: 3128 }), [{ ip: '192.0.2.1', port: 3128 }]);
  });

  test('a name that nobody has is a failure with the name, the reason and the exit code for hosts', async () => {
    await assert.rejects(resolveHost('no such host'), {
      name: 'Failure',
      message: /^can't find the host no such host: E[A-Z_]+$/,
      exitCode: 68,
    });
  });
});
