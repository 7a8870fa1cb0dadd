import assert from 'node:assert/strict';
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { SocketAddress } from '../../src/address.js';
import { writeProxyV1, writeProxyV2 } from '../../src/protocol/proxy-protocol.js';

interface Told {
  readonly family: 'TCP4' | 'TCP6';
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/** Reads version 1 as strictly as its section 2.1 has it; null: UNKNOWN. */
const readV1 = (bytes: Buffer): Told | null => {
  const text = bytes.toString('latin1');
  assert.ok(text.length <= 107, `${text.length} bytes`);
  if (text === 'PROXY UNKNOWN\r\n') return null;
  const match = /^PROXY (TCP4|TCP6) (\S+) (\S+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)\r\n$/.exec(text);
  assert.ok(match !== null, text);
  const [, family, from = '', to = '', fromPort, toPort] = match;
  for (const ip of [from, to]) {
    assert.ok(family === 'TCP4' ? isIPv4(ip) : isIPv6(ip) && /^[0-9a-f:]+$/i.test(ip), ip);
  }
  return {
    family: family as Told['family'],
    source: { ip: from, port: Number(fromPort) },
    destination: { ip: to, port: Number(toPort) },
  };
};

const SIGNATURE = '0d0a0d0a000d0a515549540a';

/** Reads version 2 (section 2.2); null: LOCAL. */
const readV2 = (bytes: Buffer): Told | null => {
  assert.equal(bytes.toString('hex', 0, 12), SIGNATURE);
  assert.equal(bytes.length, 16 + bytes.readUInt16BE(14));
  if (bytes[12] === 0x20) {
    assert.equal(bytes.toString('hex', 13), '000000');
    return null;
  }
  assert.equal(bytes[12], 0x21);
  const v6 = bytes[13] === 0x21;
  assert.equal(bytes[13], v6 ? 0x21 : 0x11);
  const length = v6 ? 16 : 4;
  assert.equal(bytes.length, 16 + 2 * length + 4);
  const ipAt = (at: number): string =>
    v6
      ? Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(at + 2 * i).toString(16)).join(':')
      : [...bytes.subarray(at, at + 4)].join('.');
  const ports = 16 + 2 * length;
  return {
    family: v6 ? 'TCP6' : 'TCP4',
    source: { ip: ipAt(16), port: bytes.readUInt16BE(ports) },
    destination: { ip: ipAt(16 + length), port: bytes.readUInt16BE(ports + 2) },
  };
};

/** Whether two spellings are one address, by the system's own reading of them. */
const isSame = (a: string, b: string): boolean => {
  const [one, other] = [a, b].map((ip) => (isIPv6(ip) ? 'ipv6' : 'ipv4')) as ['ipv4' | 'ipv6', 'ipv4' | 'ipv6'];
  const list = new BlockList();
  list.addAddress(a, one);
  return list.check(b, other);
};

const READERS = [
  { version: 'v1', write: writeProxyV1, read: readV1 },
  { version: 'v2', write: writeProxyV2, read: readV2 },
];

const V4 = { ip: '192.0.2.1', port: 51234 };
const OTHER_V4 = { ip: '198.51.100.2', port: 80 };
const V6 = { ip: '2001:db8::1', port: 51234 };
const OTHER_V6 = { ip: '2001:db8:0:1:2:3:4:5', port: 443 };

describe('the PROXY header', () => {
  for (const [what, source, destination, v1, v2] of [
    [
      'two IPv4 addresses',
      V4,
      OTHER_V4,
      'PROXY TCP4 192.0.2.1 198.51.100.2 51234 80\r\n',
      '2111000c' + 'c0000201' + 'c6336402' + 'c822' + '0050',
    ],
    [
      'two IPv6 addresses',
      V6,
      OTHER_V6,
      'PROXY TCP6 2001:db8::1 2001:db8:0:1:2:3:4:5 51234 443\r\n',
      '21210024' + '20010db8000000000000000000000001' + '20010db8000000010002000300040005' + 'c822' + '01bb',
    ],
    [
      'an IPv4 client of an IPv6 address',
      V4,
      OTHER_V6,
      'PROXY TCP6 ::ffff:c000:201 2001:db8:0:1:2:3:4:5 51234 443\r\n',
      '21210024' + '00000000000000000000ffffc0000201' + '20010db8000000010002000300040005' + 'c822' + '01bb',
    ],
    [
      'an IPv6 client of an IPv4 address',
      V6,
      OTHER_V4,
      'PROXY TCP6 2001:db8::1 ::ffff:c633:6402 51234 80\r\n',
      '21210024' + '20010db8000000000000000000000001' + '00000000000000000000ffffc6336402' + 'c822' + '0050',
    ],
    [
      'addresses that inet_ntop(3) writes with dots and interfaces',
      { ip: 'fe80::1:2%2', port: 1 },
      { ip: '::192.0.2.1', port: 65535 },
      'PROXY TCP6 fe80::1:2 ::c000:201 1 65535\r\n',
      '21210024' + 'fe800000000000000000000000010002' + '000000000000000000000000c0000201' + '0001' + 'ffff',
    ],
  ] as const) {
    test(`of version 1 tells ${what}`, () => {
      assert.equal(writeProxyV1(source, destination).toString('latin1'), v1);
    });

    test(`of version 2 tells ${what}`, () => {
      assert.equal(writeProxyV2(source, destination).toString('hex'), SIGNATURE + v2);
    });
  }

  test('of version 2 says that it is for datagrams', () => {
    const stream = (source: typeof V4, destination: typeof V4): string =>
      writeProxyV2(source, destination).toString('hex');
    const kinds = [
      [V4, OTHER_V4, '21110', '21120'],
      [V6, OTHER_V6, '21210', '21220'],
    ] as const;
    for (const [source, destination, ofStream, ofDatagrams] of kinds) {
      const datagram = writeProxyV2(source, destination, true).toString('hex');
      assert.equal(datagram, stream(source, destination).replace(SIGNATURE + ofStream, SIGNATURE + ofDatagrams));
      assert.notEqual(datagram, stream(source, destination));
    }
  });

  test('without a client says so: UNKNOWN in version 1, LOCAL in version 2', () => {
    assert.equal(writeProxyV1(null, OTHER_V4).toString('latin1'), 'PROXY UNKNOWN\r\n');
    assert.equal(writeProxyV2(null, OTHER_V4).toString('hex'), `${SIGNATURE}20000000`);
  });

  test('without a destination tells no client either: there is no header for half of it', () => {
    assert.equal(writeProxyV1(V4, null).toString('latin1'), 'PROXY UNKNOWN\r\n');
    assert.equal(writeProxyV2(V4, null).toString('hex'), `${SIGNATURE}20000000`);
  });

  for (const { version, write, read } of READERS) {
    test(`of ${version} is read as the addresses that it was written from, by a reader that is strict`, () => {
      const address = fc.record({
        ip: fc.oneof(fc.ipV4(), fc.ipV6()),
        port: fc.integer({ min: 0, max: 65535 }),
      });
      fc.assert(
        fc.property(address, address, (source, destination) => {
          const told = read(write(source, destination));
          assert.ok(told !== null);
          assert.equal(told.family, isIPv4(source.ip) && isIPv4(destination.ip) ? 'TCP4' : 'TCP6');
          for (const [is, was] of [
            [told.source, source],
            [told.destination, destination],
          ] as const) {
            assert.equal(is.port, was.port);
            assert.ok(isSame(is.ip, was.ip), `${is.ip} is not ${was.ip}`);
          }
        }),
        { numRuns: 1000 },
      );
    });
  }
});
