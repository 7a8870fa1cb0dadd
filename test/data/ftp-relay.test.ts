import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { type Ftp, targetTo } from '../../src/plan.js';
import * as libc from '../../src/sys/libc.js';
import { boundSocket, connectTo } from '../../src/sys/socket.js';
import {
  Door,
  openDescriptors,
  Peer,
  pattern,
  type Script,
  type Settings,
  Stage,
  turns,
  until,
  upstreamOf,
} from './rig.js';
import { withClock } from './talk.js';

const FTP: Ftp = { active: true, passive: true, ports: null };
const MSG_OOB = 1;

const commas = ({ ip, port }: SocketAddress): string => `${ip.replaceAll('.', ',')},${port >> 8},${port & 0xff}`;

/** The last address in a PORT, or a 227, of what a peer has read. */
const addressIn = (text: string): SocketAddress => {
  const numbers = [...text.matchAll(/(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)/g)].at(-1)?.slice(1).map(Number);
  assert.ok(numbers, text);
  const [high, low] = numbers.slice(4) as [number, number];
  return { ip: numbers.slice(0, 4).join('.'), port: high * 256 + low };
};

/** A connection to `to`, from any address of this host. */
const connect = (to: SocketAddress, from = to.ip): Peer => {
  const fd = boundSocket({ ip: from, port: 0 }, false);
  connectTo(fd, to);
  return new Peer(fd);
};

/** An origin that is another host than the client: 127.0.0.5. */
const ORIGIN = '127.0.0.5';

/** A relay that follows FTP, with a client and an origin that have greeted each other. */
class Session {
  readonly stage: Stage;
  readonly client: Peer;
  readonly control = new Door(ORIGIN);
  /** Where the origin's data is to be had, and the client's. */
  readonly data = new Door(ORIGIN);
  readonly clientData = new Door();
  origin!: Peer;
  readonly #peers: Peer[] = [];

  constructor(settings: Settings = {}) {
    this.stage = new Stage({ ftp: FTP, ...settings }, [[this.control.address]]);
    this.client = this.stage.client();
  }

  /** Reads until `peer` has read something that matches. */
  *reads(peer: Peer, pattern: RegExp): Script {
    yield* until(`read ${pattern}, have ${JSON.stringify(peer.text.slice(-300))}`, () => {
      peer.read();
      return pattern.test(peer.text) || peer.state !== 'open';
    });
    assert.match(peer.text, pattern);
  }

  /** The client asks for a port, and gets an address of ours. */
  *passive(command = 'PASV', told = this.data.address): Script {
    this.client.send(`${command}\r\n`);
    const asked = this.origin.text.length;
    yield* until('the origin is asked', () => {
      this.origin.read();
      return this.origin.text.length >= asked + 6;
    });
    const before = this.client.text;
    this.origin.send(command === 'PASV' ? `227 Here (${commas(told)})\r\n` : `229 Here (|||${told.port}|)\r\n`);
    yield* until('the client is told', () => {
      this.client.read();
      return this.client.text.length > before.length && this.client.text.endsWith('\n');
    });
  }

  /** The client tells its port, and the origin an address of ours. */
  *active(told = this.clientData.address): Script {
    const asked = this.origin.text.length;
    const before = this.client.text.length;
    this.client.send(`PORT ${commas(told)}\r\n`);
    yield* until('the origin is told', () => {
      this.origin.read();
      return this.origin.text.slice(asked).endsWith('\n');
    });
    this.origin.send('200 fine\r\n');
    yield* until('the client is told', () => {
      this.client.read();
      return this.client.text.slice(before) === '200 fine\r\n';
    });
  }

  /** A peer that is closed in the end. */
  keep(peer: Peer): Peer {
    this.#peers.push(peer);
    return peer;
  }

  *accepted(door: Door): Generator<void, Peer, void> {
    let far: Peer | null = null;
    yield* door.accepted((peer) => {
      far = peer;
    });
    return this.keep(far as unknown as Peer);
  }

