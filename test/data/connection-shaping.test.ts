import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Shaping } from '../../src/plan.js';
import { type Peer, pattern, type Script, type Settings, Stage, turns, until } from './rig.js';

const withClock = (t: TestContext): { now: number } => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  return clock;
};

/** 1000 bytes a second, so that the first moment's burst is 40 bytes. */
const SLOW: Shaping = {
  toClient: true,
  toUpstream: true,
  maxBandwidth: 8000,
  randomWait: 0,
  bufferSize: null,
};

/** A shaped connection with its client and its upstream connected. */
class Shaped {
  readonly clock: { now: number };
  readonly stage: Stage;
  readonly client: Peer;
  upstream!: Peer;

  constructor(t: TestContext, shaping: Partial<Shaping>, settings: Settings = {}) {
    this.clock = withClock(t);
    this.stage = new Stage({ ...settings, shaping: { ...SLOW, ...shaping } });
    this.client = this.stage.client();
  }

  /** Lets time pass in steps of 10 ms. */
  *pass(ms: number): Script {
    for (let i = 0; i < ms; i += 10) {
      this.clock.now += 10;
      yield* turns(3);
    }
  }

  *opened(): Script {
    yield* this.stage.upstreamPeer((peer) => {
      this.upstream = peer;
    });
    yield* turns(5);
  }

  /** How many bytes each end has received. */
  received(): { client: number; upstream: number } {
    this.client.read();
    this.upstream.read();
    return { client: this.client.bytes, upstream: this.upstream.bytes };
  }

  /** At the end of `script` nothing may be left that would still ring. */
  play(script: () => Script): void {
    this.stage.play(script());
    this.stage.loop.fine.expire(Number.MAX_SAFE_INTEGER);
    assert.equal(this.stage.connections.size, 0, 'each script sees its connection off');
  }
}

const BYTES = pattern(10_000);

