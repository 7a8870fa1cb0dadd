import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LineError, parseLine } from '../../src/config/rinetd-lines.js';

const word = (text: string, column: number) => ({ text, column });
const end = (
  address: ReturnType<typeof word>,
  port: ReturnType<typeof word> | null,
  protocol?: ReturnType<typeof word>,
) => ({
  address,
  port,
  protocol: protocol ?? null,
});
const refused = (line: string, column: number, what: RegExp) =>
  assert.throws(
    () => parseLine(line),
    (error) => error instanceof LineError && error.column === column && what.test(error.what),
    line,
  );

describe('a line of rinetd.conf', () => {
  it('may be empty, or a comment with anything in it', () => {
    for (const line of ['', ' ', '\t \t', '#', '# allow', '  #\0\uFFFD[']) assert.equal(parseLine(line), null);
  });

  it('is a rule: two addresses and two ports, with or without protocols', () => {
    assert.deepEqual(parseLine('127.0.0.1 80 ::1 http'), {
      kind: 'rule',
      bind: end(word('127.0.0.1', 1), word('80', 11)),
      connect: end(word('::1', 14), word('http', 18)),
      properties: [],
    });
    assert.deepEqual(parseLine('\t[::1] 53/udp  dns.example.net.\tdomain/udp # x'), {
      kind: 'rule',
      bind: end(word('[::1]', 2), word('53', 8), word('udp', 10)),
      connect: end(word('dns.example.net.', 16), word('domain', 33), word('udp', 39)),
      properties: [],
    });
  });

  it('is a rule with a unix socket or * where an address and a port would be', () => {
    assert.deepEqual(parseLine('unix:/a#b unix:@c[mode=0600]'), {
      kind: 'rule',
      bind: end(word('unix:/a#b', 1), null),
      connect: end(word('unix:@c', 11), null),
      properties: [{ name: word('mode', 19), value: word('0600', 24) }],
    });
    assert.deepEqual(parseLine('0 80 *#'), {
      kind: 'rule',
      bind: end(word('0', 1), word('80', 3)),
      connect: end(word('*', 6), null),
      properties: [],
    });
  });

  it('has properties in brackets: words, values, quoted values, brackets in values', () => {
    const line = '0 1 b 2[ timeout = 5 ,spoof,via="a, ]#" , upstream=http://[::1]:3128]# x';
    const rule = parseLine(line);
    assert.deepEqual(rule?.kind === 'rule' && rule.properties, [
      { name: word('timeout', 10), value: word('5', 20) },
      { name: word('spoof', 23), value: null },
      { name: word('via', 29), value: word('a, ]#', 33) },
      { name: word('upstream', 43), value: word('http://[::1]:3128', 52) },
    ]);
  });

  it('allows and denies', () => {
    assert.deepEqual(parseLine('allow 10.*#x'), { kind: 'access', verb: 'allow', pattern: word('10.*', 7) });
    assert.deepEqual(parseLine(' deny\t[fe80::]/10'), {
      kind: 'access',
      verb: 'deny',
      pattern: word('[fe80::]/10', 7),
    });
  });

  it("has settings, of which a file's name may be quoted or have # in it", () => {
    const setting = (name: string, column: number, value: ReturnType<typeof word> | null) => ({
      kind: 'setting',
      name,
      word: word(name, column),
      value,
    });
    assert.deepEqual(parseLine('logfile /a#b # c'), setting('logfile', 1, word('/a#b', 9)));
    assert.deepEqual(parseLine('pidlogfile "/a b#c"# d'), setting('pidlogfile', 1, word('/a b#c', 12)));
    assert.deepEqual(parseLine(' logcommon#'), setting('logcommon', 2, null));
    assert.deepEqual(parseLine('dns-refresh 60# s'), setting('dns-refresh', 1, word('60', 13)));
    assert.deepEqual(parseLine('include "a b/*.conf"'), { kind: 'include', pattern: word('a b/*.conf', 9) });
  });

  it('tells the column of what is wrong', () => {
    for (const [line, column, what] of [
      ['foo', 1, /"foo" is no word that a line begins with, and no rule/],
      ['  LOGCOMMON', 3, /"LOGCOMMON" is no word/],
      ['logcommon x', 11, /^"x" is too much here$/],
      ['logfile', 8, /^logfile needs a value$/],
      ['logfile # x', 11, /^"x" is too much here$/],
      ['logfile ""', 9, /^logfile needs a value$/],
      ['logfile "x', 9, /^"\\"x" is where logfile has its value$/],
      ['logfile a b', 11, /^"b" is too much here$/],
      ['allow', 6, /^allow needs a value$/],
      ['allow a b', 9, /too much/],
      ['127.0.0.1', 10, /^BINDPORT is missing$/],
      ['127.0.0.1 80', 13, /^CONNECTADDRESS is missing$/],
      ['127.0.0.1 80 b', 15, /^CONNECTPORT is missing$/],
      ['127.0.0.1 80 b # 90', 16, /^CONNECTPORT is missing$/],
      ['127.0.0.1 80/sctp b 90', 13, /^"\/sctp" is neither \/tcp nor \/udp$/],
      ['127.0.0.1 80/ b 90', 13, /^"\/" is neither/],
      ['127.0.0.1 80 b 90 c', 19, /^"c" is too much here$/],
      ['127.0.0.1 80 * 90', 16, /^"90" is too much here$/],
      ['0 1 b 2 []', 10, /^"\]" is where the name of a property should be$/],
      ['0 1 b 2 [', 10, /^there is no \] at the end$/],
      ['0 1 b 2 [a', 11, /^there is no \] at the end$/],
      ['0 1 b 2 [a=]', 12, /^a= has no value$/],
      ['0 1 b 2 [a=""]', 12, /^a= has no value$/],
      ['0 1 b 2 [a=1 b=2]', 14, /^"b=2\]" is where , or \] should be$/],
      ['0 1 b 2 [a=1,]', 14, /^"\]" is where the name/],
      ['0 1 b 2 [a=1] c', 15, /too much/],
      ['0 1 "b" 2', 5, /is where a rule has CONNECTADDRESS$/],
      ['0 1 b 2\0', 8, /^a control character/],
      ['0 1 b\uFFFD 2', 6, /^a control character, or a byte that is not UTF-8$/],
      ['logfile a\rb', 10, /^a control character/],
    ] as const) {
      refused(line, column, what);
    }
  });

  it('is a statement or a LineError that points into it, whatever it is', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 4 }),
      fc.constantFrom(
        ' ',
        '\t',
        '#',
        '[',
        ']',
        '=',
        ',',
        '"',
        '*',
        '0',
        '80',
        '/udp',
        '::1',
        'unix:',
        'unix:/a',
        'a.b',
      ),
      fc.constantFrom('allow', 'logfile', 'logcommon', 'include', 'buffersize', 'timeout', 'mode', '127.0.0.1'),
    );
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const line = pieces.join('');
        try {
          seen.add(parseLine(line)?.kind ?? 'nothing');
        } catch (error) {
          assert.ok(error instanceof LineError, String(error));
          assert.ok(error.column >= 1 && error.column <= line.length + 1);
          assert.doesNotMatch(error.what, /\p{Cc}/u);
          seen.add('error');
        }
      }),
      { numRuns: 20_000, seed: 1 },
    );
    assert.ok(seen.has('nothing') && seen.has('error') && seen.has('access') && seen.has('setting'), [...seen].join());
  });
});
