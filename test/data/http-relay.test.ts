import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Peer, pattern, turns, until } from './rig.js';
import { BAD, get, NOT_HTTP, ok, sentOn, Talk, withClock } from './talk.js';

describe('requests', () => {
  test('each request of a kept-alive connection becomes an absolute-URI request, and its answer passes byte for byte', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      yield* talk.upstream.expect(sentOn('/1'));
      const first = 'HTTP/1.1 200 Very OK\r\nX:1\r\ncontent-length:  2\r\n\r\nab';
      talk.upstream.send(first);
      yield* talk.client.expect(first);
      talk.client.send(get('/2', 'Accept: */*\r\n'));
      yield* talk.upstream.expect(sentOn('/1') + sentOn('/2', 'Accept: */*\r\n'));
      talk.upstream.send(ok('second'));
      yield* talk.client.expect(first + ok('second'));
    });
    assert.deepEqual(talk.stage.entries, [
      'Request_NoDNS 1 127.0.0.1 -> http://origin.test/1',
      'Request_NoDNS 2 127.0.0.1 -> http://origin.test/2',
    ]);
  });

  test('are told at level debug with where they go, and what is answered', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      talk.upstream.send('HTTP/1.1 204 No Content\r\n\r\n');
      yield* talk.client.expect('HTTP/1.1 204 No Content\r\n\r\n');
    });
    const told = talk.stage.logs.map(
      ([level, line]) => `${level} ${line.replace(/^.*?(?:upstream|client) \S+: /, '')}`,
    );
    assert.deepEqual(told.slice(-2), ['debug Request_NoDNS 1: http://origin.test/1', 'debug answer to GET: 204']);
  });

  test('pipelined requests are all translated, in order', () => {
    const talk = new Talk();
    const paths = Array.from({ length: 10 }, (_, i) => `/${i}`);
    talk.play(function* () {
      yield* talk.begin(paths.map((path) => get(path)).join(''));
      yield* talk.upstream.expect(paths.map((path) => sentOn(path)).join(''));
      const answers = paths.map((path) => ok(path)).join('');
      talk.upstream.send(answers);
      yield* talk.client.expect(answers);
    });
  });

  test('however the bytes are cut, the same requests reach the upstream', () => {
    const body = pattern(300).toString('latin1');
    const requests =
      get('/a') +
      `POST /b HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 300\r\n\r\n${body}` +
      `POST /c HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n12c;x\r\n${body}\r\n0\r\nT: 1\r\n\r\n` +
      get('/d');
    const expected = requests.replaceAll(/ \/([a-d]) HTTP/g, ' http://origin.test/$1 HTTP');
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: requests.length - 1 }), { maxLength: 12 }), (cuts) => {
        const talk = new Talk();
        talk.play(function* () {
          const at = [...new Set([0, ...cuts, requests.length])].sort((a, b) => a - b);
          for (let i = 1; i < at.length; i++) {
            talk.client.send(requests.slice(at[i - 1], at[i]));
            yield;
            yield;
          }
          yield* talk.begin('');
          yield* talk.upstream.expect(expected);
        });
      }),
      { numRuns: 25 },
    );
  });

  test('a large body passes without being collected, by splice, and the request behind it is translated', () => {
    const talk = new Talk();
    const body = pattern(3_000_000);
    talk.play(function* () {
      const head = 'PUT /big HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 3000000\r\n\r\n';
      yield* talk.begin(head);
      talk.client.send(body);
      talk.client.send(get('/next'));
      const expected = Buffer.concat([
        Buffer.from(head.replace(' /', ' http://origin.test/')),
        body,
        Buffer.from(sentOn('/next')),
      ]);
      yield* until('all of it', () => {
        talk.client.flush();
        talk.upstream.read();
        return talk.upstream.bytes >= expected.length;
      });
      assert.ok(talk.upstream.got.equals(expected));
      assert.ok(talk.stage.loop.pipesTaken > 0);
      assert.equal(talk.stage.loop.pipesGiven, talk.stage.loop.pipesTaken);
    });
  });

  test('no more than 64 requests are under way, and the rest follow as answers come', () => {
    const talk = new Talk();
    talk.play(function* () {
      const count = (peer: Peer): number => {
        peer.read();
        return peer.text.split('GET ').length - 1;
      };
      yield* talk.begin(Array.from({ length: 100 }, (_, i) => get(`/${i}`)).join(''));
      yield* until('64 requests', () => count(talk.upstream) === 64);
      yield* turns();
      assert.equal(count(talk.upstream), 64);
      talk.upstream.send(ok('x'));
      yield* until('one more', () => count(talk.upstream) === 65);
      yield* turns();
      assert.equal(count(talk.upstream), 65);
      talk.upstream.send(ok('x').repeat(64));
      yield* until('all', () => count(talk.upstream) === 100);
    });
  });

  test('what a client sends while it may have no more requests under way is translated as soon as it may', () => {
    const talk = new Talk();
    talk.play(function* () {
      const full = Array.from({ length: 64 }, (_, i) => get(`/${i}`)).join('');
      const expected = full.replaceAll('GET ', 'GET http://origin.test');
      yield* talk.begin(full);
      yield* talk.upstream.expect(expected);
      talk.client.send(get('/late'));
      yield* turns();
      talk.upstream.send(ok('x').repeat(64));
      yield* talk.upstream.expect(expected + sentOn('/late'));
    });
  });

  test('a client that ends its direction before the answer keeps the upstream connection until the answer is there', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.client.shutdown();
      yield* talk.upstream.expect(sentOn('/'));
      yield* turns();
      talk.upstream.read();
      assert.equal(talk.upstream.state, 'open');
      talk.upstream.send(ok('late'));
      yield* talk.client.expect(ok('late'));
      yield* talk.client.over();
      assert.equal(talk.client.state, 'end');
      yield* until('the connection ends', () => talk.stage.connections.size === 0);
    });
  });

  test('a client that ends its direction within a body ends the upstream connection', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin('POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 10\r\n\r\n12345');
      talk.client.shutdown();
      yield* talk.upstream.over();
      assert.match(talk.upstream.text, /12345$/);
      assert.equal(talk.upstream.state, 'end');
    });
  });

  test('a client that leaves without a request leaves nothing behind', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* turns();
      talk.client.shutdown();
      yield* talk.client.over();
      assert.equal(talk.client.text, '');
      assert.equal(talk.stage.connections.size, 0);
    });
  });

  test('with --force every request goes to the one URL, but for those that it refers to', () => {
    const talk = new Talk({ http: { force: { url: 'http://wall.test/login', host: 'wall.test' } } });
    talk.play(function* () {
      yield* talk.begin(get('/a'));
      const forced = 'GET http://wall.test/login HTTP/1.1\r\nHost: wall.test\r\n\r\n';
      yield* talk.upstream.expect(forced);
      const refers = 'Referer: http://wall.test/login\r\n';
      talk.client.send(get('/style.css', refers));
      yield* talk.upstream.expect(forced + sentOn('/style.css', refers));
    });
    assert.deepEqual(talk.stage.entries, [
      'Forced        1 127.0.0.1 -> http://wall.test/login',
      'Request_NoDNS 2 127.0.0.1 -> http://origin.test/style.css',
    ]);
  });
});

