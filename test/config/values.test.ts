import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UsageError } from '../../src/config/usage-error.js';
import {
  parseForcedUrl,
  parseIdent,
  parseInteger,
  parseOneOf,
  parsePortRange,
  parsePseudonym,
  parseSeconds,
  parseSource,
  parseTimeout,
  parseUser,
} from '../../src/config/values.js';

const refuses = (parse: (what: string, text: string) => unknown, texts: readonly string[]) => {
  for (const text of texts) {
    assert.throws(
      () => parse('--x', text),
      (error) => error instanceof UsageError && error.message.startsWith(`--x: ${JSON.stringify(text)} `),
      text,
    );
  }
};

describe('parseInteger', () => {
  it('reads a decimal number within its bounds and refuses any other', () => {
    const parse = (what: string, text: string) => parseInteger(what, text, 1, 1024);
    assert.equal(parse('-w', '1'), 1);
    assert.equal(parse('-w', '1024'), 1024);
    refuses(parse, ['0', '1025', '-1', '1.5', '1e2', '0x10', 'four', ' 1', '9'.repeat(400)]);
  });
});

describe('parseSeconds', () => {
  it('gives milliseconds', () => {
    assert.equal(parseSeconds('--timeout', '120'), 120_000);
    assert.equal(parseSeconds('--timeout', '0.25'), 250);
    assert.equal(parseSeconds('--timeout', '1.001'), 1001);
    assert.equal(parseSeconds('--timeout', '604800'), 604_800_000);
  });

  it('refuses no wait, waits that a timer cannot count, and what is not a number', () => {
    refuses(parseSeconds, ['0', '0.000', '604801', '-1', '1s', '1.', '.5', '0.0001', 'Infinity', '1e3']);
  });
});

describe('parseTimeout', () => {
  it('gives milliseconds, and Infinity for 0', () => {
    assert.equal(parseTimeout('-t', '2.5'), 2500);
    assert.equal(parseTimeout('-t', '0'), Number.POSITIVE_INFINITY);
    refuses(parseTimeout, ['-1', '0.0', 'never', '604801']);
  });
});

describe('parseSource', () => {
  it('reads an address of either family, and no name', () => {
    assert.equal(parseSource('-b', '192.0.2.1'), '192.0.2.1');
    assert.equal(parseSource('-b', '2001:db8::1'), '2001:db8::1');
    assert.equal(parseSource('-b', '[2001:db8::1]'), '2001:db8::1');
    refuses(parseSource, ['localhost', '192.0.2', '', '[192.0.2.1]']);
  });
});

describe('parsePortRange', () => {
  it('reads two ports that need no root, the lower one first', () => {
    assert.deepEqual(parsePortRange('--x', '1024-65535'), { low: 1024, high: 65535 });
    assert.deepEqual(parsePortRange('--x', '2121-2121'), { low: 2121, high: 2121 });
    refuses(parsePortRange, ['', '-', '2000', '2000-', '-2000', '3000-2000', '1023-2000', '2000-65536', '2000 - 3000']);
  });
});

describe('parseIdent', () => {
  it('reads a name that syslog and hosts.deny can hold', () => {
    for (const name of ['redir', 'www.1', 'mail/in_2', 'x'.repeat(48)]) assert.equal(parseIdent('-I', name), name);
    refuses(parseIdent, ['', 'a b', 'a:b', 'a,b', 'a@b', 'a\n', 'é', 'x'.repeat(49)]);
  });
});

describe('parseOneOf', () => {
  it('knows its words as they are written', () => {
    const parse = parseOneOf('round-robin', 'least-conn');
    for (const word of ['round-robin', 'least-conn']) assert.equal(parse('--balance', word), word);
    refuses(parse, ['Round-Robin', 'round', '3', 'toString']);
  });
});

describe('parsePseudonym', () => {
  it('takes a token, as a host name is one', () => {
    for (const name of ['gw1', 'gw1.example.net', 'tproxy-0123abcd', '_x'])
      assert.equal(parsePseudonym('--via', name), name);
  });

  it('refuses what would end the field or be read as two entries or a comment', () => {
    refuses(parsePseudonym, ['a b', 'a,b', 'a(b)', 'a\r\nb', 'é', '[::1]', 'a:80', 'a'.repeat(256)]);
  });
});

describe('parseUser', () => {
  it('takes a name and #uid', () => {
    for (const user of ['nobody', '_www', '#0', '#65534', '#4294967294']) assert.equal(parseUser('-r', user), user);
  });

  it('refuses a # without a user id behind it', () => {
    refuses(parseUser, ['#', '#nobody', '#-1', '#4294967295', '#1.5', '# 1']);
  });
});

describe('parseForcedUrl', () => {
  it('gives the URL in the spelling of browsers, and its authority', () => {
    for (const [text, url, host] of [
      ['http://example.net/a/b?c=d', 'http://example.net/a/b?c=d', 'example.net'],
      ['http://example.net', 'http://example.net/', 'example.net'],
      ['HTTP://Example.NET:80/', 'http://example.net/', 'example.net'],
      ['http://192.0.2.1:8080/x', 'http://192.0.2.1:8080/x', '192.0.2.1:8080'],
      ['http://[2001:DB8::1]/', 'http://[2001:db8::1]/', '[2001:db8::1]'],
      ['http://example.net/%41é'.replace('é', '%C3%A9'), 'http://example.net/%41%C3%A9', 'example.net'],
    ] as const) {
      assert.deepEqual(parseForcedUrl('-f', text), { url, host });
    }
  });

  it('refuses what is not an http URL that a request line can hold', () => {
    refuses(parseForcedUrl, [
      'example.net',
      '/path',
      'https://example.net/',
      'ftp://a/',
      'http:',
      'http://',
      'http:///x',
    ]);
    refuses(parseForcedUrl, [
      'http:example.net',
      'http://a b/',
      'http://a/ b',
      'http://a/\r\nX: y',
      'http://é.example/',
    ]);
    refuses(parseForcedUrl, [
      'http://a:99999/',
      'http://a:b/',
      'http://?x',
      'http:\\\\a\\b',
      'http://a/<b>',
      ' http://a/',
    ]);
  });

  it('refuses a user name and a fragment', () => {
    assert.throws(() => parseForcedUrl('-f', 'http://me:secret@example.net/'), /user name/);
    assert.throws(() => parseForcedUrl('-f', 'http://example.net/#top'), /fragment/);
  });
});
