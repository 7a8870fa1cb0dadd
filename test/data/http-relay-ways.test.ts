import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { basicAuthorization } from '../../src/protocol/connect.js';
import { Door, type Peer, pattern, refusing, type Script, turns, until, upstreamOf } from './rig.js';
import { get, NOT_HTTP, ok, sentOn, Talk, withClock } from './talk.js';

const TWO = [upstreamOf({ host: 'one' }), upstreamOf({ host: 'two' })];

/** Two upstreams by url-hash, and of both a path that goes there. */
class Row {
  readonly doors = [new Door(), new Door()] as const;
  readonly talk: Talk;
  readonly paths: readonly [string, string];

  constructor(settings: ConstructorParameters<typeof Talk>[0] = {}) {
    this.talk = new Talk(
      { upstreams: TWO, balance: 'url-hash', ...settings },
      this.doors.map(({ address }) => [address]),
    );
    const { pool } = this.talk.stage.site;
    const pathOf = (host: string): string => {
      for (let i = 0; ; i++) {
        const [first] = pool.order(0, '', `http://origin.test/${i}`, true);
        if (first?.host.upstream?.host === host) return `/${i}`;
      }
    };
    this.paths = [pathOf('one'), pathOf('two')];
  }

  *accepted(which: 0 | 1, into: (peer: Peer) => void): Script {
    yield* this.doors[which].accepted(into);
  }

  play(script: () => Script): void {
    this.talk.play(script);
    for (const door of this.doors) door.close();
  }
}

/** The client, in a talk whose first request was answered, goes on as if there had been no upstream before. */
function* answered(talk: Talk): Script {
  yield* talk.begin(get('/1'));
  yield* talk.upstream.expect(sentOn('/1'));
  talk.upstream.send(ok('1'));
  yield* talk.client.expect(ok('1'));
}