describe('refusals', () => {
  test('a bad request is refused with 400 and the end of the stream, and no upstream is bothered', () => {
    const talk = new Talk();
    talk.play(function* () {
      talk.client.send(BAD);
      yield* talk.refused(400);
      assert.equal(talk.stage.upstream.tryAccept(), null);
      talk.client.close();
      yield* until('the connection ends', () => talk.stage.connections.size === 0);
    });
  });

  test('a refusal comes behind the answers to the requests before it', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + get('/2') + NOT_HTTP);
      yield* talk.upstream.expect(sentOn('/1') + sentOn('/2'));
      yield* turns();
      talk.client.read();
      assert.equal(talk.client.text, '');
      talk.upstream.send(ok('one'));
      yield* talk.client.expect(ok('one'));
      talk.upstream.send(ok('two'));
      yield* talk.refused(400, ok('one') + ok('two'));
    });
  });

  test('a refusal comes behind an answer whose body went by without being looked at', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + NOT_HTTP);
      yield* talk.upstream.expect(sentOn('/1'));
      const answer = ok('x'.repeat(5000));
      talk.upstream.send(answer.slice(0, 1000));
      yield* talk.client.expect(answer.slice(0, 1000));
      talk.upstream.send(answer.slice(1000));
      yield* talk.refused(400, answer);
    });
  });

  test('a refusal comes behind an answer that a slow client has not taken yet', () => {
    const talk = new Talk();
    const body = pattern(16_000_000);
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      yield* talk.upstream.expect(sentOn('/1'));
      const head = 'HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n';
      talk.upstream.send(head);
      talk.upstream.send(body);
      // The client takes just so much that all of the rest waits on its way: in the sockets, and in a pipe.
      yield* until('the upstream is rid of it', () => {
        const done = talk.upstream.flush();
        if (!done) talk.client.read(65_536);
        return done;
      });
      const { counters } = talk.stage;
      void counters;
      for (let i = 0; i < 400; i++) {
        // Until everything was read from the upstream, the last of it stands in the pipe for some turns.
        talk.client.read(16_384);
        yield;
      }
      talk.client.send(NOT_HTTP);
      yield* turns();
      yield* talk.client.over();
      const { got } = talk.client;
      const whole = Buffer.concat([Buffer.from(head), body]);
      assert.ok(got.subarray(0, whole.length).equals(whole), 'the answer is whole');
      assert.match(got.toString('latin1', whole.length), /^HTTP\/1.1 400 /);
    });
  });

  test('a body that cannot be followed ends both connections: the upstream must not take it for whole', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin('POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX');
      yield* talk.refused(400);
      yield* talk.upstream.over();
      assert.doesNotMatch(talk.upstream.text, /X$|0\r\n\r\n$/);
    });
  });

  test('in the middle of an answer there is no place for a refusal: the client sees the answer cut off', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin('POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n');
      const begun = 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nearly';
      talk.upstream.send(begun);
      yield* talk.client.expect(begun);
      talk.client.send('not a chunk');
      yield* talk.client.over();
      assert.equal(talk.client.text, begun);
    });
  });

  test('an upstream that cannot be reached is a 502', () => {
    const talk = new Talk();
    talk.stage.site.setAddresses(0, [{ ip: '127.0.0.1', port: 1 }]);
    talk.play(function* () {
      talk.client.send(get('/'));
      yield* talk.refused(502);
      assert.match(talk.client.text, /connect 127\.0\.0\.1:1: ECONNREFUSED/);
      assert.equal(talk.stage.unreachable, 1);
    });
  });

  test('an answer that cannot be relied on is a 502 in its place', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + get('/2'));
      talk.upstream.send(`${ok('fine')}HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab`);
      yield* talk.refused(502, ok('fine'));
    });
  });

  test('a refusal that waits for an answer that then cannot be relied on ends the connection all the same', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + NOT_HTTP);
      yield* talk.upstream.expect(sentOn('/1'));
      yield* turns();
      talk.upstream.send('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n');
      yield* talk.client.over();
      assert.match(talk.client.text, /^HTTP\/1.1 (400|502) /);
    });
  });

  test('what a refused client still sends does not destroy the refusal', () => {
    const talk = new Talk();
    talk.play(function* () {
      talk.client.send(BAD.repeat(200));
      yield* turns();
      talk.client.send('more');
      yield* turns();
      yield* talk.refused(400);
      assert.equal(talk.client.sendError, null);
    });
  });

  test('a refused client that sends more than is thrown away for it is held back, and its reset ends the connection', () => {
    const talk = new Talk();
    talk.play(function* () {
      talk.client.send(BAD + 'x'.repeat(16 * 1024 * 1024));
      yield* turns(300);
      assert.equal(talk.client.flush(), false, 'the client is held back');
      assert.equal(talk.stage.connections.size, 1);
      talk.client.reset();
      talk.client.close = () => {};
      yield* turns();
      assert.equal(talk.stage.connections.size, 0);
    });
  });
});

