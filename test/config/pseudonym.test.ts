import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ownPseudonym } from '../../src/config/pseudonym.js';
import { parsePseudonym } from '../../src/config/values.js';

describe('ownPseudonym', () => {
  it('is one that --via would take', () => {
    const name = ownPseudonym(['squid', '3128']);
    assert.equal(parsePseudonym('--via', name), name);
  });

  it('is the same for one command line, as inetd starts it for each connection', () => {
    assert.equal(ownPseudonym(['squid', '3128']), ownPseudonym(['squid', '3128']));
  });

  it('differs between command lines, as of two that are chained on one host', () => {
    const names = [
      ['-s', '8081', 'localhost', '8082'],
      ['-s', '8082', 'squid', '3128'],
      ['-s8082', 'squid', '3128'],
      [],
    ];
    assert.equal(new Set(names.map(ownPseudonym)).size, names.length);
  });
});
