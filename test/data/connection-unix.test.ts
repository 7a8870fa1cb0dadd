import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { targetTo } from '../../src/plan.js';
import { type Peer, pattern, type Script, type Settings, Stage, UnixDoor, until } from './rig.js';

/** Enough that no socket's buffers hold it all. */
const BULK = 4 * 1024 * 1024;

/** Carries on a client of a stage's unix socket and its TCP target. */
const fromUnix = (script: (stage: Stage, client: Peer, target: Peer) => Script, settings: Settings = {}): Stage => {
  const stage = new Stage(settings);
  stage.play(
    (function* () {
      const client = stage.unixClient();
      let target: Peer | null = null;
      yield* stage.upstreamPeer((peer) => {
        target = peer;
      });
      yield* script(stage, client, target as never);
    })(),
  );
  return stage;
};

/** The same for a TCP client and a target with a unix socket. */
const toUnix = (script: (stage: Stage, client: Peer, target: Peer) => Script, settings: Settings = {}): Stage => {
  const door = new UnixDoor();
  const stage = new Stage({ targets: [targetTo(door.address)], ...settings }, [[door.address]]);
  stage.play(
    (function* () {
      const client = stage.client();
      let target: Peer | null = null;
      yield* door.accepted((peer) => {
        target = peer;
      });
      yield* script(stage, client, target as never);
    })(),
  );
  door.close();
  return stage;
};

/** Sends `bytes` from one end, and reads them at the other. */
function* bulk(from: Peer, to: Peer, bytes: Buffer): Script {
  from.send(bytes);
  yield* until('the bulk is through', () => {
    from.flush();
    to.read();
    return to.bytes >= bytes.length;
  });
  assert.ok(to.got.equals(bytes));
}