describe('tunnels', () => {
  const CONNECT = 'CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n';

  test('after CONNECT and a 2xx bytes pass both ways as they are, and half-closes pass on', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(CONNECT);
      yield* talk.upstream.expect(CONNECT);
      const established = 'HTTP/1.1 200 Connection established\r\n\r\n';
      talk.upstream.send(`${established}server first`);
      yield* talk.client.expect(`${established}server first`);
      talk.client.send('GET / no HTTP');
      talk.client.shutdown();
      yield* talk.upstream.expect(`${CONNECT}GET / no HTTP`);
      yield* talk.upstream.over();
      talk.upstream.send('last words');
      yield* talk.client.expect(`${established}server firstlast words`);
      talk.upstream.shutdown();
      yield* talk.client.over();
      assert.equal(talk.client.state, 'end');
      yield* until('the connection ends', () => talk.stage.connections.size === 0);
    });
  });

  test('what the client sends with its CONNECT waits for the answer, then goes through the tunnel untouched', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(`${CONNECT}\x16\x03\x01early`);
      yield* talk.upstream.expect(CONNECT);
      yield* turns();
      talk.upstream.read();
      assert.equal(talk.upstream.text, CONNECT);
      talk.upstream.send('HTTP/1.1 200 OK\r\n\r\n');
      yield* talk.upstream.expect(`${CONNECT}\x16\x03\x01early`);
    });
  });

  test('what the client sends between its CONNECT and the answer goes through the tunnel without a further push', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(CONNECT);
      yield* talk.upstream.expect(CONNECT);
      talk.client.send('\x16\x03\x01early');
      yield* turns();
      talk.upstream.send('HTTP/1.1 200 OK\r\n\r\n');
      yield* talk.upstream.expect(`${CONNECT}\x16\x03\x01early`);
    });
  });

  test('after a refused CONNECT the client may go on with requests', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(CONNECT);
      yield* talk.upstream.expect(CONNECT);
      const denied = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno';
      talk.client.send(get('/early'));
      yield* turns();
      talk.upstream.send(denied);
      yield* talk.client.expect(denied);
      yield* talk.upstream.expect(CONNECT + sentOn('/early'));
      talk.client.send(get('/late'));
      yield* talk.upstream.expect(CONNECT + sentOn('/early') + sentOn('/late'));
    });
  });

  test('what follows a CONNECT is held until its own answer, not that of a request before it', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + CONNECT + get('/inside'));
      yield* talk.upstream.expect(sentOn('/1') + CONNECT);
      talk.upstream.send(ok('one'));
      yield* talk.client.expect(ok('one'));
      yield* turns();
      talk.upstream.read();
      assert.equal(talk.upstream.text, sentOn('/1') + CONNECT);
      talk.upstream.send('HTTP/1.1 200 OK\r\n\r\n');
      yield* talk.upstream.expect(sentOn('/1') + CONNECT + get('/inside'));
    });
  });

  test('a 101 to an upgrade makes a tunnel, any other answer does not', () => {
    for (const granted of [true, false]) {
      const talk = new Talk({ http: { upgrade: 'pass' } });
      const offer = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
      const offered = 'Upgrade: websocket\r\nConnection: upgrade\r\n';
      talk.play(function* () {
        yield* talk.begin(get('/ws', offer));
        yield* talk.upstream.expect(sentOn('/ws', offered));
        const answer = granted
          ? 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
          : ok('plain');
        talk.upstream.send(answer);
        yield* talk.client.expect(answer);
        talk.client.send(get('/then'));
        yield* talk.upstream.expect(sentOn('/ws', offered) + (granted ? get('/then') : sentOn('/then')));
      });
    }
  });
});