describe('an upstream that leaves between two requests', () => {
  for (const how of ['ends', 'resets'] as const) {
    test(`by one that ${how} the client loses nothing: its next request opens another way`, () => {
      const talk = new Talk();
      talk.play(function* () {
        yield* answered(talk);
        if (how === 'ends') talk.upstream.close();
        else talk.upstream.reset();
        yield* turns();
        talk.client.read();
        assert.equal(talk.client.state, 'open');
        yield* talk.begin(get('/2'));
        yield* talk.upstream.expect(sentOn('/2'));
        talk.upstream.send(ok('2'));
        yield* talk.client.expect(ok('1') + ok('2'));
      });
    });

    test(`by one that ${how} a client that has ended its direction is ended too`, () => {
      const talk = new Talk();
      talk.play(function* () {
        yield* answered(talk);
        talk.client.shutdown();
        if (how === 'ends') talk.upstream.close();
        else talk.upstream.reset();
        yield* talk.stage.gone();
      });
    });
  }

  test('and has answered all that was under way leaves those that had to wait for it to the next', () => {
    const talk = new Talk();
    const paths = Array.from({ length: 70 }, (_, i) => `/${i}`);
    talk.play(function* () {
      yield* talk.begin(paths.map((path) => get(path)).join(''));
      const first = paths
        .slice(0, 64)
        .map((path) => sentOn(path))
        .join('');
      yield* talk.upstream.expect(first);
      talk.upstream.send(ok('x').repeat(64));
      talk.upstream.shutdown();
      let next: Peer | null = null;
      yield* talk.stage.upstreamPeer((peer) => {
        next = peer;
      });
      yield* ((next as Peer | null) ?? assert.fail()).expect(
        paths
          .slice(64)
          .map((path) => sentOn(path))
          .join(''),
      );
    });
  });

  test('and had answered a body before it took it all has nothing of that body reach the next', () => {
    // How much waits with us when we have read all of the body is the kernel's business, so there are several of each.
    let waited = 0;
    for (const how of ['ends', 'resets', 'ends', 'resets', 'ends', 'resets'] as const) {
      const talk = new Talk();
      const body = pattern(6_000_000);
      talk.play(function* () {
        yield* talk.begin('POST /up HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 6000000\r\n\r\n');
        talk.client.send(body);
        const { toUpstream } = talk.stage.connection;
        // The upstream takes so much that we have read all of the body, and some of it waits with us.
        yield* until('the client is rid of it', () => {
          const done = talk.client.flush();
          if (!done) talk.upstream.read(65_536);
          return done;
        });
        yield* until('we have read it all', () => {
          if (toUpstream.unseen === 0) return true;
          talk.upstream.read(4096);
          return false;
        });
        if (!toUpstream.drained) waited++;
        talk.upstream.send(ok('enough'));
        yield* talk.client.expect(ok('enough'));
        if (how === 'ends') talk.upstream.shutdown();
        else talk.upstream.reset();
        yield* turns();
        talk.client.read();
        assert.equal(talk.client.state, 'open');
        let next: Peer | null = null;
        talk.client.send(get('/next'));
        yield* talk.stage.upstreamPeer((peer) => {
          next = peer;
        });
        yield* ((next as Peer | null) ?? assert.fail()).expect(sentOn('/next'));
        if (how === 'resets') talk.upstream = next ?? assert.fail();
      });
      const { pipesGiven, pipesTaken } = talk.stage.loop;
      assert.equal(pipesGiven, pipesTaken);
    }
    assert.ok(waited > 0);
  });

  test('while its last answer is still on its way to a slow client gets no request any more', () => {
    const talk = new Talk();
    const body = pattern(8_000_000);
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n';
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      yield* talk.upstream.expect(sentOn('/1'));
      talk.upstream.send(head);
      talk.upstream.send(body);
      yield* until('the upstream is rid of it', () => {
        const done = talk.upstream.flush();
        if (!done) talk.client.read(65_536);
        return done;
      });
      talk.upstream.shutdown();
      const { toClient } = talk.stage.connection;
      yield* until('its end is there', () => {
        const there = toClient.from?.ended === true;
        if (!there) talk.client.read(16_384);
        return there;
      });
      assert.equal(toClient.drained, false);
      talk.client.send('POST /2 HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 1\r\n\r\nx');
      let next: Peer | null = null;
      yield* until('another way is open', () => {
        talk.client.read();
        next ??= talk.stage.upstream.tryAccept();
        return next !== null || talk.client.state !== 'open';
      });
      assert.ok(next !== null, talk.client.state);
      const peer: Peer = next;
      yield* peer.expect('POST http://origin.test/2 HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 1\r\n\r\nx');
      peer.send(ok('2'));
      yield* until('all of both', () => {
        talk.client.read();
        return talk.client.bytes >= head.length + body.length + ok('2').length;
      });
      assert.ok(talk.client.got.equals(Buffer.concat([Buffer.from(head), body, Buffer.from(ok('2'))])));
    });
  });
});

