import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openDescriptors, type Peer, type Script, type Settings, Stage, turns } from './rig.js';
import { get, ok, sentOn, withClock } from './talk.js';

const CLOSE = 'Connection: close\r\n';
const post = (path: string): string => `POST ${path} HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 1\r\n\r\nx`;

/** Clients that come one after another, and an upstream that answers. */
class Row {
  readonly stage: Stage;
  readonly upstreams: Peer[] = [];

  constructor(settings: Settings = {}) {
    this.stage = new Stage({ mode: 'http', ...settings });
  }

  /** The upstream has accepted one more connection. */
  *accepted(): Generator<void, Peer, void> {
    yield* this.stage.upstream.accepted((peer) => this.upstreams.push(peer));
    return this.upstreams.at(-1) ?? assert.fail();
  }

  /** A client sends a request over a new connection, is answered over a new one, and closes its own. */
  *first(request = get('/1'), answer = ok('1')): Generator<void, Peer, void> {
    const client = this.stage.client();
    client.send(request);
    const upstream = yield* this.accepted();
    yield* upstream.expect(sentOn('/1'));
    upstream.send(answer);
    yield* client.expect(answer);
    client.close();
    yield* this.stage.gone();
    return upstream;
  }

  /** No connection waits, and the one that was there has ended. */
  *noneWaits(upstream: Peer): Script {
    yield* upstream.over();
    const client = this.stage.client();
    client.send(get('/2'));
    const next = yield* this.accepted();
    yield* next.expect(sentOn('/2'));
    client.reset();
  }

  play(script: (row: Row) => Script): void {
    const before = openDescriptors() - 4;
    this.stage.play(
      (function* (row: Row) {
        yield* script(row);
        for (const upstream of row.upstreams) upstream.close();
        yield* turns();
      })(this),
    );
    assert.ok(openDescriptors() <= before + 4, 'no descriptor stays');
  }
}

