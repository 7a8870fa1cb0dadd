import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from '../../src/sys/epoll.js';
import { E } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import { accept, boundSocket, receive, startListening, transmit } from '../../src/sys/socket.js';
import { KINDS, MESSAGE_SIZE } from './workload.js';

/**
 * The server that relays are pointed at: target.js PORT, on 127.0.0.1. See workload.ts for what it does.
 * It ends with the process that started it.
 */
const parent = process.ppid;
const address = { ip: '127.0.0.1', port: Number(process.argv[2]) };
const listener = boundSocket(address, false);
startListening(listener, address);
const epoll = new Epoll(256);
epoll.add(listener, EPOLLIN);

const bulk = Buffer.alloc(256 * 1024, 'x');
const reply = Buffer.alloc(MESSAGE_SIZE, 'r');
const scratch = Buffer.alloc(4096);
/** Bulk connections, and whether each takes bytes at the moment. */
const sending = new Map<number, boolean>();

const end = (fd: number): void => {
  sending.delete(fd);
  closeFd(fd);
};

const onRequest = (fd: number): void => {
  const got = receive(fd, scratch, scratch.length);
  if (got === -E.AGAIN) return;
  if (got > 0 && scratch[0] === KINDS.bulk) {
    sending.set(fd, true);
    return;
  }
  if (got > 0) transmit(fd, reply, 0, reply.length);
  end(fd);
};

while (process.ppid === parent) {
  const busy = [...sending.values()].includes(true);
  const count = epoll.wait(busy ? 0 : 1000);
  for (let i = 0; i < count; i++) {
    const fd = epoll.fd(i);
    if (fd === listener) {
      for (let client = accept(fd); client >= 0; client = accept(fd)) epoll.add(client, EPOLLIN | EPOLLOUT | EPOLLET);
    } else if (sending.has(fd)) {
      sending.set(fd, true);
    } else if (epoll.bits(i) & ~EPOLLOUT) {
      onRequest(fd);
    }
  }
  for (const [fd, ready] of sending) {
    if (!ready) continue;
    const sent = transmit(fd, bulk, 0, bulk.length);
    if (sent === -E.AGAIN) sending.set(fd, false);
    else if (sent < 0) end(fd);
  }
}
