import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compileAcl } from '../../src/data/acl.js';
import type { AccessList, ClientPattern } from '../../src/plan.js';

const globs = (...all: string[]): ClientPattern[] => all.map((glob) => ({ glob }));

const refusal = (ip: string, ...lists: Partial<AccessList>[]): string | null =>
  compileAcl(lists.map((list) => ({ allow: null, deny: [], ...list })))?.refusal(ip) ?? null;

describe('access lists', () => {
  test('that say nothing are none', () => {
    assert.equal(compileAcl([]), null);
    assert.equal(compileAcl([{ allow: null, deny: [] }]), null);
  });

  test('let in who is on the list of those that may, and an empty one nobody', () => {
    assert.equal(refusal('10.1.2.3', { allow: globs('10.*') }), null);
    assert.equal(refusal('11.1.2.3', { allow: globs('10.*') }), 'not-allowed');
    assert.equal(refusal('10.1.2.3', { allow: [] }), 'not-allowed');
  });

  test('refuse who is on the list of those that may not, though they are on the other too', () => {
    const list = { allow: globs('10.*'), deny: globs('10.0.0.?') };
    assert.equal(refusal('10.0.0.7', list), 'denied');
    assert.equal(refusal('10.0.0.17', list), null);
    assert.equal(refusal('192.0.2.1', list), 'not-allowed');
  });

  test('are asked in their order, and the first reason counts', () => {
    const [global, rule] = [{ allow: globs('10.*'), deny: globs('10.9.*') }, { allow: globs('10.1.*') }];
    assert.equal(refusal('10.1.0.1', global, rule), null);
    assert.equal(refusal('10.9.0.1', global, rule), 'denied');
    assert.equal(refusal('10.2.0.1', global, rule), 'not-allowed');
    assert.equal(refusal('10.2.0.1', { deny: globs('10.2.*') }, { allow: globs('10.1.*') }), 'denied');
    assert.equal(refusal('10.2.0.1', { allow: globs('10.1.*') }, { deny: globs('10.2.*') }), 'not-allowed');
  });

  test('have networks beside globs', () => {
    const list = { deny: [{ ip: '192.0.2.0', prefix: 24 }, { ip: '2001:db8::', prefix: 32 }, ...globs('10.*.1')] };
    for (const ip of ['192.0.2.200', '2001:db8:1::1', '10.2.3.1']) assert.equal(refusal(ip, list), 'denied', ip);
    for (const ip of ['192.0.3.1', '2001:db9::1', '10.2.3.2']) assert.equal(refusal(ip, list), null, ip);
  });

  test('have IPv6 addresses as text: in the shortest form, in any case, without the interface', () => {
    for (const glob of ['FE80:*', 'fe80::1', 'fe80::?', '*::1']) {
      assert.equal(refusal('fe80::1%2', { deny: globs(glob) }), 'denied', glob);
    }
    assert.equal(refusal('2001:618::e43f', { deny: globs('2001:618:*:e43f') }), 'denied');
    assert.equal(refusal('fe80::1%2', { deny: globs('fe80:0:*') }), null);
  });

  test('have an IPv4-mapped address as the IPv4 address that its client is known by', () => {
    assert.equal(refusal('10.0.0.1', { deny: globs('::ffff:10.*') }), 'denied');
    assert.equal(refusal('10.0.0.1', { deny: globs('::FFFF:10.0.0.1') }), 'denied');
  });

  test('of thousands of networks, addresses and globs know each of them', () => {
    const numbers = Array.from({ length: 3000 }, (_, i) => i);
    const deny = numbers.flatMap((i) => [
      { ip: `10.${i >> 8}.${i & 255}.0`, prefix: 24 },
      ...globs(`172.16.${i >> 8}.${i & 255}`, `2001:db8:${i.toString(16)}:*`),
    ]);
    const acl = compileAcl([{ allow: null, deny }]);
    for (const i of [0, 1499, 2999]) {
      assert.equal(acl?.refusal(`10.${i >> 8}.${i & 255}.9`), 'denied');
      assert.equal(acl?.refusal(`172.16.${i >> 8}.${i & 255}`), 'denied');
      assert.equal(acl?.refusal(`2001:db8:${i.toString(16)}::9`), 'denied');
    }
    assert.equal(acl?.refusal('10.200.0.1'), null);
    assert.equal(acl?.refusal('2001:db8:bb8::9'), null);
  });
});
