import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseHost } from '../../src/config/host.js';
import { UsageError } from '../../src/config/usage-error.js';

describe('parseHost', () => {
  it('takes addresses of both families and names as they are', () => {
    const hosts = [
      '192.0.2.1',
      '::1',
      '2001:db8::1',
      'localhost',
      'squid.example.net',
      'a_b-c.example.',
      '3com.example',
    ];
    for (const host of hosts) assert.equal(parseHost('proxyhost', host), host);
  });

  it('takes the brackets off an IPv6 address', () => {
    assert.equal(parseHost('proxyhost', '[2001:db8::1]'), '2001:db8::1');
  });

  it('refuses everything else, with the name and the value', () => {
    const wrong = [
      '',
      '-',
      'a b',
      'a..b',
      '.a',
      '-a.example',
      'a-.example',
      'http://proxy',
      'proxy:3128',
      '[proxy]',
      '[::1',
      '::1]',
    ];
    wrong.push('[192.0.2.1]', 'é.example', `${'a'.repeat(64)}.example`, `${'a.'.repeat(130)}example`, 'a\nb');
    for (const text of wrong) {
      assert.throws(
        () => parseHost('proxyhost', text),
        (error) => error instanceof UsageError && error.message.startsWith(`proxyhost: ${JSON.stringify(text)} is not`),
        text,
      );
    }
  });

  it('refuses what only looks like an address', () => {
    for (const text of ['10.1', '300.1.1.1', '010.0.0.1', '1.2.3.4.5', '2130706433', '127.0.0.0x1']) {
      assert.throws(() => parseHost('proxyhost', text), UsageError, text);
    }
  });

  it('refuses an address with a zone and says why', () => {
    assert.throws(() => parseHost('-b', 'fe80::1%eth0'), /zone/);
    assert.throws(() => parseHost('-b', '[fe80::1%eth0]'), /zone/);
  });
});
