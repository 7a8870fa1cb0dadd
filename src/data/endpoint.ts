import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP } from '../sys/epoll.js';
import { resetOnClose } from '../sys/socket.js';
import type { Loop, Runnable, Watcher } from './loop.js';

const EVENTS = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;

/**
 * One socket of a connection and what epoll last said of it. Edge-triggered: a flag is set by an event and cleared by
 * the call that found nothing left, by nobody else.
 */
export class Endpoint implements Watcher {
  readable = false;
  writable: boolean;
  /** The peer ended its direction, or the socket failed: read on until recv says which. */
  ended = false;
  /** The peer has sent urgent data: a call stops short of it, with more bytes behind (tcp(7), MSG_OOB). */
  urgent = false;
  /** EPOLLERR or EPOLLHUP was seen. */
  failed = false;
  closed = false;
  readonly #loop: Loop;

  /**
   * Registers `fd` with the loop. `owner` runs after each event.
   * @throws SystemError
   */
  constructor(
    loop: Loop,
    readonly fd: number,
    public owner: Runnable,
    writable: boolean,
  ) {
    this.#loop = loop;
    this.writable = writable;
    loop.add(fd, EVENTS, this);
  }

  onEvents(bits: number): void {
    if (bits & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) this.readable = true;
    if (bits & EPOLLPRI) this.urgent = true;
    if (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR)) this.writable = true;
    if (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) this.ended = true;
    if (bits & (EPOLLERR | EPOLLHUP)) this.failed = true;
    this.owner.run();
  }

  /** Closes in order; what was sent still reaches the peer. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#loop.close(this.fd);
  }

  /** Closes with a reset. */
  reset(): void {
    if (this.closed) return;
    resetOnClose(this.fd);
    this.close();
  }
}
