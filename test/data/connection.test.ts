import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { targetTo } from '../../src/plan.js';
import { peerAddress } from '../../src/sys/socket.js';
import {
  Door,
  openDescriptors,
  type Peer,
  pattern,
  refusing,
  type Script,
  Stage,
  turns,
  until,
  upstreamOf,
} from './rig.js';

/** A relay with its client and its upstream connected. */
class Relay {
  readonly stage: Stage;
  readonly client: Peer;
  upstream!: Peer;

  constructor(service: ConstructorParameters<typeof Stage>[0] = {}, verbose = true) {
    this.stage = new Stage(service, undefined, verbose);
    this.client = this.stage.client();
  }

  play(script: () => Script): void {
    const { stage } = this;
    const relay = this;
    stage.play(
      (function* () {
        yield* stage.upstreamPeer((peer) => {
          relay.upstream = peer;
        });
        yield* turns(3);
        yield* script();
      })(),
    );
  }

  *gone(): Script {
    yield* until('the connection ends', () => this.stage.connections.size === 0);
  }
}

const withClock = (t: TestContext): { now: number } => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  return clock;
};

describe('a relay', () => {
  test('passes both ways, and each half-close for itself', () => {
    const relay = new Relay();
    const { client, stage } = relay;
    relay.play(function* () {
      const { upstream } = relay;
      upstream.send('server first');
      yield* client.expect('server first');
      client.send('request');
      client.shutdown();
      yield* upstream.expect('request');
      yield* upstream.over();
      assert.equal(upstream.state, 'end');
      upstream.send(', then the answer');
      yield* client.expect('server first, then the answer');
      assert.equal(client.state, 'open');
      upstream.shutdown();
      yield* client.over();
      assert.equal(client.state, 'end');
      yield* relay.gone();
      client.close();
      upstream.close();
    });
    assert.equal(stage.counters.get('accepted'), 1);
    assert.equal(stage.counters.get('open'), 0);
    assert.equal(stage.counters.get('bytesFromClients'), 7);
    assert.equal(stage.counters.get('bytesToClients'), 29);
    assert.deepEqual(stage.entries, ['Transparent   1 127.0.0.1 -> target:1']);
  });

  test('passes the half-close of an upstream that ends first', () => {
    const relay = new Relay();
    relay.play(function* () {
      const { client, upstream } = relay;
      upstream.send('bye');
      upstream.shutdown();
      yield* client.over();
      assert.equal(client.text, 'bye');
      assert.equal(client.state, 'end');
      client.send('still here');
      yield* upstream.expect('still here');
      client.shutdown();
      yield* upstream.over();
      assert.equal(upstream.state, 'end');
      yield* relay.gone();
    });
  });

  test("passes the client's reset to the upstream, and the upstream's to the client", () => {
    for (const from of ['client', 'upstream'] as const) {
      const relay = new Relay();
      relay.play(function* () {
        const { client, upstream } = relay;
        const [left, stays] = from === 'client' ? [client, upstream] : [upstream, client];
        left.reset();
        yield* stays.over();
        assert.equal(stays.state, 'ECONNRESET');
        yield* relay.gone();
      });
    }
  });

  test('passes a reset that comes after the half-close of the client', () => {
    const relay = new Relay();
    relay.play(function* () {
      const { client, upstream } = relay;
      client.shutdown();
      yield* upstream.over();
      client.reset();
      yield* relay.gone();
      upstream.send('into the void');
      assert.notEqual(upstream.sendError, null);
    });
  });

  test('does not go on for long when the upstream resets behind its end of stream', (t) => {
    const clock = withClock(t);
    const relay = new Relay();
    relay.play(function* () {
      const { client, upstream } = relay;
      upstream.shutdown();
      yield* client.over();
      upstream.reset();
      yield* turns();
      clock.now += 5000;
      yield* relay.gone();
    });
  });

  test('delivers what the upstream said before its reset', () => {
    const relay = new Relay();
    relay.play(function* () {
      const { client, upstream } = relay;
      upstream.send('last words');
      upstream.reset();
      yield* client.over();
      assert.equal(client.text, 'last words');
      assert.equal(client.state, 'end');
      // The client has not noticed yet: what it sends meanwhile must not raise a reset that overtakes the last words.
      client.send('more');
      yield* turns();
      client.send('and more');
      assert.equal(client.sendError, null);
      client.shutdown();
      yield* relay.gone();
    });
  });

  test('delivers all that an upstream said before it closed, also when the client goes on sending', () => {
    const relay = new Relay();
    const said = pattern(3_000_000);
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      const [connection] = stage.connections;
      upstream.send(said);
      yield* until('the upstream has said it', () => {
        const flushed = upstream.flush();
        if (!flushed) client.read(4096);
        return flushed;
      });
      upstream.close();
      yield* until('all of it is on its way to the client', () => {
        const { toClient } = connection ?? assert.fail();
        const sent = toClient.ended && toClient.drained;
        if (!sent) client.read(4096);
        return sent;
      });
      for (let i = 0; i < 10; i++) {
        client.send('upload');
        yield;
      }
      yield* client.over();
      assert.equal(client.bytes, said.length);
      assert.ok(client.got.equals(said));
      assert.equal(client.state, 'end');
    });
  });

  test('resets the client when the upstream cannot be reached, and says why', () => {
    const nowhere = refusing();
    const stage = new Stage({}, [[nowhere]]);
    const client = stage.client();
    stage.play(
      (function* () {
        yield* client.over();
        assert.equal(client.state, 'ECONNRESET');
        assert.equal(stage.unreachable, 1);
        assert.ok(stage.logs.some(([, line]) => line.includes(`connect 127.0.0.1:${nowhere.port}: ECONNREFUSED`)));
        assert.equal(stage.connections.size, 0);
      })(),
    );
  });

  test('that ends in order says so, and one that breaks off says why', () => {
    const ends: (string | null)[] = [];
    const listen = (stage: Stage): void => {
      stage.thread.onClosed = (failure) => ends.push(failure);
    };
    for (const [how, expected] of [
      ['in order', null],
      ['by a reset', 'upstream: recv: ECONNRESET'],
      ['by a reset behind bytes', 'upstream: recv: ECONNRESET'],
    ] as const) {
      const relay = new Relay();
      listen(relay.stage);
      relay.play(function* () {
        const { client, upstream } = relay;
        if (how !== 'by a reset') upstream.send('bytes');
        if (how === 'in order') upstream.close();
        else upstream.reset();
        yield* client.over();
        client.close();
        yield* relay.gone();
      });
      assert.deepEqual(ends.splice(0), [expected], how);
    }

    const nowhere = refusing();
    const stage = new Stage({}, [[nowhere]]);
    listen(stage);
    const client = stage.client();
    stage.play(client.over());
    assert.deepEqual(ends, [`connect 127.0.0.1:${nowhere.port}: ECONNREFUSED`]);
  });

  test('to the original destination resets a connection that was not redirected', () => {
    const stage = new Stage({ targets: [] });
    const client = stage.client();
    stage.play(
      (function* () {
        yield* client.over();
        assert.equal(client.state, 'ECONNRESET');
        assert.ok(stage.logs.some(([level, line]) => level === 'warn' && line.includes('no original destination')));
        assert.equal(stage.connections.size, 0);
      })(),
    );
  });

  test('goes to the next address of its target each time, and to new ones when it is told', () => {
    const doors = [new Door('127.0.0.1'), new Door('127.0.0.2'), new Door('127.0.0.3')] as const;
    const [a, b, c] = doors.map(({ address }) => address);
    assert.ok(a && b && c);
    const stage = new Stage({}, [[a, b]]);
    stage.play(
      (function* () {
        for (const door of [doors[0], doors[1], doors[0]]) {
          const client = stage.client();
          yield* door.accepted((upstream) => upstream.close());
          yield* client.over();
          client.close();
        }
        stage.site.setAddresses(0, [c]);
        stage.site.setAddresses(1, [a]);
        const client = stage.client();
        yield* doors[2].accepted((upstream) => upstream.close());
        yield* client.over();
        client.close();
        yield* stage.gone();
      })(),
    );
    for (const door of doors) door.close();
  });

  test('to several targets goes to the next when one refuses, and the access log says to which', () => {
    const door = new Door();
    const targets = ['one', 'two'].map((host) => targetTo({ host, port: 1 }));
    const stage = new Stage({ targets }, [[refusing()], [door.address]]);
    const client = stage.client();
    stage.play(
      (function* () {
        yield* door.accepted((upstream) => upstream.close());
        yield* client.over();
        client.close();
        yield* stage.gone();
        assert.deepEqual(stage.entries, ['Transparent   1 127.0.0.1 -> two:1']);
        assert.deepEqual(
          stage.site.targets?.members.map(({ connections }) => connections),
          [0, 0],
        );
      })(),
    );
    door.close();
  });

  test('connects to each target from the address that is said for it, or else from the service’s', () => {
    const door = new Door();
    const targets = ['127.0.0.5', null].map((source) => ({ to: { host: 'a', port: 1 }, weight: 1, source }));
    const stage = new Stage({ targets, source: '127.0.0.6' }, [[door.address], [door.address]]);
    stage.play(
      (function* () {
        for (const from of ['127.0.0.5', '127.0.0.6']) {
          const client = stage.client();
          yield* door.accepted((upstream) => {
            assert.equal(peerAddress(upstream.fd)?.ip, from);
            upstream.close();
          });
          yield* client.over();
          client.close();
        }
        yield* stage.gone();
      })(),
    );
    door.close();
  });

  test('has its upstream connect to one target after the other, by name, found or not', () => {
    const targets = ['one', 'two'].map((host) => targetTo({ host, port: 7 }));
    const stage = new Stage({ targets, upstreams: [upstreamOf()], proxyOnly: true });
    stage.play(
      (function* () {
        for (const end of ['one:7', 'two:7', 'one:7']) {
          const client = stage.client();
          let upstream: Peer | null = null;
          yield* stage.upstreamPeer((peer) => {
            upstream = peer;
          });
          const far = (upstream as Peer | null) ?? assert.fail();
          yield* far.expect(`CONNECT ${end} HTTP/1.1\r\nHost: ${end}\r\n\r\n`);
          far.close();
          yield* client.over();
        }
        yield* stage.gone();
      })(),
    );
  });

  test('lets go of every descriptor and pipe, however the connection ends', () => {
    const before = openDescriptors();
    const ends: ((relay: Relay) => void)[] = [
      ({ client }) => client.close(),
      ({ client }) => client.reset(),
      ({ upstream }) => upstream.close(),
      ({ upstream }) => upstream.reset(),
    ];
    for (const end of ends) {
      const relay = new Relay();
      relay.play(function* () {
        const { client, upstream, stage } = relay;
        // Bulk that nobody reads, so that a pipe is full when the end comes.
        upstream.send(pattern(8_000_000));
        yield* until('a pipe is in use', () => {
          upstream.flush();
          return stage.loop.pipesTaken > stage.loop.pipesGiven;
        });
        end(relay);
        yield* turns();
        for (const peer of [client, upstream]) {
          // Whoever is left leaves as well.
          if (openDescriptors() > 0 && peer.sendError === null) peer.send('');
        }
        const left = end === ends[0] || end === ends[1] ? upstream : client;
        left.close();
        yield* relay.gone();
        yield;
        assert.equal(stage.loop.pipesGiven, stage.loop.pipesTaken);
      });
      assert.equal(openDescriptors(), before);
    }
  });

  test('holds a fast sender back while the receiver is slow, with memory that stays flat', () => {
    const relay = new Relay();
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      const bytes = pattern(64_000_000);
      upstream.send(bytes);
      for (let i = 0; i < 400; i++) {
        upstream.flush();
        yield;
      }
      assert.equal(upstream.flush(), false, 'the sender is held back');
      const { arrayBuffers } = process.memoryUsage();
      yield* until('all of it', () => {
        upstream.flush();
        client.read(1_000_000);
        return client.bytes === bytes.length;
      });
      assert.ok(client.got.equals(bytes));
      assert.ok(stage.loop.pipesTaken > 0);
      assert.equal(stage.loop.pipesTaken, stage.loop.pipesGiven);
      assert.ok(arrayBuffers < 300_000_000);
    });
  });
});

