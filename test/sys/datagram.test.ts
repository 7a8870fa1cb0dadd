import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { askedOf, clientOf, Datagrams, datagrams, KEY_WORDS, writeAsked } from '../../src/sys/datagram.js';
import { E, errnoName } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import { localAddress, transmit } from '../../src/sys/socket.js';
import {
  boundUdpSocket,
  connectUdp,
  tellLocalAddress,
  tellOriginalDestination,
  udpSocket,
} from '../../src/sys/udp-socket.js';

const LOOPBACKS = [
  { ip: '127.0.0.1', any: '0.0.0.0' },
  { ip: '::1', any: '::' },
];

/** A bound socket, and one that is connected to it by `ip`. */
const ends = (t: TestContext, ip: string, bound = ip): { server: number; client: number; at: SocketAddress } => {
  const server = boundUdpSocket({ ip: bound, port: 0 }, false, false);
  const at = { ip, port: localAddress(server)?.port ?? 0 };
  const client = udpSocket(ip.includes(':'));
  assert.equal(connectUdp(client, at), 0);
  t.after(() => {
    closeFd(server);
    closeFd(client);
  });
  return { server, client, at };
};

const say = (fd: number, ...texts: string[]): void => {
  for (const text of texts) assert.equal(transmit(fd, Buffer.from(text), 0, text.length), text.length);
};

const texts = (batch: Datagrams, count: number): string[] =>
  Array.from({ length: count }, (_, slot) => batch.payload(slot).toString());

