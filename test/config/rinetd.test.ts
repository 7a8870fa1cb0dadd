import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Request } from '../../src/config/command-line.js';
import { chooseDialect } from '../../src/config/dialect.js';
import { parseRinetd } from '../../src/config/rinetd.js';
import { UsageError } from '../../src/config/usage-error.js';
import { EX, Failure } from '../../src/failure.js';
import { ConfFolder } from '../support/conf.js';

const folder = new ConfFolder();
after(() => folder.remove());
const file = join(folder.path, 'rinetd.conf');
const RULE = '127.0.0.1 8080 192.0.2.1 80\n';
folder.write('rinetd.conf', RULE);

const planOf = (request: Request) => (request.kind === 'plan' ? request.plan : assert.fail('no plan'));
const plan = (...argv: string[]) => planOf(parseRinetd(['-c', file, ...argv]));
const refused = (argv: string[], message: RegExp) =>
  assert.throws(
    () => parseRinetd(argv),
    (error) => error instanceof UsageError && message.test(error.message),
    argv.join(' '),
  );
const asRoot = process.geteuid?.() === 0;

describe('a command line of rinetd', () => {
  it('names the file, and may ask for the foreground and for more in the log', () => {
    for (const argv of [
      ['-f', '-d', '-c', file],
      ['--foreground', '--debug', `--conf-file=${file}`],
    ]) {
      const { foreground, logLevel, ident, services } = planOf(parseRinetd(argv));
      assert.deepEqual([foreground, logLevel, ident, services.length], [true, 'debug', 'rinetd', 1]);
    }
    assert.deepEqual([plan().foreground, plan().logLevel], [false, 'info']);
  });

  it("has tproxy's options for the process, which go before what the file says", () => {
    folder.write('pid.conf', `pidlogfile /run/file.pid\n${RULE}`);
    const read = plan('-r', 'nobody', '--workers', '3', '--pid-file', '/run/a.pid', '--syslog', '--ident', 'x');
    assert.deepEqual(
      [read.user, read.workers, read.pidFile, read.logTo, read.ident],
      ['nobody', 3, '/run/a.pid', 'syslog', 'x'],
    );
    const other = join(folder.path, 'pid.conf');
    assert.equal(planOf(parseRinetd(['-c', other])).pidFile, '/run/file.pid');
    assert.equal(planOf(parseRinetd(['-c', other, '--pid-file', '/run/a.pid'])).pidFile, '/run/a.pid');
    assert.equal(plan('--log-level', 'warn').logLevel, 'warn');
  });

  it('drains, and takes over, and then has a pid file for the next one', () => {
    assert.equal(plan('--drain', '1.5').drain, 1500);
    const request = parseRinetd(['-f', '-c', file, '--takeover', '/run/a.pid']);
    assert.ok(request.kind === 'plan');
    assert.deepEqual([request.takeover, request.plan.pidFile], ['/run/a.pid', '/run/a.pid']);
    assert.equal(request.file?.reread().plan.pidFile, '/run/a.pid');
    const other = parseRinetd(['-f', '-c', file, '--takeover', '/run/a.pid', '--pid-file', '/run/b.pid']);
    assert.equal(planOf(other).pidFile, '/run/b.pid');
  });

  it("writes rinetd's pid file where none is named: root's daemon, and nobody else", () => {
    assert.equal(plan().pidFile, asRoot ? '/var/run/rinetd.pid' : null);
    assert.equal(plan('-f').pidFile, null);
  });

  it('is refused with what is none of its arguments', () => {
    refused(['x'], /^too many arguments: "x"$/);
    refused(['-s', '80'], /^unknown option "-s"$/);
    refused(['-c', 'a', '-c', 'b'], /^-c \(--conf-file\) is given more than once/);
    refused(['-d', '--log-level', 'info'], /^--log-level contradicts -d \(--debug\)$/);
  });

  it('fails without the file, by its name', () => {
    assert.throws(
      () => parseRinetd(['-c', '/none/rinetd.conf']),
      (error) =>
        error instanceof Failure && error.exitCode === EX.NOINPUT && error.message === '/none/rinetd.conf: ENOENT',
    );
  });

  it('reads the file anew when asked, from where it began, and tells what is strange in it', () => {
    const cwd = process.cwd();
    process.chdir(folder.path);
    const request = parseRinetd(['-c', 'rinetd.conf']);
    process.chdir('/');
    try {
      assert.ok(request.kind === 'plan' && request.file !== undefined);
      assert.deepEqual(request.file.warnings, []);
      folder.write('rinetd.conf', `${RULE}buffersize 2048\n0 1 b 2\n`);
      const { plan, warnings } = request.file.reread();
      assert.equal(plan.services.length, 2);
      assert.equal(warnings.length, 1);
      folder.write('rinetd.conf', 'foo\n');
      assert.throws(request.file.reread, /^Failure: rinetd\.conf:1:1: "foo"/);
    } finally {
      process.chdir(cwd);
      folder.write('rinetd.conf', RULE);
    }
  });
});

describe('tproxy -c', async () => {
  const { parse } = await chooseDialect('tproxy', []);

  it("reads a rinetd.conf with tproxy's own defaults and options", async () => {
    const read = planOf(await parse(['-c', file, '-d', '-w', '2']));
    assert.deepEqual(
      [read.services.length, read.ident, read.foreground, read.workers, read.pidFile, read.logLevel],
      [1, 'tproxy', true, 2, null, 'info'],
    );
    assert.deepEqual(read.services, plan().services);
  });

  it('drains, and takes over', async () => {
    const request = await parse(['-c', file, '--drain', '2', '--takeover', '/run/a.pid']);
    assert.ok(request.kind === 'plan');
    assert.deepEqual([request.takeover, request.plan.pidFile, request.plan.drain], ['/run/a.pid', '/run/a.pid', 2000]);
  });

  it('takes no service from the command line beside it', async () => {
    for (const argv of [['-s', '80'], ['-t'], ['--upstream', 'a:1'], ['-l', '/log'], ['--timeout', '1']]) {
      await assert.rejects(
        async () => parse(['-c', file, ...argv]),
        (error) => error instanceof UsageError && / contradicts -c \(--conf-file\), whose file /.test(error.message),
        argv.join(' '),
      );
    }
    await assert.rejects(
      async () => parse(['-c', file, 'proxy', '3128']),
      /"proxy" is one argument too many beside -c/,
    );
  });
});

describe('the examples of the documents', () => {
  const root = new URL('../../../', import.meta.url);
  const blocks = (path: string, begin: RegExp): string[] => {
    const text = readFileSync(new URL(path, root), 'utf8');
    return [...text.matchAll(begin)].map(([, block]) => block ?? '');
  };

  it('are right, without a warning', () => {
    const fenced = /^```\n(#.*?)^```$/gms;
    const literal = /^\.Bd -literal -offset indent\n(.*?)^\.Ed$/gms;
    const examples = [
      ...blocks('docs/rinetd.md', fenced),
      ...blocks('README.md', fenced).filter((text) => text.includes('rinetd.conf')),
      ...blocks('docs/tproxy-rinetd.1', literal),
    ];
    assert.equal(examples.length, 4);
    for (const example of examples) assert.deepEqual(folder.read(example, 'example.conf').warnings, []);
  });

  it('have every word of the grammar in the manual page', async () => {
    const page = readFileSync(new URL('docs/tproxy-rinetd.1', root), 'utf8');
    const { WORDS } = await import('../../src/config/rinetd-words.js');
    for (const { shown = '' } of Object.values(WORDS)) assert.match(page, new RegExp(`\\b${shown}[= ,]`), shown);
  });
});
