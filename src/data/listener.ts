import type { SocketAddress } from '../address.js';
import { EPOLLET, EPOLLEXCLUSIVE, EPOLLIN } from '../sys/epoll.js';
import { E, errnoName } from '../sys/errno.js';
import { accept, localAddress, peerOfLast } from '../sys/socket.js';
import type { Entrance } from './access-entries.js';
import { admit } from './admit.js';
import { unopened } from './connection-lines.js';
import type { Runnable, Watcher } from './loop.js';
import { type Site, socketsOf, type Thread } from './site.js';
import type { Timed } from './timers.js';

/** Connections accepted in one turn, before those that are open have theirs. */
const ACCEPTS_PER_TURN = 64;

/** How long nothing is accepted after accept failed for want of something, in ms: the first time, and at most. */
const PAUSE = 100;
const LONGEST_PAUSE = 5000;

/** Failures that say that the machine, or this process, has run out (accept(2)). */
const SCARCE: ReadonlySet<number> = new Set([E.MFILE, E.NFILE, E.NOBUFS, E.NOMEM]);

/** The part of a thread's connections that FTP's control connections may fill: their data connections need the rest. */
const CONTROL_PART = 1 / 4;

/** There is room again, as far as there is: for those that wait for it. */
export const onRoom = ({ loop, waiting }: Thread): void => {
  if (waiting.size === 0) return;
  for (const listener of waiting) loop.again(listener);
  waiting.clear();
};

/** A listening socket as one thread serves it. */
export class Listener implements Watcher, Runnable, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #fd: number;
  readonly #local: SocketAddress | null;
  #site: Site;
  #entrance: Entrance | null = null;
  #pause = 0;
  #left = false;
  /** That there is no room was said, and nothing has changed since but for single connections. */
  #saidFull = false;

  /**
   * While the thread has all the connections that it may have, more wait in the socket's queue. `host`: see ListenerHandle.
   */
  constructor(site: Site, fd: number, host: string | null = null) {
    this.#site = site;
    this.#fd = fd;
    this.#local = localAddress(fd);
    this.serve(site, host);
    // Of the threads that share a socket one is woken; with a socket of its own it changes nothing.
    site.loop.add(fd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, this);
  }

  /** What comes from now on is for this site. `host`: as above. */
  serve(site: Site, host: string | null): void {
    this.#site = site;
    if (this.#local !== null) this.#entrance = { host: host ?? this.#local.ip, port: this.#local.port };
    else this.#entrance = host === null ? null : { host, port: null };
  }

  /**
   * Accepts nothing more: the socket is left to whoever has it beside this thread. With `last`, nobody has, and what
   * waits in its queue is accepted first, as far as there is room.
   */
  leave(last: boolean): void {
    const { loop, waiting } = this.#site.thread;
    while (last && !this.#isFull()) {
      const fd = accept(this.#fd);
      if (fd >= 0) admit(this.#site, fd, peerOfLast(), this.#entrance);
      else if (fd === -E.AGAIN || SCARCE.has(-fd)) break;
    }
    this.#left = true;
    waiting.delete(this);
    loop.timers.forget(this);
    loop.remove(this.#fd);
  }

  onEvents(): void {
    this.run();
  }

  onDeadline(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    this.run();
  }

  run(): void {
    const { loop, connections, admissions, waiting } = this.#site.thread;
    if (this.deadline !== Number.POSITIVE_INFINITY || this.#left) return;
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      if (this.#isFull()) {
        const open = connections.size + (admissions?.size ?? 0);
        if (!this.#saidFull) this.#log('warn', `${open} connections are open: more have to wait`);
        waiting.add(this);
        this.#saidFull = true;
        return;
      }
      const fd = accept(this.#fd);
      if (fd === -E.AGAIN) {
        this.#pause = 0;
        this.#saidFull = false;
        return;
      }
      if (fd >= 0) admit(this.#site, fd, peerOfLast(), this.#entrance);
      else if (SCARCE.has(-fd)) {
        this.#backOff(-fd);
        return;
      }
      // Any other failure is that of one connection, which is gone (accept(2), "Error handling").
    }
    loop.again(this);
  }

  #isFull(): boolean {
    const { thread, service } = this.#site;
    return socketsOf(thread) >= 2 * thread.mostConnections * (service.ftp === null ? 1 : CONTROL_PART);
  }

  /** Accepting at once again would fail at once again, and spin. */
  #backOff(errno: number): void {
    const { loop, counters, reporter } = this.#site;
    counters.add('acceptErrors', 1);
    if (this.#pause === 0) {
      this.#log('error', `accept: ${errnoName(errno)}: nothing is accepted for a moment`);
      reporter.access?.event('accept-failed -', unopened(this.#site, null, this.#entrance));
    }
    this.#pause = Math.min(LONGEST_PAUSE, Math.max(PAUSE, 2 * this.#pause));
    this.deadline = loop.now + this.#pause;
    loop.timers.watch(this);
  }

  #log(level: 'warn' | 'error', message: string): void {
    this.#site.reporter.log(level, `${this.#site.service.name}: ${message}`);
  }
}
