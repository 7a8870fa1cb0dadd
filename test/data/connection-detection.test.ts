import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatAddress } from '../../src/address.js';
import { admit } from '../../src/data/admit.js';
import { targetTo } from '../../src/plan.js';
import { peerAddress } from '../../src/sys/socket.js';
import { CURL } from '../protocol/hellos.js';
import { ech, hello, nameOf, record, serverName } from '../protocol/tls-bytes.js';
import { Door, openDescriptors, type Peer, refusing, type Script, type Settings, Stage, turns, until } from './rig.js';
import { get, ok, withClock } from './talk.js';

/** A client that was redirected on its way to an origin, with an upstream beside it. */
class Caught {
  readonly origin = new Door();
  readonly stage: Stage;
  readonly client: Peer;
  /** Whoever was connected to. */
  far!: Peer;

  constructor(settings: Settings = {}, upstream?: Door | 'refusing') {
    const addresses = upstream === 'refusing' ? [[refusing()]] : undefined;
    this.stage = new Stage({ mode: 'http', ...settings }, addresses);
    this.client = this.stage.redirected(this.origin.address);
  }

  get name(): string {
    return `127.0.0.1:${this.origin.address.port}`;
  }

  *atOrigin(): Script {
    yield* this.origin.accepted((peer) => {
      this.far = peer;
    });
    assert.equal(this.stage.upstream.tryAccept(), null);
  }

  *atUpstream(): Script {
    yield* this.stage.upstream.accepted((peer) => {
      this.far = peer;
    });
    assert.equal(this.origin.tryAccept(), null);
  }

  /** The upstream is asked for a tunnel to `end`, and makes it. */
  *tunnel(end: string): Script {
    yield* this.atUpstream();
    yield* this.far.expect(connectTo(end));
    this.far.send('HTTP/1.1 200 OK\r\n\r\n');
  }

  /** The client is reset, and nobody was connected to. */
  *ended(): Script {
    yield* this.client.over();
    assert.equal(this.client.state, 'ECONNRESET');
    yield* this.stage.gone();
    assert.equal(this.origin.tryAccept(), null);
  }

  play(script: () => Script): void {
    const before = openDescriptors();
    this.stage.play(
      (function* (caught: Caught) {
        yield* script();
        caught.client.close();
        caught.far?.close();
        yield* caught.stage.gone();
        assert.deepEqual(
          caught.stage.site.pool.members.map(({ connections }) => connections),
          caught.stage.site.pool.members.map(() => 0),
        );
        yield;
      })(this),
    );
    this.origin.close();
    // The stage's own two doors, the client and the accepted socket were there before, and so was the origin.
    assert.ok(openDescriptors() < before, `${openDescriptors()} descriptors, ${before} before`);
  }
}

const connectTo = (end: string): string => `CONNECT ${end} HTTP/1.1\r\nHost: ${end}\r\n\r\n`;
const HELLO = CURL.toString('latin1');
const SSH = 'SSH-2.0-OpenSSH_9.2\r\n';