describe('Datagrams', () => {
  for (const { ip, any } of LOOPBACKS) {
    test(`a batch comes in as it was sent, with its clients, over ${ip}`, (t) => {
      const { server, client } = ends(t, ip);
      const batch = datagrams();
      assert.equal(batch.receive(server), -E.AGAIN);
      say(client, 'one', '', 'three');
      assert.equal(batch.receive(server), 3);
      assert.deepEqual(texts(batch, 3), ['one', '', 'three']);
      const key = new Int32Array(KEY_WORDS);
      for (const slot of [0, 1, 2]) {
        batch.readKey(slot, 'none', key);
        assert.deepEqual(clientOf(key), localAddress(client));
      }
    });

    test(`answers go to the client of the key, from the address that it asked, over ${ip}`, (t) => {
      // Another address of loopback than the route would take, where the family has one.
      const asked = ip === '::1' ? ip : '127.0.0.77';
      const { server, client, at } = ends(t, asked, any);
      assert.equal(tellLocalAddress(server, ip === '::1'), 0);
      const batch = datagrams();
      say(client, 'question');
      assert.equal(batch.receive(server), 1);
      const key = new Int32Array(KEY_WORDS);
      writeAsked({ ip: any, port: at.port }, key);
      batch.readKey(0, 'local', key);
      assert.deepEqual(askedOf(key), at);
      batch.addressToClient(0, 1, key, true);
      assert.equal(batch.send(server, 0, 1), 1);
      // The client's socket is connected: it takes what comes from there, and nothing else.
      assert.equal(batch.receive(client), 1);
      assert.deepEqual(texts(batch, 1), ['question']);
    });

    test(`each datagram to a target has the preface before it, over ${ip}`, (t) => {
      const { server, client } = ends(t, ip);
      const target = ends(t, ip);
      const batch = datagrams();
      say(client, 'a', '', 'c', 'd');
      assert.equal(batch.receive(server), 4);
      batch.addressToTarget(1, 4, Buffer.from('PRE-'));
      assert.equal(batch.send(target.client, 1, 4), 3);
      assert.equal(batch.receive(target.server), 3);
      assert.deepEqual(texts(batch, 3), ['PRE-', 'PRE-c', 'PRE-d']);
      batch.addressToTarget(2, 3, null);
      assert.equal(batch.send(target.client, 2, 3), 1);
      assert.equal(batch.receive(target.server), 1);
      assert.deepEqual(texts(batch, 1), ['PRE-d']);
    });

    test(`without TPROXY the original destination is the address that was asked, over ${ip}`, (t) => {
      const { server, client, at } = ends(t, ip, any);
      assert.equal(tellOriginalDestination(server, ip === '::1'), 0);
      const batch = datagrams();
      say(client, 'x');
      assert.equal(batch.receive(server), 1);
      const key = new Int32Array(KEY_WORDS);
      batch.readKey(0, 'original', key);
      assert.deepEqual(askedOf(key), at);
    });
  }

  test('a key that was used before for the other family has nothing left of it', (t) => {
    const batch = datagrams();
    const key = new Int32Array(KEY_WORDS).fill(-1);
    const fresh = new Int32Array(KEY_WORDS);
    const { server, client, at } = ends(t, '127.0.0.1', '0.0.0.0');
    tellLocalAddress(server, false);
    for (const one of [key, fresh]) writeAsked(at, one);
    say(client, 'x');
    assert.equal(batch.receive(server), 1);
    for (const one of [key, fresh]) batch.readKey(0, 'local', one);
    assert.deepEqual(key, fresh);
  });

  test('what the kernel does not tell is no address, and never that of the datagram before', (t) => {
    const { server, client, at } = ends(t, '127.0.0.1', '0.0.0.0');
    const batch = datagrams();
    const key = new Int32Array(KEY_WORDS);
    writeAsked(at, key);
    say(client, 'x');
    assert.equal(batch.receive(server), 1);
    batch.readKey(0, 'local', key);
    assert.deepEqual(askedOf(key), { ip: '0.0.0.0', port: at.port });
  });

  test('every address and port that was asked comes back from a key', () => {
    const key = new Int32Array(KEY_WORDS);
    for (const address of [
      { ip: '192.0.2.1', port: 53 },
      { ip: '255.255.255.255', port: 65_535 },
      { ip: '2001:db8::7', port: 1 },
      { ip: 'fe80::1%3', port: 32_768 },
    ]) {
      key[0] = address.ip.includes(':') ? 10 : 2;
      writeAsked(address, key);
      assert.deepEqual(askedOf(key), address);
    }
  });

  test('more than a batch waits for the next call', (t) => {
    const { server, client } = ends(t, '127.0.0.1');
    const batch = new Datagrams(4, 100);
    say(client, ...'abcdef');
    assert.equal(batch.receive(server), 4);
    assert.deepEqual(texts(batch, 4), [...'abcd']);
    assert.equal(batch.receive(server), 2);
    assert.deepEqual(texts(batch, 2), ['e', 'f']);
  });

  test('a datagram that is longer than its room says so, and the next one is whole', (t) => {
    const { server, client } = ends(t, '127.0.0.1');
    const batch = new Datagrams(4, 8);
    say(client, '12345678', '123456789', '1');
    assert.equal(batch.receive(server), 3);
    assert.deepEqual(
      [0, 1, 2].map((slot) => batch.isTruncated(slot)),
      [false, true, false],
    );
    assert.deepEqual(texts(batch, 3), ['12345678', '12345678', '1']);
  });

  test('the longest datagram of IPv4 passes whole', (t) => {
    const { server, client } = ends(t, '127.0.0.1');
    const batch = datagrams();
    const longest = Buffer.alloc(65_507, 'long');
    assert.equal(transmit(client, longest, 0, longest.length), longest.length);
    assert.equal(batch.receive(server), 1);
    assert.equal(batch.isTruncated(0), false);
    assert.ok(batch.payload(0).equals(longest));
  });

  test('that nobody listens is told by the next call, once', (t) => {
    const { client, server } = ends(t, '127.0.0.1');
    const nobody = boundUdpSocket({ ip: '127.0.0.1', port: 0 }, false, false);
    const at = localAddress(nobody) as SocketAddress;
    closeFd(nobody);
    const fd = udpSocket(false);
    t.after(() => closeFd(fd));
    connectUdp(fd, at);
    const batch = datagrams();
    say(client, 'x');
    assert.equal(batch.receive(server), 1);
    batch.addressToTarget(0, 1, null);
    assert.equal(batch.send(fd, 0, 1), 1);
    assert.equal(errnoName(-batch.send(fd, 0, 1)), 'ECONNREFUSED');
    assert.equal(batch.send(fd, 0, 1), 1);
  });
});

describe('udp sockets', () => {
  test('two that share an address are bound to it, and one that does not share is not', (t) => {
    const one = boundUdpSocket({ ip: '127.0.0.1', port: 0 }, true, false);
    const at = localAddress(one) as SocketAddress;
    const two = boundUdpSocket(at, true, false);
    t.after(() => {
      closeFd(one);
      closeFd(two);
    });
    assert.throws(() => boundUdpSocket(at, false, false), { code: 'EADDRINUSE' });
  });

  test('an IPv6 one leaves IPv4 to another', (t) => {
    const v6 = boundUdpSocket({ ip: '::', port: 0 }, false, false);
    const v4 = boundUdpSocket({ ip: '0.0.0.0', port: localAddress(v6)?.port ?? 0 }, false, false);
    t.after(() => {
      closeFd(v6);
      closeFd(v4);
    });
    assert.notEqual(v4, v6);
  });
});
