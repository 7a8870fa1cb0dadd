import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CHECKS } from '../../scripts/fuzz/parsers.js';
import { throwAtParsers } from '../../scripts/fuzz/throw.js';

const INPUTS = 3000;

/** Any will do; one that is always the same leaves nothing to chance. `npm run fuzz` takes another each time. */
const SEED = 1;

describe('bytes that went wrong', () => {
  for (const check of CHECKS) {
    test(`are read in one way only, and by no exception: ${check.name}`, () => {
      assert.deepEqual(throwAtParsers(SEED, 0, INPUTS, [check]), []);
    });
  }
});
