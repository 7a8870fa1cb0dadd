import assert from 'node:assert/strict';
import net, { BlockList } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { bracketed, formatAddress, isAddress, isIPv4, NetworkSet, sameAddress } from '../src/address.js';

describe('addresses', () => {
  test('are written with IPv6 in brackets', () => {
    assert.equal(formatAddress({ ip: '192.0.2.1', port: 80 }), '192.0.2.1:80');
    assert.equal(formatAddress({ ip: '2001:db8::1', port: 443 }), '[2001:db8::1]:443');
    assert.equal(bracketed('example.com'), 'example.com');
    assert.equal(bracketed('::1'), '[::1]');
  });

  test('are the same when address and port are', () => {
    assert.ok(sameAddress({ ip: '::1', port: 80 }, { ip: '::1', port: 80 }));
    assert.ok(!sameAddress({ ip: '::1', port: 80 }, { ip: '::1', port: 81 }));
    assert.ok(!sameAddress({ ip: '::1', port: 80 }, { ip: '::2', port: 80 }));
  });

  test('are told from names', () => {
    for (const ip of ['192.0.2.1', '::1', '2001:db8::1']) assert.ok(isAddress(ip));
    for (const name of ['localhost', '192.0.2', '192.0.2.256', '']) assert.ok(!isAddress(name));
  });
});

describe('NetworkSet', () => {
  const set = new NetworkSet([
    { ip: '10.0.0.0', prefix: 8 },
    { ip: '192.0.2.7', prefix: 32 },
    { ip: '2001:db8::', prefix: 32 },
    { ip: 'fe80::', prefix: 10 },
  ]);

  test('has what is in one of its networks, and nothing else', () => {
    for (const ip of ['10.0.0.0', '10.255.255.255', '192.0.2.7', '2001:db8:ffff::1', 'fe80::1'])
      assert.ok(set.has(ip), ip);
    for (const ip of ['9.255.255.255', '11.0.0.0', '192.0.2.6', '192.0.2.8', '2001:db9::', '::1', '::a00:1']) {
      assert.ok(!set.has(ip), ip);
    }
  });

  test('has link-local clients with their scope', () => {
    assert.ok(set.has('fe80::1%3'));
    assert.ok(!new NetworkSet([{ ip: '2001:db8::', prefix: 32 }]).has('fe80::1%3'));
  });

  test('with a prefix of 0 has a whole family, and without networks nothing', () => {
    const all = new NetworkSet([{ ip: '0.0.0.0', prefix: 0 }]);
    assert.ok(all.has('255.255.255.255'));
    assert.ok(!all.has('::1'));
    assert.ok(!new NetworkSet([]).has('127.0.0.1'));
  });
});

describe('NetworkSet and the networks of BlockList', () => {
  const ipv4 = fc.ipV4();
  const ipv6 = fc.oneof(fc.ipV6(), fc.constantFrom('::', '::1', 'fe80::1', '2001:db8::ffff:0:0', '::192.0.2.1'));

  for (const [family, ip, bits] of [['ipv4', ipv4, 32] as const, ['ipv6', ipv6, 128] as const]) {
    test(`have the same ${family} addresses in them`, () => {
      const near = fc.tuple(ip, fc.integer({ min: 0, max: bits }));
      fc.assert(
        fc.property(fc.array(near, { maxLength: 5 }), fc.array(ip, { maxLength: 5 }), (networks, others) => {
          const list = new BlockList();
          for (const [base, prefix] of networks) list.addSubnet(base, prefix, family);
          const set = new NetworkSet(networks.map(([base, prefix]) => ({ ip: base, prefix })));
          for (const each of [...others, ...networks.map(([base]) => base)]) {
            assert.equal(set.has(each), list.check(each, family), each);
          }
        }),
      );
    });
  }
});

describe('isIPv4', () => {
  test('agrees with Node on everything that looks like an address', () => {
    const part = fc.oneof(
      fc.integer({ min: 0, max: 300 }).map(String),
      fc.constantFrom('', '00', '01', ' 1', '1a', '-1'),
    );
    const dotted = fc.array(part, { minLength: 3, maxLength: 5 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(fc.oneof(dotted, fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
        assert.equal(isIPv4(text), net.isIPv4(text), text);
      }),
      { numRuns: 2000 },
    );
  });
});
