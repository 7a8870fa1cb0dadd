import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { type SeenRequest, Sockets, type TestListener, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const UPSTREAM_PORT = 3128;
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

const END = '\r\n\r\n';

/** The upstream here is a bare socket that the test reads and answers itself, so that every byte is seen. */
describe('translated requests on the wire', { skip: unless('program iptables') }, () => {
  let topology: Topology;
  let client: Sockets;
  let upstream: TestListener;
  const [originV4] = ADDRESS.internet;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    upstream = await new Sockets(topology.proxy).listen(UPSTREAM_PORT);
  });
  after(() => topology?.lab.close());

  const startWith = async (t: Cleanup, port: number, ...options: string[]): Promise<void> => {
    await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', ...options, 'proxy.lab', String(UPSTREAM_PORT));
  };

  test('every request of a kept-alive connection goes by its own Host', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET /one HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    assert.match(await proxy.receiveThrough(END), /^GET http:\/\/a\.example\/one HTTP\/1\.1\r\n/);
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    await proxy.send(answer);
    assert.equal(await browser.receive(answer.length), answer);

    await browser.send('GET /two HTTP/1.1\r\nHost: b.example:81\r\n\r\n');
    assert.match(await proxy.receiveThrough(END), /^GET http:\/\/b\.example:81\/two HTTP\/1\.1\r\n/);
    await proxy.send(answer);
    assert.equal(await browser.receive(answer.length), answer);
  });

  test('pipelined requests, bodies between them, arrive in order and translated', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send(
      'GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n' +
        'POST /2 HTTP/1.1\r\nHost: b.example\r\nContent-Length: 5\r\n\r\nGET /' +
        'PUT /3 HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nPOST \r\n0\r\n\r\n' +
        'HEAD /4 HTTP/1.1\r\nHost: d.example\r\n\r\n',
    );
    const proxy = await upstream.accept();
    const answer = async (): Promise<void> => {
      const response = 'HTTP/1.1 204 No Content\r\n\r\n';
      await proxy.send(response);
      assert.equal(await browser.receive(response.length), response);
    };
    assert.match(await proxy.receiveThrough(END), /^GET http:\/\/a\.example\/1 HTTP\/1\.1\r\n/);
    await answer();
    assert.match(await proxy.receiveThrough(END), /^POST http:\/\/b\.example\/2 HTTP\/1\.1\r\n/);
    assert.equal(await proxy.receive(5), 'GET /');
    await answer();
    assert.match(await proxy.receiveThrough(END), /^PUT http:\/\/c\.example\/3 HTTP\/1\.1\r\n/);
    assert.equal(await proxy.receiveThrough('0\r\n\r\n'), '5\r\nPOST \r\n0\r\n\r\n');
    await answer();
    assert.match(await proxy.receiveThrough(END), /^HEAD http:\/\/d\.example\/4 HTTP\/1\.1\r\n/);
    await answer();
  });

  test('header order, spelling and 8-bit bytes are kept', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    const fields = 'X-zULU: caf\xe9 \x8a\xff\r\nAccept: */*\r\nx-Zulu: again\r\nACCEPT-language: de\r\n';
    await browser.send(`GET /caf%C3%A9?q=\xe9\x8a HTTP/1.1\r\nHost: a.example\r\n${fields}\r\n`);
    const head = await (await upstream.accept()).receiveThrough(END);
    assert.match(head, /^GET http:\/\/a\.example\/caf%C3%A9\?q=\xe9\x8a HTTP\/1\.1\r\n/);
    assert.ok(head.includes(fields), head);
  });

  test('the port of the original destination is added to a Host without one, unless it is 80', async (t) => {
    await startWith(t, 8080);
    const browser = await client.connect(originV4, 8080);
    await browser.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    assert.match(await (await upstream.accept()).receiveThrough(END), /^GET http:\/\/a\.example:8080\/ HTTP\/1\.1\r\n/);
  });

  test('an absolute-form request passes', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET http://other.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n');
    assert.match(await (await upstream.accept()).receiveThrough(END), /^GET http:\/\/other\.example\/x HTTP\/1\.1\r\n/);
  });

  test('a response reaches the client byte for byte, whatever it looks like', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.0\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    const odd = 'HTTP/1.0 200  f\xefne\r\nx-ODD:y\r\nEmpty:\r\nX:  \x80\xff \r\n\r\n\x00\x01body\r\n';
    await proxy.send(odd);
    await proxy.sendFin();
    assert.equal(await browser.receiveAll(), odd);
  });

  test('a client that ends its direction behind its request still gets the whole answer', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.0\r\nHost: a.example\r\n\r\n');
    await browser.sendFin();
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    const answer = 'HTTP/1.0 200 OK\r\n\r\nthe answer';
    await proxy.send(answer);
    await proxy.sendFin();
    assert.equal(await browser.receiveAll(), answer);
  });

  test('when the upstream ends an idle connection, the next request goes over a new one', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    await proxy.send(answer);
    assert.equal(await browser.receive(answer.length), answer);
    await proxy.sendFin();
    await proxy.closed();
    await browser.send('GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const another = await upstream.accept();
    assert.match(await another.receiveThrough(END), /^GET http:\/\/a\.example\/next /);
    await another.send(answer);
    assert.equal(await browser.receive(answer.length), answer);
  });

  test('clients that come one after another share a connection to the upstream', async (t) => {
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    // By its address: a name with two is two upstreams, which take turns.
    await startTproxy(t, topology.router, '-s', '8081', '-w', '1', ADDRESS.proxy[0], String(UPSTREAM_PORT));
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    let proxy: TestSocket | null = null;
    for (const name of ['a', 'b', 'c']) {
      const browser = await client.connect(originV4, 80);
      await browser.send(`GET / HTTP/1.1\r\nHost: ${name}.example\r\nConnection: close\r\n\r\n`);
      proxy ??= await upstream.accept();
      const head = await proxy.receiveThrough(END);
      assert.ok(head.startsWith(`GET http://${name}.example/ HTTP/1.1\r\n`), head);
      assert.doesNotMatch(head, /^connection:/im);
      await proxy.send(answer);
      assert.equal(await browser.receiveAll(), answer);
    }
    assert.equal(await upstream.waiting(), 0);
  });

  test('a reset by the upstream in the middle of a body reaches the client as a reset', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    const part = 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part';
    await proxy.send(part);
    assert.equal(await browser.receive(part.length), part);
    await proxy.reset();
    await assert.rejects(browser.receiveAll(), { code: 'ECONNRESET' });
  });

  test('a client that says nothing is let go after --first-byte', async (t) => {
    await startWith(t, 80, '--first-byte', '1');
    const browser = await client.connect(originV4, 80);
    await browser.expectEnd();
  });

  test('a client that does not finish its head gets 408 after --head-timeout, and the upstream nothing', async (t) => {
    await startWith(t, 80, '--head-timeout', '1');
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.1\r\nHost: a.exam');
    assert.match(await browser.receiveAll(), /^HTTP\/1\.1 408 /);
    assert.equal(await upstream.waiting(), 0);
  });

  test('a head larger than --head-bytes gets 431', async (t) => {
    await startWith(t, 80, '--head-bytes', '8192');
    const browser = await client.connect(originV4, 80);
    await browser.send(`GET / HTTP/1.1\r\nHost: a.example\r\nX: ${'x'.repeat(9000)}\r\n\r\n`);
    assert.match(await browser.receiveAll(), /^HTTP\/1\.1 431 /);
    assert.equal(await upstream.waiting(), 0);
  });

  test('a connection without a byte either way is let go after --timeout', async (t) => {
    await startWith(t, 80, '--timeout', '1');
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    await proxy.receiveThrough(END);
    await proxy.expectEnd();
    await browser.expectEnd();
  });

  test('with --force every request goes to the URL, but those whose Referer is the URL are translated', async (t) => {
    await startWith(t, 80, '-f', 'http://portal.example/login');
    const browser = await client.connect(originV4, 80);
    await browser.send('GET /anything HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const proxy = await upstream.accept();
    assert.match(await proxy.receiveThrough(END), /^GET http:\/\/portal\.example\/login HTTP\/1\.1\r\n/);
    await proxy.send('HTTP/1.1 204 No Content\r\n\r\n');
    await browser.receiveThrough(END);
    await browser.send('GET /style.css HTTP/1.1\r\nHost: a.example\r\nReferer: http://portal.example/login\r\n\r\n');
    assert.match(await proxy.receiveThrough(END), /^GET http:\/\/a\.example\/style\.css HTTP\/1\.1\r\n/);
  });

  test('an ambiguous request is refused with 400 and nothing of it reaches the upstream', async (t) => {
    await startWith(t, 80);
    const browser = await client.connect(originV4, 80);
    await browser.send('GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +3\r\n\r\nabc');
    assert.match(await browser.receiveAll(), /^HTTP\/1\.1 400 /);
    assert.equal(await upstream.waiting(), 0);
  });

  test('pipelined requests cut at random places all arrive, in order, with their bodies', async (t) => {
    const telling = 3130;
    await new Sockets(topology.proxy).serveHttp(telling);
    await redirectFor(t, topology.router, 'iptables', { port: 80, to: 8081 });
    await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', String(telling));
    const browse = async (connection: number): Promise<void> => {
      const browser = await client.connect(originV4, 80);
      const bodies = Array.from({ length: 40 }, (_, i) => randomBytes(i % 4 === 0 ? 0 : randomInt(1, 100_000)));
      const requests = bodies.map((body, i) => {
        const head = `POST /${connection}/${i} HTTP/1.1\r\nHost: a.example\r\n`;
        if (i % 2 === 0) return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`), body]);
        const chunks: Buffer[] = [];
        for (let at = 0; at < body.length; ) {
          const chunk = body.subarray(at, at + randomInt(1, 20_000));
          chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
          at += chunk.length;
        }
        return Buffer.concat([
          Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n`),
          ...chunks,
          Buffer.from('0\r\n\r\n'),
        ]);
      });
      const stream = Buffer.concat(requests);
      const cuts: number[] = [];
      const send = async (): Promise<void> => {
        for (let at = 0; at < stream.length; ) {
          const next = Math.min(stream.length, at + (randomInt(3) === 0 ? randomInt(1, 50) : randomInt(1, 200_000)));
          cuts.push(next);
          await browser.send(stream.subarray(at, next));
          at = next;
        }
      };
      const sending = send();
      for (const [i, body] of bodies.entries()) {
        const head = await browser.receiveThrough(END);
        const [, length] = /^content-length: (\d+)$/im.exec(head) ?? [];
        const seen = JSON.parse(await browser.receive(Number(length))) as SeenRequest;
        const expected = { url: `http://a.example/${connection}/${i}`, bytes: body.length, sha256: sha256(body) };
        const { url, bytes, sha256: digest } = seen;
        assert.deepEqual({ url, bytes, sha256: digest }, expected, `cut at ${cuts.join(' ')}`);
      }
      await sending;
    };
    await Promise.all([1, 2, 3, 4, 5].map(browse));
  });
});
