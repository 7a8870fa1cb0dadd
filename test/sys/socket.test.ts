import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { describe, test } from 'node:test';
import { EPOLLOUT, Epoll } from '../../src/sys/epoll.js';
import { E } from '../../src/sys/errno.js';
import * as libc from '../../src/sys/libc.js';
import { closePipe, createPipe } from '../../src/sys/pipe.js';
import { adoptFd, closeFd, duplicateFd, readFrom, replaceFd, writeTo } from '../../src/sys/process.js';
import {
  accept,
  bindSource,
  boundSocket,
  connectTo,
  inheritedKind,
  isLocal,
  isTransparent,
  localAddress,
  originalDestination,
  peerAddress,
  peerOfLast,
  pendingError,
  prepareListener,
  receive,
  resetOnClose,
  setTransparent,
  shutdownSend,
  socketPair,
  startListening,
  tcpSocket,
  tproxyDestination,
  transmit,
} from '../../src/sys/socket.js';
import { Door, openDescriptors, pair, refusing } from '../data/rig.js';

const F_GETFD = 1;
const F_GETFL = 3;
const O_NONBLOCK = 0o4000;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const AF_UNIX = 1;
const AF_INET = 2;

const option = (fd: number, level: number, name: number): number => {
  const value = new Int32Array(1);
  assert.equal(libc.getsockopt(fd, level, name, value, new Uint32Array([4])), 0);
  return value[0] as number;
};

const notRoot = process.getuid?.() === 0 ? false : 'IP_TRANSPARENT needs CAP_NET_ADMIN';

const scratch = Buffer.alloc(100);

/** Reads when there is something. */
const read = (fd: number): number | string => {
  for (let i = 0; i < 100_000; i++) {
    const count = receive(fd, scratch, scratch.length);
    if (count !== -E.AGAIN) return count > 0 ? scratch.toString('latin1', 0, count) : count;
  }
  return 'nothing';
};