describe('a connection to an upstream that its client is done with', () => {
  test('serves the next client', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      const client = row.stage.client();
      client.send(get('/2'));
      yield* upstream.expect(sentOn('/1') + sentOn('/2'));
      upstream.send(ok('2'));
      yield* client.expect(ok('2'));
      client.close();
      assert.equal(row.stage.upstream.tryAccept(), null);
    });
  });

  test('serves the next one also when the client had said that it closes, which the upstream is not told', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first(get('/1', CLOSE));
      const client = row.stage.client();
      client.send(get('/2', CLOSE));
      yield* upstream.expect(sentOn('/1') + sentOn('/2'));
      upstream.send(ok('2'));
      yield* client.over();
      assert.equal(client.text, ok('2'));
      client.close();
    });
  });

  test('counts for no client while it waits', () => {
    new Row().play(function* (row) {
      yield* row.first();
      assert.equal(row.stage.site.pool.members[0]?.connections, 0);
    });
  });

  test('takes nothing that could not be sent again, as a POST', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      const client = row.stage.client();
      client.send(post('/2'));
      const next = yield* row.accepted();
      yield* turns();
      next.read();
      assert.match(next.text, /^POST /);
      upstream.read();
      assert.equal(upstream.text, sentOn('/1'));
      client.reset();
    });
  });

  test('takes a POST behind an answer, which shows that it lives', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      const client = row.stage.client();
      client.send(get('/2') + post('/3'));
      yield* upstream.expect(sentOn('/1') + sentOn('/2'));
      yield* turns();
      upstream.read();
      assert.equal(upstream.text, sentOn('/1') + sentOn('/2'), 'nothing goes behind a request that may be lost');
      upstream.send(ok('2'));
      yield* turns();
      upstream.read();
      assert.match(upstream.text, /POST/);
      client.reset();
    });
  });

  test('is nothing to a client that finds it dead: its request goes over a new one, once', () => {
    for (const how of ['close', 'reset'] as const) {
      new Row().play(function* (row) {
        const upstream = yield* row.first();
        const client = row.stage.client();
        client.send(get('/2'));
        yield* upstream.expect(sentOn('/1') + sentOn('/2'));
        upstream[how]();
        row.upstreams.pop();
        const next = yield* row.accepted();
        yield* next.expect(sentOn('/2'));
        next.send(ok('2'));
        yield* client.expect(ok('2'));
        client.close();
      });
    }
  });

  test('is passed over when it ended in the moment before it was needed', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      const client = row.stage.client();
      client.send(get('/2'));
      upstream.close();
      row.upstreams.pop();
      const next = yield* row.accepted();
      yield* next.expect(sentOn('/2'));
      client.reset();
    });
  });

  test('does not wait when the upstream ends it, or speaks unasked', () => {
    for (const word of ['', 'HTTP/1.1 408 Too late\r\n\r\n']) {
      new Row().play(function* (row) {
        const upstream = yield* row.first();
        if (word === '') upstream.shutdown();
        else upstream.send(word);
        yield* row.noneWaits(upstream);
      });
    }
  });

  test('does not wait for ever', (t) => {
    const clock = withClock(t);
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      clock.now += 61_000;
      yield* turns();
      yield* row.noneWaits(upstream);
    });
  });

  test('does not wait when the upstream has said that it closes', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first(get('/1'), ok('1', CLOSE));
      yield* row.noneWaits(upstream);
    });
  });

  test('does not wait when its upstream has another address by now', () => {
    new Row().play(function* (row) {
      const upstream = yield* row.first();
      row.stage.site.setAddresses(0, [row.stage.upstream.address]);
      yield* turns();
      upstream.read();
      assert.equal(upstream.state, 'open');
      row.stage.site.setAddresses(0, [{ ...row.stage.upstream.address, ip: '127.0.0.2' }]);
      yield* upstream.over();
      assert.equal(upstream.state, 'ECONNRESET');
    });
  });

  test('is not for others once credentials went over it', () => {
    for (const field of ['Authorization: Negotiate x\r\n', 'Proxy-Authorization: Basic x\r\n']) {
      new Row().play(function* (row) {
        const client = row.stage.client();
        client.send(get('/1', field));
        const upstream = yield* row.accepted();
        yield* upstream.expect(sentOn('/1', field));
        upstream.send(ok('1'));
        yield* client.expect(ok('1'));
        client.send(get('/2'));
        yield* upstream.expect(sentOn('/1', field) + sentOn('/2'));
        upstream.send(ok('2'));
        yield* client.expect(ok('1') + ok('2'));
        client.close();
        yield* row.noneWaits(upstream);
      });
    }
  });

  test('is not for others where it began with a PROXY header, and the upstream is told of a close then', () => {
    new Row({ proxyProtocol: 'v1' }).play(function* (row) {
      const client = row.stage.client();
      client.send(get('/1', CLOSE));
      const upstream = yield* row.accepted();
      yield* turns();
      upstream.read();
      assert.ok(upstream.text.startsWith('PROXY '));
      assert.ok(upstream.text.endsWith(sentOn('/1', CLOSE)));
      upstream.send(ok('1'));
      yield* client.over();
      client.close();
      yield* upstream.over();
    });
  });

  test("is not for others where it comes from the client's address", () => {
    new Row({ spoof: true }).play(function* (row) {
      const upstream = yield* row.first();
      yield* row.noneWaits(upstream);
    });
  });

  test('is not for others in the middle of an answer, or with one outstanding', () => {
    for (const part of ['', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf']) {
      new Row().play(function* (row) {
        const client = row.stage.client();
        client.send(get('/1'));
        const upstream = yield* row.accepted();
        upstream.send(part);
        yield* client.expect(part);
        client.reset();
        yield* row.noneWaits(upstream);
      });
    }
  });

  test('waits beside 31 others, and no more', () => {
    new Row().play(function* (row) {
      const clients = Array.from({ length: 33 }, () => row.stage.client());
      for (const client of clients) {
        client.send(get('/'));
        yield* row.accepted();
      }
      for (const upstream of row.upstreams) upstream.send(ok(''));
      for (const client of clients) yield* client.expect(ok(''));
      for (const client of clients) client.close();
      yield* row.stage.gone();
      yield* turns();
      for (const upstream of row.upstreams) upstream.read();
      assert.equal(row.upstreams.filter(({ state }) => state === 'open').length, 32);
    });
  });
});
