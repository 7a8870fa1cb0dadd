import { EPOLLET, EPOLLIN, EPOLLOUT } from '../sys/epoll.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { readFrom, writeTo } from '../sys/process.js';
import { shutdownSend, socketPair } from '../sys/socket.js';
import type { Loop, Runnable } from './loop.js';

/** What a pipe holds unless it was grown (pipe(7)). */
const BUFFER_SIZE = 64 * 1024;

/** Bytes that one direction moves in one turn, before the others have theirs. */
const SHARE = 1024 * 1024;

/** What went wrong with stdin or stdout, and the errno's name. */
export interface Fault {
  readonly what: string;
  readonly code: string;
}

/**
 * stdin and stdout as one client, for a connection that wants both in one socket: what is read from `input` comes out
 * of `near`, and what is sent into it is written to `output`. Ends pass on each way for itself. When an error ends
 * one way, it ends both, and `near` sees its peer leave.
 */
export class StdioBridge {
  /** A connected socket, whoever serves it closes it. */
  readonly near: number;
  fault: Fault | null = null;
  readonly #loop: Loop;
  readonly #far: number;
  readonly #output: number;
  readonly #onOver: () => void;
  readonly #in: Direction;
  readonly #out: Direction;
  #over = false;

  /**
   * `input` and `output` are descriptors whose calls don't wait, or of files, which epoll refuses and which are always
   * ready. `output` is the bridge's, and closed at its end; `onOver` is called then.
   */
  constructor(loop: Loop, input: number, output: number, onOver: () => void) {
    const [near, far] = socketPair();
    this.near = near;
    this.#loop = loop;
    this.#far = far;
    this.#output = output;
    this.#onOver = onOver;
    this.#in = new Direction(loop, input, far, {
      onEnd: () => shutdownSend(far),
      onReadError: (errno) => this.#fail('read standard input', errno),
      // The connection has ended, and nobody is there for what stdin still has to say.
      onWriteError: () => {},
    });
    this.#out = new Direction(loop, far, output, {
      onEnd: () => this.#end(),
      // ECONNRESET: `near` was closed with bytes of ours unread. It comes behind all bytes of theirs.
      onReadError: () => this.#end(),
      onWriteError: (errno) => this.#fail('write standard output', errno),
    });
    loop.add(far, EPOLLIN | EPOLLOUT | EPOLLET, {
      onEvents: () => {
        this.#out.onReadable();
        this.#in.onWritable();
      },
    });
    if (!watch(loop, input, EPOLLIN, () => this.#in.onReadable())) this.#in.fromFile();
    if (!watch(loop, output, EPOLLOUT, () => this.#out.onWritable())) this.#out.toFile();
  }

  #end(): void {
    this.#over = true;
    this.#loop.close(this.#output);
    this.#onOver();
  }

  #fail(what: string, errno: number): void {
    this.fault = { what, code: errnoName(errno) };
    this.#in.stop();
    this.#out.stop();
    this.#loop.close(this.#far);
    if (!this.#over) this.#end();
  }
}

/** False for what epoll_ctl(2) has no events for: files, and devices that never wait (EPERM). */
const watch = (loop: Loop, fd: number, events: number, onEvents: () => void): boolean => {
  try {
    loop.add(fd, events | EPOLLET, { onEvents });
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.errno === E.PERM) return false;
    throw error;
  }
};

/** What follows from how a direction ends; one of them is called, once. */
interface Follower {
  onEnd(): void;
  onReadError(errno: number): void;
  onWriteError(errno: number): void;
}

/** Moves bytes from one descriptor to another, of whatever kind they are: read(2) and write(2), through a buffer. */
class Direction implements Runnable {
  readonly #loop: Loop;
  readonly #from: number;
  readonly #to: number;
  readonly #follower: Follower;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE);
  #start = 0;
  #end = 0;
  /** Set by events and cleared by the call that found nothing: the edges are epoll's. */
  #readable = false;
  #writable = false;
  #over = false;

  constructor(loop: Loop, from: number, to: number, follower: Follower) {
    this.#loop = loop;
    this.#from = from;
    this.#to = to;
    this.#follower = follower;
  }

  onReadable(): void {
    this.#readable = true;
    this.run();
  }

  onWritable(): void {
    this.#writable = true;
    this.run();
  }

  fromFile(): void {
    this.#readable = true;
    this.#loop.again(this);
  }

  toFile(): void {
    this.#writable = true;
  }

  stop(): void {
    this.#over = true;
  }

  run(): void {
    for (let share = SHARE; share > 0; ) {
      if (this.#over) return;
      if (this.#start < this.#end) {
        if (!this.#writable) return;
        const count = writeTo(this.#to, this.#buffer, this.#start, this.#end);
        if (count === -E.AGAIN) this.#writable = false;
        else if (count < 0) this.#finish(() => this.#follower.onWriteError(-count));
        else {
          this.#start += count;
          share -= count;
        }
        continue;
      }
      if (!this.#readable) return;
      const count = readFrom(this.#from, this.#buffer);
      this.#start = 0;
      this.#end = Math.max(0, count);
      if (count === -E.AGAIN) this.#readable = false;
      else if (count < 0) this.#finish(() => this.#follower.onReadError(-count));
      else if (count === 0) this.#finish(() => this.#follower.onEnd());
    }
    this.#loop.again(this);
  }

  #finish(tell: () => void): void {
    this.#over = true;
    tell();
  }
}
