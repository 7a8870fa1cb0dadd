import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from '../../src/sys/epoll.js';
import { E } from '../../src/sys/errno.js';
import * as libc from '../../src/sys/libc.js';
import { closeFd } from '../../src/sys/process.js';
import { accept, boundSocket, receive, startListening, transmit } from '../../src/sys/socket.js';
import { answerHead, answerLength, type HttpKind, LARGE } from './http-work.js';

/**
 * The upstream of all HTTP rows: http-target.js PORT, on every IPv4 address. It takes requests for URLs only, reads what
 * is uploaded to it, and answers itself.
 */
const address = { ip: '0.0.0.0', port: Number(process.argv[2]) };
const listener = boundSocket(address, false);
startListening(listener, address);
const epoll = new Epoll(256);
epoll.add(listener, EPOLLIN);

/** recv(2) counts and drops the bytes without copying them (tcp(7)). */
const MSG_TRUNC = 0x20;
const MOST_AT_ONCE = 1024 * 1024;
const END_OF_HEAD = '\r\n\r\n';
const LONGEST_HEAD = 16_384;

const content = Buffer.alloc(256 * 1024, 'x');
const scratch = Buffer.alloc(64 * 1024);

interface Connection {
  readonly fd: number;
  readable: boolean;
  writable: boolean;
  /** A request's head that is not complete. */
  head: string;
  /** Of what is uploaded, in bytes. */
  toReceive: number;
  /** Of the answer's content. */
  toSend: number;
  /** What is sent before the rest of the answer's content, and how much of it was. */
  out: Buffer | null;
  outAt: number;
  kind: HttpKind;
  closes: boolean;
}

const connections = new Map<number, Connection>();
const ready = new Set<Connection>();

/** The same few answers again and again: the head, and with it the content if it is small. */
const answers = new Map<string, Buffer>();

const answerFor = (status: string, length: number, close: boolean): Buffer => {
  const key = `${status} ${length} ${close}`;
  let answer = answers.get(key);
  if (answer === undefined) {
    answer = Buffer.concat([Buffer.from(answerHead(status, length, close)), content.subarray(0, smallPart(length))]);
    answers.set(key, answer);
  }
  return answer;
};

const smallPart = (length: number): number => (length <= 4096 ? length : 0);

const answer = (connection: Connection, status: string, length: number): void => {
  connection.out = answerFor(status, length, connection.closes);
  connection.outAt = 0;
  connection.toSend = length - smallPart(length);
};

const REQUEST = /^(?:GET|POST) http:\/\/[^/]+\/(keepalive|connection|download|upload) HTTP\/1\.([01])\r\n/;

const onHead = (connection: Connection, head: string): void => {
  const request = REQUEST.exec(head);
  const isUpload = request?.[1] === 'upload';
  const length = Number(/\r\nContent-Length: *(\d+)\r\n/i.exec(head)?.[1] ?? 0);
  if (request === null || length !== (isUpload ? LARGE : 0)) {
    // Not for a URL, or not the length that was sent.
    connection.closes = true;
    answer(connection, '400 Bad Request', 0);
    return;
  }
  connection.kind = request[1] as HttpKind;
  connection.closes =
    request[2] === '0' ? !/\r\nConnection: *keep-alive\r\n/i.test(head) : /\r\nConnection: *close\r\n/i.test(head);
  connection.toReceive = length;
  if (length === 0) answer(connection, '200 OK', answerLength(connection.kind));
};

const end = (connection: Connection): false => {
  ready.delete(connection);
  connections.delete(connection.fd);
  closeFd(connection.fd);
  return false;
};

/** Takes a connection one call further; false when there is nothing to do. */
const advance = (connection: Connection): boolean => {
  const { fd } = connection;
  if (connection.out !== null || connection.toSend > 0) {
    if (!connection.writable) return false;
    const { out } = connection;
    const sent =
      out === null
        ? transmit(fd, content, 0, Math.min(content.length, connection.toSend))
        : transmit(fd, out, connection.outAt, out.length);
    if (sent === -E.AGAIN) {
      connection.writable = false;
      return false;
    }
    if (sent < 0) return end(connection);
    if (out === null) connection.toSend -= sent;
    else {
      connection.outAt += sent;
      if (connection.outAt === out.length) connection.out = null;
    }
    return connection.out === null && connection.toSend === 0 && connection.closes ? end(connection) : true;
  }
  if (!connection.readable) return false;
  const { toReceive } = connection;
  const got =
    toReceive > 0
      ? Number(libc.recv(fd, null, Math.min(toReceive, MOST_AT_ONCE), MSG_TRUNC))
      : receive(fd, scratch, scratch.length);
  if (got === -E.AGAIN || (got === -1 && libc.errno() === E.AGAIN)) {
    connection.readable = false;
    return false;
  }
  if (got <= 0) return end(connection);
  if (toReceive > 0) {
    connection.toReceive -= got;
    if (connection.toReceive === 0) answer(connection, '200 OK', answerLength(connection.kind));
    return true;
  }
  const text = connection.head + scratch.toString('latin1', 0, got);
  const headEnd = text.indexOf(END_OF_HEAD);
  if (headEnd < 0) {
    connection.head = text;
    return text.length > LONGEST_HEAD ? end(connection) : true;
  }
  connection.head = '';
  onHead(connection, text.slice(0, headEnd + 2));
  // What came with the head is the beginning of what is uploaded.
  const rest = text.length - headEnd - END_OF_HEAD.length;
  if (rest > connection.toReceive) return end(connection);
  if (rest > 0) {
    connection.toReceive -= rest;
    if (connection.toReceive === 0) answer(connection, '200 OK', answerLength(connection.kind));
  }
  return true;
};

const acceptAll = (): void => {
  for (let fd = accept(listener); fd >= 0; fd = accept(listener)) {
    connections.set(fd, {
      fd,
      readable: false,
      writable: true,
      head: '',
      toReceive: 0,
      toSend: 0,
      out: null,
      outAt: 0,
      kind: 'keepalive',
      closes: false,
    });
    epoll.add(fd, EPOLLIN | EPOLLOUT | EPOLLET);
  }
};

for (;;) {
  const count = epoll.wait(ready.size > 0 ? 0 : 1000);
  for (let i = 0; i < count; i++) {
    const fd = epoll.fd(i);
    if (fd === listener) {
      acceptAll();
      continue;
    }
    const connection = connections.get(fd);
    if (connection === undefined) continue;
    if (epoll.bits(i) & ~EPOLLOUT) connection.readable = true;
    if (epoll.bits(i) & EPOLLOUT) connection.writable = true;
    ready.add(connection);
  }
  for (const connection of ready) if (!advance(connection)) ready.delete(connection);
}
