import type { SocketAddress } from '../address.js';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP } from '../sys/epoll.js';
import { localAddress, resetOnClose } from '../sys/socket.js';
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
  /** The connection broke: EPOLLERR was seen, or with TCP EPOLLHUP. */
  failed = false;
  /** The peer of a unix socket has closed it, or both have ended their directions; what it sent is there to be read. */
  gone = false;
  closed = false;
  readonly #loop: Loop;
  /** Of a socket that connects: by what it is known among our own; a key of 0 for none. */
  #ownPort = 0;
  #ownKey = 0;

  /**
   * Registers `fd` with the loop. `owner` runs after each event.
   * `accepted`, or else connecting: it is not writable before it is connected. `isUnix`: it is of family unix.
   * @throws SystemError
   */
  constructor(
    loop: Loop,
    readonly fd: number,
    public owner: Runnable,
    accepted: boolean,
    readonly isUnix = false,
  ) {
    this.#loop = loop;
    this.writable = accepted;
    loop.add(fd, EVENTS, this);
  }

  onEvents(bits: number): void {
    if (bits & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) this.readable = true;
    if (bits & EPOLLPRI) this.urgent = true;
    if (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR)) this.writable = true;
    if (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) this.ended = true;
    if (bits & EPOLLHUP && this.isUnix) {
      // With TCP, EPOLLHUP without an end of ours means a reset. Here it comes with the peer's close in order
      // (unix_poll in net/unix/af_unix.c), before its bytes are read; and EPOLLERR when it has left ours unread.
      this.gone = true;
      bits &= ~EPOLLHUP;
    }
    if (bits & (EPOLLERR | EPOLLHUP)) this.failed = true;
    this.owner.run();
  }

  /** Makes it known as one of ours. Right behind connect(2): the other end may be accepted at once. */
  connectsTo(remote: SocketAddress): void {
    const local = localAddress(this.fd);
    if (local === null) return;
    this.#ownPort = local.port;
    this.#ownKey = this.#loop.ownSockets.add(local, remote);
  }

  /** Closes in order; what was sent still reaches the peer. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.#ownKey !== 0) this.#loop.ownSockets.remove(this.#ownPort, this.#ownKey);
    this.#loop.close(this.fd);
  }

  /** Closes with a reset. */
  reset(): void {
    if (this.closed) return;
    resetOnClose(this.fd);
    this.close();
  }
}