describe('TLS', () => {
  test('goes by CONNECT to the name in it and the original port, its first bytes intact however they come', () => {
    for (const size of [1, 7, HELLO.length]) {
      const caught = new Caught();
      caught.play(function* () {
        const { client, origin } = caught;
        for (let at = 0; at < HELLO.length; at += size) {
          client.send(HELLO.slice(at, at + size));
          yield;
        }
        const end = `www.example.com:${origin.address.port}`;
        yield* caught.tunnel(end);
        yield* caught.far.expect(connectTo(end) + HELLO);
        caught.far.send('server');
        yield* client.expect('server');
        client.send('more');
        yield* caught.far.expect(`${connectTo(end)}${HELLO}more`);
      });
      assert.deepEqual(caught.stage.entries, [
        `Transparent   1 127.0.0.1 -> www.example.com:${caught.origin.address.port}`,
      ]);
    }
  });

  test('what the far end says before the client has read the answer to CONNECT reaches the client', () => {
    const caught = new Caught();
    caught.play(function* () {
      caught.client.send(HELLO);
      yield* caught.atUpstream();
      caught.far.send('HTTP/1.1 200 OK\r\n\r\nearly');
      yield* caught.client.expect('early');
    });
  });

  test('without a name, or with an encrypted one, goes by CONNECT to the original address', () => {
    for (const bytes of [record(hello()), record(hello(serverName(nameOf('front.test')), ech()))]) {
      const caught = new Caught();
      caught.play(function* () {
        caught.client.send(bytes);
        yield* caught.tunnel(caught.name);
        yield* caught.far.expect(connectTo(caught.name) + bytes.toString('latin1'));
      });
    }
  });

  test('with an encrypted name goes by the one outside where that is wanted', () => {
    const caught = new Caught({ ech: 'name' });
    caught.play(function* () {
      caught.client.send(record(hello(serverName(nameOf('front.test')), ech())));
      yield* caught.tunnel(`front.test:${caught.origin.address.port}`);
    });
  });

  test('is named in the lines of level debug, and so is where it goes', () => {
    const caught = new Caught();
    caught.play(function* () {
      caught.client.send(HELLO);
      const end = `www.example.com:${caught.origin.address.port}`;
      yield* caught.tunnel(end);
      const { stage } = caught;
      const client = `test: client 127.0.0.1:${stage.connection.clientAddress?.port}`;
      const who = `${client}, original destination ${caught.name}`;
      assert.deepEqual(stage.logs.slice(0, 3), [
        ['debug', `${who}: accepted`],
        ['debug', `${who}: it is tls, for www.example.com`],
        ['debug', `${who}: connecting to ${formatAddress(caught.stage.upstream.address)}, and through it to ${end}`],
      ]);
    });
  });

  test('goes direct, or no further, where that is wanted', () => {
    const direct = new Caught({ tls: 'direct' });
    direct.play(function* () {
      direct.client.send(HELLO);
      yield* direct.atOrigin();
      yield* direct.far.expect(HELLO);
    });
    const close = new Caught({ tls: 'close' });
    close.play(function* () {
      close.client.send(HELLO);
      yield* close.ended();
    });
  });

  test('whose CONNECT is refused ends, with or without -p: that is no way past the upstream', () => {
    for (const proxyOnly of [true, false]) {
      const caught = new Caught({ proxyOnly });
      caught.play(function* () {
        caught.client.send(HELLO);
        yield* caught.atUpstream();
        caught.far.send('HTTP/1.1 403 Forbidden\r\n\r\n');
        yield* caught.ended();
        assert.ok(caught.stage.said('403'));
      });
    }
  });

  test('goes direct when the upstream cannot be reached, unless -p says no', () => {
    const caught = new Caught({}, 'refusing');
    caught.play(function* () {
      caught.client.send(HELLO);
      yield* caught.atOrigin();
      yield* caught.far.expect(HELLO);
      assert.ok(caught.stage.said('going past the upstream'));
    });
    const only = new Caught({ proxyOnly: true }, 'refusing');
    only.play(function* () {
      only.client.send(HELLO);
      yield* only.ended();
    });
  });

  test('of a client that was not redirected has nowhere to go', () => {
    const stage = new Stage({ mode: 'http' });
    const client = stage.client();
    client.send(HELLO);
    stage.play(client.over());
    assert.equal(client.state, 'ECONNRESET');
    assert.ok(stage.said('no original destination'));
    client.close();
  });
});

