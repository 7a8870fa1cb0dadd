import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resolveHost, resolveHostPort, resolveService } from '../../src/control/resolve.js';
import { targetTo } from '../../src/plan.js';
import { serviceOf, upstreamOf } from '../data/rig.js';

describe('resolve', () => {
  test('an address stands for itself, in the one spelling that the kernel has for it', async () => {
    assert.deepEqual(await resolveHost('2001:DB8:0::0001'), ['2001:db8::1']);
    assert.deepEqual(await resolveHost('192.0.2.1'), ['192.0.2.1']);
    assert.deepEqual(await resolveHost('2001:db8::1'), ['2001:db8::1']);
  });

  test('a name of /etc/hosts is found, each address once', async () => {
    const found = await resolveHost('localhost');
    assert.ok(found.includes('127.0.0.1') || found.includes('::1'));
    assert.equal(new Set(found).size, found.length);
  });

  test('a host has its port at each address', async () => {
    assert.deepEqual(await resolveHostPort({ host: '192.0.2.1', port: 3128 }), [{ ip: '192.0.2.1', port: 3128 }]);
  });

  test('a name that nobody has is a failure with the name, the reason and the exit code for hosts', async () => {
    await assert.rejects(resolveHost('no such host'), {
      name: 'Failure',
      message: /^can't find the host no such host: E[A-Z_]+$/,
      exitCode: 68,
    });
  });

  test('the hosts of a service are its upstreams, then its target; one that nobody has is a problem, not the end', async () => {
    const upstreams = [upstreamOf({ host: '192.0.2.1', port: 3128 }), upstreamOf({ host: 'no such host' })];
    const targets = [targetTo({ host: '192.0.2.2', port: 25 })];
    const { addresses, problems } = await resolveService(serviceOf({ upstreams, targets }));
    assert.deepEqual(addresses, [[{ ip: '192.0.2.1', port: 3128 }], [], [{ ip: '192.0.2.2', port: 25 }]]);
    assert.deepEqual(
      problems.map(({ message }) => message.replace(/E[A-Z_]+$/, '')),
      ["can't find the host no such host: "],
    );
  });

  test('a target that only upstreams may go to is not looked up: it is a name of theirs', async () => {
    const upstreams = [upstreamOf({ host: '192.0.2.1', port: 3128 })];
    const targets = [targetTo({ host: 'no such host', port: 25 })];
    const { addresses, problems } = await resolveService(serviceOf({ upstreams, targets, proxyOnly: true }));
    assert.deepEqual(addresses, [[{ ip: '192.0.2.1', port: 3128 }]]);
    assert.deepEqual(problems, []);
    await assert.rejects(resolveService(serviceOf({ targets, proxyOnly: true })), /no such host/);
  });

  test('a service none of whose upstreams is found has nowhere to go, whatever its target is', async () => {
    const upstreams = [upstreamOf({ host: 'no such host' })];
    await assert.rejects(
      resolveService(serviceOf({ upstreams, targets: [targetTo({ host: '192.0.2.2', port: 25 })] })),
      {
        name: 'Failure',
        exitCode: 68,
      },
    );
    await assert.rejects(
      resolveService(serviceOf({ targets: [targetTo({ host: 'no such host', port: 25 })] })),
      /no such host/,
    );
  });
});
