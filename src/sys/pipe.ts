import * as libc from './libc.js';

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const F_SETPIPE_SZ = 1031;
/**
 * SPLICE_F_NONBLOCK: O_NONBLOCK on a socket does not cover the pipe (splice(2)).
 * SPLICE_F_MOVE is a no-op since Linux 2.6.21, and SPLICE_F_MORE on the last piece of a transfer holds it back for
 * 200 ms, as TCP_CORK does.
 */
const SPLICE_F_NONBLOCK = 0x02;

export interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

const ends = new Int32Array(2);

/**
 * A non-blocking pipe (pipe2(2)), grown to `size` bytes where that is allowed: an ordinary user has a limit for each
 * pipe (pipe-max-size) and for all (pipe-user-pages-soft, pipe(7)), and a pipe that stays small works as well.
 * Returns an errno negated when there is no descriptor left.
 */
export const createPipe = (size: number): Pipe | number => {
  if (libc.pipe2(ends, O_NONBLOCK | O_CLOEXEC) === -1) return -libc.errno();
  const pipe = { readEnd: ends[0] as number, writeEnd: ends[1] as number };
  libc.fcntl(pipe.writeEnd, F_SETPIPE_SZ, size);
  return pipe;
};

export const closePipe = (pipe: Pipe): void => {
  libc.close(pipe.readEnd);
  libc.close(pipe.writeEnd);
};

/** splice(2): moves up to `count` bytes between a socket and a pipe; 0 at the socket's end, or an errno negated. */
export const splice = (from: number, to: number, count: number): number => {
  const moved = libc.splice(from, null, to, null, count, SPLICE_F_NONBLOCK);
  return moved === -1 ? -libc.errno() : moved;
};