describe('a request that the upstream took along', () => {
  const again = (method: string, how: 'ends' | 'resets', body = ''): Talk => {
    const talk = new Talk();
    const request = `${method} /2 HTTP/1.1\r\nHost: origin.test\r\n${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`;
    const sent = request.replace(' /', ' http://origin.test/');
    talk.play(function* () {
      yield* answered(talk);
      talk.client.send(request);
      yield* talk.upstream.expect(sentOn('/1') + sent);
      const old = talk.upstream;
      if (how === 'ends') old.close();
      else old.reset();
      const repeated = body === '' && method !== 'POST';
      if (!repeated) {
        yield* talk.refused(502, ok('1'));
        assert.equal(talk.stage.upstream.tryAccept(), null);
        return;
      }
      yield* talk.stage.upstreamPeer((peer) => {
        talk.upstream = peer;
      });
      yield* talk.upstream.expect(sent);
      // The second time the client hears of it.
      talk.upstream.close();
      yield* talk.refused(502, ok('1'));
      assert.equal(talk.stage.upstream.tryAccept(), null);
      talk.upstream = old;
      talk.upstream.close = () => {};
    });
    return talk;
  };

  test('on a connection that took others before is sent again, exactly once, if that does no harm', () => {
    for (const how of ['ends', 'resets'] as const) {
      for (const method of ['GET', 'HEAD']) again(method, how);
    }
  });

  test('is not sent again if it could do something twice, or has a body', () => {
    for (const how of ['ends', 'resets'] as const) {
      again('POST', how);
      again('POST', how, 'body');
      again('GET', how, 'body');
    }
  });

  test('as the first on its connection is not sent again', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      yield* talk.upstream.expect(sentOn('/1'));
      talk.upstream.shutdown();
      yield* talk.refused(502);
      assert.equal(talk.stage.upstream.tryAccept(), null);
    });
  });

  test('tells the next upstream its own password, not that of the one before', () => {
    const user = (name: string) => ({ user: name, password: 'secret' });
    for (const second of [user('second'), null]) {
      const doors = [new Door(), new Door()];
      const talk = new Talk(
        { upstreams: [upstreamOf({ credentials: user('first') }), upstreamOf({ credentials: second })] },
        doors.map(({ address }) => [address]),
      );
      const told = (name: string): string => `Proxy-Authorization: ${basicAuthorization(name, 'secret')}\r\n`;
      talk.play(function* () {
        talk.client.send(get('/1'));
        yield* (doors[0] ?? assert.fail()).accepted((peer) => {
          talk.upstream = peer;
        });
        yield* talk.upstream.expect(sentOn('/1', told('first')));
        talk.upstream.send(ok('1'));
        yield* talk.client.expect(ok('1'));
        talk.client.send(get('/2'));
        yield* talk.upstream.expect(sentOn('/1', told('first')) + sentOn('/2', told('first')));
        talk.upstream.shutdown();
        let next: Peer | null = null;
        yield* (doors[1] ?? assert.fail()).accepted((peer) => {
          next = peer;
        });
        yield* ((next as Peer | null) ?? assert.fail()).expect(sentOn('/2', second === null ? '' : told('second')));
      });
      for (const door of doors) door.close();
    }
  });

  test('and is behind others that are unanswered too is given up', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* answered(talk);
      talk.client.send(get('/2') + get('/3'));
      yield* talk.upstream.expect(sentOn('/1') + sentOn('/2') + sentOn('/3'));
      talk.upstream.shutdown();
      yield* talk.refused(502, ok('1'));
    });
  });
});

describe('url-hash', () => {
  test('sends each of pipelined requests to the upstream that has its URL, and the answers come in order', () => {
    const row = new Row();
    const { talk, paths } = row;
    const [a, b] = paths;
    row.play(function* () {
      talk.client.send(get(a) + get(b) + get(a));
      let one!: Peer;
      let two!: Peer;
      yield* row.accepted(0, (peer) => {
        one = peer;
      });
      yield* one.expect(sentOn(a));
      yield* turns();
      assert.equal(row.doors[1].tryAccept(), null);
      one.send(ok('first'));
      yield* row.accepted(1, (peer) => {
        two = peer;
      });
      yield* two.expect(sentOn(b));
      assert.equal(one.text, sentOn(a));
      two.send(ok('second'));
      yield* one.expect(sentOn(a) + sentOn(a));
      one.send(ok('third'));
      yield* talk.client.expect(ok('first') + ok('second') + ok('third'));
    });
  });

  test('goes on to the next upstream also when the one before answers and ends at once', () => {
    const row = new Row();
    const { talk, paths } = row;
    const [a, b] = paths;
    row.play(function* () {
      talk.client.send(get(a) + get(b));
      let one!: Peer;
      yield* row.accepted(0, (peer) => {
        one = peer;
      });
      yield* one.expect(sentOn(a));
      one.send(ok('first'));
      one.close();
      let two!: Peer;
      yield* row.accepted(1, (peer) => {
        two = peer;
      });
      yield* two.expect(sentOn(b));
      two.send(ok('second'));
      yield* talk.client.expect(ok('first') + ok('second'));
    });
  });

  test('what an upstream answered early and did not take stays out of the next one', () => {
    const row = new Row();
    const { talk, paths } = row;
    const [a, b] = paths;
    const body = pattern(6_000_000);
    row.play(function* () {
      talk.client.send(`POST ${a} HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 6000000\r\n\r\n`);
      let one!: Peer;
      yield* row.accepted(0, (peer) => {
        one = peer;
      });
      one.send(ok('enough'));
      yield* talk.client.expect(ok('enough'));
      talk.client.send(body);
      talk.client.send(get(b));
      let two: Peer | null = null;
      yield* until('the way for the second request', () => {
        const done = talk.client.flush();
        if (!done) one.read(65_536);
        two ??= row.doors[1].tryAccept();
        if (done && two === null) one.read(16_384);
        return two !== null;
      });
      yield* ((two as Peer | null) ?? assert.fail()).expect(sentOn(b));
    });
  });
});

