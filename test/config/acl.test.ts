import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NetworkSet } from '../../src/address.js';
import { parseAcl } from '../../src/config/acl.js';
import { UsageError } from '../../src/config/usage-error.js';

const acl = (text: string) => {
  const { ip, prefix } = parseAcl('-a', text);
  return `${ip}/${prefix}`;
};
const refused = (text: string, message: RegExp) =>
  assert.throws(
    () => parseAcl('-a', text),
    (error) =>
      error instanceof UsageError &&
      error.message.startsWith(`-a: ${JSON.stringify(text)} `) &&
      message.test(error.message),
    text,
  );

describe('parseAcl', () => {
  it('reads a network with its bits', () => {
    assert.equal(acl('192.168.1.0/24'), '192.168.1.0/24');
    assert.equal(acl('0.0.0.0/0'), '0.0.0.0/0');
    assert.equal(acl('192.0.2.7/32'), '192.0.2.7/32');
  });

  it('pads a short network with zeros', () => {
    assert.equal(acl('10.1/24'), '10.1.0.0/24');
    assert.equal(acl('10/8'), '10.0.0.0/8');
    assert.equal(acl('172.16.4/22'), '172.16.4.0/22');
    assert.equal(acl('0/0'), '0.0.0.0/0');
  });

  it('reads an address with a zero host part as the network of its class', () => {
    for (const [text, network] of [
      ['10.0.0.0', '10.0.0.0/8'],
      ['127.0.0.0', '127.0.0.0/8'],
      ['128.1.0.0', '128.1.0.0/16'],
      ['172.16.0.0', '172.16.0.0/16'],
      ['191.255.0.0', '191.255.0.0/16'],
      ['192.168.1.0', '192.168.1.0/24'],
      ['192.168.0.0', '192.168.0.0/24'],
      ['223.1.2.0', '223.1.2.0/24'],
      ['10', '10.0.0.0/8'],
      ['172.16', '172.16.0.0/16'],
      ['192.168.1', '192.168.1.0/24'],
      ['192.168', '192.168.0.0/24'],
    ] as const) {
      assert.equal(acl(text), network);
    }
  });

  it('reads any other address without bits as one host', () => {
    for (const ip of ['10.0.0.1', '10.1.0.0', '172.16.1.0', '192.168.1.7']) assert.equal(acl(ip), `${ip}/32`);
  });

  it('reads IPv6 addresses and networks', () => {
    assert.equal(acl('2001:db8::/32'), '2001:db8::/32');
    assert.equal(acl('2001:DB8:0:0::07'), '2001:db8::7/128');
    assert.equal(acl('::/0'), '::/0');
  });

  it('reads an IPv4-mapped network as the IPv4 network', () => {
    assert.equal(acl('::ffff:10.0.0.0/104'), '10.0.0.0/8');
    assert.equal(acl('::ffff:a00:1'), '10.0.0.1/32');
    assert.equal(acl('::ffff:0:0/90'), '::ffff:0.0.0.0/90');
  });

  it('lets bits beyond the prefix be', () => {
    for (const [text, inside, outside] of [
      ['192.168.1.77/24', '192.168.1.5', '192.168.2.77'],
      ['2001:db8::77/64', '2001:db8::5', '2001:db8:0:1::77'],
    ] as const) {
      const networks = new NetworkSet([parseAcl('-a', text)]);
      assert.equal(networks.has(inside), true);
      assert.equal(networks.has(outside), false);
    }
  });

  it('refuses what is neither an address nor a network', () => {
    const wrong = [
      '',
      '/',
      '/8',
      '10.0.0.0.0',
      '10.256',
      '10..1',
      '010.0.0.0',
      'localhost',
      '10.0.0.0/8/8',
      ' 10.0.0.0',
    ];
    for (const text of [...wrong, '[::1]', 'fe80::1%eth0', ':::', '2001:db8']) {
      refused(text, /is not an address or a network/);
    }
  });

  it('refuses a prefix that is too long or not a number', () => {
    for (const text of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8x', '10.0.0.0/255.0.0.0']) {
      refused(text, /needs a number from 0 to 32/);
    }
    for (const text of ['::/129', '::/', '::/0x10']) refused(text, /needs a number from 0 to 128/);
  });

  it('refuses a bare 0.0.0.0, which would let nobody in, and says what to write', () => {
    for (const text of ['0.0.0.0', '0']) refused(text, /0\.0\.0\.0\/0/);
  });

  it('refuses a short network that is not of its class, and asks for its bits', () => {
    for (const text of ['10.1', '172.16.4']) refused(text, /how many bits/);
  });
});
