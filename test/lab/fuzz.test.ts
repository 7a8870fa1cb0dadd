import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { throwAtDaemons } from '../../scripts/fuzz/daemon.js';
import { unless } from '../support/needs.js';

/** Of the ways to run a daemon those that differ most; `npm run fuzz` has them all. */
const RIGS = ['default', 'strict'];

describe('a daemon that hostile clients and upstreams talk to', { skip: unless('program nft') }, () => {
  test('goes on serving, and keeps no descriptor of what is over', async () => {
    const results = await throwAtDaemons(1, 1, RIGS);
    assert.deepEqual(
      results.map(({ rig, wrong }) => [rig, wrong]),
      RIGS.map((rig) => [rig, null]),
    );
  });
});
