import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Option, Request } from '../../src/config/command-line.js';
import { chooseDialect } from '../../src/config/dialect.js';
import { OPTIONS as OF_TRANSPROXY } from '../../src/config/options.js';
import { OPTIONS as OF_REDIR } from '../../src/config/redir.js';
import { OPTIONS as OF_RINETD } from '../../src/config/rinetd.js';

const root = new URL('../../../', import.meta.url);
const dialects: readonly { program: string; options: readonly Option[] }[] = [
  { program: 'tproxy', options: Object.values(OF_TRANSPROXY) },
  { program: 'tproxy-redir', options: Object.values(OF_REDIR) },
  { program: 'tproxy-rinetd', options: Object.values(OF_RINETD) },
];
const text = (request: Request): string => (request.kind === 'print' ? request.text : assert.fail('a plan'));

for (const { program, options } of dialects) {
  describe(`--help of ${program}`, async () => {
    const { parse, usage } = await chooseDialect(program, []);
    const help = text(await parse(['--help']));

    it('is the same for -h, and wins over everything that is missing', async () => {
      assert.equal(text(await parse(['-h'])), help);
      assert.equal(text(await parse(['--workers', 'some', '-h'])), help);
    });

    it('names every option, in all its spellings', () => {
      for (const { short, long, aliases = [] } of options) {
        const entry = new RegExp(`^  ${short ? `-${short}, ` : ''}--${long} .*(?:\\n {24}.*)*`, 'm').exec(help)?.[0];
        assert.ok(entry !== undefined, long);
        for (const alias of aliases) assert.match(entry, new RegExp(`--${alias}[,)]`));
      }
    });

    it('fits into 80 columns and ends with a newline', () => {
      for (const line of help.split('\n')) assert.ok(line.length <= 80, line);
      assert.match(help, /[^\n]\n$/);
    });

    it('begins as the line of usage does', () => {
      assert.match(usage, new RegExp(`^usage: ${program} \\[options\\] .*; ${program} --help lists the options$`));
      assert.match(help, new RegExp(`^Usage: ${program} \\[options\\] `));
    });
  });

  describe(`--version of ${program}`, async () => {
    const { parse } = await chooseDialect(program, []);

    it('prints the program and the version of the package', async () => {
      const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
      assert.equal(text(await parse(['--version'])), `tproxy ${version}\n`);
      assert.equal(text(await parse(['-v'])), `tproxy ${version}\n`);
    });
  });

  describe(`the manual page of ${program}`, () => {
    it('describes every option, in all its spellings', () => {
      const page = readFileSync(new URL(`docs/${program}.1`, root), 'utf8');
      for (const { short, long, aliases = [] } of options) {
        const names = [long, ...aliases].map((name) => `Fl -${name}`).join(' , ');
        const item = short ? `.It Fl ${short} , ${names}` : `.It ${names}`;
        assert.match(page, new RegExp(`^\\${item}( Ar|$)`, 'm'));
      }
    });
  });
}
