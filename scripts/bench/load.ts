import type { SocketAddress } from '../../src/address.js';
import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from '../../src/sys/epoll.js';
import { E, must } from '../../src/sys/errno.js';
import * as libc from '../../src/sys/libc.js';
import { closeFd } from '../../src/sys/process.js';
import { connectTo, receive, tcpSocket, transmit } from '../../src/sys/socket.js';
import { type Done, type Job, KINDS, MESSAGE_SIZE } from './workload.js';

/** The load generator: a process that runs one Job for each message and answers with what was Done. */

/** recv(2) counts and drops the bytes without copying them (tcp(7)), so that reading costs next to nothing. */
const MSG_TRUNC = 0x20;
const MOST_AT_ONCE = 1024 * 1024;
/** What has not ended by then counts as failed, in milliseconds after the end of the job. */
const PATIENCE = 3000;

const open = (epoll: Epoll, to: SocketAddress): number => {
  const fd = must(tcpSocket(false), 'socket');
  const connected = connectTo(fd, to);
  if (connected !== -E.INPROGRESS) must(connected, 'connect', to);
  epoll.add(fd, EPOLLIN | EPOLLOUT | EPOLLET);
  return fd;
};

const bulk = ({ to, seconds, connections }: Job): Done => {
  const epoll = new Epoll(256);
  const begin = performance.now();
  const end = begin + seconds * 1000;
  const request = Buffer.from([KINDS.bulk]);
  const unsent = new Set<number>();
  const ready = new Set<number>();
  const all = new Set<number>();
  for (let i = 0; i < connections; i++) {
    const fd = open(epoll, to);
    all.add(fd);
    unsent.add(fd);
  }
  let work = 0;
  let failed = 0;
  let now = begin;
  for (; now < end && all.size > 0; now = performance.now()) {
    const count = epoll.wait(ready.size > 0 ? 0 : Math.ceil(end - now));
    for (let i = 0; i < count; i++) {
      const fd = epoll.fd(i);
      if (unsent.has(fd) && transmit(fd, request, 0, 1) === 1) unsent.delete(fd);
      ready.add(fd);
    }
    for (const fd of ready) {
      const got = libc.recv(fd, null, MOST_AT_ONCE, MSG_TRUNC);
      if (got > 0) {
        work += got;
      } else {
        ready.delete(fd);
        if (got === -1 && libc.errno() === E.AGAIN) continue;
        failed++;
        all.delete(fd);
        closeFd(fd);
      }
    }
  }
  for (const fd of all) closeFd(fd);
  epoll.close();
  return { work, seconds: (now - begin) / 1000, failed };
};

const short = ({ to, seconds, connections }: Job): Done => {
  const epoll = new Epoll(256);
  const begin = performance.now();
  const end = begin + seconds * 1000;
  const request = Buffer.alloc(MESSAGE_SIZE);
  request[0] = KINDS.short;
  const scratch = Buffer.alloc(4096);
  /** Bytes received, by connection; -1: the request has not been sent. */
  const received = new Map<number, number>();
  let work = 0;
  let failed = 0;
  let now = begin;

  const begun = (): void => {
    const fd = open(epoll, to);
    received.set(fd, transmit(fd, request, 0, MESSAGE_SIZE) === MESSAGE_SIZE ? 0 : -1);
  };
  const ended = (fd: number, whole: boolean): void => {
    closeFd(fd);
    received.delete(fd);
    if (whole) work++;
    else failed++;
    if (now < end) begun();
  };
  /** Takes a connection as far as it goes now: null, or once it has ended whether its whole reply came. */
  const advance = (fd: number): boolean | null => {
    let bytes = received.get(fd) as number;
    if (bytes === -1) {
      const sent = transmit(fd, request, 0, MESSAGE_SIZE);
      if (sent === -E.AGAIN) return null;
      if (sent !== MESSAGE_SIZE) return false;
      bytes = 0;
    }
    let got = receive(fd, scratch, scratch.length);
    for (; got > 0; got = receive(fd, scratch, scratch.length)) bytes += got;
    received.set(fd, bytes);
    return got === -E.AGAIN ? null : got === 0 && bytes === MESSAGE_SIZE;
  };

  for (let i = 0; i < connections; i++) begun();
  while (received.size > 0 && now < end + PATIENCE) {
    const count = epoll.wait(100);
    now = performance.now();
    for (let i = 0; i < count; i++) {
      const whole = advance(epoll.fd(i));
      if (whole !== null) ended(epoll.fd(i), whole);
    }
  }
  for (const fd of received.keys()) closeFd(fd);
  epoll.close();
  return {
    work,
    seconds: (now - begin) / 1000,
    failed: failed + received.size,
  };
};

process.on('message', (job: Job) => {
  process.send?.(job.kind === 'bulk' ? bulk(job) : short(job));
});
process.on('disconnect', () => process.exit());
