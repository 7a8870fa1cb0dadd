import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Option, readArguments } from '../../src/config/command-line.js';
import { UsageError } from '../../src/config/usage-error.js';

const OPTIONS: readonly Option[] = [
  { long: 'server', short: 's', takes: 'many' },
  { long: 'user', aliases: ['as_user', 'run-as'], short: 'r', takes: 'one' },
  { long: 'debug', aliases: ['verbose'], short: 'd', takes: 'switch' },
  { long: 'transparent', short: 't', takes: 'switch' },
  { long: 'idle', takes: 'one' },
];

const read = (...argv: string[]) => {
  const { switches, values, positionals } = readArguments(OPTIONS, argv);
  return { switches: [...switches], values: Object.fromEntries(values), positionals };
};
const refused = (argv: string[], message: RegExp) =>
  assert.throws(
    () => readArguments(OPTIONS, argv),
    (error) => error instanceof UsageError && message.test(error.message),
    argv.join(' '),
  );

describe('readArguments', () => {
  it('takes a value from the next argument, from behind =, and from the same argument', () => {
    for (const argv of [['-r', 'me'], ['-rme'], ['--user', 'me'], ['--user=me']]) {
      assert.deepEqual(read(...argv).values, { user: ['me'] }, argv.join(' '));
    }
  });

  it('takes an option by each of its names', () => {
    for (const argv of [['--as_user', 'me'], ['--as_user=me'], ['--run-as=me']]) {
      assert.deepEqual(read(...argv).values, { user: ['me'] }, argv.join(' '));
    }
    assert.deepEqual(read('--verbose').switches, ['debug']);
    refused(['--user=a', '--as_user=b'], /^-r \(--user\) is given more than once: "a", "b"$/);
    refused(['--verbose=x'], /^-d \(--debug\) takes no value/);
  });

  it('bundles switches, the last letter of a bundle may take a value', () => {
    const { switches, values } = read('-dts8081');
    assert.deepEqual(switches, ['debug', 'transparent']);
    assert.deepEqual(values, { server: ['8081'] });
    assert.deepEqual(read('-dr', 'root9').values, { user: ['root9'] });
  });

  it('leaves the arguments behind a switch alone, even when they read true or false', () => {
    assert.deepEqual(read('-t', 'true', '25'), { switches: ['transparent'], values: {}, positionals: ['true', '25'] });
    assert.deepEqual(read('--debug', 'false').switches, ['debug']);
    assert.deepEqual(read('--debug', 'false').positionals, ['false']);
  });

  it('keeps numbers as they were written', () => {
    assert.deepEqual(read('-s', '0080', '--idle', '1e3', '0x10', '007').values, { server: ['0080'], idle: ['1e3'] });
    assert.deepEqual(read('0x10', '007').positionals, ['0x10', '007']);
  });

  it('collects the values of a repeatable option in order', () => {
    assert.deepEqual(read('-s', '1', '--server=2', '-s3').values, { server: ['1', '2', '3'] });
  });

  it('reads options and positional arguments in any order, and no options behind --', () => {
    assert.deepEqual(read('host', '-d', '80').positionals, ['host', '80']);
    assert.deepEqual(read('--', '-d', '--user', '--'), {
      switches: [],
      values: {},
      positionals: ['-d', '--user', '--'],
    });
  });

  it('takes a value that begins with - only from behind =', () => {
    assert.deepEqual(read('--user=-d').values, { user: ['-d'] });
    refused(['--user', '-d'], /^-r \(--user\) needs a value$/);
  });

  it('refuses an unknown option and names it', () => {
    refused(['-x'], /^unknown option "-x"$/);
    refused(['-dx'], /^unknown option "-x" in "-dx"$/);
    for (const option of [
      '--users',
      '--us',
      '--no-debug',
      '--user.x',
      '--constructor',
      '--__proto__',
      '--toString=1',
    ]) {
      refused([option], new RegExp(`^unknown option "${option}"$`));
    }
  });

  it('refuses a missing or empty value', () => {
    for (const argv of [['-r'], ['-r', ''], ['--user='], ['--user', ''], ['--user'], ['-r', '--', 'me']]) {
      refused(argv, /^-r \(--user\) needs a value$/);
    }
    refused(['--idle'], /^--idle needs a value$/);
    refused(['-s', '80', '-s', ''], /^-s \(--server\) needs a value$/);
  });

  it('refuses a second value of an option that takes one', () => {
    refused(['-r', 'a', '--user', 'b'], /^-r \(--user\) is given more than once: "a", "b"$/);
  });

  it('refuses a value for a switch', () => {
    refused(['--debug=no'], /^-d \(--debug\) takes no value: "--debug=no"$/);
  });

  it('allows a switch to be given again', () => {
    assert.deepEqual(read('-d', '-d', '--debug').switches, ['debug']);
  });
});
