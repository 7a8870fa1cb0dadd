import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { type Closed, type Opened, type Opener, Opening, type Way } from '../../src/data/opening.js';
import { targetTo } from '../../src/plan.js';
import { basicAuthorization } from '../../src/protocol/connect.js';
import { peerAddress } from '../../src/sys/socket.js';
import {
  Door,
  openDescriptors,
  type Peer,
  refusing,
  type Script,
  type Settings,
  Silent,
  Stage,
  turns,
  until,
  upstreamOf,
} from './rig.js';
import { withClock } from './talk.js';

const END = { host: 'origin.test', port: 443 };
const CONNECT = 'CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n';

/** Waits for a way. */
class Caller implements Opener {
  opened: Opened | null = null;
  closed: Closed | null = null;
  calls = 0;

  onOpen(opened: Opened): void {
    this.calls++;
    this.opened = opened;
  }

  onClosed(closed: Closed): void {
    this.calls++;
    this.closed = closed;
  }

  *called(): Script {
    yield* until('the opener is called', () => this.calls > 0);
    yield* turns();
    assert.equal(this.calls, 1);
  }
}

/** Plays `script` with an opening by the upstreams at `addresses`. */
const opening = (
  settings: Settings,
  addresses: readonly (readonly SocketAddress[])[] | undefined,
  way: Partial<Way>,
  script: (caller: Caller, stage: Stage, opening: Opening) => Script,
): void => {
  const before = openDescriptors();
  const stage = new Stage({ mode: 'http', ...settings }, addresses);
  stage.play(
    (function* () {
      const caller = new Caller();
      const { members } = stage.site.pool;
      const made = new Opening(
        stage.site,
        { members, addresses: [], tunnel: null, preface: null, spare: false, ...way },
        caller,
      );
      assert.equal(caller.calls, 0);
      yield* script(caller, stage, made);
      caller.opened?.endpoint.close();
      yield;
    })(),
  );
  assert.equal(openDescriptors(), before);
};

function* accepted(door: Door): Generator<void, Peer, void> {
  let peer: Peer | null = null;
  yield* door.accepted((accepted) => {
    peer = accepted;
  });
  return (peer as Peer | null) ?? assert.fail();
}

const TWO = [upstreamOf({ host: 'one' }), upstreamOf({ host: 'two' })];

describe('an opening from an address', () => {
  test('passes an upstream of the other family over, and does not hold it against that', () => {
    const door = new Door();
    const v6 = { ip: '2001:db8::1', port: 1 };
    const stage = new Stage({ mode: 'http', upstreams: TWO }, [[v6], [door.address]]);
    stage.play(
      (function* () {
        const caller = new Caller();
        const { members } = stage.site.pool;
        const way: Way = { members, addresses: [], tunnel: null, preface: null, spare: false };
        new Opening(stage.site, way, caller, { ip: '127.0.0.5', foreign: false, unlisted: false });
        const peer = yield* accepted(door);
        yield* caller.called();
        assert.equal(caller.opened?.member, members[1]);
        assert.equal(peerAddress(peer.fd)?.ip, '127.0.0.5');
        assert.ok(stage.said('bind 127.0.0.5 for [2001:db8::1]:1: EAFNOSUPPORT'));
        assert.equal(members[0]?.isUp(stage.loop.now), true);
        caller.opened?.endpoint.close();
        peer.close();
      })(),
    );
    door.close();
  });

  test('marks an upstream that refuses, as from any other', () => {
    const stage = new Stage({ mode: 'http' }, [[refusing()]]);
    stage.play(
      (function* () {
        const caller = new Caller();
        const { members } = stage.site.pool;
        const way: Way = { members, addresses: [], tunnel: null, preface: null, spare: false };
        new Opening(stage.site, way, caller, { ip: '127.0.0.5', foreign: false, unlisted: false });
        yield* caller.called();
        assert.match(caller.closed?.message ?? '', / from 127\.0\.0\.5: ECONNREFUSED$/);
        assert.equal(members[0]?.isUp(stage.loop.now), false);
      })(),
    );
  });

  test('that is a client’s own tries the members of its family, and says nothing of the others', () => {
    const v6 = { ip: '2001:db8::1', port: 1 };
    const nowhere = refusing();
    const stage = new Stage({ mode: 'http', upstreams: TWO }, [[v6], [nowhere]]);
    stage.play(
      (function* () {
        const caller = new Caller();
        const way: Way = { members: stage.site.pool.members, addresses: [], tunnel: null, preface: null, spare: false };
        new Opening(stage.site, way, caller, { ip: '127.0.0.5', foreign: true, unlisted: true });
        yield* caller.called();
        assert.match(caller.closed?.message ?? '', /127\.0\.0\.[15]/);
        assert.doesNotMatch(caller.closed?.message ?? '', /2001:db8/);
        assert.deepEqual(stage.logs, []);
      })(),
    );
  });
});