describe('a connection with a unix socket', () => {
  for (const [what, run] of [
    ['from a client of one', fromUnix],
    ['to a target with one', toUnix],
  ] as const) {
    test(`${what}: bulk passes both ways by splice, and ends pass on each way for itself`, () => {
      const bytes = pattern(BULK);
      const stage = run(function* (stage, client, target) {
        yield* bulk(client, target, bytes);
        yield* bulk(target, client, bytes);
        client.shutdown();
        yield* target.over();
        assert.equal(target.state, 'end');
        target.send('late');
        yield* until('what comes behind the end', () => {
          client.read();
          return client.bytes === BULK + 4;
        });
        target.shutdown();
        yield* client.over();
        assert.equal(client.state, 'end');
        yield* stage.gone();
        client.close();
        target.close();
      });
      assert.ok(stage.loop.pipesTaken > 0);
      assert.equal(stage.loop.pipesGiven, stage.loop.pipesTaken);
      assert.ok(stage.said('closed: done'), stage.logs.map(([, line]) => line).join('\n'));
    });
  }

  test('all that a client sent before it closed its socket reaches the target, and then an end in order', () => {
    const bytes = pattern(BULK);
    const stage = fromUnix(function* (stage, client, target) {
      client.send(bytes);
      yield* until('the client has sent it all', () => {
        target.read(64 * 1024);
        return client.flush();
      });
      client.close();
      yield* target.over();
      assert.equal(target.state, 'end');
      assert.ok(target.got.equals(bytes));
      // Nobody is there who could read an answer: the connection does not wait for one.
      yield* stage.gone();
      target.close();
    });
    assert.ok(stage.said('closed: done'));
  });

  test('a client that sent its bytes and closed before there was a way is served all the same', () => {
    const stage = new Stage();
    stage.play(
      (function* () {
        const client = stage.unixClient();
        client.send('a message');
        client.close();
        let target: Peer | null = null;
        yield* stage.upstreamPeer((peer) => {
          target = peer;
        });
        const reader = target as unknown as Peer;
        yield* reader.over();
        assert.equal(reader.text, 'a message');
        assert.equal(reader.state, 'end');
        yield* stage.gone();
        reader.close();
      })(),
    );
  });

  test('a client that closes with bytes unread resets the connection to its target', () => {
    const stage = fromUnix(function* (stage, client, target) {
      target.send('unread');
      yield* until('it is there', () => stage.connection.toClient.moved > 0);
      client.close();
      yield* target.over();
      assert.equal(target.state, 'ECONNRESET');
      yield* stage.gone();
      target.close();
    });
    assert.ok(stage.said('client: recv: ECONNRESET'));
  });

  test('a target that answers and closes its socket leaves the client the whole answer, and an end', () => {
    const bytes = pattern(BULK);
    const stage = toUnix(function* (stage, client, target) {
      target.send(bytes);
      yield* until('the target has sent it all', () => {
        client.read(64 * 1024);
        return target.flush();
      });
      target.close();
      yield* client.over();
      assert.equal(client.state, 'end');
      assert.ok(client.got.equals(bytes));
      client.close();
      yield* stage.gone();
    });
    assert.ok(stage.said('closed: done'));
  });

  test("a client's reset closes the socket of its target, which has no other word for it", () => {
    toUnix(function* (stage, client, target) {
      client.send('hello');
      yield* target.expect('hello');
      client.reset();
      yield* target.over();
      assert.equal(target.state, 'end');
      yield* stage.gone();
      target.close();
    });
  });

  test('a target that nobody listens on: the client gets a reset, and the log says which', () => {
    const stage = new Stage({ targets: [targetTo({ path: '/nonexistent/socket' })] }, [
      [{ path: '/nonexistent/socket' }],
    ]);
    stage.play(
      (function* () {
        const client = stage.client();
        yield* client.over();
        assert.equal(client.state, 'ECONNRESET');
        client.close();
      })(),
    );
    assert.ok(stage.said('connect unix:/nonexistent/socket: ENOENT'));
  });

  test('an access list is about addresses: a client without one is let in, as its file says', () => {
    fromUnix(
      function* (stage, client, target) {
        client.send('hello');
        yield* target.expect('hello');
        client.close();
        target.close();
        yield* stage.gone();
      },
      { access: [{ allow: [{ ip: '192.0.2.0', prefix: 24 }], deny: [] }] },
    );
  });

  test('a PROXY header says that the client is not known', () => {
    fromUnix(
      function* (stage, client, target) {
        yield* target.expect('PROXY UNKNOWN\r\n');
        client.close();
        target.close();
        yield* stage.gone();
      },
      { proxyProtocol: 'v1' },
    );
  });

  test('log lines name the socket, and have nothing for a client without an address', () => {
    const stage = toUnix(
      function* (stage, client, target) {
        client.close();
        target.close();
        yield* stage.gone();
      },
      { logConnections: true },
    );
    assert.ok(stage.logs.some(([level, line]) => level === 'notice' && / to unix:@tproxy-test-\S+$/.test(line)));
    assert.match(stage.entries.join(''), /-> unix:@tproxy-test-/);
    const other = fromUnix(
      function* (stage, client, target) {
        client.close();
        target.close();
        yield* stage.gone();
      },
      { logConnections: true },
    );
    assert.ok(other.said('Connecting - to target:1'));
    assert.match(other.entries.join(''), / - -> target:1/);
  });

  test('in http mode a request without an address is translated, and the proxy told that its client is not known', () => {
    const stage = new Stage({ mode: 'http', http: { forwardedFor: true, via: 'gw' } });
    stage.play(
      (function* () {
        const client = stage.unixClient();
        client.send('GET /path HTTP/1.1\r\nHost: www.example.org\r\n\r\n');
        let proxy: Peer | null = null;
        yield* stage.upstreamPeer((peer) => {
          proxy = peer;
        });
        const reader = proxy as unknown as Peer;
        yield* until('the head', () => {
          reader.read();
          return reader.text.endsWith('\r\n\r\n');
        });
        assert.match(reader.text, /^GET http:\/\/www\.example\.org\/path HTTP\/1\.1\r\n/);
        assert.match(reader.text, /X-Forwarded-For: unknown\r\n/i);
        assert.match(reader.text, /Via: 1\.1 gw\r\n/i);
        reader.send('HTTP/1.1 204 No Content\r\n\r\n');
        yield* client.expect('HTTP/1.1 204 No Content\r\n\r\n');
        client.close();
        yield* stage.gone();
        reader.close();
      })(),
    );
  });

  test('in http mode a client that closes while it waits for an answer does not take its request back', () => {
    const stage = new Stage({ mode: 'http' });
    stage.play(
      (function* () {
        const client = stage.unixClient();
        client.send('POST /path HTTP/1.1\r\nHost: www.example.org\r\nContent-Length: 4\r\n\r\nbody');
        client.close();
        let proxy: Peer | null = null;
        yield* stage.upstreamPeer((peer) => {
          proxy = peer;
        });
        const reader = proxy as unknown as Peer;
        yield* until('the request', () => {
          reader.read();
          return reader.text.endsWith('body');
        });
        assert.equal(reader.state, 'open');
        reader.send('HTTP/1.1 204 No Content\r\n\r\n');
        yield* stage.gone();
        reader.close();
      })(),
    );
  });
});
