import { constants } from 'node:os';
import { formatAddress, type SocketAddress, type UnixAddress } from '../address.js';

/** errno numbers of this machine by name, e.g. `E.AGAIN`. Calls in this folder return them negated. */
const number = (name: keyof typeof constants.errno): number => constants.errno[name];

export const E = {
  PERM: number('EPERM'),
  NOENT: number('ENOENT'),
  INTR: number('EINTR'),
  AGAIN: number('EAGAIN'),
  NOMEM: number('ENOMEM'),
  ACCES: number('EACCES'),
  EXIST: number('EEXIST'),
  NFILE: number('ENFILE'),
  MFILE: number('EMFILE'),
  PIPE: number('EPIPE'),
  PROTO: number('EPROTO'),
  NAMETOOLONG: number('ENAMETOOLONG'),
  PROTOTYPE: number('EPROTOTYPE'),
  AFNOSUPPORT: number('EAFNOSUPPORT'),
  ADDRINUSE: number('EADDRINUSE'),
  ADDRNOTAVAIL: number('EADDRNOTAVAIL'),
  CONNABORTED: number('ECONNABORTED'),
  CONNRESET: number('ECONNRESET'),
  NOBUFS: number('ENOBUFS'),
  NOTCONN: number('ENOTCONN'),
  CONNREFUSED: number('ECONNREFUSED'),
  TIMEDOUT: number('ETIMEDOUT'),
  // Node has no name for it (asm-generic/errno.h).
  TOOMANYREFS: 109,
  INPROGRESS: number('EINPROGRESS'),
} as const;

const names = new Map(Object.entries(constants.errno).map(([name, n]) => [n, name]));
// Two names of one number on Linux: the one that the man pages use for sockets.
names.set(E.AGAIN, 'EAGAIN');

/** `ECONNREFUSED` for 111; `errno 4711` for a number without a name. */
export const errnoName = (errno: number): string => names.get(errno) ?? `errno ${errno}`;

/** A failed system call: its name, what it was tried on, and the errno by name. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly code: string;

  constructor(
    readonly syscall: string,
    readonly errno: number,
    target?: SocketAddress | UnixAddress | string,
  ) {
    const code = errnoName(errno);
    const on = target === undefined ? '' : ` ${typeof target === 'string' ? target : formatAddress(target)}`;
    super(`${syscall}${on}: ${code}`);
    this.code = code;
  }
}

/** Passes a call's result on, or throws what its negated errno says. */
export const must = (result: number, syscall: string, target?: SocketAddress | UnixAddress | string): number => {
  if (result < 0) throw new SystemError(syscall, -result, target);
  return result;
};
