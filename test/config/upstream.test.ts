import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseUpstream } from '../../src/config/upstream.js';
import { UsageError } from '../../src/config/usage-error.js';

const parse = (text: string) => parseUpstream('--upstream', text);
const refused = (text: string, message: RegExp) =>
  assert.throws(
    () => parse(text),
    (error) => error instanceof UsageError && message.test(error.message),
    text,
  );

describe('parseUpstream', () => {
  it('takes HOST:PORT for an HTTP proxy, and a URL for either kind', () => {
    for (const [text, scheme, host, port] of [
      ['squid.example.net:3128', 'http', 'squid.example.net', 3128],
      ['192.0.2.1:03128', 'http', '192.0.2.1', 3128],
      ['[2001:db8::1]:3128', 'http', '2001:db8::1', 3128],
      ['http://squid:80', 'http', 'squid', 80],
      ['HTTP://squid:80/', 'http', 'squid', 80],
      ['socks5://[::1]:1080', 'socks5', '::1', 1080],
      ['squid:http', 'http', 'squid', 80],
    ] as const) {
      assert.deepEqual(parse(text), { scheme, host, port, credentials: null }, text);
    }
  });

  it('takes a user and a password, percent-encoded where they need it', () => {
    for (const [text, user, password] of [
      ['http://me:secret@a:1', 'me', 'secret'],
      ['me:secret@a:1', 'me', 'secret'],
      ['socks5://me:a:b@[::1]:1', 'me', 'a:b'],
      ['socks5://a%3Ab:c@a:1', 'a:b', 'c'],
      ['http://me:%40%2F%25%C3%A9+@a:1', 'me', '@/%é+'],
      ['http://me:p@ss@a:1', 'me', 'p@ss'],
      ['http://me:@a:1', 'me', ''],
      ['http://me@a:1', 'me', ''],
    ] as const) {
      assert.deepEqual(parse(text).credentials, { user, password }, text);
    }
  });

  it('refuses what is no host and port', () => {
    for (const text of ['', 'a', 'a:', ':1', '::1', '::1:3128', 'http://a', 'http:a:1', 'me:x@a', 'a:1/x', 'a/b:1']) {
      refused(text, /^--upstream: ".*" is not HOST:PORT, /);
    }
    for (const text of ['a:1?q', 'a b:1', 'a?q:1']) refused(text, /^--upstream: ".*" is (neither a port|not a host)/);
    refused('::1:3128', /IPv6 in brackets$/);
    refused('a:0', /"0" is not a port/);
    refused('[a]:1', /"\[a\]" is not a host name/);
  });

  it('refuses other schemes', () => {
    for (const text of ['https://a:1', 'socks4://a:1', 'socks5h://a:1', 'ftp://a:1']) {
      refused(text, /begins with neither http:\/\/ nor socks5:\/\/$/);
    }
  });

  it('refuses a user and password that the protocol has no room for', () => {
    refused('http://:x@a:1', /have no user name$/);
    refused('http://@a:1', /have no user name$/);
    refused('http://a%3Ab:c@a:1', /have a colon in the user name/);
    refused('http://me:a%0Ab@a:1', /have a control character in them$/);
    refused('socks5://me@a:1', /have no password/);
    refused(`socks5://me:${'x'.repeat(256)}@a:1`, /are longer than 255 bytes$/);
    refused(`http://${'%C3%A9'.repeat(128)}:x@a:1`, /are longer than 255 bytes$/);
    for (const text of ['http://me:100%@a:1', 'http://me:%zz@a:1', 'http://me:%ff@a:1']) {
      refused(text, /a % in front of @ is not followed/);
    }
  });

  it('never shows a user or password in a message', () => {
    for (const text of ['me:secret@a', 'https://me:secret@a:1', 'http://me:secret%@a:1', 'http://me:secret@a:x y']) {
      refused(text, /^(?!.*(secret|me:))/);
    }
  });
});
