import assert from 'node:assert/strict';
import { isIPv6, SocketAddress } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { E } from '../../src/sys/errno.js';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  MOST_SOCKADDR_SIZE,
  readSockaddr,
  readUnixSockaddr,
  SOCKADDR_SIZE,
  writeSockaddr,
} from '../../src/sys/sockaddr.js';

const through = (ip: string, port = 80): ReturnType<typeof readSockaddr> => {
  const bytes = Buffer.alloc(SOCKADDR_SIZE, 0xff);
  writeSockaddr({ ip, port }, bytes);
  return readSockaddr(bytes);
};

/** inet_ntop(3), as Node has it. */
const canonical = (ip: string): string => new SocketAddress({ address: ip, family: 'ipv6' }).address;

/** Groups that are often zero, so that runs of zeros of every length and place come up. */
const groups = fc.array(fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff })), {
  minLength: 8,
  maxLength: 8,
});

/** ::/96 holds the IPv4-mapped addresses' deprecated relatives, which inet_ntop(3) writes in dots and RFC 5952 need not. */
const isSpecial = (words: readonly number[]): boolean =>
  words.slice(0, 5).every((word) => word === 0) && (words[5] === 0 || words[5] === 0xffff);

describe('sockaddr', () => {
  test('a sockaddr_in has family, port and address where the kernel looks for them', () => {
    const bytes = Buffer.alloc(SOCKADDR_SIZE, 0xff);
    assert.equal(writeSockaddr({ ip: '192.0.2.1', port: 8081 }, bytes), 16);
    assert.equal(bytes.toString('hex', 0, 16), '02001f91c00002010000000000000000');
  });

  test('a sockaddr_in6 has family, port, address and scope where the kernel looks for them', () => {
    const bytes = Buffer.alloc(SOCKADDR_SIZE, 0xff);
    assert.equal(writeSockaddr({ ip: 'fe80::1%3', port: 80 }, bytes), 28);
    assert.equal(bytes.toString('hex'), `0a00005000000000fe80${'00'.repeat(13)}0103000000`);
  });

  test('every IPv4 address and port comes back as it went in', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 65_535 }), (ip, port) => {
        assert.deepEqual(through(ip, port), { ip, port });
      }),
    );
  });

  test('every IPv6 address comes back in its canonical form', () => {
    fc.assert(
      fc.property(groups, fc.integer({ min: 0, max: 65_535 }), (words, port) => {
        fc.pre(!isSpecial(words));
        const ip = words.map((word) => word.toString(16)).join(':');
        assert.deepEqual(through(ip, port), { ip: canonical(ip), port });
      }),
      { numRuns: 500 },
    );
  });

  test('every spelling of an IPv6 address is understood', () => {
    fc.assert(
      fc.property(fc.ipV6(), (ip) => {
        fc.pre(isIPv6(ip));
        const plain = canonical(ip);
        // Its dotted form would be one more spelling of an IPv4 address.
        fc.pre(!plain.includes('.'));
        assert.equal(through(ip)?.ip, plain);
      }),
      { numRuns: 500 },
    );
    assert.equal(through('2001:DB8:0:0:0:0:192.0.2.33')?.ip, '2001:db8::c000:221');
    assert.equal(through('::')?.ip, '::');
    assert.equal(through('::1')?.ip, '::1');
    assert.equal(through('1::')?.ip, '1::');
  });

  test('of equal runs of zeros the first is left out, and a single zero never is', () => {
    assert.equal(through('1:0:0:2:3:0:0:4')?.ip, '1::2:3:0:0:4');
    assert.equal(through('1:0:2:3:4:5:6:7')?.ip, '1:0:2:3:4:5:6:7');
  });

  test('an IPv4-mapped address is read as its IPv4 address', () => {
    assert.deepEqual(through('::ffff:192.0.2.1', 443), { ip: '192.0.2.1', port: 443 });
    assert.deepEqual(through('::ffff:c000:201'), { ip: '192.0.2.1', port: 80 });
    assert.equal(through('::fffe:c000:201')?.ip, '::fffe:c000:201');
  });

  test('the scope of a link-local address is kept', () => {
    assert.equal(through('fe80::1%7')?.ip, 'fe80::1%7');
    assert.equal(through('fe80::1')?.ip, 'fe80::1');
  });

  test('a family without ports is null', () => {
    const bytes = Buffer.alloc(SOCKADDR_SIZE);
    bytes.writeUInt16LE(AF_UNIX, 0);
    assert.equal(readSockaddr(bytes), null);
    assert.notEqual(AF_INET, AF_INET6);
  });

  test('a sockaddr_un has a path with its NUL, or a NUL with an abstract name whose bytes are counted', () => {
    const bytes = Buffer.alloc(MOST_SOCKADDR_SIZE, 0xff);
    assert.equal(writeSockaddr({ path: '/run/a' }, bytes), 9);
    assert.equal(bytes.toString('latin1', 0, 9), '\x01\0/run/a\0');
    assert.equal(writeSockaddr({ path: '@abc' }, bytes), 6);
    assert.equal(bytes.toString('latin1', 0, 6), '\x01\0\0abc');
    assert.equal(writeSockaddr({ path: '/é' }, bytes), 6);
    assert.equal(bytes.toString('utf8', 2, 6), '/é\0');
  });

  test('a path or a name of 107 bytes is the longest there is', () => {
    const bytes = Buffer.alloc(MOST_SOCKADDR_SIZE);
    assert.equal(writeSockaddr({ path: `/${'x'.repeat(106)}` }, bytes), MOST_SOCKADDR_SIZE);
    assert.equal(writeSockaddr({ path: `@${'x'.repeat(107)}` }, bytes), MOST_SOCKADDR_SIZE);
    assert.equal(writeSockaddr({ path: `/${'x'.repeat(107)}` }, bytes), -E.NAMETOOLONG);
    assert.equal(writeSockaddr({ path: `/${'é'.repeat(54)}` }, bytes), -E.NAMETOOLONG);
    assert.equal(writeSockaddr({ path: `@${'x'.repeat(108)}` }, bytes), -E.NAMETOOLONG);
  });

  test('every path and every abstract name comes back as it went in', () => {
    const name = fc.string({
      unit: fc.integer({ min: 1, max: 0x7f }).map((c) => String.fromCharCode(c)),
      maxLength: 106,
    });
    fc.assert(
      fc.property(fc.constantFrom('/', '@'), name, (kind, rest) => {
        const bytes = Buffer.alloc(MOST_SOCKADDR_SIZE, 0xff);
        const size = writeSockaddr({ path: kind + rest }, bytes);
        assert.deepEqual(readUnixSockaddr(bytes, size), { path: kind + rest });
      }),
    );
  });

  test('a unix socket without a name, and another family, have no unix address', () => {
    const bytes = Buffer.alloc(MOST_SOCKADDR_SIZE);
    bytes.writeUInt16LE(AF_UNIX, 0);
    assert.equal(readUnixSockaddr(bytes, 2), null);
    assert.equal(readUnixSockaddr(bytes, writeSockaddr({ ip: '192.0.2.1', port: 80 }, bytes)), null);
  });
});
