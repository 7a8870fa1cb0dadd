import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { AccessEntries, type Visit } from '../../src/data/access-entries.js';
import type { AccessLogSettings } from '../../src/plan.js';

const visit: Visit = {
  client: '192.0.2.7',
  entrance: { host: 'gate.example', port: 8080 },
  target: { host: 'www.example', port: 80 },
  fromClient: 120,
  toClient: 4500,
};

/** Entries at a moment, and what they flushed. */
const at = (
  t: TestContext,
  format: AccessLogSettings['format'],
  now = new Date(2026, 10, 22, 20, 48, 41),
): { readonly entries: AccessEntries; readonly flushed: string[] } => {
  t.mock.timers.enable({ apis: ['Date'], now });
  const flushed: string[] = [];
  return { entries: new AccessEntries(format, (lines) => flushed.push(lines)), flushed };
};

describe('the access log', () => {
  test('has whole lines of one turn together', (t) => {
    const { entries, flushed } = at(t, 'transproxy');
    entries.passed('Request_NoDNS', 1, '10.77.1.2', 'http://host/path');
    t.mock.timers.setTime(new Date(2026, 10, 22, 20, 48, 42, 500).getTime());
    entries.passed('Transparent', 2, null, 'http://host/path');
    assert.deepEqual(flushed, []);
    entries.flush();
    assert.deepEqual(flushed, [
      '2026/11/22 20:48:41  Request_NoDNS 1 10.77.1.2 -> http://host/path\n' +
        '2026/11/22 20:48:42  Transparent   2 - -> http://host/path\n',
    ]);
  });

  test('flushes nothing when there is nothing, and each entry once', (t) => {
    const { entries, flushed } = at(t, 'tab');
    entries.flush();
    entries.event('opened', visit);
    entries.flush();
    entries.flush();
    assert.equal(flushed.length, 1);
  });

  test('does not collect without bound within a turn', () => {
    let longest = 0;
    let count = 0;
    const entries = new AccessEntries('transproxy', (lines) => {
      longest = Math.max(longest, lines.length);
      count += lines.split('\n').length - 1;
    });
    for (let i = 0; i < 5000; i++) entries.passed('Request', i, null, 'x'.repeat(1000));
    entries.flush();
    assert.equal(count, 5000);
    assert.ok(longest < 128 * 1024, `${longest} characters at once`);
  });
});

describe("the access log in transproxy's format", () => {
  test('has the time in local time, with leading zeros', (t) => {
    const { entries, flushed } = at(t, 'transproxy', new Date(2027, 0, 2, 3, 4, 5, 999));
    entries.refused('ACL', 'denied', visit);
    entries.flush();
    assert.deepEqual(flushed, ['2027/01/02 03:04:05  ACL refused from 192.0.2.7\n']);
  });

  test('does not tell when connections begin and end', (t) => {
    const { entries, flushed } = at(t, 'transproxy');
    assert.equal(entries.tellsEvents, false);
    entries.event('opened', visit);
    entries.flush();
    assert.deepEqual(flushed, []);
  });
});

describe("the access log in rinetd's tab format", () => {
  test('has time with a space behind it, client, both ends, bytes from the client, bytes to it, and what became of it', (t) => {
    const { entries, flushed } = at(t, 'tab', new Date(2026, 10, 2, 3, 4, 5));
    assert.equal(entries.tellsEvents, true);
    entries.event('done-remote-closed', visit);
    entries.refused('ACL', 'not-allowed', { ...visit, fromClient: 0, toClient: 0 });
    entries.flush();
    assert.deepEqual(flushed, [
      '02/Nov/2026:03:04:05 \t192.0.2.7\tgate.example\t8080\twww.example\t80\t120\t4500\tdone-remote-closed\n' +
        '02/Nov/2026:03:04:05 \t192.0.2.7\tgate.example\t8080\twww.example\t80\t0\t0\tnot-allowed\n',
    ]);
  });

  test('has a question mark and 0 for what is not known', (t) => {
    const { entries, flushed } = at(t, 'tab');
    entries.event('accept-failed -', { ...visit, client: null, entrance: null, target: null });
    entries.flush();
    assert.match(flushed.join(''), /\t\?\t\?\t0\t\?\t0\t120\t4500\taccept-failed -\n$/);
  });

  test('has unix sockets by their path and without a port, and nothing of a path breaks a line', (t) => {
    const { entries, flushed } = at(t, 'tab');
    entries.event('opened', {
      ...visit,
      entrance: { host: '/run/a\tb\n', port: null },
      target: { path: '@\u00e9 "x"' },
    });
    entries.flush();
    assert.match(flushed.join(''), /\tunix:\/run\/a%09b%0A\t0\tunix:@%C3%A9%20%22x%22\t0\t120\t/);
  });

  test('has no line for a request', (t) => {
    const { entries, flushed } = at(t, 'tab');
    entries.passed('Request', 1, '192.0.2.7', 'http://host/');
    entries.flush();
    assert.deepEqual(flushed, []);
  });
});

describe("the access log in rinetd's common format", () => {
  const zone = (date: Date): string => /GMT([+-]\d{4})/.exec(date.toString())?.[1] as string;

  test('has what became of the connection as a URL, and the bytes to the client before those from it', (t) => {
    const now = new Date(2026, 6, 22, 20, 48, 41);
    const { entries, flushed } = at(t, 'common', now);
    entries.event('done-local-closed', visit);
    entries.refused('TCP wrappers', 'denied', { ...visit, client: '2001:db8::1', fromClient: 0, toClient: 0 });
    entries.flush();
    const url = '/rinetd-services/gate.example/8080/www.example/80';
    assert.deepEqual(flushed, [
      `192.0.2.7 - - [22/Jul/2026:20:48:41  ${zone(now)}] "GET ${url}/done-local-closed HTTP/1.0" 200 4500 - - - 120\n` +
        `2001:db8::1 - - [22/Jul/2026:20:48:41  ${zone(now)}] "GET ${url}/denied HTTP/1.0" 200 0 - - - 0\n`,
    ]);
  });

  for (const [minutes, text] of [[-330, '+0530'] as const, [210, '-0330'] as const, [0, '+0000'] as const]) {
    test(`has ${text} for local time that UTC is ${minutes} minutes ahead of`, (t) => {
      t.mock.method(Date.prototype, 'getTimezoneOffset', () => minutes);
      const { entries, flushed } = at(t, 'common');
      entries.event('opened', visit);
      entries.flush();
      assert.ok(flushed.join('').includes(`  ${text}] `), flushed.join(''));
    });
  }
});