  play(script: () => Script): void {
    const { stage } = this;
    const session = this;
    stage.play(
      (function* () {
        session.origin = yield* session.accepted(session.control);
        session.origin.send('220 hello\r\n');
        yield* session.reads(session.client, /^220 hello\r\n$/);
        yield* script();
      })(),
    );
    for (const peer of [this.client, ...this.#peers]) peer.close();
    for (const door of [this.control, this.data, this.clientData]) door.close();
  }
}

describe('passive data connections', () => {
  test('come to us and go to the origin, bytes both ways', () => {
    const before = openDescriptors();
    const session = new Session();
    const { stage, client } = session;
    session.play(function* () {
      yield* session.passive();
      const address = addressIn(client.text);
      assert.equal(address.ip, '127.0.0.1');
      const near = session.keep(connect(address));
      const far = yield* session.accepted(session.data);
      near.send('up');
      yield* far.expect('up');
      far.send('down');
      far.shutdown();
      yield* near.over();
      assert.equal(near.text, 'down');
      near.shutdown();
      yield* far.over();
      yield* until('the data connection ends', () => stage.connections.size === 1);
      assert.equal(stage.counters.get('accepted'), 2);
      assert.equal(stage.counters.get('open'), 1);
      assert.equal(stage.counters.get('bytesFromClients'), 2);
      assert.equal(stage.counters.get('bytesToClients'), 4);
      client.send('QUIT\r\n');
      yield* session.reads(session.origin, /QUIT\r\n$/);
      client.shutdown();
      session.origin.shutdown();
      yield* stage.gone();
    });
    assert.equal(openDescriptors(), before);
  });

  test('100 in turn on one control connection', () => {
    const before = openDescriptors();
    const session = new Session();
    session.play(function* () {
      for (let i = 0; i < 100; i++) {
        yield* session.passive(i % 2 === 0 ? 'PASV' : 'EPSV');
        const { text } = session.client;
        const port = i % 2 === 0 ? addressIn(text).port : Number(/\|\|\|(\d+)\|\)\r\n$/.exec(text)?.[1]);
        const near = connect({ ip: '127.0.0.1', port });
        const far = yield* session.accepted(session.data);
        far.send(`file ${i}`);
        yield* near.expect(`file ${i}`);
        near.reset();
        yield* far.over();
      }
    });
    assert.equal(session.stage.counters.get('accepted'), 101);
    assert.ok(openDescriptors() - before < 10);
  });

  test('the port is the origin’s own number, where that is free', () => {
    const session = new Session();
    session.play(function* () {
      const { port } = session.data.address;
      yield* session.passive();
      assert.equal(addressIn(session.client.text).port, port);
      const taken = new Door();
      yield* session.passive('PASV', { ip: ORIGIN, port: taken.address.port });
      assert.notEqual(addressIn(session.client.text).port, taken.address.port);
      taken.close();
    });
  });

  test('the port is one of those that firewalls let through, and there is a reply when none is free', () => {
    const free = new Door();
    free.close();
    const { port } = free.address;
    const session = new Session({ ftp: { ...FTP, ports: { low: port, high: port } } });
    const { stage, client } = session;
    session.play(function* () {
      for (let i = 0; i < 3; i++) {
        // Each takes the place of the one before it, and its port.
        yield* session.passive();
        assert.equal(addressIn(client.text).port, port);
      }
      yield* session.active();
      assert.equal(addressIn(session.origin.text).port, port);
      yield* session.active();
      assert.equal(addressIn(session.origin.text).port, port);
      session.keep(connect(addressIn(session.origin.text), ORIGIN));
      yield* session.accepted(session.clientData);
      const occupied = boundSocket({ ip: '127.0.0.1', port }, false);
      libc.listen(occupied, 1);
      yield* session.passive();
      assert.match(client.text, /425 Can't open data connection\.\r\n$/);
      assert.ok(stage.said(`127.0.0.1:${port}: EADDRINUSE`), JSON.stringify(stage.logs));
      libc.close(occupied);
    });
  });

  test('nobody but the client is let in, and the client still is', () => {
    const session = new Session();
    const { stage, client } = session;
    session.play(function* () {
      yield* session.passive();
      const address = addressIn(client.text);
      const stranger = session.keep(connect(address, '127.0.0.9'));
      yield* stranger.over();
      assert.equal(stranger.state, 'ECONNRESET');
      assert.ok(stage.said('it has to come from 127.0.0.1'));
      const near = session.keep(connect(address));
      const far = yield* session.accepted(session.data);
      near.send('mine');
      yield* far.expect('mine');
      const second = session.keep(connect(address));
      yield* second.over();
      assert.equal(second.state, 'ECONNREFUSED');
    });
  });

  test('go to the origin, whichever address its 227 names', () => {
    const session = new Session();
    session.play(function* () {
      yield* session.passive('PASV', { ip: '10.1.2.3', port: session.data.address.port });
      const near = session.keep(connect(addressIn(session.client.text)));
      const far = yield* session.accepted(session.data);
      far.send('from the origin');
      yield* near.expect('from the origin');
    });
  });

  test('a port of the origin’s below 1024 is refused in its place', () => {
    const session = new Session();
    session.play(function* () {
      yield* session.passive('PASV', { ip: ORIGIN, port: 22 });
      assert.match(session.client.text, /\r\n425 .*\r\n$/);
      assert.equal(session.stage.connections.size, 1);
    });
  });

  test('where the origin can’t be connected to, the client’s connection is reset', () => {
    const session = new Session();
    session.play(function* () {
      yield* session.passive('PASV', { ip: ORIGIN, port: session.clientData.address.port });
      const near = session.keep(connect(addressIn(session.client.text)));
      yield* near.over();
      assert.equal(near.state, 'ECONNRESET');
      // Its name is not to be looked up anew for that.
      assert.equal(session.stage.unreachable, 0);
    });
  });
});

describe('active data connections', () => {
  test('come to us from the origin and go to the client', () => {
    const before = openDescriptors();
    // The origin's address need not be one that clients may come from.
    const session = new Session({ access: [{ allow: [{ ip: '127.0.0.1', prefix: 32 }], deny: [] }] });
    const { stage } = session;
    session.play(function* () {
      yield* session.active();
      const address = addressIn(session.origin.text);
      const far = session.keep(connect(address, ORIGIN));
      const near = yield* session.accepted(session.clientData);
      far.send('down');
      yield* near.expect('down');
      near.send('up');
      near.shutdown();
      yield* far.over();
      assert.equal(far.text, 'up');
      far.shutdown();
      yield* until('the data connection ends', () => stage.connections.size === 1);
      assert.equal(stage.counters.get('bytesFromClients'), 2);
      assert.equal(stage.counters.get('bytesToClients'), 4);
      session.client.reset();
      yield* stage.gone();
    });
    assert.ok(openDescriptors() <= before);
  });

  test('nobody but the origin is let in', () => {
    const session = new Session();
    session.play(function* () {
      yield* session.active();
      const address = addressIn(session.origin.text);
      const stranger = session.keep(connect(address, '127.0.0.1'));
      yield* stranger.over();
      assert.equal(stranger.state, 'ECONNRESET');
      const far = session.keep(connect(address, ORIGIN));
      const near = yield* session.accepted(session.clientData);
      far.send('mine');
      yield* near.expect('mine');
    });
  });

  test('an address that is not the client’s own, and a low port, get to nobody', () => {
    const session = new Session();
    const { client, origin, stage } = session;
    session.play(function* () {
      client.send('PORT 127,0,0,9,20,162\r\nEPRT |1|127.0.0.9|5282|\r\nPORT 127,0,0,1,0,25\r\nNOOP\r\n');
      yield* session.reads(session.origin, /^NOOP\r\n$/);
      yield* session.reads(client, /^220 hello\r\n(?:500 .*\r\n){3}$/);
    });
    assert.equal(origin, undefined);
    assert.equal(stage.counters.get('accepted'), 1);
  });
});

describe('a control connection', () => {
  test('that ends takes its listener along, and not a data connection that is under way', () => {
    const session = new Session();
    const { client, stage } = session;
    session.play(function* () {
      yield* session.passive();
      const near = session.keep(connect(addressIn(client.text)));
      const far = yield* session.accepted(session.data);
      far.send('be');
      yield* near.expect('be');
      yield* session.passive();
      const address = addressIn(client.text);
      session.origin.shutdown();
      client.shutdown();
      yield* until('the control connection ends', () => stage.connections.size === 1);
      const late = session.keep(connect(address));
      yield* late.over();
      assert.equal(late.state, 'ECONNREFUSED');
      far.send('hind');
      yield* near.expect('behind');
    });
  });

  test('a new data command replaces the listener of the one before', () => {
    const session = new Session();
    const { client } = session;
    session.play(function* () {
      yield* session.passive();
      const old = addressIn(client.text);
      yield* session.active();
      const late = session.keep(connect(old));
      yield* late.over();
      assert.equal(late.state, 'ECONNREFUSED');
    });
  });

  test('a listener to which nobody comes is closed, and the session goes on', (t) => {
    const clock = withClock(t);
    const session = new Session();
    const { client, stage } = session;
    session.play(function* () {
      yield* session.passive();
      clock.now += 31_000;
      yield* until('it is given up', () => stage.said('nobody connected within 30 s'));
      const late = session.keep(connect(addressIn(client.text)));
      yield* late.over();
      assert.equal(late.state, 'ECONNREFUSED');
      client.send('NOOP\r\n');
      yield* session.reads(session.origin, /NOOP\r\n$/);
    });
  });

  test('is not idle while a transfer is under way, and is from then on', (t) => {
    const clock = withClock(t);
    const session = new Session({ limits: { idle: 10_000 } });
    const { client, stage } = session;
    session.play(function* () {
      yield* session.passive();
      const near = session.keep(connect(addressIn(client.text)));
      const far = yield* session.accepted(session.data);
      for (let i = 0; i < 20; i++) {
        clock.now += 5000;
        far.send('.');
        yield* near.expect('.'.repeat(i + 1));
        yield* turns(3);
      }
      assert.equal(stage.connections.size, 2);
      far.shutdown();
      near.shutdown();
      yield* until('the data connection ends', () => stage.connections.size === 1);
      for (let i = 0; i < 5; i++) {
        clock.now += 5000;
        yield* turns(3);
      }
      assert.equal(stage.connections.size, 0);
      yield* client.over();
      assert.equal(client.state, 'end');
    });
  });

  test('commands whose replies never come hold later ones back for 10 s', (t) => {
    const clock = withClock(t);
    const session = new Session();
    session.play(function* () {
      session.client.send('ABOR\r\nPASV\r\nNOOP\r\n');
      yield* session.reads(session.origin, /^ABOR\r\n$/);
      clock.now += 9000;
      yield* turns();
      session.origin.read();
      assert.equal(session.origin.text, 'ABOR\r\n');
      clock.now += 2000;
      yield* session.reads(session.origin, /^ABOR\r\nPASV\r\n$/);
      clock.now += 11_000;
      yield* session.reads(session.origin, /^ABOR\r\nPASV\r\nNOOP\r\n$/);
    });
  });

  test('behind an accepted AUTH TLS all passes, in bulk too', () => {
    const session = new Session();
    const { client } = session;
    session.play(function* () {
      client.send('AUTH TLS\r\n');
      yield* session.reads(session.origin, /^AUTH TLS\r\n$/);
      session.origin.send('234 go on\r\n');
      yield* session.reads(client, /234 go on\r\n$/);
      const bulk = pattern(3_000_000);
      session.origin.send('227 (1,2,3,4,5,6)\r\n');
      session.origin.send(bulk);
      client.send('PORT 1,2,3,4,5,6\r\n');
      const size = '220 hello\r\n234 go on\r\n227 (1,2,3,4,5,6)\r\n'.length + bulk.length;
      yield* until('all of it', () => {
        session.origin.flush();
        client.read();
        return client.bytes >= size;
      });
      assert.ok(client.got.subarray(-bulk.length).equals(bulk));
      yield* session.reads(session.origin, /^AUTH TLS\r\nPORT 1,2,3,4,5,6\r\n$/);
      assert.ok(session.stage.loop.pipesTaken > 0);
    });
  });

  test('the bytes of an urgent ABOR pass all', () => {
    const session = new Session();
    const { client } = session;
    session.play(function* () {
      client.send('RETR a\r\n');
      yield* session.reads(session.origin, /^RETR a\r\n$/);
      libc.send(client.fd, Buffer.from('\xff\xf4\xff', 'latin1'), 3, MSG_OOB);
      client.send('\xf2ABOR\r\n');
      yield* session.reads(session.origin, /^RETR a\r\n\xff\xf4\xff\xf2ABOR\r\n$/);
    });
  });

  test('a client that does not read our replies is held back, and goes on when it does', () => {
    const session = new Session();
    const { client, stage } = session;
    const count = 300_000;
    session.play(function* () {
      client.send('PORT 1,2,3,4,5,6\r\n'.repeat(count));
      const { toClient } = stage.connection;
      yield* until('nothing more is answered', () => !toClient.drained);
      const waiting = toClient.moved;
      yield* turns(100);
      assert.equal(toClient.moved, waiting);
      yield* until('more is', () => {
        client.read();
        return toClient.moved > waiting + 500_000;
      });
    });
  });

  test('has 16 data connections at most', () => {
    const session = new Session();
    const { client, stage } = session;
    session.play(function* () {
      for (let i = 0; i < 16; i++) {
        yield* session.passive();
        session.keep(connect(addressIn(client.text)));
        yield* session.accepted(session.data);
      }
      yield* session.passive();
      assert.match(client.text, /425 Can't open data connection\.\r\n$/);
      assert.ok(stage.said('16 data connections are open'));
    });
  });

  test('has no data connection when the thread has all the connections that it may have', () => {
    const session = new Session();
    const { client, stage } = session;
    session.play(function* () {
      stage.thread.mostConnections = 2;
      yield* session.passive();
      session.keep(connect(addressIn(client.text)));
      yield* session.accepted(session.data);
      yield* session.passive();
      assert.match(client.text, /425 Can't open data connection\.\r\n$/);
      assert.ok(stage.said('2 connections are open: no data connection'));
    });
  });

  test('that ends while a data connection is being opened leaves nothing behind', () => {
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) {
      const session = new Session();
      session.play(function* () {
        yield* session.passive();
        session.keep(connect(addressIn(session.client.text))).shutdown();
        yield* turns(i % 5);
        session.client.shutdown();
        session.origin.shutdown();
        yield* turns(i % 3);
        session.data.tryAccept()?.close();
        yield* until('all ends', () => {
          session.data.tryAccept()?.close();
          return session.stage.connections.size === 0;
        });
        yield* turns(2);
      });
    }
    assert.ok(openDescriptors() - before < 5);
  });
});

describe('through an upstream', () => {
  /** A proxy's end of a connection that it was asked to make. */
  function* tunnel(stage: Stage, to: string, early = ''): Generator<void, Peer, void> {
    let proxy: Peer | null = null;
    yield* stage.upstreamPeer((peer) => {
      proxy = peer;
    });
    const peer = proxy as unknown as Peer;
    yield* until('it is asked', () => {
      peer.read();
      return peer.text.endsWith('\r\n\r\n');
    });
    assert.match(peer.text, new RegExp(`^CONNECT ${to} `));
    peer.send(`HTTP/1.1 200 OK\r\n\r\n${early}`);
    return peer;
  }

  test('passive data connections take the same upstream, and there are no active ones', () => {
    const upstreams = [upstreamOf(), upstreamOf({ port: 2 })];
    const elsewhere = new Door();
    const stage = new Stage({ ftp: FTP, upstreams, targets: [targetTo({ host: 'ftp.test', port: 21 })] });
    const client = stage.client();
    const peers: Peer[] = [client];
    stage.play(
      (function* () {
        // The greeting comes with the tunnel.
        const control = yield* tunnel(stage, 'ftp.test:21', '220 hello\r\n');
        peers.push(control);
        yield* client.expect('220 hello\r\n');
        // From here on, another connection would take the other upstream.
        stage.site.setAddresses(1, [elsewhere.address]);
        client.send('PORT 127,0,0,1,20,162\r\nPASV\r\n');
        yield* until('PASV', () => {
          control.read();
          return control.text.endsWith('PASV\r\n');
        });
        assert.doesNotMatch(control.text, /PORT/);
        control.send('227 Here (10,1,2,3,20,162)\r\n');
        yield* until('227', () => {
          client.read();
          return client.text.endsWith(').\r\n');
        });
        assert.match(client.text, /425 Can't open data connection\.\r\n227 /);
        const near = connect(addressIn(client.text));
        const far = yield* tunnel(stage, 'ftp.test:5282', 'data');
        peers.push(near, far);
        yield* near.expect('data');
        assert.equal(elsewhere.tryAccept(), null);
      })(),
    );
    for (const peer of peers) peer.close();
    elsewhere.close();
  });
});
