import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SocketAddress } from '../../src/address.js';
import { E } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import {
  accept,
  allowHandshakes,
  boundSocket,
  connectTo,
  localAddress,
  peerAddress,
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
  describe(`a listening socket at ${ip} whose handshakes are stopped`, () => {
    test('keeps what waits to be accepted, with its bytes, and takes nobody else until they are allowed again', async (t) => {
      const { fd, address } = open(ip);
      const early = connecting(address);
      const bytes = Buffer.from('ping');
      transmit(early, bytes, 0, 4);
      stopHandshakes(fd);
      const late = connecting(address);
      t.after(() => [fd, early, late].forEach(closeFd));
      const accepted = accept(fd);
      assert.ok(accepted >= 0);
      assert.equal(receive(accepted, bytes, 4), 4);
      // What comes behind the handshake is no handshake.
      transmit(accepted, bytes, 0, 4);
      assert.equal(receive(early, bytes, 4), 4);
      closeFd(accepted);
      assert.equal(accept(fd), -E.AGAIN);
      assert.equal(peerAddress(late), null);

      allowHandshakes(fd);
      // Its client asks again after a second.
      for (let i = 0; i < 100 && peerAddress(late) === null; i++) await sleep(50);
      const other = accept(fd);
      assert.ok(other >= 0);
      closeFd(other);
    });
  });
}