describe('deadlines of a relay', () => {
  test('an idle connection ends', (t) => {
    const clock = withClock(t);
    const relay = new Relay({ limits: { idle: 5000, halfClosed: 5000 } });
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      clock.now += 4900;
      client.send('x');
      yield* upstream.expect('x');
      clock.now += 4900;
      yield* turns();
      assert.equal(stage.connections.size, 1, 'a byte in either direction counts');
      clock.now += 300;
      yield* relay.gone();
      yield* client.over();
    });
  });

  test('a deadline that passes after the connection has ended is nothing', (t) => {
    const clock = withClock(t);
    const relay = new Relay({ limits: { idle: 5000 } });
    relay.play(function* () {
      relay.client.reset();
      yield* relay.gone();
      clock.now += 10_000;
      yield* turns();
      assert.equal(relay.stage.counters.get('open'), 0);
    });
  });

  test('after a half-close its own, shorter time counts', (t) => {
    const clock = withClock(t);
    const relay = new Relay({ limits: { idle: 60_000, halfClosed: 2000 } });
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      client.send('x');
      client.shutdown();
      yield* upstream.over();
      clock.now += 1900;
      yield* turns();
      assert.equal(stage.connections.size, 1);
      clock.now += 400;
      yield* turns();
      assert.equal(stage.connections.size, 0);
    });
  });
});

