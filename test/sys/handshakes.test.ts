import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { E } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import {
  accept,
  boundSocket,
  connectTo,
  localAddress,
  pendingError,
  receive,
  startListening,
  stopHandshakes,
  tcpSocket,
  transmit,
} from '../../src/sys/socket.js';

const open = (ip: string): { fd: number; address: SocketAddress } => {
  const fd = boundSocket({ ip, port: 0 }, false);
  const address = localAddress(fd) as SocketAddress;
  startListening(fd, address);
  return { fd, address };
};

/** A socket whose connect has begun; on loopback it is connected by then, where it can be. */
const connecting = (address: SocketAddress): number => {
  const fd = tcpSocket(address.ip.includes(':'));
  assert.equal(connectTo(fd, address), -E.INPROGRESS);
  return fd;
};

for (const ip of ['127.0.0.1', '::1']) {
  test(`a listening socket at ${ip} whose handshakes are stopped keeps what waits, and refuses who comes`, (t) => {
    const { fd, address } = open(ip);
    const early = connecting(address);
    const bytes = Buffer.from('ping');
    transmit(early, bytes, 0, 4);
    stopHandshakes(fd);
    const late = connecting(address);
    t.after(() => [fd, early, late].forEach(closeFd));
    assert.equal(pendingError(late), constants.errno.ECONNREFUSED);

    const accepted = accept(fd);
    assert.ok(accepted >= 0);
    assert.equal(receive(accepted, bytes, 4), 4);
    transmit(accepted, bytes, 0, 4);
    assert.equal(receive(early, bytes, 4), 4);
    closeFd(accepted);
    assert.equal(accept(fd), -E.AGAIN);
  });
}