describe('an opening', () => {
  test('to an upstream that is talked to itself is open when it is connected', () => {
    opening({}, undefined, {}, function* (caller, stage) {
      const peer = yield* accepted(stage.upstream);
      yield* caller.called();
      assert.equal(caller.opened?.member, stage.site.pool.members[0]);
      assert.deepEqual(caller.opened?.address, stage.upstream.address);
      assert.equal(caller.opened?.early.length, 0);
      peer.close();
    });
  });

  test('without upstreams goes straight to the addresses', () => {
    const door = new Door();
    opening({}, undefined, { members: [], addresses: [refusing(), door.address], tunnel: END }, function* (caller) {
      const peer = yield* accepted(door);
      yield* caller.called();
      assert.equal(caller.opened?.member, null);
      assert.deepEqual(caller.opened?.address, door.address);
      peer.read();
      assert.equal(peer.text, '');
      peer.close();
    });
    door.close();
  });

  test('takes the next upstream when one cannot be connected to, marks that one, and says so', () => {
    const door = new Door();
    const nowhere = refusing();
    opening({ upstreams: TWO }, [[nowhere], [door.address]], {}, function* (caller, stage) {
      const peer = yield* accepted(door);
      yield* caller.called();
      const [one, two] = stage.site.pool.members;
      assert.equal(caller.opened?.member, two);
      assert.equal(one?.isUp(stage.loop.now), false);
      assert.equal(two?.isUp(stage.loop.now), true);
      assert.equal(stage.unreachable, 1);
      assert.ok(stage.said(`connect 127.0.0.1:${nowhere.port}: ECONNREFUSED; trying the next upstream`));
      peer.close();
    });
    door.close();
  });

  test('is closed as unreachable when no upstream can be connected to, or none has an address', () => {
    for (const [addresses, message] of [
      [[[refusing()], [refusing(), refusing()]], /^(connect 127\.0\.0\.1:\d+: ECONNREFUSED(; |$)){3}$/],
      [[[], []], /^lookup: ENOENT$/],
    ] as const) {
      opening({ upstreams: TWO }, addresses, {}, function* (caller, stage) {
        yield* caller.called();
        assert.equal(caller.closed?.unreachable, true);
        assert.equal(caller.closed?.status, 502);
        assert.match(caller.closed?.message ?? '', message);
        assert.ok(stage.site.pool.members.every((member) => !member.isUp(stage.loop.now)));
        assert.equal(stage.unreachable, Math.max(1, addresses.flat().length));
      });
    }
  });

  test('says once that a member can’t be connected to, and once that it can be again', () => {
    const door = new Door();
    const nowhere = refusing();
    const targets = ['one', 'two'].map((host) => targetTo({ host, port: 1 }));
    const stage = new Stage({ targets, health: { threshold: 1, recovery: 0 } }, [[nowhere], [door.address]]);
    const { members } = stage.site.targets ?? assert.fail();
    const failure = `connect 127.0.0.1:${nowhere.port}: ECONNREFUSED; trying the next target`;
    function* open(): Script {
      const caller = new Caller();
      new Opening(stage.site, { members, addresses: [], tunnel: null, preface: null, spare: false }, caller);
      const peer = yield* accepted(door);
      yield* caller.called();
      caller.opened?.endpoint.close();
      peer.close();
    }
    stage.play(
      (function* () {
        for (let i = 0; i < 3; i++) yield* open();
        members[1]?.failed(stage.loop.now);
        yield* open();
      })(),
    );
    door.close();
    assert.deepEqual(stage.logs, [
      ['warn', `test: ${failure}`],
      ['debug', `test: ${failure}`],
      ['debug', `test: ${failure}`],
      ['debug', `test: ${failure}`],
      ['info', `test: 127.0.0.1:${door.address.port} can be connected to again`],
    ]);
  });

  test('gives each host the time of one connect over all of its addresses, and what one leaves to the next', (t) => {
    const clock = withClock(t);
    const silent = [new Silent(), new Silent(), new Silent()] as const;
    const [a, b, c] = silent.map(({ address }) => address);
    assert.ok(a && b && c);
    const addresses = [[refusing(), a, b], [c]];
    opening({ upstreams: TWO, limits: { connect: 3000 } }, addresses, {}, function* (caller) {
      // Two hosts have 6 s; the first address takes none of it, so that each of the others has 2 s.
      for (let i = 0; i < 3; i++) {
        yield* turns();
        clock.now += 1900;
        yield* turns();
        assert.equal(caller.calls, 0, `${i}`);
        clock.now += 100;
      }
      yield* caller.called();
      assert.equal(caller.closed?.status, 504);
    });
    for (const each of silent) each.close();
  });

  test('of a tunnel is open when the upstream has connected, with what its far end said already', () => {
    opening({}, undefined, { tunnel: END }, function* (caller, stage) {
      const peer = yield* accepted(stage.upstream);
      yield* peer.expect(CONNECT);
      for (const piece of 'HTTP/1.1 200 Connection established\r\nX: y\r\n\r') {
        peer.send(piece);
        yield* turns(2);
      }
      assert.equal(caller.calls, 0);
      peer.send('\nearly');
      yield* caller.called();
      assert.equal(caller.opened?.early.toString(), 'early');
      peer.close();
    });
  });

  test('of a tunnel gives the upstream its user and password', () => {
    const upstreams = [upstreamOf({ credentials: { user: 'u', password: 'p' } })];
    opening({ upstreams }, undefined, { tunnel: END }, function* (caller, stage, made) {
      const peer = yield* accepted(stage.upstream);
      const told = `Proxy-Authorization: ${basicAuthorization('u', 'p')}\r\n\r\n`;
      yield* peer.expect(CONNECT.replace(/\r\n$/, told));
      made.cancel();
      assert.equal(caller.calls, 0);
      peer.close();
    });
  });

  test('of a tunnel that is declined is closed, and no other upstream is asked', () => {
    const doors = [new Door(), new Door()];
    for (const [answer, status, message] of [
      ['HTTP/1.1 403 Forbidden\r\n\r\n', 403, / for origin\.test:443: .* 403\.$/],
      ['HTTP/1.1 407 No\r\n\r\n', 502, / 407: it wants a user and a password\.$/],
      ['SSH-2.0-x\r\n', 502, /status line/],
      [null, 502, /it ended the connection$/],
    ] as const) {
      opening(
        { upstreams: TWO },
        doors.map(({ address }) => [address]),
        { tunnel: END },
        function* (caller, stage) {
          const peer = yield* accepted(doors[0] ?? assert.fail());
          if (answer === null) peer.close();
          else peer.send(answer);
          yield* caller.called();
          assert.equal(caller.closed?.unreachable, false);
          assert.equal(caller.closed?.status, status);
          assert.match(caller.closed?.message ?? '', message);
          assert.equal(doors[1]?.tryAccept(), null);
          assert.equal(stage.site.pool.members[0]?.isUp(stage.loop.now), true);
          if (answer !== null) peer.close();
        },
      );
    }
    for (const door of doors) door.close();
  });

  test('of a tunnel through SOCKS 5 sends the name, and a password where there is one', () => {
    const request = `\x05\x01\x00\x03\x0borigin.test\x01\xbb`;
    for (const credentials of [null, { user: 'u', password: 'p' }]) {
      opening(
        { upstreams: [upstreamOf({ scheme: 'socks5', credentials })] },
        undefined,
        { tunnel: END },
        function* (caller, stage) {
          const peer = yield* accepted(stage.upstream);
          const hello = credentials === null ? '\x05\x01\x00' : '\x05\x02\x00\x02';
          yield* peer.expect(hello);
          let said = hello;
          if (credentials === null) peer.send('\x05\x00');
          else {
            peer.send('\x05\x02');
            said += '\x01\x01u\x01p';
            yield* peer.expect(said);
            peer.send('\x01\x00');
          }
          yield* peer.expect(said + request);
          peer.send('\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50early');
          yield* caller.called();
          assert.equal(caller.opened?.early.toString(), 'early');
          peer.close();
        },
      );
    }
  });

  test('of a tunnel to what the upstream cannot be told is closed, not thrown', () => {
    for (const [scheme, host] of [
      ['http', 'fe80::1%2'],
      ['http', 'a b'],
      ['socks5', 'x'.repeat(256)],
    ] as const) {
      const upstreams = [upstreamOf({ scheme })];
      opening({ upstreams }, undefined, { tunnel: { host, port: 1 } }, function* (caller, stage) {
        const peer = yield* accepted(stage.upstream);
        yield* caller.called();
        assert.equal(caller.closed?.unreachable, false);
        peer.close();
      });
    }
  });

  test('begins with the PROXY header, before anything else', () => {
    const preface = Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n');
    opening({}, undefined, { tunnel: END, preface }, function* (caller, stage, made) {
      const peer = yield* accepted(stage.upstream);
      yield* peer.expect(preface.toString() + CONNECT);
      made.cancel();
      yield* peer.over();
      assert.equal(caller.calls, 0);
      peer.close();
    });
    opening({}, undefined, { preface }, function* (caller, stage) {
      const peer = yield* accepted(stage.upstream);
      yield* peer.expect(preface.toString());
      yield* caller.called();
      peer.close();
    });
  });

  test('has a deadline for what is said with the upstream, which is its connect and a head', (t) => {
    const clock = withClock(t);
    opening({ limits: { connect: 3000, head: 4000 } }, undefined, { tunnel: END }, function* (caller, stage) {
      const peer = yield* accepted(stage.upstream);
      yield* peer.expect(CONNECT);
      clock.now += 6900;
      peer.send('HTTP/1.1 ');
      yield* turns();
      assert.equal(caller.calls, 0);
      clock.now += 300;
      yield* caller.called();
      assert.equal(caller.closed?.status, 504);
      assert.equal(caller.closed?.unreachable, false);
      yield* peer.over();
      peer.close();
    });
  });

  test('that is given up is heard of no more, at whatever point', () => {
    opening({}, undefined, { tunnel: END }, function* (caller, stage, made) {
      made.cancel();
      yield* turns();
      assert.equal(caller.calls, 0);
      stage.upstream.tryAccept()?.close();
    });
    opening({ upstreams: TWO }, [[], []], {}, function* (caller, _stage, made) {
      made.cancel();
      yield* turns();
      assert.equal(caller.calls, 0);
    });
    opening({}, undefined, { tunnel: END }, function* (caller, stage, made) {
      const peer = yield* accepted(stage.upstream);
      yield* peer.expect(CONNECT);
      peer.send('HTTP/1.1 200 OK\r\n\r\n');
      made.cancel();
      yield* turns();
      assert.equal(caller.calls, 0);
      peer.close();
    });
  });
});