describe('a relay without a time for idleness', () => {
  const FOREVER = 1e9;

  test('waits however long, for a byte in either direction', (t) => {
    const clock = withClock(t);
    const relay = new Relay({ limits: { idle: Number.POSITIVE_INFINITY, halfClosed: 2000 } });
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      clock.now += FOREVER;
      yield* turns();
      client.send('x');
      yield* upstream.expect('x');
      clock.now += FOREVER;
      yield* turns();
      upstream.send('y');
      yield* client.expect('y');
      assert.match(stage.connection.describe(), /: open, 1 bytes from the client, 1 bytes to it, age \d+\.\d s, idle/);
      client.reset();
      yield* relay.gone();
    });
  });

  test('still bounds a connection of which one half is closed', (t) => {
    const clock = withClock(t);
    const relay = new Relay({ limits: { idle: Number.POSITIVE_INFINITY, halfClosed: 2000 } });
    relay.play(function* () {
      const { client, upstream, stage } = relay;
      clock.now += FOREVER;
      yield* turns();
      upstream.send('bye');
      upstream.shutdown();
      yield* client.over();
      clock.now += 1900;
      client.send('x');
      yield* upstream.expect('x');
      clock.now += 1900;
      yield* turns();
      assert.equal(stage.connections.size, 1, 'a byte in the other half counts');
      clock.now += 400;
      yield* relay.gone();
      yield* upstream.over();
    });
  });
});

