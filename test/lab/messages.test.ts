import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { type SeenRequest, Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
const TELLING_PORT = 8888;
const END = '\r\n\r\n';
const OK = `HTTP/1.1 200 OK\r\nContent-Length: 2${END}ok`;
const LARGE = 100 * 1024 * 1024;

const needs = ['curl', 'nginx', 'squid', 'iptables'].map((name) => `program ${name}` as const);

describe('HTTP messages on their way', { skip: unless(...needs) }, () => {
  let topology: Topology;
  let nginx: Peer;
  let squid: Peer;
  let client: Sockets;
  let proxy: Sockets;
  /** The upstream that the test plays itself, a new one for each. */
  let upstream: TestListener;
  const [originV4] = ADDRESS.internet;

  before(async () => {
    topology = await buildGateway();
    const { lab, internet } = topology;
    nginx = await startNginx(lab, internet);
    for (let i = 0; i < 10; i++) writeFileSync(`${nginx.folder}/files/${i}.txt`, `page ${i}\n`.repeat(i + 1));
    squid = await startSquid(lab, topology.proxy, SQUID_PORT);
    client = new Sockets(topology.client);
    await new Sockets(internet).serveHttp(TELLING_PORT);
    proxy = new Sockets(topology.proxy);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, upstreamPort: number, ...options: string[]) => {
    for (const port of [80, TELLING_PORT]) await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
    return startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(upstreamPort));
  };

  const startBare = async (t: Cleanup, ...options: string[]) => {
    upstream = await proxy.listen(0);
    return startWith(t, upstream.port, ...options);
  };

  const curl = (...args: string[]) => topology.client.attempt('curl', '-sS', '-4', '--max-time', '30', ...args);

  /** A connection to the origin that has sent something, and the upstream's end of the one that it led to. */
  const talk = async (first: string): Promise<{ near: TestSocket; far: TestSocket }> => {
    const near = await client.connect(originV4, 80);
    await near.send(first);
    return { near, far: await upstream.accept() };
  };

  const passes = async (from: TestSocket, to: TestSocket, bytes: string): Promise<void> => {
    await from.send(bytes);
    assert.equal(await to.receive(bytes.length), bytes);
  };

  /** The end of a connection: what was read, or the error's name. */
  const endOf = (socket: TestSocket): Promise<string> =>
    socket.receiveAll().catch((error: NodeJS.ErrnoException) => String(error.code));

  test('an upload that waits for 100 Continue goes through Squid', async (t) => {
    await startWith(t, SQUID_PORT);
    const file = topology.lab.path('upload');
    writeFileSync(file, '');
    truncateSync(file, 3_000_000);
    const url = `http://origin.lab:${TELLING_PORT}/upload`;
    const { stdout } = await curl('-H', 'Expect: 100-continue', '--expect100-timeout', '20', '-T', file, url);
    const told = JSON.parse(stdout) as SeenRequest;
    assert.equal(told.bytes, 3_000_000);
  });

  test('Expect, 100 Continue and the body behind it pass one after the other', async (t) => {
    await startBare(t);
    const { near, far } = await talk(
      `PUT /x HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5${END}`,
    );
    assert.match(await far.receiveThrough(END), /^Expect: 100-continue\r$/m);
    await passes(far, near, `HTTP/1.1 100 Continue${END}`);
    await passes(near, far, 'hello');
    await passes(far, near, OK);
  });

  test('early hints pass before their response', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET /x HTTP/1.1\r\nHost: a.example${END}`);
    await far.receiveThrough(END);
    await passes(far, near, `HTTP/1.1 103 Early Hints\r\nLink: </style.css>${END}`);
    await passes(far, near, `HTTP/1.1 103 Early Hints\r\nLink: </script.js>${END}${OK}`);
    await near.send(`GET /y HTTP/1.1\r\nHost: a.example${END}`);
    assert.match(await far.receiveThrough(END), /^GET http:\/\/a\.example\/y /);
  });

  test('OPTIONS * becomes the URL without a path', async (t) => {
    await startBare(t);
    const { far } = await talk(`OPTIONS * HTTP/1.1\r\nHost: a.example${END}`);
    assert.match(await far.receiveThrough(END), /^OPTIONS http:\/\/a\.example HTTP\/1\.1\r\n/);
  });

  test('OPTIONS and TRACE count their hops, and are answered here when there is none left', async (t) => {
    await startBare(t);
    const { far } = await talk(`TRACE /x HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 2${END}`);
    assert.match(await far.receiveThrough(END), /^Max-Forwards: 1\r$/m);
    for (const [method, answer] of [
      ['TRACE', /^HTTP\/1\.1 200 [\s\S]*message\/http[\s\S]*\r\n\r\nTRACE \/x HTTP\/1\.1\r\nHost: a\.example\r\n/],
      ['OPTIONS', /^HTTP\/1\.1 200 [\s\S]*\r\nAllow: /],
    ] as const) {
      const near = await client.connect(originV4, 80);
      await near.send(`${method} /x HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 0${END}`);
      assert.match(await near.receiveAll(), answer);
    }
  });

  test('a method that nobody knows passes', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`BREW-42 /pot HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3${END}tea`);
    assert.match(await far.receiveThrough(END), /^BREW-42 http:\/\/a\.example\/pot HTTP\/1\.1\r\n/);
    assert.equal(await far.receive(3), 'tea');
    await passes(far, near, OK);
  });

  test('HTTP/1.0 keeps a connection through Squid when both want to, and ends it when not', async (t) => {
    await startWith(t, SQUID_PORT);
    const near = await client.connect(originV4, 80);
    for (const i of [1, 2]) {
      await near.send(`GET /${i}.txt HTTP/1.0\r\nHost: origin.lab\r\nConnection: keep-alive${END}`);
      assert.match(await near.receiveThrough(END), /^HTTP\/1\.1 200 OK\r\n[\s\S]*^Connection: keep-alive\r$/im);
      assert.equal(await near.receive(7 * (i + 1)), `page ${i}\n`.repeat(i + 1));
    }
    await near.send(`GET /3.txt HTTP/1.0\r\nHost: origin.lab${END}`);
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n(page 3\n){4}$/);
  });

  test('chunks, their extensions and trailers pass byte for byte both ways', async (t) => {
    await startBare(t);
    const { near, far } = await talk(
      `POST /x HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked${END}`,
    );
    const head = await far.receiveThrough(END);
    assert.match(head, /^Transfer-Encoding: chunked\r$/m);
    assert.match(head, /^TE: trailers\r$/m);
    const body = `5;name="a;b"\r\nhello\r\n00A ; x\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nX-Two: \xe9\r\n\r\n`;
    await passes(near, far, body);
    await passes(far, near, `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum${END}${body}`);
    await near.send(`GET /next HTTP/1.1\r\nHost: a.example${END}`);
    assert.match(await far.receiveThrough(END), /^GET http:\/\/a\.example\/next /);
  });

  test('answers without a body to HEAD, 304 and 204 leave the connection in step, through Squid', async (t) => {
    await startWith(t, SQUID_PORT);
    const near = await client.connect(originV4, 80);
    const ask = async (method: string, path: string, ...fields: string[]): Promise<string> => {
      await near.send(`${[`${method} ${path} HTTP/1.1`, 'Host: origin.lab', ...fields].join('\r\n')}${END}`);
      return near.receiveThrough(END);
    };
    const head = await ask('HEAD', '/9.txt');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n[\s\S]*^Content-Length: 70\r$/m);
    const etag = /^ETag: (.*)\r$/m.exec(head)?.[1];
    assert.match(await ask('GET', '/9.txt', `If-None-Match: ${etag}`), /^HTTP\/1\.1 304 /);
    assert.match(await ask('GET', '/9.txt'), /^HTTP\/1\.1 200 OK\r\n/);
    assert.equal(await near.receive(70), 'page 9\n'.repeat(10));
    assert.match(await ask('HEAD', '/nothing-here'), /^HTTP\/1\.1 404 /);
    assert.match(await ask('GET', '/1.txt'), /^HTTP\/1\.1 200 OK\r\n/);
    assert.equal(await near.receive(14), 'page 1\n'.repeat(2));
  });

  test('pipelined requests are answered in order through Squid', async (t) => {
    await startWith(t, SQUID_PORT);
    const near = await client.connect(originV4, 80);
    const numbers = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7];
    await near.send(numbers.map((i) => `GET /${i}.txt HTTP/1.1\r\nHost: origin.lab${END}`).join(''));
    for (const i of numbers) {
      assert.match(await near.receiveThrough(END), /^HTTP\/1\.1 200 OK\r\n/);
      assert.equal(await near.receive(7 * (i + 1)), `page ${i}\n`.repeat(i + 1));
    }
    assert.ok((await squid.logged('http://origin.lab/', numbers.length)).length >= numbers.length);
  });

  test('a client that is refused while it sends gets to read why', async (t) => {
    await startBare(t);
    const near = await client.connect(originV4, 80);
    await near.send(`POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1, 2${END}`);
    const sent = near.sendNoise(600_000, 5);
    const answer = await near.receiveAll();
    assert.match(answer, /^HTTP\/1\.1 400 [\s\S]*<\/html>\s*$/);
    await sent;
    assert.equal(await upstream.waiting(), 0);
  });

  test('a large upload that is refused for its head gets the answer, too', async (t) => {
    await startBare(t);
    const file = topology.lab.path('refused');
    writeFileSync(file, '');
    truncateSync(file, LARGE);
    const args = ['-o', '/dev/null', '-w', '%{http_code}', '-H', 'Expect:', '-H', 'X-Odd : 1', '-T', file];
    assert.equal((await curl(...args, 'http://origin.lab/')).stdout, '400');
    assert.equal(await upstream.waiting(), 0);
  });

  test('a refusal in the middle of a chunked body is read, and the upstream sees its request cut off', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked${END}`);
    await far.receiveThrough(END);
    await near.send('5\r\nhello\r\n5x\r\nhello\r\n0\r\n\r\n');
    assert.match(await endOf(near), /^HTTP\/1\.1 400 /);
    assert.doesNotMatch(await endOf(far), /0\r\n\r\n$/);
  });

  test('a refusal comes behind the answers to the requests before it', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET /1 HTTP/1.1\r\nHost: a.example${END}GET /2 HTTP/1.1\r\nHost: a b${END}`);
    await far.receiveThrough(END);
    await far.send(OK);
    const all = await near.receiveAll();
    assert.ok(all.startsWith(`${OK}HTTP/1.1 400 `), all);
  });

  test('an upload that the upstream cuts short with an answer gets that answer', async (t) => {
    await startBare(t);
    const file = topology.lab.path('large');
    writeFileSync(file, '');
    truncateSync(file, LARGE);
    const running = curl('-o', '/dev/null', '-w', '%{http_code}', '-H', 'Expect:', '-T', file, 'http://origin.lab/');
    const far = await upstream.accept();
    await far.receiveThrough(END);
    await far.digest(1_000_000);
    await far.send(`HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close${END}`);
    await far.sendFin();
    assert.equal((await running).stdout, '413');
    await far.reset();
  });

  test('a request behind the end of an idle upstream connection goes on a new one', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET /1 HTTP/1.1\r\nHost: a.example${END}`);
    await far.receiveThrough(END);
    await passes(far, near, OK);
    await far.sendFin();
    assert.equal(await far.receiveAll(), '');
    await near.send(`POST /2 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2${END}ab`);
    const second = await upstream.accept();
    assert.match(await second.receiveThrough(END), /^POST http:\/\/a\.example\/2 /);
    assert.equal(await second.receive(2), 'ab');
    await passes(second, near, OK);
  });

  for (const how of ['ended', 'reset'] as const) {
    const lose = (far: TestSocket): Promise<void> => (how === 'ended' ? far.closed() : far.reset());

    test(`a request without a body that a kept-alive connection ${how} on is sent again`, async (t) => {
      await startBare(t);
      const { near, far } = await talk(`GET /1 HTTP/1.1\r\nHost: a.example${END}`);
      await far.receiveThrough(END);
      await passes(far, near, OK);
      await near.send(`GET /2 HTTP/1.1\r\nHost: a.example${END}`);
      await far.receiveThrough(END);
      await lose(far);
      const second = await upstream.accept();
      assert.match(await second.receiveThrough(END), /^GET http:\/\/a\.example\/2 /);
      await passes(second, near, OK);
      // Once only: an upstream that dies of it would be asked for ever.
      await near.send(`GET /3 HTTP/1.1\r\nHost: a.example${END}`);
      await second.receiveThrough(END);
      await lose(second);
      const third = await upstream.accept();
      await third.receiveThrough(END);
      await lose(third);
      assert.match(await endOf(near), /^HTTP\/1\.1 502 /);
    });

    test(`a POST that a kept-alive connection ${how} on is not, but answered 502`, async (t) => {
      await startBare(t);
      const { near, far } = await talk(`GET /1 HTTP/1.1\r\nHost: a.example${END}`);
      await far.receiveThrough(END);
      await passes(far, near, OK);
      await near.send(`POST /2 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2${END}ab`);
      await far.receiveThrough(END);
      await far.receive(2);
      await lose(far);
      assert.match(await endOf(near), /^HTTP\/1\.1 502 /);
      assert.equal(await upstream.waiting(), 0);
    });

    for (const [coding, body] of [
      ['with a length', `Content-Length: 100${END}only a part`],
      ['in chunks', `Transfer-Encoding: chunked${END}b\r\nonly a part\r\n`],
    ] as const) {
      test(`a response ${coding} that the upstream ${how} in the middle of is cut off for the client`, async (t) => {
        await startBare(t);
        const { near, far } = await talk(`GET / HTTP/1.1\r\nHost: a.example${END}`);
        await far.receiveThrough(END);
        const part = `HTTP/1.1 200 OK\r\n${body}`;
        await passes(far, near, part);
        await lose(far);
        assert.match(await endOf(near), /^(ECONNRESET)?$/);
        assert.equal(await upstream.waiting(), 0);
      });
    }
  }

  test('an upstream that never answers is 504 after --timeout', async (t) => {
    await startBare(t, '--timeout', '1');
    const { near } = await talk(`GET / HTTP/1.1\r\nHost: a.example${END}`);
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 504 /);
  });

  test('an upstream that answers nonsense is 502', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET / HTTP/1.1\r\nHost: a.example${END}`);
    await far.receiveThrough(END);
    await far.send(`SSH-2.0-x\r\n${END}`);
    assert.match(await near.receiveAll(), /^HTTP\/1\.1 502 /);
  });

  test('a response head of 60 KB passes', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET / HTTP/1.1\r\nHost: a.example${END}`);
    await far.receiveThrough(END);
    const fields = Array.from({ length: 60 }, (_, i) => `X-${i}: ${'x'.repeat(1000)}\r\n`).join('');
    await passes(far, near, `HTTP/1.1 200 OK\r\n${fields}Content-Length: 2${END}ok`);
  });

  test('a response that ends with its connection is whole, and so is its end', async (t) => {
    await startBare(t);
    const { near, far } = await talk(`GET / HTTP/1.0\r\nHost: a.example${END}`);
    await far.receiveThrough(END);
    await passes(far, near, `HTTP/1.0 200 OK${END}`);
    const sent = far.sendNoise(20_000_000, 9);
    const received = near.digest(20_000_000);
    assert.deepEqual(await received, { bytes: 20_000_000, sha256: await sent });
    await far.sendFin();
    assert.equal(await near.receiveAll(), '');
  });
});
