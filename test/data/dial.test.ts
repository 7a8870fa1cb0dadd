import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { Dial, type Dialer } from '../../src/data/dial.js';
import type { Endpoint } from '../../src/data/endpoint.js';
import { Loop } from '../../src/data/loop.js';
import type { Source } from '../../src/data/source.js';
import { E, SystemError } from '../../src/sys/errno.js';
import { localAddress, peerAddress } from '../../src/sys/socket.js';
import { Door, openDescriptors, Peer, play, refusing, type Script, Silent, turns, until } from './rig.js';

/** Waits for one connect. */
class Caller implements Dialer {
  endpoint: Endpoint | null = null;
  address: SocketAddress | null = null;
  error: SystemError | null = null;
  message = '';
  calls = 0;

  onConnected(endpoint: Endpoint, address: SocketAddress): void {
    this.calls++;
    this.endpoint = endpoint;
    this.address = address;
  }

  onUnreachable(error: SystemError, message: string): void {
    this.calls++;
    this.error = error;
    this.message = message;
  }

  *called(): Script {
    yield* until('the dialer is called', () => this.calls > 0);
    yield* turns();
    assert.equal(this.calls, 1);
  }
}

const withClock = (t: TestContext): { now: number } => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  return clock;
};

describe('Dial', () => {
  test('connects, and hands over a socket that can be written to', () => {
    const loop = new Loop(0);
    const door = new Door();
    const caller = new Caller();
    new Dial(loop, [door.address], 1000, caller);
    play(
      loop,
      (function* () {
        yield* caller.called();
        const peer = door.acceptNow();
        new Peer(caller.endpoint?.fd ?? -1).send('hello');
        yield* peer.expect('hello');
        assert.deepEqual(caller.address, door.address);
        assert.equal(caller.endpoint?.writable, true);
        peer.close();
        caller.endpoint?.close();
      })(),
    );
    door.close();
  });

  test('over IPv6 too', () => {
    const loop = new Loop(0);
    const door = new Door('::1');
    const caller = new Caller();
    new Dial(loop, [door.address], 1000, caller);
    play(loop, caller.called());
    assert.deepEqual(caller.address, door.address);
    door.close();
  });

  test('goes on to the next address when one refuses, and lets go of the first socket', () => {
    const loop = new Loop(0);
    const door = new Door();
    const before = openDescriptors();
    const caller = new Caller();
    new Dial(loop, [refusing(), refusing(), door.address], 1000, caller);
    play(
      loop,
      (function* () {
        yield* caller.called();
        assert.deepEqual(caller.address, door.address);
        assert.equal(openDescriptors(), before + 1);
        caller.endpoint?.close();
      })(),
    );
    door.close();
  });

  test('when every address refuses it says so, with each address and the errno by name', () => {
    const loop = new Loop(0);
    const last = refusing();
    const before = openDescriptors();
    const caller = new Caller();
    const first = refusing();
    new Dial(loop, [first, last], 1000, caller);
    assert.equal(caller.calls, 0, 'never from within the constructor');
    play(
      loop,
      (function* () {
        yield* caller.called();
        assert.equal(openDescriptors(), before);
      })(),
    );
    const failed = `connect 127.0.0.1:${last.port}: ECONNREFUSED`;
    assert.equal(caller.error?.message, failed);
    assert.equal(caller.message, `connect 127.0.0.1:${first.port}: ECONNREFUSED; ${failed}`);
  });

  test('an address that a connect fails for at once is no reason to call back from within the constructor', () => {
    const loop = new Loop(0);
    const caller = new Caller();
    const before = openDescriptors();
    // A TCP connect to a multicast address fails with ENETUNREACH before it begins.
    new Dial(loop, [{ ip: '224.0.0.1', port: 1 }], 1000, caller);
    assert.equal(caller.calls, 0);
    play(
      loop,
      (function* () {
        yield* caller.called();
        assert.equal(openDescriptors(), before);
      })(),
    );
    assert.match(caller.error?.message ?? '', /^connect 224\.0\.0\.1:1: E[A-Z]+$/);
  });

  test('an address that does not answer has its part of the time, and the next one gets the rest', (t) => {
    const clock = withClock(t);
    const loop = new Loop(0);
    const silent = new Silent();
    const door = new Door();
    const caller = new Caller();
    const dial = new Dial(loop, [silent.address, door.address], 10_000, caller);
    play(
      loop,
      (function* () {
        clock.now += 4900;
        yield* turns();
        assert.equal(caller.calls, 0);
        assert.deepEqual(dial.address, silent.address);
        clock.now += 300;
        yield* caller.called();
        assert.deepEqual(caller.address, door.address);
      })(),
    );
    silent.close();
    door.close();
  });

  test('when nobody answers in time it is ETIMEDOUT, and the socket is gone', (t) => {
    const clock = withClock(t);
    const loop = new Loop(0);
    const silent = new Silent();
    const before = openDescriptors();
    const caller = new Caller();
    new Dial(loop, [silent.address], 10_000, caller);
    play(
      loop,
      (function* () {
        clock.now += 9900;
        yield* turns();
        assert.equal(caller.calls, 0);
        clock.now += 300;
        yield* caller.called();
        assert.equal(openDescriptors(), before);
      })(),
    );
    assert.equal(caller.error?.message, `connect 127.0.0.1:${silent.address.port}: ETIMEDOUT`);
    silent.close();
  });

  test('after cancel() the dialer hears nothing and the socket is gone', (t) => {
    const clock = withClock(t);
    const silent = new Silent();
    for (const address of [silent.address, refusing()]) {
      const loop = new Loop(0);
      const before = openDescriptors();
      const caller = new Caller();
      const dial = new Dial(loop, [address], 1000, caller);
      dial.cancel();
      play(
        loop,
        (function* () {
          yield* turns();
          clock.now += 5000;
          yield* turns();
          assert.equal(openDescriptors(), before);
        })(),
      );
      assert.equal(caller.calls, 0);
    }
    silent.close();
  });

  test('a socket that epoll does not take is one more failed address, and is closed', () => {
    class Refusing extends Loop {
      override add(): void {
        throw new SystemError('epoll_ctl', E.NOMEM);
      }
    }
    const loop = new Refusing(0);
    const door = new Door();
    const before = openDescriptors();
    const caller = new Caller();
    new Dial(loop, [door.address], 1000, caller);
    play(
      loop,
      (function* () {
        yield* caller.called();
        assert.equal(openDescriptors(), before);
      })(),
    );
    assert.match(caller.error?.message ?? '', /ENOMEM/);
    door.close();
  });

  describe('from an address', () => {
    const from = (ip: string): Source => ({ ip, foreign: false, unlisted: false });

    test('the far end sees it', () => {
      const loop = new Loop(0);
      const door = new Door();
      const caller = new Caller();
      new Dial(loop, [door.address], 1000, caller, from('127.0.0.5'));
      play(loop, caller.called());
      const served = door.acceptNow();
      assert.equal(peerAddress(served.fd)?.ip, '127.0.0.5');
      for (const each of [door, served]) each.close();
      caller.endpoint?.close();
    });

    test('a connection is known as ours, unless it is not to be', () => {
      for (const unlisted of [false, true]) {
        const loop = new Loop(0);
        const door = new Door();
        const caller = new Caller();
        new Dial(loop, [door.address], 1000, caller, { ...from('127.0.0.5'), unlisted });
        play(loop, caller.called());
        const local = localAddress(caller.endpoint?.fd ?? -1) ?? assert.fail();
        assert.equal(
          loop.ownSockets.has(local, () => door.address),
          !unlisted,
        );
        caller.endpoint?.close();
        door.close();
      }
    });

    test('addresses of the other family are passed over', () => {
      const loop = new Loop(0);
      const [v6, v4] = [new Door('::1'), new Door()];
      const caller = new Caller();
      new Dial(loop, [v6.address, v4.address], 1000, caller, from('127.0.0.1'));
      play(loop, caller.called());
      assert.deepEqual(caller.address, v4.address);
      assert.equal(v6.tryAccept(), null);
      for (const each of [v6, v4]) each.close();
    });

    test('when all are of the other family it is EAFNOSUPPORT with both addresses', () => {
      const loop = new Loop(0);
      const caller = new Caller();
      const before = openDescriptors();
      new Dial(loop, [{ ip: '192.0.2.1', port: 80 }], 1000, caller, from('2001:db8::1'));
      assert.equal(caller.calls, 0);
      play(
        loop,
        (function* () {
          yield* caller.called();
          assert.equal(openDescriptors(), before);
        })(),
      );
      assert.equal(caller.error?.message, 'bind 2001:db8::1 for 192.0.2.1:80: EAFNOSUPPORT');
    });

    test('one that can not be had is an error with both addresses, and leaks nothing', () => {
      const loop = new Loop(0);
      const door = new Door();
      const caller = new Caller();
      const before = openDescriptors();
      new Dial(loop, [door.address], 1000, caller, from('192.0.2.9'));
      play(
        loop,
        (function* () {
          yield* caller.called();
          assert.equal(openDescriptors(), before);
        })(),
      );
      assert.equal(caller.error?.message, `bind 192.0.2.9 for 127.0.0.1:${door.address.port}: EADDRNOTAVAIL`);
      door.close();
    });

    test('a refused connect says where it came from', () => {
      const loop = new Loop(0);
      const nowhere = refusing();
      const caller = new Caller();
      new Dial(loop, [nowhere], 1000, caller, from('127.0.0.5'));
      play(loop, caller.called());
      assert.equal(caller.error?.message, `connect 127.0.0.1:${nowhere.port} from 127.0.0.5: ECONNREFUSED`);
    });
  });
});
