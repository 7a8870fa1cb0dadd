import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { syslogLines } from '../../src/control/log.js';
import { Child, moduleLines } from './children.js';

describe('the log on stderr', () => {
  test('has readable lines: local time, level, message', async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { openLog } from './control/log.js';
        const log = openLog('stderr', { logLevel: 'debug', ident: 'test' });
        log.write('info', 'listening on [::]:80');
        log.write('error', 'it said "no"\\nand %s');
        log.write('debug', 'detail');
      `),
      { env: { TZ: 'XYZ-3' } },
    );
    assert.equal(await child.exit(), 0);
    const lines = child.stderr.replace(/^(\S+ \S+) /gm, (_, time: string) => {
      // Within a quarter of an hour of now in that time zone: it is local time.
      const difference = Date.parse(`${time.replace(' ', 'T')}+03:00`) - Date.now();
      assert.ok(Math.abs(difference) < 900_000, time);
      return '';
    });
    assert.match(child.stderr, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} info {3}listening/);
    assert.equal(lines, 'info   listening on [::]:80\nerror  it said "no"\nand %s\ndebug  detail\n');
  });

  test('leaves out what is below its level', async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { openLog } from './control/log.js';
        const log = openLog('stderr', { logLevel: 'warn', ident: 'test' });
        for (const level of ['error', 'warn', 'notice', 'info', 'debug']) log.write(level, 'a line');
      `),
    );
    await child.exit();
    assert.deepEqual(child.stderr.match(/error|warn|notice|info|debug/g), ['error', 'warn']);
  });

  test('is no reason to end when stderr is gone', async (t) => {
    const child = new Child(
      t,
      moduleLines(`
        import { closeSync } from 'node:fs';
        import { openLog } from './control/log.js';
        const log = openLog('stderr', { logLevel: 'info', ident: 'test' });
        closeSync(2);
        log.write('info', 'to nobody');
        process.exit(7);
      `),
    );
    assert.equal(await child.exit(), 7);
  });
});

describe('a message to syslog', () => {
  test('is one for each of its lines, and none for empty ones', () => {
    assert.deepEqual(syslogLines('listening'), ['listening']);
    assert.deepEqual(syslogLines('Error: it said "no"\n    at f (a.ts:1:2)\n\n    at g (b.ts:3:4)\n'), [
      'Error: it said "no"',
      '    at f (a.ts:1:2)',
      '    at g (b.ts:3:4)',
    ]);
  });

  test('has bounds: of a line that is too long the beginning, and of too many lines the first', () => {
    const [line, ...others] = syslogLines('x'.repeat(100_000));
    assert.deepEqual(others, []);
    assert.match(String(line), /^x{1800}…$/);
    assert.equal(syslogLines('line\n'.repeat(100_000)).length, 50);
    assert.deepEqual(syslogLines('x'.repeat(1800)), ['x'.repeat(1800)]);
  });
});
