import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { shareDescriptors } from '../../src/control/limits.js';
import { Child, moduleLines } from './children.js';

describe('shareDescriptors', () => {
  test('never gives out more descriptors than there are, if there are enough for all', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 1_000_000 }), (workers, more) => {
        const limit = 128 + 8 * workers + more;
        const { connections, pipes } = shareDescriptors(limit, workers);
        assert.ok(workers * (2 * connections + 2 * pipes) <= limit - 128);
        assert.ok(connections >= 3 * pipes - 3, 'three quarters are for connections');
      }),
    );
  });

  test('uses nearly all of them', () => {
    const { connections, pipes } = shareDescriptors(1024 * 1024, 4);
    assert.ok(4 * (2 * connections + 2 * pipes) > 0.99 * 1024 * 1024);
  });

  test('even with far too few each worker may have a connection and a pipe', () => {
    for (const limit of [0, 64, 256]) {
      const { connections, pipes } = shareDescriptors(limit, 64);
      assert.ok(connections >= 1 && pipes >= 1);
    }
  });
});

test('raiseDescriptorLimit raises the soft limit to the hard one, and says how much that is', async (t) => {
  const child = new Child(
    t,
    moduleLines(`
      import posix from 'posix';
      import { raiseDescriptorLimit } from './control/limits.js';
      posix.setrlimit('nofile', { soft: 100, hard: 3000 });
      const limit = raiseDescriptorLimit();
      const { soft, hard } = posix.getrlimit('nofile');
      console.log(JSON.stringify({ limit, soft, hard }));
    `),
  );
  assert.equal(await child.exit(), 0, child.stderr);
  assert.deepEqual(JSON.parse(child.stdout), { limit: 3000, soft: 3000, hard: 3000 });
});