describe('what is neither HTTP nor TLS', () => {
  test('goes direct, by CONNECT, or no further', () => {
    const direct = new Caught();
    direct.play(function* () {
      direct.client.send(SSH);
      yield* direct.atOrigin();
      yield* direct.far.expect(SSH);
      direct.far.send(SSH);
      yield* direct.client.expect(SSH);
    });
    const connect = new Caught({ unknown: 'connect' });
    connect.play(function* () {
      connect.client.send(SSH);
      yield* connect.tunnel(connect.name);
      yield* connect.far.expect(connectTo(connect.name) + SSH);
    });
    const close = new Caught({ unknown: 'close' });
    close.play(function* () {
      close.client.send(SSH);
      yield* close.ended();
    });
  });

  test('a client that says nothing waits for its server to begin, and then both may speak', (t) => {
    for (const unknown of ['direct', 'connect'] as const) {
      const clock = withClock(t);
      const caught = new Caught({ unknown });
      caught.play(function* () {
        clock.now += 900;
        yield* turns();
        assert.equal(caught.origin.tryAccept(), null);
        clock.now += 300;
        let before = '';
        if (unknown === 'direct') yield* caught.atOrigin();
        else {
          yield* caught.tunnel(caught.name);
          before = connectTo(caught.name);
        }
        caught.far.send('220 smtp\r\n');
        yield* caught.client.expect('220 smtp\r\n');
        caught.client.send('QUIT\r\n');
        yield* caught.far.expect(`${before}QUIT\r\n`);
      });
      t.mock.restoreAll();
    }
  });

  test('what a client sends while the way for its silence is being opened is not lost', (t) => {
    const clock = withClock(t);
    const caught = new Caught({ unknown: 'connect' });
    caught.play(function* () {
      clock.now += 1200;
      yield* caught.atUpstream();
      caught.client.send(get('/'));
      yield* turns();
      caught.far.send('HTTP/1.1 200 OK\r\n\r\n');
      yield* caught.far.expect(connectTo(caught.name) + get('/'));
    });
  });

  test('too few bytes to say are passed when no more come: at the end of the stream, or after the time for a head', (t) => {
    const ended = new Caught();
    ended.play(function* () {
      ended.client.send('GE');
      ended.client.shutdown();
      yield* ended.atOrigin();
      yield* ended.far.over();
      assert.equal(ended.far.text, 'GE');
      assert.equal(ended.far.state, 'end');
      ended.far.send('answer');
      yield* ended.client.expect('answer');
    });
    for (const firstByte of [1000, 60_000]) {
      const clock = withClock(t);
      const late = new Caught({ limits: { firstByte, head: 3000 } });
      late.play(function* () {
        late.client.send('GE');
        yield* turns();
        clock.now += 2900;
        yield* turns();
        assert.equal(late.origin.tryAccept(), null);
        clock.now += 300;
        yield* late.atOrigin();
        yield* late.far.expect('GE');
      });
      t.mock.restoreAll();
    }
  });

  test('a client that leaves without a byte leaves nothing behind, whether it ends or resets', () => {
    for (const how of ['shutdown', 'reset'] as const) {
      const caught = new Caught();
      caught.play(function* () {
        caught.client[how]();
        if (how === 'reset') caught.client.close = () => {};
        yield* caught.stage.gone();
        assert.equal(caught.origin.tryAccept(), null);
      });
    }
  });

  test('a client that resets while its way is being opened leaves nothing behind', () => {
    const caught = new Caught();
    caught.play(function* () {
      caught.client.send(HELLO);
      yield* caught.atUpstream();
      caught.client.reset();
      caught.client.close = () => {};
      yield* caught.stage.gone();
      yield* caught.far.over();
    });
  });
});

describe('HTTP', () => {
  test('goes direct as it came when no upstream can be reached, unless -p says no', () => {
    const caught = new Caught({}, 'refusing');
    const sent = `${get('/1')}${get('/2')}GET /half`;
    caught.play(function* () {
      caught.client.send(sent);
      yield* caught.atOrigin();
      yield* caught.far.expect(sent);
      caught.far.send('anything');
      yield* caught.client.expect('anything');
    });
    const only = new Caught({ proxyOnly: true }, 'refusing');
    only.play(function* () {
      only.client.send(get('/'));
      yield* only.client.over();
      assert.match(only.client.text, /^HTTP\/1\.1 502 /);
      assert.equal(only.origin.tryAccept(), null);
    });
  });

  test('does not go direct once a request went to an upstream', () => {
    const caught = new Caught();
    caught.play(function* () {
      const { client, stage } = caught;
      client.send(get('/1'));
      yield* caught.atUpstream();
      caught.far.send(ok('1'));
      yield* client.expect(ok('1'));
      stage.site.setAddresses(0, [refusing()]);
      caught.far.close();
      yield* turns();
      client.send(get('/2'));
      yield* client.over();
      assert.match(client.text.slice(ok('1').length), /^HTTP\/1\.1 502 /);
      assert.equal(caught.origin.tryAccept(), null);
      caught.far.close = () => {};
    });
  });

  test('a request line without an end is a 414, and not held in memory for as long as it comes', () => {
    const caught = new Caught();
    caught.play(function* () {
      caught.client.send(`GET http://${'x'.repeat(200_000)}`);
      yield* until('the answer', () => {
        caught.client.flush();
        caught.client.read();
        return caught.client.state !== 'open';
      });
      assert.match(caught.client.text, /^HTTP\/1\.1 414 /);
    });
  });
});

