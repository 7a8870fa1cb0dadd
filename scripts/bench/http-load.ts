import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from '../../src/sys/epoll.js';
import { E, errnoName, must } from '../../src/sys/errno.js';
import * as libc from '../../src/sys/libc.js';
import { closeFd } from '../../src/sys/process.js';
import { connectTo, receive, tcpSocket, transmit } from '../../src/sys/socket.js';
import { answerLength, type HttpJob, LARGE, requestHead } from './http-work.js';
import type { Done } from './workload.js';

/**
 * The HTTP load generator: a process that runs one HttpJob for each message and answers with what was Done. Every answer
 * has to have status 200 and the length that was asked for; only whole exchanges count. Those that are under way at the
 * end of the job are finished, so the time is a little longer than asked for.
 */

/** recv(2) counts and drops the bytes without copying them (tcp(7)), so that reading costs next to nothing. */
const MSG_TRUNC = 0x20;
const MOST_AT_ONCE = 1024 * 1024;
/** What has not ended by then counts as failed, in milliseconds after the end of the job: small answers, large ones. */
const PATIENCE = 2000;
const LARGE_PATIENCE = 5000;

const content = Buffer.alloc(256 * 1024, 'x');
const scratch = Buffer.alloc(64 * 1024);
const END_OF_HEAD = Buffer.from('\r\n\r\n');

interface Client {
  readonly fd: number;
  readable: boolean;
  writable: boolean;
  /** Bytes of the request's head that were sent, and those of its content that were not yet. */
  sent: number;
  toSend: number;
  /** An answer's head that is not complete. */
  head: string;
  /** Bytes of the answer's content that have not come; -1 before its head is complete. */
  toReceive: number;
}

const run = (job: HttpJob): Done => {
  const { kind, to, seconds, connections } = job;
  const request = requestHead(job);
  const length = answerLength(kind);
  const upload = kind === 'upload' ? LARGE : 0;
  const isLarge = kind === 'download' || kind === 'upload';
  const unit = isLarge ? LARGE : 1;
  const patience = isLarge ? LARGE_PATIENCE : PATIENCE;
  const closes = kind !== 'keepalive';

  const epoll = new Epoll(256);
  const clients = new Map<number, Client>();
  const ready = new Set<Client>();
  const begin = performance.now();
  const end = begin + seconds * 1000;
  let now = begin;
  let work = 0;
  let failed = 0;
  let reason: string | null = null;

  const connect = (): void => {
    const fd = must(tcpSocket(false), 'socket');
    const connected = connectTo(fd, to);
    if (connected !== -E.INPROGRESS) must(connected, 'connect', to);
    epoll.add(fd, EPOLLIN | EPOLLOUT | EPOLLET);
    clients.set(fd, { fd, readable: false, writable: false, sent: 0, toSend: upload, head: '', toReceive: -1 });
  };
  const close = (client: Client): false => {
    ready.delete(client);
    clients.delete(client.fd);
    closeFd(client.fd);
    return false;
  };
  const fail = (client: Client, why: string): false => {
    failed++;
    reason ??= why;
    close(client);
    if (now < end) connect();
    return false;
  };
  /** The whole answer has come: on to the next request, or to the end of the connection. */
  const answered = (client: Client): boolean => {
    if (closes) return true;
    work += unit;
    if (now >= end) return close(client);
    client.sent = 0;
    client.toSend = upload;
    client.toReceive = -1;
    return true;
  };
  const ended = (client: Client): false => {
    if (!closes || client.toReceive !== 0) return fail(client, 'the connection was ended before its answer');
    work += unit;
    close(client);
    if (now < end) connect();
    return false;
  };
  const onAnswer = (client: Client, got: number): boolean => {
    let bodyAt = 0;
    if (client.toReceive < 0) {
      const known = client.head.length;
      const headEnd = known === 0 ? scratch.indexOf(END_OF_HEAD) : -1;
      const whole = headEnd >= 0 && headEnd < got;
      const text = client.head + scratch.toString('latin1', 0, whole ? headEnd + END_OF_HEAD.length : got);
      const textEnd = text.indexOf('\r\n\r\n');
      client.head = text;
      if (textEnd < 0) return true;
      client.head = '';
      if (!/^HTTP\/1\.[01] 200 /.test(text)) return fail(client, `answered with ${text.slice(0, text.indexOf('\r'))}`);
      const told = /\r\nContent-Length: *(\d+)\r\n/i.exec(text)?.[1];
      if (told !== String(length)) return fail(client, `the answer's length is ${told} instead of ${length}`);
      client.toReceive = length;
      bodyAt = textEnd + END_OF_HEAD.length - known;
    }
    client.toReceive -= got - bodyAt;
    if (client.toReceive < 0) return fail(client, 'more bytes came than the answer has');
    return client.toReceive > 0 || answered(client);
  };
  /** Takes a connection a call or two further; false when it waits for an event. */
  const advance = (client: Client): boolean => {
    const { fd } = client;
    let progress = false;
    if (client.writable && (client.sent < request.length || client.toSend > 0)) {
      const inHead = client.sent < request.length;
      const sent = inHead
        ? transmit(fd, request, client.sent, request.length)
        : transmit(fd, content, 0, Math.min(content.length, client.toSend));
      if (sent === -E.AGAIN) client.writable = false;
      else if (sent < 0) return fail(client, `send: ${errnoName(-sent)}`);
      else {
        progress = true;
        if (inHead) client.sent += sent;
        else client.toSend -= sent;
      }
    }
    if (client.readable) {
      const bulk = client.toReceive > 0;
      const want = bulk ? Math.min(client.toReceive, MOST_AT_ONCE) : scratch.length;
      const result = bulk ? libc.recv(fd, null, want, MSG_TRUNC) : receive(fd, scratch, want);
      const got = bulk && result === -1 ? -libc.errno() : result;
      if (got === -E.AGAIN) client.readable = false;
      else if (got < 0) return fail(client, `recv: ${errnoName(-got)}`);
      else if (got === 0) return ended(client);
      else {
        // A short read emptied the socket, unless its end stands behind the bytes, which then raises no event of its own.
        if (got < want && !bulk && !closes) client.readable = false;
        if (!onAnswer(client, got)) return false;
        progress = true;
      }
    }
    return progress;
  };

  for (let i = 0; i < connections; i++) connect();
  while (clients.size > 0 && now < end + patience) {
    const count = epoll.wait(ready.size > 0 ? 0 : 100);
    now = performance.now();
    for (let i = 0; i < count; i++) {
      const client = clients.get(epoll.fd(i));
      if (client === undefined) continue;
      if (epoll.bits(i) & ~EPOLLOUT) client.readable = true;
      if (epoll.bits(i) & EPOLLOUT) client.writable = true;
      ready.add(client);
    }
    for (const client of ready) if (!advance(client)) ready.delete(client);
  }
  const unfinished = clients.size;
  for (const client of clients.values()) closeFd(client.fd);
  epoll.close();
  if (unfinished > 0) reason ??= `no whole answer within ${patience / 1000} s`;
  return { work, seconds: (now - begin) / 1000, failed: failed + unfinished, reason };
};

process.on('message', (job: HttpJob) => {
  process.send?.(run(job));
});
process.on('disconnect', () => process.exit());
