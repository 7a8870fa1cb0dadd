import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { describe, test } from 'node:test';
import { connectError, explain, isOfSource, sourceOf } from '../../src/data/source.js';
import { E, SystemError } from '../../src/sys/errno.js';
import { serviceOf } from './rig.js';

const TO = { ip: '192.0.2.80', port: 80 };
const SPOOFED = { ip: '192.0.2.1', foreign: true, unlisted: false };
const OURS = { ip: '192.0.2.1', foreign: false, unlisted: false };

describe('sourceOf', () => {
  const of = (settings: { spoof?: boolean; source?: string }, ip: string | null, toOriginal = false) =>
    sourceOf(serviceOf(settings), ip === null ? null : { ip, port: 1 }, toOriginal);
  const given = { ip: '192.0.2.9', foreign: false, unlisted: false };

  test('is the route without an address, the given one, or the client', () => {
    assert.equal(of({}, '192.0.2.1'), null);
    assert.deepEqual(of({ source: '192.0.2.9' }, '192.0.2.1'), given);
    assert.deepEqual(of({ spoof: true }, '192.0.2.1'), SPOOFED);
    assert.deepEqual(of({ spoof: true, source: '192.0.2.9' }, '2001:db8::1'), { ...SPOOFED, ip: '2001:db8::1' });
  });

  test('is as without spoof for clients whose address nobody else could answer, and for those without one', () => {
    for (const ip of ['127.0.0.1', '127.1.2.3', '::1', 'fe80::1%2', null]) {
      assert.equal(of({ spoof: true }, ip), null, String(ip));
      assert.deepEqual(of({ spoof: true, source: '192.0.2.9' }, ip), given, String(ip));
    }
  });

  test("is not listed between another host's client and its original destination", () => {
    assert.deepEqual(of({ spoof: true }, '192.0.2.1', true), { ...SPOOFED, unlisted: true });
    assert.deepEqual(of({ spoof: true }, '2001:db8::1', true), { ip: '2001:db8::1', foreign: true, unlisted: true });
    assert.deepEqual(of({ source: '192.0.2.9' }, '192.0.2.1', true), given);
  });

  test('is listed for a client on this host, wherever it goes', () => {
    const ours = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    for (const { address, internal, scopeid } of ours) {
      if (!internal && !scopeid) assert.equal(of({ spoof: true }, address, true)?.unlisted, false, address);
    }
  });
});

describe('a failure', () => {
  test('lies with the address when it could not be had, or when nothing came back to a foreign one', () => {
    const bind = new SystemError('bind', E.ADDRNOTAVAIL);
    const transparent = new SystemError('setsockopt IP_TRANSPARENT', E.PERM);
    const late = new SystemError('connect', E.TIMEDOUT);
    for (const error of [bind, transparent]) assert.ok(isOfSource(error, OURS));
    assert.ok(isOfSource(late, SPOOFED));
    assert.ok(!isOfSource(late, OURS));
    assert.ok(!isOfSource(new SystemError('connect', E.CONNRESET), SPOOFED));
    assert.ok(!isOfSource(new SystemError('lookup', E.NOENT), SPOOFED));
    for (const error of [bind, late]) assert.ok(!isOfSource(error, null));
  });

  test('is told with what is missing where that can be told', () => {
    const text = (error: SystemError, source: typeof OURS | null) => explain(error, source);
    assert.equal(text(connectError(E.TIMEDOUT, TO, null), null), 'connect 192.0.2.80:80: ETIMEDOUT');
    assert.equal(text(connectError(E.TIMEDOUT, TO, OURS), OURS), 'connect 192.0.2.80:80 from 192.0.2.1: ETIMEDOUT');
    const late = text(connectError(E.TIMEDOUT, TO, SPOOFED), SPOOFED);
    assert.match(late, /^connect 192\.0\.2\.80:80 from 192\.0\.2\.1: ETIMEDOUT \(.*docs\/transparent\.md\)$/);
    const barred = text(new SystemError('setsockopt IP_TRANSPARENT', E.PERM, 'x'), SPOOFED);
    assert.match(barred, /EPERM \(.*CAP_NET_RAW or CAP_NET_ADMIN\)$/);
    assert.match(
      text(new SystemError('bind', E.ADDRNOTAVAIL, 'x'), OURS),
      /\(no address of this host is 192\.0\.2\.1\)$/,
    );
    assert.match(text(new SystemError('bind', E.AFNOSUPPORT, 'x'), OURS), /IPv4.*IPv6/);
    assert.equal(
      text(connectError(E.CONNRESET, TO, SPOOFED), SPOOFED),
      'connect 192.0.2.80:80 from 192.0.2.1: ECONNRESET',
    );
  });
});