describe('answers', () => {
  /** Sends `answer` to one request, whole or cut at every byte, and then expects the next request to be understood. */
  const isFollowed = (method: string, answer: string): void => {
    for (const cut of [false, true]) {
      const talk = new Talk();
      const request = get('/').replace('GET', method);
      talk.play(function* () {
        yield* talk.begin(request);
        yield* talk.upstream.expect(request.replace(' /', ' http://origin.test/'));
        for (const piece of cut ? answer : [answer]) {
          talk.upstream.send(piece);
          yield;
        }
        yield* talk.client.expect(answer);
        // Only if the end of the answer was found is there no answer outstanding, and a refusal due at once.
        talk.client.send(NOT_HTTP);
        yield* talk.refused(400, answer);
      });
    }
  };

  test('the end of each kind of answer is found', () => {
    isFollowed('GET', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345');
    isFollowed('GET', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n12345\r\n0\r\nX: y\r\n\r\n');
    isFollowed('HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n');
    isFollowed('HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    isFollowed('GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n');
    isFollowed('GET', 'HTTP/1.1 204 No Content\r\n\r\n');
    isFollowed('GET', 'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx');
    isFollowed('PUT', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  });

  test('an answer without a length passes until the upstream ends it, and the client connection ends with it', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send('HTTP/1.0 200 OK\r\n\r\nall of');
      yield* talk.client.expect('HTTP/1.0 200 OK\r\n\r\nall of');
      talk.upstream.send(' this');
      talk.upstream.close();
      yield* talk.client.over();
      assert.equal(talk.client.text, 'HTTP/1.0 200 OK\r\n\r\nall of this');
      assert.equal(talk.client.state, 'end');
    });
  });

  test('after the last answer of the upstream nothing of the connection stays once the client has left', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send(ok('last', 'Connection: close\r\n'));
      talk.upstream.shutdown();
      yield* talk.client.over();
      assert.equal(talk.client.text, ok('last', 'Connection: close\r\n'));
      talk.client.shutdown();
      yield* until('the connection ends', () => talk.stage.connections.size === 0);
    });
  });

  test('an upstream that ends an idle connection is no matter for the client, whose next request opens another', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send(ok('x'));
      yield* talk.client.expect(ok('x'));
      talk.upstream.shutdown();
      yield* talk.upstream.over();
      assert.equal(talk.upstream.text, sentOn('/'));
      assert.equal(talk.upstream.state, 'end');
      talk.upstream.close();
      yield* turns();
      talk.client.read();
      assert.equal(talk.client.state, 'open');
      assert.equal(talk.stage.upstream.tryAccept(), null);
      yield* talk.begin(get('/2'));
      yield* talk.upstream.expect(sentOn('/2'));
      talk.upstream.send(ok('two'));
      yield* talk.client.expect(ok('x') + ok('two'));
      talk.client.shutdown();
      yield* talk.stage.gone();
    });
  });

  test('a head that the upstream cuts off reaches the client as far as it goes', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send('HTTP/1.1 200 OK\r\nContent-Le');
      yield* turns();
      talk.client.read();
      assert.equal(talk.client.text, '');
      talk.upstream.shutdown();
      yield* talk.client.over();
      assert.equal(talk.client.text, 'HTTP/1.1 200 OK\r\nContent-Le');
    });
  });

  test('an answer that nobody asked for passes, and nothing is translated after it', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/'));
      const timeout = 'HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n';
      talk.upstream.send(ok('x') + timeout);
      yield* talk.client.expect(ok('x') + timeout);
      talk.client.send(get('/2'));
      yield* turns();
      talk.upstream.read();
      assert.equal(talk.upstream.text, sentOn('/'));
    });
  });

  test('a large answer passes by splice and is followed to its end', () => {
    const talk = new Talk();
    const body = pattern(4_000_000);
    talk.play(function* () {
      yield* talk.begin(get('/'));
      const head = 'HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n';
      talk.upstream.send(head);
      talk.upstream.send(body);
      yield* until('the answer', () => {
        talk.upstream.flush();
        talk.client.read();
        return talk.client.bytes === head.length + body.length;
      });
      assert.ok(talk.client.got.subarray(head.length).equals(body));
      assert.ok(talk.stage.loop.pipesTaken > 0);
      talk.client.send(get('/next'));
      yield* talk.upstream.expect(sentOn('/') + sentOn('/next'));
    });
  });
});

