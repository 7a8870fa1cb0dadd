import type { SocketAddress } from '../address.js';
import { EPOLLET, EPOLLIN } from '../sys/epoll.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import {
  accept,
  boundSocket,
  localAddress,
  peerOfLast,
  resetOnClose,
  startListening,
  stopListening,
} from '../sys/socket.js';
import type { Loop, Runnable, Watcher } from './loop.js';
import type { Timed } from './timers.js';

/** Connections looked at in one turn, before others have theirs. */
const ACCEPTS_PER_TURN = 16;

/** Ports of a range that are tried for one listener. */
const MOST_TRIES = 128;

/** Who waits for the one connection. One of the first two is called at most, and the listener is closed then. */
export interface Awaiter {
  /** The descriptor is the awaiter's from here on. */
  onConnection(fd: number, peer: SocketAddress): void;
  /** Nobody came, or nothing can be accepted. */
  onNobody(why: string): void;
  /** A connection from elsewhere was refused; the right one is still waited for. */
  onStranger(peer: SocketAddress | null): void;
}

/** Where a OneShot may listen. */
export interface Place {
  readonly ip: string;
  /** Ports to try, both ends included, from anywhere among them on; null: `port`, or else any. */
  readonly range: { readonly low: number; readonly high: number } | null;
  readonly port: number;
  /** `ip` need not be this host's. */
  readonly transparent: boolean;
}

function* portsOf({ range, port }: Place): Generator<number, void, void> {
  if (range === null) {
    if (port !== 0) yield port;
    yield 0;
    return;
  }
  const size = range.high - range.low + 1;
  const first = Math.floor(Math.random() * size);
  for (let i = 0; i < Math.min(size, MOST_TRIES); i++) yield range.low + ((first + i) % size);
}

/** A socket that listens in `place`. @throws SystemError of the last port that was tried */
const listenIn = (place: Place): number => {
  let taken: SystemError | null = null;
  for (const port of portsOf(place)) {
    const address = { ip: place.ip, port };
    let fd = -1;
    try {
      fd = boundSocket(address, false, place.transparent);
      startListening(fd, address);
      return fd;
    } catch (error) {
      if (fd >= 0) closeFd(fd);
      if (!(error instanceof SystemError) || error.errno !== E.ADDRINUSE) throw error;
      taken = error;
    }
  }
  throw taken as SystemError;
};

/** A listening socket for one connection, from one host, within a time. */
export class OneShot implements Watcher, Runnable, Timed {
  deadline: number;
  tick = Number.POSITIVE_INFINITY;
  readonly address: SocketAddress;
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #from: string;
  readonly #awaiter: Awaiter;
  readonly #timeout: number;
  #closed = false;

  /**
   * `from`: the one IP address whose connection is taken; `timeout` in milliseconds.
   * @throws SystemError when no port is to be had
   */
  constructor(loop: Loop, place: Place, from: string, timeout: number, awaiter: Awaiter) {
    this.#loop = loop;
    this.#from = from;
    this.#awaiter = awaiter;
    this.#timeout = timeout;
    this.#fd = listenIn(place);
    try {
      this.address = localAddress(this.#fd) as SocketAddress;
      loop.add(this.#fd, EPOLLIN | EPOLLET, this);
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
    this.deadline = loop.now + timeout;
    loop.timers.watch(this);
  }

  onEvents(): void {
    this.run();
  }

  run(): void {
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      if (this.#closed) return;
      const fd = accept(this.#fd);
      if (fd === -E.AGAIN) return;
      if (fd === -E.CONNABORTED) continue;
      if (fd < 0) {
        this.close();
        this.#awaiter.onNobody(`accept: ${errnoName(-fd)}`);
        return;
      }
      const peer = peerOfLast();
      if (peer?.ip === this.#from) {
        this.close();
        this.#awaiter.onConnection(fd, peer);
        return;
      }
      resetOnClose(fd);
      closeFd(fd);
      this.#awaiter.onStranger(peer);
    }
    this.#loop.again(this);
  }

  onDeadline(): void {
    this.close();
    this.#awaiter.onNobody(`nobody connected within ${this.#timeout / 1000} s`);
  }

  /** Listens no more: whoever comes from now on is refused, and the port may be used at once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#loop.timers.forget(this);
    // The descriptor stays until the end of the turn (Loop.close), and would keep the port that long.
    stopListening(this.#fd);
    this.#loop.close(this.#fd);
  }
}