describe('an upgrade', () => {
  const offer = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
  const offered = 'Upgrade: websocket\r\nConnection: upgrade\r\n';
  const CONNECT = 'CONNECT origin.test:80 HTTP/1.1\r\nHost: origin.test:80\r\n\r\n';
  const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

  test('goes through CONNECT to its origin, as a request for an origin, and becomes a tunnel', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/ws', offer));
      yield* talk.upstream.expect(CONNECT);
      talk.upstream.send('HTTP/1.1 200 Connection established\r\n\r\n');
      const asked = CONNECT + get('/ws', offered);
      yield* talk.upstream.expect(asked);
      talk.upstream.send(`${switching}frame`);
      yield* talk.client.expect(`${switching}frame`);
      talk.client.send(get('/no HTTP'));
      yield* talk.upstream.expect(asked + get('/no HTTP'));
      talk.client.shutdown();
      yield* talk.upstream.over();
      talk.upstream.send('last');
      talk.upstream.shutdown();
      yield* talk.client.over();
      assert.equal(talk.client.text, `${switching}framelast`);
      yield* talk.stage.gone();
    });
  });

  test('whose CONNECT is declined goes on as a request without the offer', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/ws', offer) + get('/2', offer));
      yield* talk.upstream.expect(CONNECT);
      const connect = talk.upstream;
      connect.send('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
      yield* talk.stage.upstreamPeer((peer) => {
        talk.upstream = peer;
      });
      // The second is not tried at all: it would be declined as well.
      yield* talk.upstream.expect(sentOn('/ws') + sentOn('/2'));
      talk.upstream.send(ok('plain') + ok('too'));
      yield* talk.client.expect(ok('plain') + ok('too'));
      assert.equal(talk.stage.upstream.tryAccept(), null);
      connect.close();
    });
  });

  test('waits for the answers before it, and gets its own way then', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + get('/ws', offer));
      const first = talk.upstream;
      yield* first.expect(sentOn('/1'));
      yield* turns();
      assert.equal(talk.stage.upstream.tryAccept(), null);
      first.send(ok('1'));
      yield* talk.begin('');
      yield* talk.upstream.expect(CONNECT);
      first.close();
    });
  });

  test('that its origin answers otherwise ends with that answer', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/ws', offer));
      talk.upstream.send(`HTTP/1.1 200 OK\r\n\r\n`);
      yield* talk.upstream.expect(CONNECT + get('/ws', offered));
      talk.upstream.send(ok('no upgrade'));
      yield* talk.client.over();
      assert.equal(talk.client.text, ok('no upgrade'));
      assert.equal(talk.client.state, 'end');
    });
  });

  test('that nobody asked for is a 502: what the client sends next would go on unread', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1'));
      yield* talk.upstream.expect(sentOn('/1'));
      talk.upstream.send(switching);
      yield* talk.refused(502);
    });
  });

  test('with `pass`, lost with its upstream, is not sent again: what the client sends behind it depends on the answer', () => {
    const talk = new Talk({ http: { upgrade: 'pass' } });
    talk.play(function* () {
      yield* answered(talk);
      talk.client.send(get('/ws', offer));
      yield* talk.upstream.expect(sentOn('/1') + sentOn('/ws', offered));
      talk.upstream.shutdown();
      yield* talk.refused(502, ok('1'));
    });
  });
});

