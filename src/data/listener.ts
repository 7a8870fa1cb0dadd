import { EPOLLET, EPOLLEXCLUSIVE, EPOLLIN } from '../sys/epoll.js';
import { E, errnoName } from '../sys/errno.js';
import { accept, localAddress, peerOfLast } from '../sys/socket.js';
import { admit } from './connection.js';
import type { Runnable, Watcher } from './loop.js';
import type { Site } from './site.js';
import type { Timed } from './timers.js';

/** Connections accepted in one turn, before those that are open have theirs. */
const ACCEPTS_PER_TURN = 64;

/** How long nothing is accepted after accept failed for want of something, in ms: the first time, and at most. */
const PAUSE = 100;
const LONGEST_PAUSE = 5000;

/** Failures that say that the machine, or this process, has run out (accept(2)). */
const SCARCE: ReadonlySet<number> = new Set([E.MFILE, E.NFILE, E.NOBUFS, E.NOMEM]);

/** How many connections one thread may have, and which of its listeners wait until there are fewer. */
export class Room {
  /** While the thread has so many, more wait in the sockets' queues. */
  most: number;
  readonly #waiting = new Set<Listener>();

  constructor(most: number) {
    this.most = most;
  }

  waitedFor(listener: Listener): void {
    this.#waiting.add(listener);
  }

  /** A connection of this thread ended. */
  onClosed(): void {
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const listener of waiting) listener.site.loop.again(listener);
  }
}

/** A listening socket as one thread serves it. */
export class Listener implements Watcher, Runnable, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #fd: number;
  readonly #port: number | null;
  readonly #room: Room;
  #pause = 0;
  #left = false;
  /** That there is no room was said, and nothing has changed since but for single connections. */
  #saidFull = false;

  /** What it accepts is served by `site`; another one takes over with the next connection. */
  constructor(
    public site: Site,
    fd: number,
    room: Room,
  ) {
    this.#fd = fd;
    this.#port = localAddress(fd)?.port ?? null;
    this.#room = room;
    // Of the threads that share a socket one is woken; with a socket of its own it changes nothing.
    site.loop.add(fd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, this);
  }

  /**
   * Accepts nothing more: the socket is left to whoever has it beside this thread. With `last`, nobody has, and what
   * waits in its queue is accepted first, as far as there is room.
   */
  leave(last: boolean): void {
    const { connections } = this.site.thread;
    while (last && connections.size < this.#room.most) {
      const fd = accept(this.#fd);
      if (fd >= 0) admit(this.site, fd, peerOfLast(), this.#port);
      else if (fd === -E.AGAIN || SCARCE.has(-fd)) break;
    }
    this.#left = true;
    this.site.loop.timers.forget(this);
    this.site.loop.remove(this.#fd);
  }

  onEvents(): void {
    this.run();
  }

  onDeadline(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    this.run();
  }

  run(): void {
    const { loop, connections } = this.site.thread;
    if (this.deadline !== Number.POSITIVE_INFINITY || this.#left) return;
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      if (connections.size >= this.#room.most) {
        if (!this.#saidFull) this.#log('warn', `${connections.size} connections are open: more have to wait`);
        this.#room.waitedFor(this);
        this.#saidFull = true;
        return;
      }
      const fd = accept(this.#fd);
      if (fd === -E.AGAIN) {
        this.#pause = 0;
        this.#saidFull = false;
        return;
      }
      if (fd >= 0) admit(this.site, fd, peerOfLast(), this.#port);
      else if (SCARCE.has(-fd)) {
        this.#backOff(-fd);
        return;
      }
      // Any other failure is that of one connection, which is gone (accept(2), "Error handling").
    }
    loop.again(this);
  }

  /** Accepting at once again would fail at once again, and spin. */
  #backOff(errno: number): void {
    const { loop } = this.site;
    if (this.#pause === 0) this.#log('error', `accept: ${errnoName(errno)}: nothing is accepted for a moment`);
    this.#pause = Math.min(LONGEST_PAUSE, Math.max(PAUSE, 2 * this.#pause));
    this.deadline = loop.now + this.#pause;
    loop.timers.watch(this);
  }

  #log(level: 'warn' | 'error', message: string): void {
    this.site.reporter.log(level, `${this.site.service.name}: ${message}`);
  }
}
