import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ConfFolder } from '../support/conf.js';

let folder: ConfFolder;
beforeEach(() => {
  folder = new ConfFolder();
});
afterEach(() => folder.remove());

const rule = (port: number): string => `127.0.0.1 ${port} b 2\n`;
const ports = (text: string) =>
  folder.read(text).plan.services.flatMap(({ listen }) => listen.map((at) => ('port' in at ? at.port : null)));
const mistakes = (text: string) => folder.mistakes(text);

describe('include', () => {
  it('reads a file where it stands, so that allow and deny hold for the rule in front of them', () => {
    folder.write('more.conf', `allow 10.*\n${rule(2)}`);
    const { services } = folder.read(`${rule(1)}include more.conf\ndeny 10.1.*\n${rule(3)}`).plan;
    assert.deepEqual(
      services.map(({ name, access }) => [name, access]),
      [
        ['127.0.0.1:1 to b:2', [{ allow: [{ glob: '10.*' }], deny: [] }]],
        ['127.0.0.1:2 to b:2', [{ allow: null, deny: [{ glob: '10.1.*' }] }]],
        ['127.0.0.1:3 to b:2', []],
      ],
    );
  });

  it('takes * and ? in every part of the path, and reads by name', () => {
    for (const [name, port] of Object.entries({ 'd1/b.conf': 2, 'd1/a.conf': 1, 'd2/a.conf': 3, 'd10/a.conf': 9 })) {
      folder.write(name, rule(port));
    }
    folder.write('d1/.hidden.conf', 'no');
    folder.write('d1/a.conf~', 'no');
    folder.write('d1/c.conf/x', 'a folder is none');
    assert.deepEqual(ports('include d?/*.conf\n'), [1, 2, 3]);
    assert.deepEqual(ports(`include ${folder.path}/d*/a.conf\n`), [1, 9, 3]);
    assert.deepEqual(ports('include "d1/?.conf"\n'), [1, 2]);
    assert.deepEqual(ports('include */b.c*f\n'), [2]);
  });

  it('starts from the folder of the file that includes', () => {
    folder.write('sub/one.conf', 'include two.conf\n');
    folder.write('sub/two.conf', rule(7));
    assert.deepEqual(ports('include sub/one.conf\n'), [7]);
  });

  it('tells mistakes with the name of the file that they are in', () => {
    folder.write('sub/one.conf', `${rule(1)}foo\n`);
    assert.match(mistakes(`include sub/one.conf\n${rule(1)}`)[0] ?? '', /^sub\/one\.conf:2:1: "foo" is no word/);
    folder.write('sub/one.conf', rule(1));
    assert.deepEqual(mistakes(`include sub/one.conf\n${rule(1)}`), [
      '2:1: 127.0.0.1:1/tcp is taken by the rule at sub/one.conf:1:1',
    ]);
  });

  it('warns when a pattern matches nothing, and refuses a file that is not there', () => {
    const { warnings } = folder.read(`include none/*.conf\n${rule(1)}`);
    assert.deepEqual(warnings, ['rinetd.conf:1:9: warning: "none/*.conf" matches no file']);
    assert.deepEqual(mistakes(`include none.conf\n${rule(1)}`), ['1:9: "none.conf": ENOENT']);
    symlinkSync('gone', join(folder.path, 'dangling.conf'));
    assert.deepEqual(mistakes(`include d*.conf\n${rule(1)}`), ['1:9: "dangling.conf": ENOENT']);
  });

  it('refuses what is no regular file', () => {
    assert.deepEqual(mistakes('include /dev/null\n'), ['1:9: "/dev/null": is no regular file']);
    folder.write('sub/x', '');
    assert.deepEqual(mistakes('include sub\n'), ['1:9: "sub": is no regular file']);
  });

  it('refuses a circle, by whatever names, and takes one file twice', () => {
    assert.deepEqual(mistakes('include rinetd.conf\n'), ['1:9: "rinetd.conf" includes itself by this']);
    folder.write('a.conf', 'include link.conf\n');
    symlinkSync('a.conf', join(folder.path, 'link.conf'));
    assert.deepEqual(mistakes('include a.conf\n')[0], 'a.conf:1:9: "link.conf" includes itself by this');
    folder.write('set.conf', 'dns-refresh 5\n');
    folder.write('x.conf', 'include set.conf\n');
    assert.equal(folder.read(`include set.conf\ninclude x.conf\n${rule(1)}`).plan.services[0]?.dnsRefresh, 5000);
  });

  it('goes ten deep and no deeper', () => {
    for (let i = 0; i < 11; i++) folder.write(`${i}.conf`, `include ${i + 1}.conf\n`);
    folder.write('11.conf', rule(1));
    assert.deepEqual(ports('include 2.conf\n'), [1]);
    assert.deepEqual(mistakes('include 1.conf\n'), ['10.conf:1:9: files include each other 10 deep at most']);
  });

  it('takes a thousand files and no more', () => {
    folder.write('set.conf', '# nothing\n');
    assert.deepEqual(ports('include set.conf\n'.repeat(1000) + rule(1)), [1]);
    assert.deepEqual(mistakes('include set.conf\n'.repeat(1001) + rule(1)), ['1001:9: more than 1000 files']);
  });
});

describe('the file', () => {
  it('may end without an end of line, begin with a byte order mark, and have comments in any encoding', () => {
    assert.deepEqual(ports(`\uFEFF${rule(1)}${rule(2).trim()}`), [1, 2]);
    const latin1 = folder.read(Buffer.from(`# J\xFCrgen\n${rule(1)}`, 'latin1'));
    assert.equal(latin1.plan.services.length, 1);
    assert.deepEqual(folder.mistakes(Buffer.from(`logfile /J\xFC\n${rule(1)}`, 'latin1')), [
      '1:11: a control character, or a byte that is not UTF-8',
    ]);
  });

  it('has sixteen megabytes at most', () => {
    folder.write('big.conf', Buffer.alloc(16 * 1024 * 1024 + 1, '\n'));
    assert.deepEqual(mistakes('include big.conf\n'), ['1:9: "big.conf": more than 16777216 bytes']);
  });
});
