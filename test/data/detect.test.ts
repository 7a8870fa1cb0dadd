import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Detected, detect } from '../../src/data/detect.js';
import { CHROMIUM, CURL, OPENSSL } from '../protocol/hellos.js';
import { ech, hello, record, records } from '../protocol/tls-bytes.js';

const HTTP: Detected = { kind: 'http' };
const UNKNOWN: Detected = { kind: 'unknown' };
const tls = (serverName: string | null, hasEch = false): Detected => ({ kind: 'tls', serverName, ech: hasEch });

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The outcome of the first bytes that have one, as they come one by one: it must hold for all that follow. */
const detected = (bytes: Buffer): { readonly outcome: Detected | null; readonly size: number } => {
  const behind = Buffer.concat([latin1('??'), bytes, latin1('!!')]);
  let found: Detected | null = null;
  let size = 0;
  for (let end = 0; end <= bytes.length; end++) {
    const outcome = detect(behind, 2, 2 + end);
    if (found === null && outcome.kind !== 'incomplete') {
      found = outcome;
      size = end;
    }
    if (found !== null) assert.deepEqual(outcome, found, `${end} bytes`);
  }
  return { outcome: found, size };
};

describe('detection, byte by byte', () => {
  test('a method and a path are HTTP, and so is any target with HTTP/1.x behind it', () => {
    for (const [text, size] of [
      ['GET / HTTP/1.1\r\n', 5],
      ['X-UNKNOWN /', 11],
      ['\r\n\r\nGET /x', 9],
      ['OPTIONS * HTTP/1.1', 17],
      ['GET http://a/ HTTP/1.0', 21],
      ['CONNECT a:443 HTTP/1.1', 21],
    ] as const) {
      assert.deepEqual(detected(latin1(text)), { outcome: HTTP, size }, text);
    }
  });

  test('a ClientHello is TLS with the name in it, from its last byte on', () => {
    for (const [bytes, expected] of [
      [OPENSSL, tls('www.example.com')],
      [CURL, tls('www.example.com')],
      [CHROMIUM, tls('www.example.com', true)],
      [record(hello()), tls(null)],
      [record(hello(ech())), tls(null, true)],
      [records(OPENSSL.subarray(5), 100), tls('www.example.com')],
    ] as const) {
      const { outcome, size } = detected(bytes);
      assert.deepEqual(outcome, expected);
      assert.equal(size, bytes.length);
    }
  });

  test('what cannot become either any more is unknown, as soon as it cannot', () => {
    for (const [text, size] of [
      ['SSH-2.0-OpenSSH_9.2\r\n', 20],
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 12],
      ['EHLO example.com\r\n', 17],
      ['\x00\x01', 1],
      ['\x16\x02', 2],
      ['\x17\x03\x03', 1],
      ['\x16\x03\x01\x00\x10\x02', 6],
      [' GET /', 1],
      ['GET  /', 5],
    ] as const) {
      assert.deepEqual(detected(latin1(text)), { outcome: UNKNOWN, size }, JSON.stringify(text));
    }
  });

  test('too few bytes say nothing', () => {
    for (const text of ['', 'G', 'GET', 'GET ', '\x16', '\x16\x03\x01', '\r\n', 'GET http://a', 'PRI * HTTP/']) {
      assert.equal(detected(latin1(text)).outcome, null, text);
    }
  });

  test('a line that could go on for ever is given to the reader of requests at 64 KiB, which has a bound for it', () => {
    const endless = latin1(`GET ${'x'.repeat(65_536)}`);
    assert.deepEqual(detect(endless, 0, 65_535), { kind: 'incomplete' });
    assert.deepEqual(detect(endless, 0, 65_536), HTTP);
    assert.deepEqual(detect(endless, 0, endless.length), HTTP);
  });
});