describe('admission', () => {
  test('a client that the list does not have is reset, logged and counted', () => {
    const stage = new Stage({ access: [{ allow: [{ ip: '10.0.0.0', prefix: 8 }], deny: [] }] });
    const client = stage.client();
    stage.play(
      (function* () {
        yield* client.over();
        assert.equal(client.state, 'ECONNRESET');
      })(),
    );
    assert.equal(stage.counters.get('refused'), 1);
    assert.equal(stage.counters.get('accepted'), 0);
    assert.deepEqual(stage.entries, ['ACL refused from 127.0.0.1']);
    assert.ok(stage.logs.some(([level, line]) => level === 'warn' && line.includes('ACL refused from 127.0.0.1:')));
    assert.equal(stage.upstream.tryAccept(), null);
  });

  test('a client that the list has is served', () => {
    const relay = new Relay({ access: [{ allow: [{ ip: '127.0.0.0', prefix: 8 }], deny: [] }] });
    relay.play(function* () {
      relay.client.send('hello');
      yield* relay.upstream.expect('hello');
    });
  });
});

test('a dump line says who, where to, how much and how long', () => {
  const relay = new Relay();
  relay.play(function* () {
    relay.client.send('hello');
    yield* relay.upstream.expect('hello');
    const [line] = [...relay.stage.connections].map((connection) => connection.describe());
    assert.match(
      line ?? '',
      /^test: client 127\.0\.0\.1:\d+, upstream 127\.0\.0\.1:\d+: open, 5 bytes from the client, 0 bytes to it, age [\d.]+ s, idle [\d.]+ s$/,
    );
  });
});

