import { must } from './errno.js';
import * as libc from './libc.js';

const F_GETFL = 3;
const F_SETFL = 4;
const F_SETFD = 2;
const F_DUPFD_CLOEXEC = 1030;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0o4000;

export const closeFd = (fd: number): void => {
  libc.close(fd);
};

/** Prepares a descriptor that another program handed to us: non-blocking, and not handed on (fcntl(2)). */
export const adoptFd = (fd: number): void => {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  must(libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK) === -1 ? -libc.errno() : 0, 'fcntl', `fd ${fd}`);
  libc.fcntl(fd, F_SETFD, FD_CLOEXEC);
};

/** Puts a copy of `from` in the place of `to` (dup2(2)). */
export const replaceFd = (from: number, to: number): void => {
  must(libc.dup2(from, to) === -1 ? -libc.errno() : 0, 'dup2', `fd ${from}`);
};

/** Another descriptor for what `fd` stands for, above those of the standard streams (fcntl(2)). */
export const duplicateFd = (fd: number): number => {
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return must(copy === -1 ? -libc.errno() : copy, 'fcntl', `fd ${fd}`);
};

/** read(2) into `into`, of any kind of descriptor: the number of bytes, 0 at the end, or an errno negated. */
export const readFrom = (fd: number, into: Buffer): number => {
  const count = libc.read(fd, into, into.length);
  return count === -1 ? -libc.errno() : count;
};

/** write(2) of bytes `start` to `end` of `from`: the number of bytes taken, or an errno negated. Node ignores SIGPIPE. */
export const writeTo = (fd: number, from: Buffer, start: number, end: number): number => {
  const count = libc.write(fd, from.subarray(start, end), end - start);
  return count === -1 ? -libc.errno() : count;
};
