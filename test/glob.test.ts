import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { matchesGlob } from '../src/glob.js';

describe('a glob', () => {
  const cases: [string, string, boolean][] = [
    ['', '', true],
    ['', '1', false],
    ['*', '', true],
    ['*', '10.0.0.1', true],
    ['**', '10.0.0.1', true],
    ['?', '', false],
    ['10.0.0.?', '10.0.0.', false],
    ['10.0.0.?', '10.0.0.12', false],
    ['10.*.1', '10.1.1', true],
    ['10.*.1', '10.0.1.0.1', true],
    ['10.*.1', '10.1', false],
    ['*.1', '10.0.0.11', false],
    ['10.0.0.1', '10.0.0.12', false],
    ['1?.*', '10.0.0.1', true],
    ['10.0.0.1*', '10.0.0.1', true],
    ['[1]0', '10', false],
    ['10.0.0.1', '10x0.0.1', false],
  ];
  for (const [glob, text, matches] of cases) {
    test(`${JSON.stringify(glob)} ${matches ? 'is' : 'is not'} ${JSON.stringify(text)}`, () => {
      assert.equal(matchesGlob(glob, text), matches);
    });
  }

  test('means what the same regular expression means', () => {
    const letters = fc.array(fc.constantFrom('1', '0', '.', ':'), { maxLength: 12 }).map((all) => all.join(''));
    const glob = fc.array(fc.constantFrom('1', '0', '.', ':', '*', '?'), { maxLength: 8 }).map((all) => all.join(''));
    fc.assert(
      fc.property(glob, letters, (pattern, text) => {
        const same = pattern.replaceAll('.', '\\.').replaceAll('?', '.').replaceAll('*', '.*');
        assert.equal(matchesGlob(pattern, text), new RegExp(`^${same}$`, 's').test(text));
      }),
      { numRuns: 2000 },
    );
  });

  test('of many stars takes no long time for a text that it is not', () => {
    assert.equal(matchesGlob(`${'*1'.repeat(2000)}0`, '1'.repeat(20_000)), false);
  });
});
