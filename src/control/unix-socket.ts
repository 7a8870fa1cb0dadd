import { type BigIntStats, closeSync, lstatSync, openSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { formatAddress, type UnixAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { tryLock } from '../sys/process.js';
import { boundUnixSocket, knock, startListening } from '../sys/socket.js';

/** How often another who opens a socket in the same directory is waited for, and how long each time, in ms. */
const MOST_WAITS = 100;
const WAIT = 20;

/** A listening unix socket. */
export interface UnixListener {
  readonly fd: number;
  /** null: its name is abstract, and goes with it. */
  readonly file: SocketFile | null;
}

/**
 * Listens on a unix address. A socket file that is left of a program that is no more gives way; a file that is anything
 * else never does. `mode`: the file's permissions; null: as the umask has them. `backlog`: see startListening.
 * @throws Failure with the address and what is wrong
 */
export const openUnixListener = (address: UnixAddress, mode: number | null = null, backlog?: number): UnixListener => {
  const isAbstract = address.path.startsWith('@');
  const lock = isAbstract ? null : lockDirectory(address);
  try {
    const fd = isAbstract ? boundUnixSocket(address) : bindFile(address, mode);
    // Under the lock: a socket that does not listen yet looks like one that was left behind.
    startListening(fd, address, backlog);
    return { fd, file: isAbstract ? null : new SocketFile(address.path) };
  } catch (error) {
    throw asFailure(error, address);
  } finally {
    if (lock !== null) closeSync(lock);
  }
};

/** The file of a listening socket of ours. */
export class SocketFile {
  readonly #path: string;
  readonly #id: string;

  /** The file that is there now. */
  constructor(path: string) {
    this.#path = path;
    this.#id = idOf(look(path));
  }

  /** Removes it, unless another has taken its place: null, or why it stays behind. */
  remove(): string | null {
    try {
      if (idOf(look(this.#path)) === this.#id) unlinkSync(this.#path);
      return null;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Somebody was faster.
      return code === 'ENOENT' ? null : `unlink ${this.#path}: ${code}: it stays behind, and the next start removes it`;
    }
  }
}

const look = (path: string): BigIntStats => lstatSync(path, { bigint: true });

/** A number of a file that is gone may be given to the next one, but hardly at the same time. */
const idOf = ({ dev, ino, birthtimeNs }: BigIntStats): string => `${dev} ${ino} ${birthtimeNs}`;

/**
 * Has nobody of us open another socket in the directory meanwhile, as two would who find the same file left behind: the
 * descriptor to close. null: the directory can't be read, and so not locked.
 */
const lockDirectory = (address: UnixAddress): number | null => {
  let fd: number;
  try {
    fd = openSync(dirname(address.path), 'r');
  } catch {
    // What is wrong with it bind(2) says, if anything is.
    return null;
  }
  for (let i = 0; i < MOST_WAITS; i++) {
    if (tryLock(fd) !== -E.AGAIN) return fd;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT);
  }
  closeSync(fd);
  const why = `another program holds the lock of ${dirname(address.path)}`;
  throw new Failure(`flock for ${formatAddress(address)}: ${why}`, EX.UNAVAILABLE);
};

const bindFile = (address: UnixAddress, mode: number | null): number => {
  try {
    return bindWithMode(address, mode);
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== E.ADDRINUSE) throw error;
    removeStale(address);
    return bindWithMode(address, mode);
  }
};

/** The file never has other permissions than these: bind(2) makes it with all that the umask leaves (unix(7)). */
const bindWithMode = (address: UnixAddress, mode: number | null): number => {
  if (mode === null) return boundUnixSocket(address);
  const before = process.umask(~mode & 0o777);
  try {
    return boundUnixSocket(address);
  } finally {
    process.umask(before);
  }
};

/**
 * Removes a socket file that nobody listens on.
 * @throws Failure when it is anything else, or might be
 */
const removeStale = (address: UnixAddress): void => {
  const refuse = (why: string, code: number): Failure =>
    new Failure(`bind ${formatAddress(address)}: EADDRINUSE (${why})`, code);
  const found = look(address.path);
  if (!found.isSocket()) throw refuse('there is a file that is no socket: it is not removed', EX.CANTCREAT);
  const outcome = knock(address);
  if (outcome === 0) throw refuse('another program listens there', EX.UNAVAILABLE);
  if (outcome === -E.PROTOTYPE) throw refuse('another program has a socket of another kind there', EX.UNAVAILABLE);
  if (outcome !== -E.CONNREFUSED) {
    throw refuse(
      `whether another program listens there can't be told: connect: ${errnoName(-outcome)}`,
      EX.UNAVAILABLE,
    );
  }
  if (found.uid !== 0n && found.uid !== BigInt(process.geteuid?.() ?? 0)) {
    throw refuse(`nobody listens there, but it is user #${found.uid}'s to remove`, EX.CANTCREAT);
  }
  if (idOf(look(address.path)) === idOf(found)) unlinkSync(address.path);
};

const asFailure = (error: unknown, address: UnixAddress): unknown => {
  if (error instanceof SystemError) {
    const { errno, message } = error;
    if (errno === E.ADDRINUSE) return new Failure(`${message} (another program listens there)`, EX.UNAVAILABLE);
    if (errno === E.NAMETOOLONG) return new Failure(`${message} (more than 107 bytes)`, EX.CONFIG);
    if (errno === E.NOENT) return new Failure(`${message} (there is no such directory)`, EX.CANTCREAT);
    const why = errno === E.ACCES ? ' (we may not make files in its directory)' : '';
    return new Failure(`${message}${why}`, errno === E.ACCES ? EX.NOPERM : EX.OSERR);
  }
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (error instanceof Failure || code === undefined) return error;
  return new Failure(`${syscall} ${formatAddress(address)}: ${code}`, EX.CANTCREAT);
};