describe('answers that are ours', () => {
  test('a 407 is a 502 for a client that knows of no proxy, behind the answers before it', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin(get('/1') + get('/2'));
      talk.upstream.send(`${ok('1')}HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n`);
      yield* talk.refused(502, ok('1'));
      assert.ok(talk.stage.said('--proxy-auth'));
    });
  });

  test('a 407 passes to a client that wrote to a proxy', () => {
    const talk = new Talk();
    const denied = 'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n';
    talk.play(function* () {
      yield* talk.begin('GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n');
      talk.upstream.send(denied);
      yield* talk.client.expect(denied);
      assert.equal(talk.client.state, 'open');
    });
  });

  test('a request that has our Via came back: 508, and no upstream hears of it again', () => {
    const talk = new Talk({ http: { via: 'gate.test' } });
    talk.play(function* () {
      yield* answeredVia(talk);
      talk.client.send(get('/2', 'Via: 1.1 other, 1.1 gate.test\r\n'));
      yield* talk.refused(508, ok('1'));
      yield* talk.upstream.over();
      assert.equal(talk.upstream.text, sentOn('/1', 'Via: 1.1 gate.test\r\n'));
    });
  });

  test('TRACE and OPTIONS that may go no further are answered here', () => {
    for (const [method, expected] of [
      ['TRACE', /^HTTP\/1\.1 200 OK\r\nContent-Type: message\/http\r\n[\s\S]*\r\n\r\nTRACE \/ HTTP\/1\.1\r\nHost: /],
      ['OPTIONS', /^HTTP\/1\.1 200 OK\r\nAllow: .*\r\nContent-Length: 0\r\nConnection: close\r\n\r\n$/],
    ] as const) {
      const talk = new Talk();
      talk.play(function* () {
        yield* answered(talk);
        talk.client.send(get('/', 'Max-Forwards: 0\r\n').replace('GET', method));
        yield* talk.client.over();
        assert.match(talk.client.text.slice(ok('1').length), expected);
        assert.equal(talk.client.state, 'end');
      });
    }
  });

  test('an upstream that answers early and resets an upload: the client reads the answer, then the end', () => {
    const talk = new Talk();
    talk.play(function* () {
      yield* talk.begin('POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 100000000\r\n\r\n');
      talk.client.send(pattern(300_000));
      yield* until('some of it', () => {
        talk.client.flush();
        talk.upstream.read();
        return talk.upstream.bytes > 300_000;
      });
      const answer = 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n';
      talk.upstream.send(answer);
      yield* turns();
      talk.upstream.reset();
      yield* turns();
      talk.upstream.close = () => {};
      talk.client.send('more');
      yield* talk.client.over();
      assert.equal(talk.client.text, answer);
      assert.equal(talk.client.state, 'end');
    });
  });

  test('a refusal that a slow client has not taken yet is not lost when the upstream resets', () => {
    const talk = new Talk();
    const body = pattern(8_000_000);
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n';
    talk.play(function* () {
      yield* talk.begin(get('/1') + NOT_HTTP);
      yield* talk.upstream.expect(sentOn('/1'));
      talk.upstream.send(head);
      talk.upstream.send(body);
      yield* until('the upstream is rid of it', () => {
        const done = talk.upstream.flush();
        if (!done) talk.client.read(65_536);
        return done;
      });
      talk.upstream.reset();
      talk.upstream.close = () => {};
      yield* turns();
      yield* talk.client.over();
      assert.equal(talk.client.state, 'end');
      assert.match(talk.client.got.toString('latin1', head.length + body.length), /^HTTP\/1\.1 400 /);
    });
  });

  test('an upstream that cannot be reached in time is a 504', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ limits: { connect: 5000 } }, [[{ ip: '127.0.0.1', port: refusing().port }]]);
    talk.play(function* () {
      talk.client.send(get('/'));
      yield* talk.refused(502);
      clock.now += 1;
    });
  });
});

