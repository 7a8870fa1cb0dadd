import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Option } from '../../src/config/command-line.js';
import { parseCommandLine } from '../../src/config/dialect.js';
import { OPTIONS } from '../../src/config/options.js';

const root = new URL('../../../', import.meta.url);
const options: readonly Option[] = Object.values(OPTIONS);
const print = (...argv: string[]): string => {
  const request = parseCommandLine('tproxy', argv);
  return request.kind === 'print' ? request.text : assert.fail(`${argv} gave a plan`);
};

describe('--help', () => {
  it('is the same for -h, and wins over everything that is missing', () => {
    assert.equal(print('-h'), print('--help'));
    assert.equal(print('-s', '8081', '-h'), print('--help'));
  });

  it('names every option', () => {
    for (const { short, long } of options) {
      assert.match(print('-h'), new RegExp(short ? `^  -${short}, --${long} ` : `^  --${long} `, 'm'));
    }
  });

  it('fits into 80 columns and ends with a newline', () => {
    for (const line of print('-h').split('\n')) assert.ok(line.length <= 80, line);
    assert.match(print('-h'), /[^\n]\n$/);
  });
});

describe('--version', () => {
  it('prints the program and the version of the package', () => {
    const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
    assert.equal(print('--version'), `tproxy ${version}\n`);
    assert.equal(print('-v'), `tproxy ${version}\n`);
  });
});

describe('the manual page', () => {
  it('describes every option', () => {
    const page = readFileSync(new URL('docs/tproxy.1', root), 'utf8');
    for (const { short, long } of options) {
      const item = short ? `.It Fl ${short} , Fl -${long}` : `.It Fl -${long}`;
      assert.match(page, new RegExp(`^\\${item}( Ar|$)`, 'm'));
    }
  });
});