describe('lines about a connection', () => {
  /** A relay through which each side sends something; what was logged. */
  const linesOf = (settings: ConstructorParameters<typeof Stage>[0], verbose: boolean, reset = false): string[] => {
    const relay = new Relay(settings, verbose);
    relay.play(function* () {
      const { client, upstream } = relay;
      client.send('hello');
      yield* upstream.expect('hello');
      upstream.send('good day');
      yield* client.expect('good day');
      if (reset) client.reset();
      else client.shutdown();
      if (!reset) upstream.shutdown();
      yield* relay.gone();
    });
    return relay.stage.logs.map(([level, line]) => `${level} ${line}`);
  };
  const shape = (line: string): string =>
    line
      .replaceAll(/:\d{2,5}\b/g, ':PORT')
      .replace(/[\d.]+ s$/, 'T s')
      .replace(/after \d+/, 'after N');

  test('at level debug tell its whole life', () => {
    const lines = linesOf({}, true);
    const upstream = 'test: client 127.0.0.1:PORT, upstream 127.0.0.1:PORT';
    assert.deepEqual(lines.map(shape), [
      'debug test: client 127.0.0.1:PORT: accepted',
      'debug test: client 127.0.0.1:PORT: connecting to 127.0.0.1:PORT',
      `debug ${upstream}: connected from 127.0.0.1:PORT`,
      `debug ${upstream}: Transparent 1: target:1`,
      `debug ${upstream}: closed: done; 5 bytes from the client, 8 bytes to it, T s`,
    ]);
  });

  test('are none where nobody asked for them', () => {
    assert.deepEqual(linesOf({}, false), []);
  });

  test('of a service that logs connections are one at the beginning and one at the end', () => {
    const lines = linesOf({ logConnections: true }, false);
    assert.deepEqual(lines.map(shape), [
      'notice Connecting 127.0.0.1:PORT to target:1',
      'notice Disconnect after N sec, 8 bytes in, 5 bytes out: ' +
        '127.0.0.1:PORT to target:1, upstream 127.0.0.1:PORT, closed: done',
    ]);
  });

  test('say how it ended', () => {
    const [, end] = linesOf({ logConnections: true }, false, true);
    assert.match(String(end), /, reset: client: recv: ECONNRESET$/);
  });

  test('have an end for each beginning, also where no upstream is reached', () => {
    const nowhere = refusing();
    const stage = new Stage({ logConnections: true }, [[nowhere]]);
    const client = stage.client();
    stage.play(
      (function* () {
        yield* client.over();
        yield* stage.gone();
      })(),
    );
    const notices = stage.logs.filter(([level]) => level === 'notice').map(([, line]) => shape(line));
    assert.deepEqual(notices, [
      'Connecting 127.0.0.1:PORT to target:1',
      'Disconnect after N sec, 0 bytes in, 0 bytes out: 127.0.0.1:PORT to target:1, ' +
        'reset: connect 127.0.0.1:PORT: ECONNREFUSED',
    ]);
  });

  test('of one that ends with words still on their way give the reason for the end', () => {
    const relay = new Relay({ logConnections: true });
    relay.play(function* () {
      const { client, upstream } = relay;
      upstream.send('last words');
      upstream.reset();
      yield* client.over();
      client.shutdown();
      yield* relay.gone();
    });
    const [, end] = relay.stage.logs.filter(([level]) => level === 'notice');
    assert.match(String(end), /10 bytes in, 0 bytes out.*closed: upstream: (?:recv|send): ECONNRESET$/);
  });
});