function* answeredVia(talk: Talk): Script {
  yield* talk.begin(get('/1'));
  talk.upstream.send(ok('1'));
  yield* talk.client.expect(ok('1'));
}

describe('--verify-host', () => {
  const ORIGINAL = { ip: '192.0.2.7', port: 80 };

  test('a request waits for the addresses of its Host, also longer than a first byte may take, and goes on', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ http: { verifyHost: 'strict' }, limits: { firstByte: 1000 } }, undefined, ORIGINAL);
    talk.play(function* () {
      const { stage } = talk;
      talk.client.send(get('/1'));
      yield* until('the name is asked for', () => stage.asked.length > 0);
      assert.deepEqual(stage.asked, ['origin.test']);
      clock.now += 5000;
      yield* turns();
      talk.client.send(get('/2'));
      yield* turns();
      assert.equal(stage.upstream.tryAccept(), null);
      stage.thread.names.answer('origin.test', ['192.0.2.7'], stage.loop.now);
      yield* talk.begin('');
      yield* talk.upstream.expect(sentOn('/1') + sentOn('/2'));
      assert.deepEqual(stage.asked, ['origin.test']);
      talk.upstream.send(ok('1') + ok('2'));
      yield* talk.client.expect(ok('1') + ok('2'));
    });
  });

  test('a name that is never answered is a 504 in the end', (t) => {
    const clock = withClock(t);
    const talk = new Talk({ http: { verifyHost: 'strict' }, limits: { idle: 60_000 } }, undefined, ORIGINAL);
    talk.play(function* () {
      talk.client.send(get('/1'));
      yield* until('the name is asked for', () => talk.stage.asked.length > 0);
      clock.now += 61_000;
      yield* talk.refused(504);
      talk.stage.thread.names.answer('origin.test', ['192.0.2.7'], talk.stage.loop.now);
      yield* turns();
    });
  });

  test('a client that leaves while its Host is looked up leaves nothing behind', () => {
    const talk = new Talk({ http: { verifyHost: 'strict' } }, undefined, ORIGINAL);
    talk.play(function* () {
      const { stage } = talk;
      talk.client.send(get('/1'));
      yield* until('the name is asked for', () => stage.asked.length > 0);
      talk.client.reset();
      talk.client.close = () => {};
      yield* turns();
      stage.thread.names.answer('origin.test', ['192.0.2.7'], stage.loop.now);
      yield* stage.gone();
    });
  });

  test('strict refuses what is not at the original destination; else it goes by the address, and the next as it is', () => {
    const strict = new Talk({ http: { verifyHost: 'strict' } }, undefined, ORIGINAL);
    strict.play(function* () {
      strict.client.send(get('/1'));
      yield* until('the name is asked for', () => strict.stage.asked.length > 0);
      strict.stage.thread.names.answer('origin.test', ['192.0.2.8'], strict.stage.loop.now);
      yield* strict.refused(409);
    });
    const talk = new Talk({ http: { verifyHost: 'address' } }, undefined, ORIGINAL);
    talk.play(function* () {
      talk.client.send(get('/1') + get('/2').replace('origin.test', '192.0.2.7'));
      yield* until('the name is asked for', () => talk.stage.asked.length > 0);
      talk.stage.thread.names.answer('origin.test', [], talk.stage.loop.now);
      yield* talk.begin('');
      const at = 'HTTP/1.1\r\nHost: 192.0.2.7\r\n\r\n';
      yield* talk.upstream.expect(`GET http://192.0.2.7/1 ${at}GET http://192.0.2.7/2 ${at}`);
      assert.ok(talk.stage.said('Host origin.test is not at the original destination 192.0.2.7:80'));
    });
  });
});
