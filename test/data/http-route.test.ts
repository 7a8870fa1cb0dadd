import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import type { HttpLink } from '../../src/data/http-relay.js';
import { type Route, routeOf } from '../../src/data/http-route.js';
import type { HttpSettings } from '../../src/plan.js';
import type { RequestHead } from '../../src/protocol/http.js';
import { acceptedRequest } from '../protocol/heads.js';
import { Stage, turns } from './rig.js';

const ORIGINAL = { ip: '192.0.2.7', port: 80 };

/** A link that only has what a route depends on. */
const linkOf = (http: Partial<HttpSettings>, original: SocketAddress | null = ORIGINAL): [HttpLink, Stage] => {
  const stage = new Stage({ mode: 'http', http });
  const link = { site: stage.site, original, log: (level: 'warn', line: string) => stage.logs.push([level, line]) };
  return [link as unknown as HttpLink, stage];
};

const headOf = (line: string, ...fields: string[]): RequestHead =>
  acceptedRequest(`${line} HTTP/1.1\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`);

const route = (http: Partial<HttpSettings>, head: RequestHead, original: SocketAddress | null = ORIGINAL) => {
  const [link, stage] = linkOf(http, original);
  stage.play(turns(1));
  return routeOf(head, link, () => {});
};

const routed = (...of: Parameters<typeof route>): Route => {
  const outcome = route(...of);
  assert.equal(outcome.kind, 'route', JSON.stringify(outcome));
  return outcome as Route;
};

const hostIn = ({ fields }: RequestHead): string | undefined => fields[fields.indexOf('Host') + 1];

describe('a route', () => {
  test('is the URL that the Host and the original destination make, with the word for how it was found', () => {
    for (const [line, host, target, what, fieldAfter] of [
      ['GET /x', 'a.test', 'http://a.test/x', 'Request_NoDNS', 'a.test'],
      ['GET /x', '', 'http://192.0.2.7/x', 'Request', '192.0.2.7'],
      ['GET http://b.test/x', 'a.test', 'http://b.test/x', 'Transparent', 'b.test'],
      ['OPTIONS *', 'a.test', 'http://a.test', 'Request_NoDNS', 'a.test'],
      ['CONNECT b.test:443', 'b.test', 'b.test:443', 'Transparent', 'b.test'],
    ] as const) {
      const head = headOf(line, `Host: ${host}`);
      const found = routed({}, head);
      assert.deepEqual([found.target, found.what], [target, what]);
      assert.equal(hostIn(head), fieldAfter);
      assert.equal(found.knowsProxy, line.includes('b.test'));
    }
  });

  test('is none where nothing says which host, a link-local address among it, which no URL can name', () => {
    for (const original of [null, { ip: 'fe80::1%2', port: 80 }]) {
      assert.equal(route({}, headOf('GET /', 'Host:'), original).kind, 'refused');
    }
  });

  test('is the forced URL but for what it refers to, and for CONNECT', () => {
    const force = { url: 'http://wall.test/login', host: 'wall.test' };
    const head = headOf('POST http://a.test/', 'Host: a.test');
    assert.deepEqual(routed({ force, verifyHost: 'strict' }, head), {
      kind: 'route',
      target: force.url,
      what: 'Forced',
      origin: null,
      knowsProxy: true,
    });
    assert.equal(hostIn(head), 'wall.test');
    assert.equal(
      routed({ force }, headOf('GET /s.css', 'Host: wall.test', `Referer: ${force.url}`)).what,
      'Request_NoDNS',
    );
    assert.equal(routed({ force }, headOf('CONNECT a.test:443', 'Host: a.test')).target, 'a.test:443');
  });

  test('of an upgrade leads to the origin, unless upgrades are passed', () => {
    const upgrade = ['Connection: Upgrade', 'Upgrade: websocket'];
    for (const [line, host, original, expected] of [
      ['GET /ws?x', 'a.test', ORIGINAL, { host: 'a.test', port: 80, target: '/ws?x' }],
      ['GET /ws', 'a.test', { ip: '192.0.2.7', port: 8080 }, { host: 'a.test', port: 8080, target: '/ws' }],
      ['GET /ws', '[2001:db8::1]:81', ORIGINAL, { host: '2001:db8::1', port: 81, target: '/ws' }],
      ['GET http://b.test', 'a.test', ORIGINAL, { host: 'b.test', port: 80, target: '/' }],
      ['GET http://b.test?q', 'a.test', ORIGINAL, { host: 'b.test', port: 80, target: '/?q' }],
      ['GET ftp://b.test/', 'a.test', ORIGINAL, null],
    ] as const) {
      assert.deepEqual(routed({}, headOf(line, `Host: ${host}`, ...upgrade), original).origin, expected);
    }
    assert.equal(routed({ upgrade: 'pass' }, headOf('GET /', 'Host: a.test', ...upgrade)).origin, null);
  });
});

describe('--verify-host', () => {
  test('waits for the name, and is asked again when it is there; case is of no account', () => {
    const [link, stage] = linkOf({ verifyHost: 'strict' });
    const head = headOf('GET /', 'Host: A.test');
    let told = 0;
    assert.equal(routeOf(head, link, () => told++).kind, 'pending');
    assert.deepEqual(stage.asked, ['a.test']);
    stage.thread.names.answer('a.test', ['192.0.2.1', '192.0.2.7'], stage.loop.now);
    assert.equal(told, 1);
    assert.equal(routeOf(head, link, () => told++).kind, 'route');
    stage.play(turns(1));
  });

  test('compares addresses, however they are written', () => {
    const original = { ip: '2001:db8::1', port: 80 };
    for (const host of ['[2001:db8::1]', '[2001:DB8:0:0::0001]:80', '[2001:0db8::0.0.0.1]']) {
      assert.equal(route({ verifyHost: 'strict' }, headOf('GET /', `Host: ${host}`), original).kind, 'route', host);
    }
    for (const host of ['[2001:db8::2]', '192.0.2.7']) {
      assert.equal(route({ verifyHost: 'strict' }, headOf('GET /', `Host: ${host}`), original).kind, 'refused', host);
    }
  });

  test('judges a URL of whatever scheme', () => {
    for (const url of ['http://192.0.2.8/', 'https://192.0.2.8/', 'ftp://192.0.2.8/x', 'ftp://u@192.0.2.8/x']) {
      const head = headOf(`GET ${url}`, 'Host: 192.0.2.7');
      const outcome = route({ verifyHost: 'strict' }, head);
      assert.equal(outcome.kind === 'refused' && outcome.status, 409, url);
      assert.match(routed({ verifyHost: 'address' }, head).target, /^http:\/\/192\.0\.2\.7\/x?$/);
    }
  });

  test('goes by the address with its port, or refuses; nothing is looked up where the address is the host already', () => {
    const original = { ip: '2001:db8::7', port: 8080 };
    const head = headOf('GET /x?y', 'Host: 192.0.2.8');
    const found = routed({ verifyHost: 'address' }, head, original);
    assert.equal(found.target, 'http://[2001:db8::7]:8080/x?y');
    assert.equal(hostIn(head), '[2001:db8::7]:8080');
    assert.equal(found.what, 'Request');
    assert.equal(routed({ verifyHost: 'strict' }, headOf('GET /', 'Host:')).target, 'http://192.0.2.7/');
    assert.equal(routed({ verifyHost: 'strict' }, headOf('GET /', 'Host: a.test'), null).target, 'http://a.test/');
  });
});
