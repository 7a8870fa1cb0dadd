import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AccessEntries, formatTime } from '../../src/data/access-entries.js';

describe('the access log', () => {
  test('writes the time as transproxy does, in local time, with leading zeros', () => {
    assert.equal(formatTime(new Date(2026, 10, 22, 20, 48, 41)), '2026/11/22 20:48:41');
    assert.equal(formatTime(new Date(2027, 0, 2, 3, 4, 5, 999)), '2027/01/02 03:04:05');
  });

  test('has whole lines: time, two spaces, entry', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: new Date(2026, 10, 22, 20, 48, 41) });
    const flushed: string[] = [];
    const entries = new AccessEntries((lines) => flushed.push(lines));
    entries.add('Request_NoDNS 1 10.77.1.2 -> http://host/path');
    t.mock.timers.setTime(new Date(2026, 10, 22, 20, 48, 42, 500).getTime());
    entries.add('Request_NoDNS 2 10.77.1.2 -> http://host/path');
    assert.deepEqual(flushed, [], 'entries of one turn go together');
    entries.flush();
    assert.deepEqual(flushed, [
      '2026/11/22 20:48:41  Request_NoDNS 1 10.77.1.2 -> http://host/path\n' +
        '2026/11/22 20:48:42  Request_NoDNS 2 10.77.1.2 -> http://host/path\n',
    ]);
  });

  test('flushes nothing when there is nothing, and each entry once', () => {
    const flushed: string[] = [];
    const entries = new AccessEntries((lines) => flushed.push(lines));
    entries.flush();
    entries.add('one');
    entries.flush();
    entries.flush();
    assert.equal(flushed.length, 1);
  });

  test('does not collect without bound within a turn', () => {
    let longest = 0;
    let count = 0;
    const entries = new AccessEntries((lines) => {
      longest = Math.max(longest, lines.length);
      count += lines.split('\n').length - 1;
    });
    for (let i = 0; i < 5000; i++) entries.add('x'.repeat(1000));
    entries.flush();
    assert.equal(count, 5000);
    assert.ok(longest < 128 * 1024, `${longest} characters at once`);
  });
});
