import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseCommandLine } from '../../src/config/dialect.js';
import { EX, Failure } from '../../src/failure.js';

/** Arguments that come close to being right, among any others. */
const argument = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 5 }),
  fc.string({ unit: 'binary', maxLength: 3 }).map((text) => `-${text}`),
  fc.string({ unit: fc.constantFrom(...'-=sbrtpfaldPwvh01./:#'), maxLength: 8 }),
  fc.constantFrom('-s', '-b', '-r', '-t', '-p', '-f', '-a', '-l', '-d', '-P', '-w', '-', '--', '---', '--no-user'),
  fc.constantFrom(
    '--idle',
    '--head-bytes',
    '--log-level',
    '--exit-idle',
    '--first-byte',
    '--upstream',
    '--balance',
    '--unknown',
    '--via',
    '--no-via',
    '--trust',
    '--__proto__',
    '--constructor',
  ),
  fc.constantFrom(
    '8081',
    '0',
    'http',
    'proxy',
    '::1',
    '[::1]',
    '10.0.0.0/8',
    '::/0',
    'http://a/',
    '#1',
    'info',
    'direct',
    'a:1',
    'socks5://u:p@a:1',
    'true',
  ),
);

describe('parseCommandLine', () => {
  it('gives a plan, a text, or one line that says what is wrong, whatever the arguments are', () => {
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(fc.array(argument, { maxLength: 8 }), (argv) => {
        try {
          outcomes.add(parseCommandLine('tproxy', argv).kind);
        } catch (error) {
          assert.ok(error instanceof Failure, String(error));
          assert.equal(error.exitCode, EX.USAGE);
          assert.doesNotMatch(error.message, /\p{Cc}/u);
          outcomes.add('failure');
        }
      }),
      { numRuns: 5000, seed: 1 },
    );
    assert.deepEqual([...outcomes].sort(), ['failure', 'plan', 'print']);
  });
});