describe('sockets', () => {
  test('are bound to the address of another host when they are transparent', { skip: notRoot }, () => {
    for (const ip of ['192.0.2.9', '2001:db8::9']) {
      assert.throws(() => boundSocket({ ip, port: 0 }, false), /^SystemError: bind .*: EADDRNOTAVAIL$/);
      const fd = boundSocket({ ip, port: 0 }, false, true);
      assert.equal(localAddress(fd)?.ip, ip);
      closeFd(fd);
    }
  });

  test('bind, listen, connect, accept: both ends know each other, over IPv4 and IPv6', () => {
    for (const ip of ['127.0.0.1', '::1']) {
      const door = new Door(ip);
      assert.equal(door.address.ip, ip);
      const client = door.connect();
      const server = door.acceptNow();
      assert.deepEqual(peerOfLast(), localAddress(client.fd));
      assert.deepEqual(peerAddress(server.fd), localAddress(client.fd));
      assert.deepEqual(localAddress(server.fd), door.address);
      assert.deepEqual(peerAddress(client.fd), door.address);
      assert.equal(accept(door.fd), -E.AGAIN);
      for (const { fd } of [client, server]) {
        assert.equal(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
        assert.equal(libc.fcntl(fd, F_GETFD, 0), 1, 'not handed on');
      }
      client.close();
      server.close();
      door.close();
    }
  });

  test('what is accepted has TCP_NODELAY and SO_KEEPALIVE from its listener, what connects has TCP_NODELAY', () => {
    const door = new Door();
    const client = door.connect();
    const server = door.acceptNow();
    assert.equal(option(server.fd, 6, 1), 1);
    assert.equal(option(server.fd, 1, 9), 1);
    assert.equal(option(client.fd, 6, 1), 1);
    for (const end of [door, client, server]) end.close();
  });

  test('a listener that was handed over hands the same on once it is prepared', () => {
    const fd = tcpSocket(false);
    assert.equal(option(fd, 6, 1), 0);
    prepareListener(fd);
    assert.equal(option(fd, 6, 1), 1);
    assert.equal(option(fd, 1, 9), 1);
    closeFd(fd);
  });

  test('an IPv6 listener on all addresses leaves IPv4 to its own', () => {
    const v6 = boundSocket({ ip: '::', port: 0 }, false);
    const port = localAddress(v6)?.port ?? 0;
    startListening(v6, { ip: '::', port });
    const v4 = boundSocket({ ip: '0.0.0.0', port }, false);
    startListening(v4, { ip: '0.0.0.0', port });
    closeFd(v4);
    closeFd(v6);
  });

  test('an address where another socket listens is EADDRINUSE with the address, and leaks nothing', () => {
    const door = new Door();
    const before = openDescriptors();
    assert.throws(() => boundSocket(door.address, false), {
      message: `bind 127.0.0.1:${door.address.port}: EADDRINUSE`,
    });
    assert.throws(() => boundSocket(door.address, true), { code: 'EADDRINUSE' }, 'the other one does not share');
    assert.equal(openDescriptors(), before);
    door.close();
  });

  test('sockets that share an address may all listen', () => {
    const first = boundSocket({ ip: '127.0.0.1', port: 0 }, true);
    const address = localAddress(first) ?? assert.fail();
    startListening(first, address);
    const second = boundSocket(address, true);
    startListening(second, address);
    closeFd(first);
    closeFd(second);
  });

  test('an address that is not ours is EADDRNOTAVAIL', () => {
    assert.throws(() => boundSocket({ ip: '192.0.2.1', port: 80 }, false), {
      message: 'bind 192.0.2.1:80: EADDRNOTAVAIL',
    });
  });

  test('a refused connect is under way first, and ECONNREFUSED then, once', () => {
    const epoll = new Epoll(1);
    const fd = tcpSocket(false);
    assert.equal(connectTo(fd, refusing()), -E.INPROGRESS);
    epoll.add(fd, EPOLLOUT);
    assert.equal(epoll.wait(5000), 1);
    assert.equal(pendingError(fd), 111);
    assert.equal(pendingError(fd), 0);
    closeFd(fd);
    epoll.close();
  });

  test('bytes go and come, and an empty socket is EAGAIN', () => {
    const [a, b] = pair();
    assert.equal(receive(a.fd, scratch, 10), -E.AGAIN);
    const text = Buffer.from('[hello]');
    assert.equal(transmit(b.fd, text, 0, 1), 1);
    assert.equal(transmit(b.fd, text, 1, 6), 5);
    assert.equal(read(a.fd), '[hello');
    a.close();
    b.close();
  });

  test('shutdownSend ends one direction only', () => {
    const [a, b] = pair();
    assert.equal(shutdownSend(a.fd), 0);
    assert.equal(read(b.fd), 0);
    transmit(b.fd, Buffer.from('still'), 0, 5);
    assert.equal(read(a.fd), 'still');
    assert.equal(transmit(a.fd, Buffer.from('x'), 0, 1), -E.PIPE, 'and the signal did not end the process');
    a.close();
    b.close();
  });

  test('a close after resetOnClose is ECONNRESET for the peer, one without it is the end', () => {
    for (const [reset, expected] of [
      [true, -E.CONNRESET],
      [false, 0],
    ] as const) {
      const [a, b] = pair();
      if (reset) resetOnClose(a.fd);
      a.close();
      assert.equal(read(b.fd), expected);
      b.close();
    }
  });

  test('a connection that was not redirected has no original destination', () => {
    // Where the machine has NAT rules there is an entry for every connection: its own local address.
    const [, server] = pair();
    const found = originalDestination(server.fd, false);
    if (found !== null) assert.deepEqual(found, localAddress(server.fd));
    assert.equal(originalDestination(server.fd, true), null, 'an IPv4 socket is no IPv6 one');
    server.close();
  });

  test('addresses of what has none are null', () => {
    const fd = tcpSocket(false);
    assert.equal(peerAddress(fd), null);
    const unix = libc.socket(AF_UNIX, SOCK_STREAM, 0);
    assert.equal(localAddress(unix), null);
    closeFd(fd);
    closeFd(unix);
  });
});

describe('a local address before a connect', () => {
  test('is what the other end sees, and its port is left to the connect', () => {
    for (const [ip, to] of [
      ['127.0.0.5', '127.0.0.1'],
      ['::1', '::1'],
    ] as const) {
      const door = new Door(to);
      const fd = tcpSocket(to.includes(':'));
      assert.equal(bindSource(fd, ip), 0);
      assert.deepEqual(localAddress(fd), { ip, port: 0 });
      assert.equal(connectTo(fd, door.address), -E.INPROGRESS);
      const served = door.acceptNow();
      assert.equal(peerAddress(served.fd)?.ip, ip);
      served.close();
      closeFd(fd);
      door.close();
    }
  });

  test('that is not of this host is EADDRNOTAVAIL', () => {
    const fd = tcpSocket(false);
    assert.equal(bindSource(fd, '192.0.2.1'), -E.ADDRNOTAVAIL);
    closeFd(fd);
  });

  test('isLocal tells addresses of this host from all others, and leaks nothing', () => {
    const before = openDescriptors();
    for (const ip of ['127.0.0.1', '127.9.9.9', '::1']) assert.equal(isLocal(ip), true, ip);
    for (const ip of ['192.0.2.1', '2001:db8::1']) assert.equal(isLocal(ip), false, ip);
    assert.equal(openDescriptors(), before);
  });
});

describe('transparent sockets', () => {
  const asRoot = { skip: process.getuid?.() !== 0 && 'needs root' };

  test('may be bound to addresses that are not of this host, over IPv4 and IPv6', asRoot, () => {
    for (const ip of ['192.0.2.1', '2001:db8::1']) {
      const fd = boundSocket({ ip, port: 0 }, false, true);
      assert.equal(isTransparent(fd), true);
      assert.equal(localAddress(fd)?.ip, ip);
      closeFd(fd);
      const source = tcpSocket(ip.includes(':'));
      assert.equal(isTransparent(source), false);
      assert.equal(setTransparent(source), 0);
      assert.equal(bindSource(source, ip), 0);
      assert.deepEqual(localAddress(source), { ip, port: 0 });
      closeFd(source);
    }
  });

  test('hand it on to what they accept', asRoot, () => {
    const fd = boundSocket({ ip: '127.0.0.1', port: 0 }, false, true);
    const address = localAddress(fd) ?? assert.fail();
    startListening(fd, address);
    const client = tcpSocket(false);
    connectTo(client, address);
    const served = accept(fd);
    assert.ok(served >= 0);
    assert.equal(isTransparent(served), true);
    for (const each of [fd, client, served]) closeFd(each);
  });

  test("a connection's own address is its original destination, unless it is the listening socket's", () => {
    const door = new Door();
    const client = door.connect();
    const server = door.acceptNow();
    const { port } = door.address;
    assert.equal(tproxyDestination(server.fd, port), null);
    assert.equal(tproxyDestination(server.fd, null), null);
    assert.deepEqual(tproxyDestination(server.fd, port + 1), door.address);
    for (const each of [door, client, server]) each.close();
  });
});

describe('inheritedKind', () => {
  test('tells listening and connected sockets and those of UDP from everything else', () => {
    const door = new Door();
    assert.equal(inheritedKind(door.fd), 'listening');
    const v6 = new Door('::1');
    assert.equal(inheritedKind(v6.fd), 'listening');
    const [a, b] = pair();
    assert.equal(inheritedKind(a.fd), 'connected');
    a.close();
    b.close();
    door.close();
    v6.close();

    const unconnected = tcpSocket(false);
    assert.equal(inheritedKind(unconnected), 'other');
    closeFd(unconnected);
    const datagrams = libc.socket(AF_INET, SOCK_DGRAM, 0);
    assert.equal(inheritedKind(datagrams), 'datagram');
    closeFd(datagrams);

    const pipe = createPipe(4096);
    assert.ok(typeof pipe !== 'number');
    assert.equal(inheritedKind(pipe.readEnd), 'other');
    closePipe(pipe);
    const file = openSync('/dev/null', 'r');
    assert.equal(inheritedKind(file), 'other');
    closeSync(file);
    assert.equal(inheritedKind(987_654), 'other');
  });

  test('tells unix sockets as well', () => {
    const name = Buffer.alloc(110);
    name.writeUInt16LE(AF_UNIX, 0);
    // An abstract name (unix(7)) leaves no file.
    const length = 3 + name.write(`tproxy-test-${process.pid}`, 3);
    const listener = libc.socket(AF_UNIX, SOCK_STREAM, 0);
    assert.equal(libc.bindSocket(listener, name, length), 0);
    assert.equal(inheritedKind(listener), 'other');
    assert.equal(libc.listen(listener, 1), 0);
    assert.equal(inheritedKind(listener), 'listening');
    const client = libc.socket(AF_UNIX, SOCK_STREAM, 0);
    assert.equal(libc.connect(client, name, length), 0);
    assert.equal(inheritedKind(client), 'connected');
    const served = accept(listener);
    assert.ok(served >= 0);
    assert.equal(peerOfLast(), null);
    for (const fd of [listener, client, served]) closeFd(fd);
  });
});

describe('descriptors of other programs', () => {
  test('adoptFd makes one non-blocking and keeps it from being handed on', () => {
    const fd = libc.socket(AF_INET, SOCK_STREAM, 0);
    assert.equal(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK, 0);
    adoptFd(fd);
    assert.equal(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    assert.equal(libc.fcntl(fd, F_GETFD, 0), 1);
    closeFd(fd);
    assert.throws(() => adoptFd(fd), { message: `fcntl fd ${fd}: EBADF` });
  });

  test('replaceFd puts one in the place of another', () => {
    const [a, b] = pair();
    const nothing = openSync('/dev/null', 'r+');
    replaceFd(nothing, a.fd);
    closeSync(nothing);
    assert.equal(read(b.fd), 0, 'the socket whose place it took is closed');
    assert.equal(inheritedKind(a.fd), 'other');
    a.close();
    b.close();
    assert.throws(() => replaceFd(987_654, 3), { message: 'dup2 fd 987654: EBADF' });
  });
});

describe('a socket pair', () => {
  test('is a connection with both ends here, which does not block and is not handed on', () => {
    const ends = socketPair();
    for (const end of ends) {
      assert.equal(libc.fcntl(end, F_GETFD, 0), 1);
      assert.equal(libc.fcntl(end, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
      assert.equal(inheritedKind(end), 'connected');
      assert.equal(peerAddress(end), null);
    }
    const [near, far] = ends;
    const bytes = Buffer.from('-hello-');
    assert.equal(writeTo(near, bytes, 1, 6), 5);
    assert.equal(readFrom(far, scratch), 5);
    assert.equal(scratch.toString('latin1', 0, 5), 'hello');
    assert.equal(readFrom(far, scratch), -E.AGAIN);
    closeFd(near);
    assert.equal(readFrom(far, scratch), 0);
    assert.equal(writeTo(far, bytes, 0, 1), -E.PIPE);
    closeFd(far);
  });
});

describe('a copy of a descriptor', () => {
  test('is above the standard streams, not handed on, and outlives the one that it was made of', () => {
    const [near, far] = socketPair();
    const copy = duplicateFd(near);
    assert.ok(copy > 2);
    assert.equal(libc.fcntl(copy, F_GETFD, 0), 1);
    closeFd(near);
    assert.equal(readFrom(far, scratch), -E.AGAIN);
    closeFd(copy);
    assert.equal(readFrom(far, scratch), 0);
    closeFd(far);
    assert.throws(() => duplicateFd(copy), { code: 'EBADF', message: `fcntl fd ${copy}: EBADF` });
  });
});