describe('a shaped connection', () => {
  test('slows both directions down, each on its own', (t) => {
    const shaped = new Shaped(t, {});
    shaped.play(function* () {
      yield* shaped.opened();
      const { client, upstream, stage } = shaped;
      client.send(BYTES);
      yield* shaped.pass(1000);
      assert.ok(Math.abs(shaped.received().upstream - 1040) <= 20);
      upstream.send(BYTES);
      yield* shaped.pass(2000);
      const { client: down, upstream: up } = shaped.received();
      assert.ok(Math.abs(down - 2040) <= 20, `${down} bytes to the client`);
      assert.ok(Math.abs(up - 3040) <= 20, `${up} bytes to the upstream`);
      client.reset();
      upstream.reset();
      yield* shaped.pass(100);
      yield* stage.gone();
    });
  });

  test('slows down only the direction that it shall', (t) => {
    for (const slow of ['toClient', 'toUpstream'] as const) {
      const shaped = new Shaped(t, { toClient: slow === 'toClient', toUpstream: slow === 'toUpstream' });
      shaped.play(function* () {
        yield* shaped.opened();
        const { client, upstream, stage } = shaped;
        client.send(BYTES);
        upstream.send(BYTES);
        yield* shaped.pass(100);
        const { client: down, upstream: up } = shaped.received();
        const [held, free] = slow === 'toClient' ? [down, up] : [up, down];
        assert.equal(free, BYTES.length);
        assert.ok(held < 200, `${held} bytes`);
        client.reset();
        upstream.reset();
        yield* shaped.pass(20_000);
        yield* stage.gone();
      });
      t.mock.restoreAll();
    }
  });

  test('shapes each of several connections for itself', (t) => {
    const shaped = new Shaped(t, {});
    shaped.play(function* () {
      yield* shaped.opened();
      const others: Peer[] = [shaped.stage.client(), shaped.stage.client()];
      const ups: Peer[] = [shaped.upstream];
      for (const _ of others) yield* shaped.stage.upstreamPeer((peer) => ups.push(peer));
      const clients = [shaped.client, ...others];
      for (const client of clients) client.send(BYTES);
      yield* shaped.pass(1000);
      for (const upstream of ups) {
        upstream.read();
        assert.ok(Math.abs(upstream.bytes - 1040) <= 20, `${upstream.bytes} bytes`);
      }
      for (const peer of [...clients, ...ups]) peer.reset();
      yield* shaped.pass(100);
      yield* shaped.stage.gone();
    });
  });

  test('passes the end of a direction behind its last byte, and takes bytes the other way meanwhile', (t) => {
    const shaped = new Shaped(t, {});
    shaped.play(function* () {
      yield* shaped.opened();
      const { client, upstream, stage } = shaped;
      client.send(BYTES.subarray(0, 500));
      client.shutdown();
      yield* shaped.pass(200);
      upstream.read();
      assert.equal(upstream.state, 'open');
      upstream.send('meanwhile');
      yield* client.expect('meanwhile');
      yield* shaped.pass(400);
      upstream.read();
      assert.ok(upstream.got.equals(BYTES.subarray(0, 500)));
      assert.equal(upstream.state, 'end');
      upstream.shutdown();
      yield* client.over();
      assert.equal(client.state, 'end');
      yield* stage.gone();
    });
  });

  test('whose bytes wait longer than an idle one may be silent is not idle', (t) => {
    t.mock.method(Math, 'random', () => 0.5);
    const shaped = new Shaped(
      t,
      { maxBandwidth: null, randomWait: 30_000 },
      { limits: { idle: 5000, halfClosed: 5000 } },
    );
    shaped.play(function* () {
      yield* shaped.opened();
      const { client, upstream, stage } = shaped;
      client.send('patience');
      yield* shaped.pass(29_500);
      assert.equal(shaped.received().upstream, 0);
      assert.equal(stage.connections.size, 1);
      yield* shaped.pass(1000);
      yield* upstream.expect('patience');
      // From here on it is silent.
      yield* shaped.pass(4000);
      assert.equal(stage.connections.size, 1);
      yield* shaped.pass(1500);
      yield* stage.gone();
    });
  });

  test('that ends while bytes wait lets go of its timer', (t) => {
    for (const end of ['client', 'upstream'] as const) {
      const shaped = new Shaped(t, { toClient: end === 'upstream', toUpstream: end === 'client' });
      shaped.play(function* () {
        yield* shaped.opened();
        const { client, upstream, stage } = shaped;
        const { toClient, toUpstream } = stage.connection;
        const [held, near, far] = end === 'client' ? [toUpstream, client, upstream] : [toClient, upstream, client];
        near.send(BYTES);
        yield* turns(20);
        const { shaper } = held;
        assert.ok(shaper !== null && shaper.tick < Number.POSITIVE_INFINITY, 'a timer is set');
        // The other direction, which is not shaped, tells of the end.
        far.reset();
        near.send('x');
        yield* turns(20);
        yield* shaped.pass(300);
        yield* stage.gone();
        assert.equal(shaper.tick, Number.POSITIVE_INFINITY);
        assert.equal(held.shaper, null);
      });
      t.mock.restoreAll();
    }
  });

  test('passes on what an upstream said before it failed, though it would have had to wait', (t) => {
    const shaped = new Shaped(t, { toUpstream: false });
    shaped.play(function* () {
      yield* shaped.opened();
      const { client, upstream, stage } = shaped;
      client.send('a long request');
      yield* upstream.expect('a long request');
      upstream.send(BYTES);
      yield* turns(20);
      assert.equal(shaped.received().client, 40);
      // A server that does not read the rest of a request, and closes.
      client.send('more of it');
      yield* turns(5);
      upstream.close();
      yield* turns(5);
      client.send('still more');
      yield* client.over();
      assert.ok(client.got.equals(BYTES), `${client.bytes} bytes, then ${client.state}`);
      client.close();
      yield* shaped.pass(2500);
      yield* stage.gone();
    });
  });

  test('shapes http mode from the first request that its upstream gets, heads and all', (t) => {
    const shaped = new Shaped(t, {}, { mode: 'http', limits: { head: 2000 } });
    shaped.play(function* () {
      const { client, stage, clock } = shaped;
      const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: origin.example\r\n\r\n`;
      client.send(request('/1'));
      yield* shaped.opened();
      const { upstream } = shaped;
      yield* until('the first request', () => {
        upstream.read();
        return upstream.text.includes('\r\n\r\n');
      });
      const answer = `HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(1000)}`;
      upstream.send(answer);
      yield* shaped.pass(500);
      const { bytes } = client;
      client.read();
      assert.ok(Math.abs(client.bytes - bytes - 540) <= 20, `${client.bytes} bytes`);
      yield* shaped.pass(600);
      yield* client.expect(answer);
      // A head of 6000 bytes takes longer than a client may take for one, but it is not the client that is slow.
      const before = upstream.bytes;
      const began = clock.now;
      client.send(request(`/${'2'.repeat(6000)}`));
      yield* until('the second request', () => {
        clock.now += 10;
        upstream.read();
        return upstream.bytes - before > 6000 && upstream.text.endsWith('\r\n\r\n');
      });
      assert.ok(clock.now - began > 5500, `after ${clock.now - began} ms`);
      client.reset();
      upstream.reset();
      yield* shaped.pass(3000);
      yield* stage.gone();
    });
  });

  test('does not hold a refusal back', (t) => {
    const shaped = new Shaped(t, {}, { mode: 'http' });
    shaped.play(function* () {
      const { client, stage } = shaped;
      client.send('GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n');
      yield* client.over();
      assert.match(client.text, /^HTTP\/1\.1 400 /);
      assert.ok(client.bytes > 100);
      client.close();
      yield* shaped.pass(2500);
      yield* stage.gone();
    });
  });
});
