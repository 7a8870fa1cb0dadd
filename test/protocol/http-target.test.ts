import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OriginalDestination } from '../../src/address.js';
import { absoluteTarget } from '../../src/protocol/http-target.js';
import { acceptedRequest } from './heads.js';

const at80: OriginalDestination = { ip: '192.0.2.1', port: 80 };
const at8080: OriginalDestination = { ip: '192.0.2.1', port: 8080 };

/** With `host` null in HTTP/1.0, which may go without one. */
const outcome = (method: string, target: string, host: string | null, original: OriginalDestination | null) => {
  const head = host === null ? 'HTTP/1.0\r\n' : `HTTP/1.1\r\nHost: ${host}\r\n`;
  return absoluteTarget(acceptedRequest(`${method} ${target} ${head}\r\n`), original);
};

const found = (target: string, host: string | null = null, looked = false) => ({
  kind: 'target',
  target,
  host,
  looked,
});

const refused = (method: string, target: string, host: string | null, original: OriginalDestination | null): void => {
  const got = outcome(method, target, host, original);
  assert.equal(got.kind === 'refused' && got.status, 400, JSON.stringify(got));
};

describe('RFC 9112 section 3.2.1: a path', () => {
  test('becomes a URL by the Host field', () => {
    assert.deepEqual(outcome('GET', '/a?b#c', 'example.com', at80), found('http://example.com/a?b#c'));
    assert.deepEqual(outcome('GET', '/', 'example.com', null), found('http://example.com/'));
    assert.deepEqual(outcome('GET', '/', '[2001:db8::1]', at80), found('http://[2001:db8::1]/'));
    assert.deepEqual(outcome('GET', '//evil/..', 'A.example', at80), found('http://A.example//evil/..'));
    assert.deepEqual(outcome('GET', '/\xe9', 'a', at80), found('http://a/\xe9'));
  });

  test('gets the port of the original destination where that is not 80 and Host has none, and Host agrees', () => {
    assert.deepEqual(outcome('GET', '/', 'a', at8080), found('http://a:8080/', 'a:8080'));
    assert.deepEqual(outcome('GET', '/', '[::1]', at8080), found('http://[::1]:8080/', '[::1]:8080'));
    assert.deepEqual(outcome('GET', '/', 'a:', at8080), found('http://a:8080/', 'a:8080'));
    assert.deepEqual(outcome('GET', '/', 'a:', at80), found('http://a/', 'a'));
  });

  test('keeps the port that Host has', () => {
    assert.deepEqual(outcome('GET', '/', 'a:81', at8080), found('http://a:81/'));
    assert.deepEqual(outcome('GET', '/', 'a:80', at80), found('http://a:80/'));
    assert.deepEqual(outcome('GET', '/', '[::1]:81', null), found('http://[::1]:81/'));
  });

  test('without a host goes to the original destination', () => {
    assert.deepEqual(outcome('GET', '/a', null, at80), found('http://192.0.2.1/a', null, true));
    assert.deepEqual(outcome('GET', '/a', null, at8080), found('http://192.0.2.1:8080/a', null, true));
    assert.deepEqual(outcome('GET', '/a', '', at80), found('http://192.0.2.1/a', '192.0.2.1', true));
    const ipv6 = { ip: '2001:db8::1', port: 8080 };
    assert.deepEqual(outcome('GET', '/a', null, ipv6), found('http://[2001:db8::1]:8080/a', null, true));
    assert.deepEqual(outcome('GET', '/a', null, { ...ipv6, port: 80 }), found('http://[2001:db8::1]/a', null, true));
  });

  test('without a host and without an original destination gets 400', () => {
    refused('GET', '/', null, null);
    refused('GET', '/', '', null);
  });
});

describe('RFC 9112 section 3.2.2: a URL', () => {
  test('passes as it is, and Host is made from it', () => {
    assert.deepEqual(outcome('GET', 'http://a/b', 'a', at8080), found('http://a/b'));
    assert.deepEqual(outcome('GET', 'http://a:81/b', 'other', at80), found('http://a:81/b', 'a:81'));
    assert.deepEqual(outcome('GET', 'HTTP://A', 'a', at80), found('HTTP://A', 'A'));
    assert.deepEqual(outcome('GET', 'http://a?b', '', at80), found('http://a?b', 'a'));
    assert.deepEqual(outcome('GET', 'https://[::1]:8443/', 'a', at80), found('https://[::1]:8443/', '[::1]:8443'));
    assert.deepEqual(outcome('GET', 'http://a/', null, at80), found('http://a/'));
  });

  test('may name a user for FTP, who does not get into Host, and not for HTTP (RFC 9110 section 4.2.4)', () => {
    assert.deepEqual(outcome('GET', 'ftp://me:x@y@a/b', 'q', at80), found('ftp://me:x@y@a/b', 'a'));
    refused('GET', 'http://me@a/', 'a', at80);
    refused('GET', 'HTTPS://me:x@a/', 'a', at80);
  });

  test('without a valid host gets 400', () => {
    for (const target of [
      'http:///a',
      'http://',
      'http://?a',
      'http://:80/',
      'http://a:b/',
      'http://a:99999/',
      'http://[::1/',
      'http://a\\@b/',
      'http://a%00b/',
      'http://\xe9/',
    ]) {
      refused('GET', target, 'a', at80);
    }
  });

  test('that is neither a path nor a URL gets 400', () => {
    for (const target of ['*', 'a', 'a:80', 'a/b', 'http:/a', 'http:a', '?a', '1http://a/', ':', 'urn:a:b']) {
      refused('GET', target, 'a', at80);
    }
  });
});

describe('RFC 9112 section 3.2.3: CONNECT', () => {
  test('passes with its host and port', () => {
    assert.deepEqual(outcome('CONNECT', 'a:443', 'b', at8080), found('a:443'));
    assert.deepEqual(outcome('CONNECT', '[::1]:443', null, null), found('[::1]:443'));
  });

  test('without a host or a port gets 400', () => {
    for (const target of [
      'a',
      'a:',
      ':443',
      'a:0',
      'a:65536',
      'a:b',
      '/a',
      '*',
      'http://a:443/',
      'me@a:443',
      '::1:443',
    ]) {
      refused('CONNECT', target, 'a', at80);
    }
  });
});

describe('RFC 9112 section 3.2.4: OPTIONS *', () => {
  test('becomes a URL without a path', () => {
    assert.deepEqual(outcome('OPTIONS', '*', 'a', at80), found('http://a'));
    assert.deepEqual(outcome('OPTIONS', '*', 'a', at8080), found('http://a:8080', 'a:8080'));
    assert.deepEqual(outcome('OPTIONS', '*', null, at80), found('http://192.0.2.1', null, true));
  });

  test('is not for other methods', () => refused('options', '*', 'a', at80));
});
