import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Socks5Handshake, type SocksCredentials, type SocksTarget } from '../../src/protocol/socks5.js';
import { single, talk } from './handshakes.js';

const NAME: SocksTarget = { host: 'a.example', port: 443 };
const LOGIN: SocksCredentials = { user: 'me', password: 'pass' };

const hex = (text: string): Buffer => Buffer.from(text.replace(/ /g, ''), 'hex');

/** What an upstream says: a method, and a reply with an IPv4 address. */
const NO_AUTHENTICATION = '05 00';
const BY_PASSWORD = '05 02';
const AUTHENTICATED = '01 00';
const CONNECTED = '05 00 00 01 c0000201 0050';

const GREETING = '050100';
const GREETING_WITH_PASSWORD = '05020002';
const AUTHENTICATION = '01026d650470617373';
const REQUEST = '05010003' + '09612e6578616d706c65' + '01bb';

const connect = (says: string, credentials: SocksCredentials | null = null, target = NAME) =>
  talk(new Socks5Handshake(target, credentials), [hex(says)]);

const connected = (sent: readonly string[], early = '') => ({
  outcome: 'connected',
  sent,
  status: null,
  reason: null,
  early,
});

describe('RFC 1928: a handshake with a SOCKS 5 upstream', () => {
  test('without credentials offers no authentication, and then asks for a connection', () => {
    assert.deepEqual(connect(NO_AUTHENTICATION + CONNECTED), connected([GREETING, REQUEST]));
  });

  test('with credentials offers both, and goes without them where the upstream wants none', () => {
    assert.deepEqual(connect(NO_AUTHENTICATION + CONNECTED, LOGIN), connected([GREETING_WITH_PASSWORD, REQUEST]));
  });

  test('tells them where the upstream wants them (RFC 1929)', () => {
    assert.deepEqual(
      connect(BY_PASSWORD + AUTHENTICATED + CONNECTED, LOGIN),
      connected([GREETING_WITH_PASSWORD, AUTHENTICATION, REQUEST]),
    );
  });

  test("takes SOCKS' version in the answer to them, which some upstreams send", () => {
    assert.equal(connect(`${BY_PASSWORD}05 00${CONNECTED}`, LOGIN).outcome, 'connected');
  });

  test('leaves what the origin says at once', () => {
    assert.deepEqual(connect(`${NO_AUTHENTICATION}${CONNECTED}5353482d`), connected([GREETING, REQUEST], 'SSH-'));
  });

  for (const [what, host, request] of [
    ['an IPv4 address', '192.0.2.1', '05010001c000020101bb'],
    ['an IPv6 address', '2001:db8::1', '0501000420010db800000000000000000000000101bb'],
    ['an IPv6 address with dots in it', '64:ff9b::192.0.2.1', '050100040064ff9b0000000000000000c000020101bb'],
    ['a name', 'a.example', REQUEST],
  ] as const) {
    test(`asks for ${what} as such`, () => {
      assert.deepEqual(connect(NO_AUTHENTICATION, null, { host, port: 443 }).sent, [GREETING, request]);
    });
  }

  test('has the port in network order', () => {
    assert.match(connect(NO_AUTHENTICATION, null, { host: 'a', port: 8080 }).sent[1] ?? '', /1f90$/);
    assert.match(connect(NO_AUTHENTICATION, null, { host: 'a', port: 65535 }).sent[1] ?? '', /ffff$/);
  });

  for (const [what, reply] of [
    ['an IPv4 address', CONNECTED],
    ['an IPv6 address', '05 00 00 04 20010db8000000000000000000000001 0050'],
    ['a name', '05 00 00 03 03 616263 0050'],
    ['an empty name', '05 00 00 03 00 0050'],
    ['a long name', `05 00 00 03 ff ${'61'.repeat(255)} 0050`],
  ] as const) {
    test(`skips ${what} that the upstream says it connected from`, () => {
      assert.deepEqual(connect(`${NO_AUTHENTICATION}${reply}ab`), connected([GREETING, REQUEST], '\xab'));
      const bytes = hex(NO_AUTHENTICATION + reply);
      const handshake = new Socks5Handshake(NAME, null);
      assert.equal(talk(handshake, single(bytes.subarray(0, -1))).outcome, 'incomplete');
    });
  }

  for (const [code, status, words] of [
    ['01', 502, 'it failed'],
    ['02', 403, 'its rules do not allow the connection'],
    ['03', 502, 'the network is unreachable'],
    ['04', 502, 'the host is unreachable'],
    ['05', 502, 'the connection was refused'],
    ['06', 504, 'the time to live expired'],
    ['07', 502, 'it does not support the command'],
    ['08', 502, 'it does not support this type of address'],
    ['09', 502, 'it says 9, which has no meaning'],
  ] as const) {
    test(`is refused with ${status} where the reply is ${code}: ${words}`, () => {
      const expected = {
        outcome: 'refused',
        sent: [GREETING, REQUEST],
        status,
        reason: `The SOCKS upstream did not connect: ${words}.`,
        early: '',
      };
      assert.deepEqual(connect(`${NO_AUTHENTICATION}05 ${code} 00 01 00000000 0000`), expected);
      assert.deepEqual(connect(`${NO_AUTHENTICATION}05 ${code}`), expected);
    });
  }

  for (const [what, says, credentials, reason] of [
    ['SOCKS 4', '04', null, /does not speak SOCKS 5/],
    ['HTTP', '485454502f', null, /does not speak SOCKS 5/],
    ['no method', '05ff', LOGIN, /accepts no way/],
    ['a method that was not offered', '0502', null, /not offered/],
    ['GSSAPI', '0501', LOGIN, /not offered/],
    ['that the password is wrong', '05020101', LOGIN, /did not accept the user name and password/],
    ['something else in place of its reply', '050048', null, /does not speak SOCKS 5/],
    ['an unknown type of address', '050005000002', null, /unknown type of address/],
  ] as const) {
    test(`is refused where the upstream says ${what}`, () => {
      const talked = connect(says, credentials);
      assert.deepEqual([talked.outcome, talked.status], ['refused', 502]);
      assert.match(talked.reason ?? '', reason);
    });
  }

  test('is not begun with what SOCKS cannot carry', () => {
    for (const host of ['', 'a'.repeat(256), '\u00e4'.repeat(128)]) {
      assert.throws(() => new Socks5Handshake({ host, port: 1 }, null), RangeError);
    }
    for (const [user, password] of [
      ['', 'b'],
      ['a', ''],
      ['a'.repeat(256), 'b'],
      ['a', 'b'.repeat(256)],
    ] as const) {
      assert.throws(() => new Socks5Handshake(NAME, { user, password }), RangeError);
    }
  });

  test('is the same however what the upstream says is cut, and nothing is thrown', () => {
    const says = fc
      .tuple(
        fc.constantFrom('', NO_AUTHENTICATION, BY_PASSWORD + AUTHENTICATED),
        fc.constantFrom('', CONNECTED, '050000030261620050', '0502'),
        fc.uint8Array({ maxLength: 12 }),
      )
      .map(([begin, reply, rest]) => Buffer.concat([hex(begin + reply), rest]));
    fc.assert(
      fc.property(says, (bytes) => {
        const whole = talk(new Socks5Handshake(NAME, LOGIN), [bytes]);
        assert.deepEqual(talk(new Socks5Handshake(NAME, LOGIN), single(bytes)), whole);
      }),
      { numRuns: 2000 },
    );
  });
});
