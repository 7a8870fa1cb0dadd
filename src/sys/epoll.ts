import { must } from './errno.js';
import * as libc from './libc.js';

/** Event bits of epoll_ctl(2). */
export const EPOLLIN = 0x001;
export const EPOLLPRI = 0x002;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
/** Of several threads that wait for one listening socket, wake one (since Linux 4.5). */
export const EPOLLEXCLUSIVE = 1 << 28;
export const EPOLLET = 1 << 31;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

/**
 * Where the fields of struct epoll_event stand, in 32-bit words. The struct is packed on x86-64 (12 bytes) and padded
 * to 16 bytes everywhere else (include/uapi/linux/eventpoll.h, EPOLL_PACKED).
 */
export const eventLayout = (arch: string): { readonly words: number; readonly data: number } =>
  arch === 'x64' ? { words: 3, data: 1 } : { words: 4, data: 2 };

const { words: WORDS, data: DATA } = eventLayout(process.arch);

/** An epoll instance. The descriptor stands in the event's data. */
export class Epoll {
  readonly #fd: number;
  readonly #one = new Int32Array(4);
  readonly #events: Int32Array;
  readonly #most: number;

  constructor(most: number) {
    this.#fd = must(libc.epollCreate1(EPOLL_CLOEXEC), 'epoll_create1');
    this.#most = most;
    this.#events = new Int32Array(most * WORDS);
  }

  /** @throws SystemError */
  add(fd: number, events: number): void {
    this.#one[0] = events;
    this.#one[DATA] = fd;
    const added = libc.epollCtl(this.#fd, EPOLL_CTL_ADD, fd, this.#one);
    if (added === -1) must(-libc.errno(), 'epoll_ctl', `fd ${fd}`);
  }

  /** Takes a descriptor out that stays open. */
  remove(fd: number): void {
    libc.epollCtl(this.#fd, EPOLL_CTL_DEL, fd, this.#one);
  }

  /** Waits up to `timeout` ms, -1 for good: how many events there are, or an errno negated (EINTR among them). */
  wait(timeout: number): number {
    const count = libc.epollWait(this.#fd, this.#events, this.#most, timeout);
    return count === -1 ? -libc.errno() : count;
  }

  /** The descriptor of event `i`. */
  fd(i: number): number {
    return this.#events[i * WORDS + DATA] as number;
  }

  /** The bits of event `i`. */
  bits(i: number): number {
    return this.#events[i * WORDS] as number;
  }

  close(): void {
    libc.close(this.#fd);
  }
}

/** An eventfd(2): writing it wakes whoever polls it, from any thread. */
export const createEventfd = (): number => must(libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd');

const counter = new BigUint64Array(1);

export const raiseEventfd = (fd: number): void => {
  counter[0] = 1n;
  libc.write(fd, counter, 8);
};

export const clearEventfd = (fd: number): void => {
  libc.read(fd, counter, 8);
};