describe('deadlines', () => {
  test('a client that was not redirected and sends nothing is gone after the first-byte time', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { firstByte: 5000 } });
    talk.play(function* () {
      clock.now += 4900;
      yield* turns();
      talk.client.read();
      assert.equal(talk.client.state, 'open');
      clock.now += 300;
      yield* talk.client.over();
      assert.equal(talk.client.text, '');
      assert.equal(talk.stage.connections.size, 0);
    });
  });

  test('a head that does not become whole in time is a 408', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { head: 3000 } });
    talk.play(function* () {
      talk.client.send('GET / HTTP/1.1\r\nHost:');
      yield* turns();
      for (let i = 0; i < 2; i++) {
        clock.now += 1400;
        talk.client.send('x');
        yield* turns();
      }
      talk.client.read();
      assert.equal(talk.client.text, '');
      clock.now += 400;
      yield* talk.refused(408);
    });
  });

  test('without a time for idleness a connection waits between requests however long, but a head has its time', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { head: 3000, idle: Number.POSITIVE_INFINITY } });
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send(ok('x'));
      yield* talk.client.expect(ok('x'));
      clock.now += 1e9;
      yield* turns();
      talk.client.send('GET /half');
      yield* turns();
      clock.now += 3200;
      yield* talk.refused(408, ok('x'));
    });
  });

  test('a head that is not whole waits without work, until there is more', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(`${get('/')}GET /half`);
      yield* talk.upstream.expect(sentOn('/'));
      yield* turns();
      const connection = [...talk.stage.connections][0] ?? assert.fail();
      let runs = 0;
      const { run } = connection;
      connection.run = () => {
        runs++;
        run.call(connection);
      };
      yield* turns();
      assert.equal(runs, 0);
      talk.client.send(' HTTP/1.1\r\nHost: origin.test\r\n\r\n');
      yield* talk.upstream.expect(sentOn('/') + sentOn('/half'));
    });
  });

  test('a second head has its own time, from its own first byte', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { head: 3000, idle: 60_000 } });
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send(ok('x'));
      yield* talk.client.expect(ok('x'));
      clock.now += 30_000;
      talk.client.send('GET');
      yield* turns();
      clock.now += 2900;
      yield* turns();
      talk.client.read();
      assert.equal(talk.client.text, ok('x'));
      clock.now += 300;
      yield* talk.refused(408, ok('x'));
    });
  });

  test('a 408 that waits for an outstanding answer has an end too, if that answer never comes', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { head: 3000, idle: 60_000 } });
    talk.play(function* () {
      yield* talk.begin(`${get('/')}GET`);
      yield* talk.upstream.expect(sentOn('/'));
      yield* turns();
      clock.now += 3200;
      yield* turns();
      assert.equal(talk.stage.connections.size, 1);
      for (let i = 0; i < 10; i++) {
        clock.now += 20_000;
        yield* turns(5);
      }
      assert.equal(talk.stage.connections.size, 0);
    });
  });

  test('the idle time counts after a request even where it is shorter than the first-byte time: a 504', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { firstByte: 60_000, idle: 5000 } });
    talk.play(function* () {
      yield* talk.begin(get('/'));
      yield* talk.upstream.expect(sentOn('/'));
      clock.now += 5300;
      yield* talk.refused(504);
      yield* talk.upstream.over();
      talk.client.shutdown();
      yield* talk.stage.gone();
    });
  });

  test('the idle time ends a connection between two requests', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { idle: 5000 } });
    talk.play(function* () {
      yield* talk.begin(get('/'));
      talk.upstream.send(ok('x'));
      yield* talk.client.expect(ok('x'));
      clock.now += 5300;
      yield* talk.stage.gone();
      yield* talk.client.over();
      assert.equal(talk.client.text, ok('x'));
    });
  });

  test('a slow client of an answer and a refusal gets them whole as long as it goes on reading', (t) => {
    const clock = withClock(t);
    const talk = new Talk();
    const body = pattern(16_000_000);
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n';
    talk.play(function* () {
      yield* talk.begin(get('/') + NOT_HTTP);
      talk.upstream.send(head);
      talk.upstream.send(body);
      for (let i = 0; i < 4000 && talk.client.state === 'open'; i++) {
        talk.upstream.flush();
        const before = talk.client.bytes;
        talk.client.read(65_536);
        // Time in which the kernel of a busy machine brings nothing is not the client's.
        if (talk.client.bytes > before) clock.now += 100;
        yield;
        yield;
      }
      const whole = Buffer.concat([Buffer.from(head), body]);
      assert.equal(talk.client.got.subarray(0, whole.length).equals(whole), true, `${talk.client.bytes} bytes came`);
      assert.match(talk.client.got.toString('latin1', whole.length), /^HTTP\/1.1 400 /);
    });
  });
});
