import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { admit } from '../../src/data/admit.js';
import { targetTo } from '../../src/plan.js';
import { peerAddress } from '../../src/sys/socket.js';
import { type Peer, refusing, type Script, type Settings, Stage, turns, until } from './rig.js';
import { get, ok, withClock } from './talk.js';

/** A stage whose lines are rinetd's, and a client that came in by `gate.test`. */
class Logged {
  readonly stage: Stage;
  readonly client: Peer;
  upstream!: Peer;

  constructor(settings: Settings = {}, addresses?: readonly (readonly SocketAddress[])[]) {
    this.stage = new Stage(settings, addresses, false, 'tab');
    const { front, site } = this.stage;
    this.client = front.connect();
    const { fd } = front.acceptNow();
    admit(site, fd, peerAddress(fd), { host: 'gate.test', port: 8000 });
  }

  /** Plays to the end of the connection; with `connects` the upstream has it before. */
  play(connects: boolean, script: (logged: this) => Script): void {
    const { stage } = this;
    const logged = this;
    stage.play(
      (function* () {
        if (connects) {
          yield* stage.upstreamPeer((peer) => {
            logged.upstream = peer;
          });
          yield* turns(3);
        }
        yield* script(logged);
        yield* stage.gone();
      })(),
    );
    this.client.close();
    this.upstream?.close();
  }

  /** Lines that begin as all of a relay's do, without that. */
  get words(): string[] {
    return this.stage.entries.map((line) => {
      const start = '127.0.0.1\tgate.test\t8000\ttarget\t1\t';
      assert.equal(line.slice(0, start.length), start);
      return line.slice(start.length).replaceAll('\t', ' ');
    });
  }
}

const OPENED = '0 0 opened';

