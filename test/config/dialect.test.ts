import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chooseDialect } from '../../src/config/dialect.js';
import { UsageError } from '../../src/config/usage-error.js';
import { EX, Failure } from '../../src/failure.js';

/** Arguments that come close to being right, among any others. */
const argument = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 5 }),
  fc.string({ unit: 'binary', maxLength: 3 }).map((text) => `-${text}`),
  fc.string({ unit: fc.constantFrom(...'-=sbrtpfaldPwvhinxmoIz01./:#'), maxLength: 8 }),
  fc.constantFrom('-s', '-b', '-r', '-t', '-p', '-f', '-a', '-l', '-d', '-P', '-w', '-', '--', '---', '--no-user'),
  fc.constantFrom(
    '--timeout',
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
    '--as',
    '--ftp',
    '--ftp-ports',
    '--source',
    '--spoof',
    '--max-bandwidth',
    '--random_wait',
    '--wait-in-out',
    '--ident',
    '--lport',
    '--cport',
    '--connect',
    '--inetd',
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
    ':8081',
    '[::1]:80',
    'a:http',
    'both',
    '2000-3000',
    '3',
  ),
);

const DIALECTS = ['tproxy', 'redir', 'rinetd'];

describe('a dialect', () => {
  for (const program of DIALECTS) {
    it(`of ${program} gives a plan, a text, or one line that says what is wrong, whatever the arguments are`, async () => {
      const { parse } = await chooseDialect(program, []);
      const outcomes = new Set<string>();
      await fc.assert(
        fc.asyncProperty(fc.array(argument, { maxLength: 8 }), async (argv) => {
          try {
            outcomes.add((await parse(argv)).kind);
          } catch (error) {
            assert.ok(error instanceof Failure, String(error));
            // A file is named by -c, or missing where rinetd has it.
            assert.ok([EX.USAGE, EX.NOINPUT, EX.CONFIG].some((code) => code === error.exitCode));
            assert.doesNotMatch(error.message, /[^\P{Cc}\n]/u);
            outcomes.add('failure');
          }
        }),
        { numRuns: 10_000, seed: 1 },
      );
      // What plan there is for rinetd depends on files.
      outcomes.delete(program === 'rinetd' ? 'plan' : '');
      assert.deepEqual([...outcomes].sort(), ['failure', ...(program === 'rinetd' ? [] : ['plan']), 'print']);
    });
  }
});

describe('chooseDialect', () => {
  const usage = async (program: string, ...argv: string[]) => {
    const commandLine = await chooseDialect(program, argv);
    return [commandLine.usage.split(' ')[1], ...commandLine.argv];
  };

  it("goes by the program's name: redir, rinetd and theirs with tproxy- in front, any other is transproxy", async () => {
    assert.deepEqual(await usage('redir', '-n'), ['tproxy-redir', '-n']);
    assert.deepEqual(await usage('tproxy-redir', '-n'), ['tproxy-redir', '-n']);
    assert.deepEqual(await usage('rinetd', '-f'), ['tproxy-rinetd', '-f']);
    assert.deepEqual(await usage('tproxy-rinetd', '-f'), ['tproxy-rinetd', '-f']);
    for (const name of ['tproxy', 'main.js', 'redirect', '__proto__', '']) {
      assert.deepEqual(await usage(name, '-n'), ['tproxy', '-n'], name);
    }
  });

  it('goes by --as before that, which is not among the arguments then', async () => {
    assert.deepEqual(await usage('tproxy', '--as', 'redir', '-n'), ['tproxy-redir', '-n']);
    assert.deepEqual(await usage('tproxy', '--as=redir', '-n'), ['tproxy-redir', '-n']);
    assert.deepEqual(await usage('redir', '--as', 'rinetd', '-f'), ['tproxy-rinetd', '-f']);
    assert.deepEqual(await usage('redir', '--as', 'transproxy', '-n'), ['tproxy', '-n']);
    assert.deepEqual(await usage('redir', '-n', '--as', 'transproxy'), ['tproxy-redir', '-n', '--as', 'transproxy']);
  });

  it('takes --check and --to-yaml out of the arguments, wherever they stand and whatever the dialect is', async () => {
    const purpose = async (...argv: string[]) => {
      const commandLine = await chooseDialect('tproxy', argv);
      return [commandLine.purpose, commandLine.usage.split(' ')[1], ...commandLine.argv];
    };
    assert.deepEqual(await purpose('-c', 'x'), ['run', 'tproxy', '-c', 'x']);
    assert.deepEqual(await purpose('--check', '-c', 'x'), ['check', 'tproxy', '-c', 'x']);
    assert.deepEqual(await purpose('-c', 'x', '--check'), ['check', 'tproxy', '-c', 'x']);
    assert.deepEqual(await purpose('--as', 'redir', '--to-yaml', '-n'), ['to-yaml', 'tproxy-redir', '-n']);
    assert.deepEqual(await purpose('--to-yaml', '--as=rinetd', '-f'), ['to-yaml', 'tproxy-rinetd', '-f']);
    assert.deepEqual(await purpose('--check', 'proxy', '80'), ['check', 'tproxy', 'proxy', '80']);
    assert.deepEqual(await purpose('--', '--check', '--to-yaml'), ['run', 'tproxy', '--', '--check', '--to-yaml']);
  });

  it('leaves --check SECONDS to the dialect that has it', async () => {
    for (const argv of [
      ['--check', '5', 'proxy', '80'],
      ['--check=5', 'proxy', '80'],
      ['proxy', '80', '--check', '0.5'],
    ]) {
      assert.deepEqual(await chooseDialect('tproxy', argv).then(({ purpose, argv: rest }) => [purpose, ...rest]), [
        'run',
        ...argv,
      ]);
    }
    const both = await chooseDialect('tproxy', ['--check', '--check', '5', 'proxy', '80']);
    assert.deepEqual([both.purpose, ...both.argv], ['check', '--check', '5', 'proxy', '80']);
  });

  it('refuses a dialect that there is none of', async () => {
    const refused = (argv: string[], message: RegExp) =>
      assert.rejects(
        chooseDialect('tproxy', argv),
        (error) => error instanceof UsageError && message.test(error.message),
        argv.join(' '),
      );
    await refused(['--as', 'rinet'], /^--as: "rinet" is none of transproxy, redir, rinetd$/);
    await refused(['--as=__proto__'], /^--as: "__proto__" is none of transproxy, redir, rinetd$/);
    await refused(['--as='], /^--as: "" is none of/);
    await refused(['--as'], /^--as needs a value: transproxy, redir, rinetd$/);
  });
});
