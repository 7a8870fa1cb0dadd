import { E, must } from './errno.js';
import * as libc from './libc.js';
import { AF_UNIX } from './sockaddr.js';

/**
 * Messages between processes that carry descriptors: unix sockets of type SOCK_SEQPACKET (a message is whole or not
 * there), by a name of the abstract kind (nothing is left of it in the file system), and SCM_RIGHTS (unix(7)).
 */

const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** SCM_MAX_FD of include/net/scm.h. */
export const MOST_FDS = 253;

/** Bytes of one message. */
const MOST_BYTES = 64 * 1024;

/** Who waits to be accepted. */
const BACKLOG = 4;

const result = (value: number): number => (value === -1 ? -libc.errno() : value);

/** struct sockaddr_un with a zero where a path would begin. */
const abstractAddress = (name: string): Buffer => {
  const address = Buffer.from(`\0\0\0${name}`, 'latin1');
  address.writeUInt16LE(AF_UNIX, 0);
  return address;
};

const open = (name: string): number =>
  must(result(libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)), 'socket', `@${name}`);

/** @throws SystemError with the name */
export const listenAbstract = (name: string): number => {
  const fd = open(name);
  const address = abstractAddress(name);
  const bound = result(libc.bindSocket(fd, address, address.length));
  if (bound < 0) libc.close(fd);
  must(bound, 'bind', `@${name}`);
  must(result(libc.listen(fd, BACKLOG)), 'listen', `@${name}`);
  return fd;
};

/** @throws SystemError with the name, as ECONNREFUSED when nobody listens there */
export const connectAbstract = (name: string): number => {
  const fd = open(name);
  const address = abstractAddress(name);
  const connected = result(libc.connect(fd, address, address.length));
  if (connected < 0) libc.close(fd);
  must(connected, 'connect', `@${name}`);
  return fd;
};

export interface Credentials {
  /** 0 for a process that ours can't see. */
  readonly pid: number;
  readonly uid: number;
}

/** Who is at the other end: who connected, or else who began to listen (SO_PEERCRED, unix(7)). */
export const peerCredentials = (fd: number): Credentials => {
  const found = new Uint32Array(3);
  const length = new Uint32Array([found.byteLength]);
  must(result(libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, found, length)), 'getsockopt SO_PEERCRED', `fd ${fd}`);
  return { pid: found[0] as number, uid: found[1] as number };
};

/** A control message's header: its length as a size_t, level, type (cmsg(3)). */
const CONTROL_HEADER = 16;

/**
 * A struct msghdr for one piece of data and one control message. Every pointer and size_t is of 64 bits on the machines
 * that this program is for.
 */
const messageOf = (data: Buffer, control: Buffer): { header: Buffer; pieces: Buffer } => {
  const pieces = Buffer.alloc(16);
  pieces.writeBigUInt64LE(libc.addressOf(data), 0);
  pieces.writeBigUInt64LE(BigInt(data.length), 8);
  const header = Buffer.alloc(56);
  header.writeBigUInt64LE(libc.addressOf(pieces), 16);
  header.writeBigUInt64LE(1n, 24);
  if (control.length > 0) {
    header.writeBigUInt64LE(libc.addressOf(control), 32);
    header.writeBigUInt64LE(BigInt(control.length), 40);
  }
  return { header, pieces };
};

/** Sends `data` with copies of `fds`: 0, or an errno negated. At most MOST_BYTES and MOST_FDS. */
export const sendRights = (fd: number, data: Buffer, fds: readonly number[]): number => {
  const control = Buffer.alloc(fds.length === 0 ? 0 : CONTROL_HEADER + Math.ceil(fds.length / 2) * 8);
  if (fds.length > 0) {
    control.writeBigUInt64LE(BigInt(CONTROL_HEADER + 4 * fds.length), 0);
    control.writeInt32LE(SOL_SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [i, given] of fds.entries()) control.writeInt32LE(given, CONTROL_HEADER + 4 * i);
  }
  const message = messageOf(data, control);
  const sent = result(libc.sendmsg(fd, message.header, MSG_NOSIGNAL));
  // The call has read them through their addresses.
  void message.pieces;
  return Math.min(0, sent);
};

export interface WithRights {
  /** Empty when the other end has closed. */
  readonly data: Buffer;
  /** The caller's to close. */
  readonly fds: readonly number[];
}

/** Receives one message; an errno negated where there is none. */
export const receiveRights = (fd: number): WithRights | number => {
  const data = Buffer.alloc(MOST_BYTES);
  const control = Buffer.alloc(CONTROL_HEADER + 4 * (MOST_FDS + 1));
  const message = messageOf(data, control);
  const count = result(libc.recvmsg(fd, message.header, MSG_CMSG_CLOEXEC));
  void message.pieces;
  if (count === -E.CONNRESET) return { data: data.subarray(0, 0), fds: [] };
  if (count < 0) return count;
  const fds: number[] = [];
  // Zeros where there was no control message.
  const size = Number(control.readBigUInt64LE(0));
  for (let at = CONTROL_HEADER; at + 4 <= size; at += 4) fds.push(control.readInt32LE(at));
  return { data: data.subarray(0, count), fds };
};