describe('the lines of a relay in the format of rinetd', () => {
  test('are one when it is let in, and one when it ends, with the bytes of each direction', () => {
    const logged = new Logged();
    logged.play(true, function* ({ stage, client, upstream }) {
      assert.equal(stage.entries.length, 1);
      client.send('hello');
      yield* upstream.expect('hello');
      upstream.send('good day');
      yield* client.expect('good day');
      client.shutdown();
      yield* upstream.over();
      upstream.shutdown();
    });
    assert.deepEqual(logged.words, [OPENED, '5 8 done-remote-closed']);
  });

  test('say that the client ended first, though the target goes on for long', () => {
    const logged = new Logged();
    logged.play(true, function* ({ client, upstream }) {
      client.shutdown();
      yield* upstream.over();
      upstream.send('and more');
      yield* client.expect('and more');
      upstream.shutdown();
    });
    assert.deepEqual(logged.words, [OPENED, '0 8 done-remote-closed']);
  });

  test('say that the target ended first', () => {
    const logged = new Logged();
    logged.play(true, function* ({ client, upstream }) {
      upstream.shutdown();
      yield* client.over();
      client.send('and more');
      yield* upstream.expect('and more');
      client.shutdown();
    });
    assert.deepEqual(logged.words, [OPENED, '8 0 done-local-closed']);
  });

  test('count a reset of the client as its end', () => {
    const logged = new Logged();
    logged.play(true, function* ({ client, upstream }) {
      client.reset();
      yield* upstream.over();
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 done-remote-closed']);
  });

  test('count a reset of the target as its end, with its last words and without', () => {
    const silent = new Logged();
    silent.play(true, function* ({ client, upstream }) {
      upstream.reset();
      yield* client.over();
    });
    assert.deepEqual(silent.words, [OPENED, '0 0 done-local-closed']);
    const logged = new Logged();
    logged.play(true, function* ({ client, upstream }) {
      upstream.send('last words');
      upstream.reset();
      yield* client.over();
      client.shutdown();
    });
    assert.deepEqual(logged.words, [OPENED, '0 10 done-local-closed']);
  });

  test('say that the target could not be connected to', () => {
    const logged = new Logged({}, [[refusing()]]);
    logged.play(false, function* ({ client }) {
      client.send('hello');
      yield* client.over();
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 local-connect-failed -']);
    assert.equal(logged.stage.counters.get('connectErrors'), 1);
  });

  test('say that the source address could not be had', () => {
    const logged = new Logged({ source: '192.0.2.77' });
    logged.play(false, function* ({ client }) {
      yield* client.over();
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 local-bind-failed -']);
  });

  test('say that nothing moved for too long', (t) => {
    const clock = withClock(t);
    const logged = new Logged({ limits: { idle: 5000 } });
    logged.play(true, function* ({ client }) {
      clock.now += 6000;
      yield* client.over();
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 done-timed-out']);
  });

  test('say that the client left before there was a way to the target', () => {
    const logged = new Logged();
    logged.play(false, function* ({ client }) {
      client.reset();
      yield* turns(3);
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 done-remote-closed']);
  });

  test('say that the program ended', () => {
    const logged = new Logged();
    logged.play(true, function* ({ stage, client }) {
      stage.connection.stop();
      yield* client.over();
    });
    assert.deepEqual(logged.words, [OPENED, '0 0 done-stopped']);
  });

  test('are one for a client that is refused, with the reason', () => {
    for (const [access, word] of [
      [{ allow: [{ glob: '10.*' }], deny: [] }, 'not-allowed'],
      [{ allow: null, deny: [{ glob: '127.0.0.?' }] }, 'denied'],
    ] as const) {
      const logged = new Logged({ access: [access] });
      logged.play(false, function* ({ client }) {
        yield* client.over();
      });
      assert.deepEqual(logged.words, [`0 0 ${word}`]);
      assert.ok(logged.stage.logs.some(([, line]) => line.endsWith(`: ${word}`)));
    }
  });

  test('are one for a client that TCP wrappers refuse', () => {
    const logged = new Logged({ tcpWrappers: 'test' });
    logged.play(false, function* ({ stage, client }) {
      const [[id] = [0]] = stage.questions;
      stage.thread.admissions?.answer(id, 'the tables say so');
      yield* client.over();
    });
    assert.deepEqual(logged.words, ['0 0 denied']);
  });

  test('have the unix socket of a target', () => {
    const stage = new Stage(
      { targets: [targetTo({ path: '/run/a b' })], access: [{ allow: [], deny: [] }] },
      [[]],
      false,
      'tab',
    );
    const client = stage.client();
    stage.play(client.over());
    assert.match(stage.entries.join(), /^127\.0\.0\.1\t127\.0\.0\.1\t\d+\tunix:\/run\/a%20b\t0\t0\t0\tnot-allowed$/);
  });
});

describe('a client of a unix socket', () => {
  test('has no address, so lists of addresses are not for it', () => {
    const stage = new Stage(
      { access: [{ allow: [{ glob: '10.*' }], deny: [{ glob: '*' }] }] },
      undefined,
      false,
      'tab',
    );
    const client = stage.front.connect();
    admit(stage.site, stage.front.acceptNow().fd, null, { host: '/run/front', port: null });
    stage.play(
      (function* () {
        yield* until('it is let in', () => stage.connections.size > 0);
        client.reset();
        yield* stage.gone();
      })(),
    );
    assert.match(stage.entries.join('\n'), /^\?\tunix:\/run\/front\t0\t.*\topened\n\?\t.*\tdone-remote-closed$/);
  });
});

describe('the lines of http mode in the format of rinetd', () => {
  test('are two for a connection, however many requests it has', () => {
    const stage = new Stage({ mode: 'http' }, undefined, false, 'tab');
    const client = stage.client();
    stage.play(
      (function* () {
        let upstream!: Peer;
        client.send(get('/one'));
        yield* stage.upstreamPeer((peer) => {
          upstream = peer;
        });
        yield* until('the first request is there', () => {
          upstream.read();
          return upstream.text.includes('/one');
        });
        upstream.send(ok('1'));
        yield* client.expect(ok('1'));
        client.send(get('/two'));
        yield* until('the second request is there', () => {
          upstream.read();
          return upstream.text.includes('/two');
        });
        upstream.send(ok('2'));
        yield* client.expect(ok('1') + ok('2'));
        client.close();
        yield* stage.gone();
        upstream.close();
      })(),
    );
    const lines = stage.entries.map((line) => line.split('\t').slice(3).join(' '));
    assert.equal(lines.length, 2);
    assert.equal(lines[0], 'upstream 1 0 0 opened');
    assert.match(lines[1] ?? '', new RegExp(`^upstream 1 \\d+ ${2 * ok('1').length} done-remote-closed$`));
  });

  test('say that no upstream could be connected to', () => {
    const stage = new Stage({ mode: 'http', proxyOnly: true }, [[refusing()]], false, 'tab');
    const client = stage.client();
    stage.play(
      (function* () {
        client.send(get('/'));
        yield* client.over();
        client.close();
        yield* stage.gone();
      })(),
    );
    assert.match(client.text, /^HTTP\/1\.1 502 /);
    assert.deepEqual(
      stage.entries.map((line) => line.split('\t').at(-1)),
      ['opened', 'local-connect-failed -'],
    );
  });
});

test('messages begin with the name of the service where there are several', () => {
  const said = (several: boolean): string[] => {
    const stage = new Stage({ name: 'web', logConnections: true }, [[refusing()]], false);
    Object.assign(stage.thread, { several });
    const client = stage.client();
    stage.play(
      (function* () {
        yield* client.over();
        yield* stage.gone();
      })(),
    );
    return stage.logs.map(([, line]) => line.split(' ')[0] as string);
  };
  assert.deepEqual(said(true), ['web:', 'web:', 'web:']);
  assert.deepEqual(said(false), ['Connecting', 'web:', 'Disconnect']);
});