describe('relays through upstreams', () => {
  test('to a target ask the upstream for it, by its name', () => {
    const stage = new Stage({ targets: [targetTo({ host: 'target.test', port: 25 })], upstreams: [upstream] });
    const client = stage.client();
    stage.play(
      (function* (): Script {
        let far!: Peer;
        yield* stage.upstreamPeer((peer) => {
          far = peer;
        });
        yield* far.expect(connectTo('target.test:25'));
        far.send('HTTP/1.1 200 OK\r\n\r\n220 smtp');
        yield* client.expect('220 smtp');
        client.send('QUIT');
        yield* far.expect(`${connectTo('target.test:25')}QUIT`);
        client.close();
        far.close();
        yield* stage.gone();
      })(),
    );
  });

  test('begin with the PROXY header of their client, toward a target too', () => {
    for (const upstreams of [[], [upstream]]) {
      const stage = new Stage({
        targets: [targetTo({ host: 'target.test', port: 25 })],
        upstreams,
        proxyProtocol: 'v1',
      });
      const client = stage.client();
      const from = stage.connection.clientAddress?.port;
      stage.play(
        (function* (): Script {
          let far!: Peer;
          yield* stage.upstreamPeer((peer) => {
            far = peer;
          });
          const tunnel = upstreams.length > 0 ? connectTo('target.test:25') : '';
          yield* far.expect(`PROXY TCP4 127.0.0.1 127.0.0.1 ${from} ${stage.front.address.port}\r\n${tunnel}`);
          client.close();
          far.close();
          yield* stage.gone();
        })(),
      );
    }
  });

  test('what a slow client has not taken yet is not lost when sending to the far end fails', () => {
    const stage = new Stage();
    const client = stage.client();
    const said = Buffer.alloc(8_000_000, 'x');
    stage.play(
      (function* (): Script {
        let far!: Peer;
        yield* stage.upstreamPeer((peer) => {
          far = peer;
        });
        far.send(said);
        for (let i = 0; i < 200; i++) {
          far.flush();
          yield;
        }
        const { toClient } = stage.connection;
        assert.equal(toClient.drained, false);
        const read = toClient.moved;
        far.reset();
        yield* turns();
        client.send('into the void');
        yield* turns();
        yield* client.over();
        assert.equal(client.state, 'end');
        assert.ok(client.bytes > read);
        client.close();
        yield* stage.gone();
      })(),
    );
  });
});

const upstream = { scheme: 'http', host: 'upstream', port: 1, credentials: null } as const;

test('a connection that is one of our own is a loop, refused with the reason', () => {
  const stage = new Stage();
  const client = stage.client();
  stage.play(
    (function* (): Script {
      let far!: Peer;
      yield* stage.upstreamPeer((peer) => {
        far = peer;
      });
      // As if the target's door were ours.
      const own = peerAddress(far.fd) ?? assert.fail();
      admit(stage.site, far.fd, own);
      yield* client.over();
      assert.equal(client.state, 'ECONNRESET');
      assert.ok(stage.said(`client 127.0.0.1:${own.port}: loop: the connection is our own`));
      assert.equal(stage.counters.get('refused'), 1);
      yield* stage.gone();
    })(),
  );
  client.close();
});

test('a client that comes from the address of one of our own, but goes somewhere else, is none', () => {
  const stage = new Stage();
  const client = stage.client();
  stage.play(
    (function* (): Script {
      let far!: Peer;
      yield* stage.upstreamPeer((peer) => {
        far = peer;
      });
      // The kernel gives one port of ours to connections to different destinations.
      const own = peerAddress(far.fd) ?? assert.fail();
      const other = stage.front.connect();
      admit(stage.site, stage.front.acceptNow().fd, own);
      assert.equal(stage.connections.size, 2);
      for (const peer of [client, other, far]) peer.reset();
      yield* turns();
      stage.upstream.tryAccept()?.reset();
      yield* stage.gone();
    })(),
  );
});
