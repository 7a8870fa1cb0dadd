import { allocateOwnSockets, OwnSockets } from '../own-sockets.js';
import { Epoll } from '../sys/epoll.js';
import { E, SystemError } from '../sys/errno.js';
import { closePipe, createPipe, type Pipe } from '../sys/pipe.js';
import { closeFd } from '../sys/process.js';
import { Timers } from './timers.js';

/** Whoever a descriptor's events go to. */
export interface Watcher {
  /** Event bits of sys/epoll.ts. They are hints: a call that finds nothing to do is an ordinary case. */
  onEvents(bits: number): void;
}

/** Whoever has more to do than one turn's share. */
export interface Runnable {
  run(): void;
}

const EVENTS_PER_TURN = 512;

/** Bytes of one recv. A read that fills it is a sign of bulk, and the direction turns to splice. */
export const SCRATCH_SIZE = 32 * 1024;

/** What a pipe is grown to: 256 slots, so that a splice carries what a receive window holds. */
const PIPE_SIZE = 1024 * 1024;

/** Empty pipes that are kept for the next bulk transfer; the rest are closed. */
const SPARE_PIPES = 16;

/** To how many milliseconds deadlines are kept: a connection's, and those that shape its bytes. */
const TICK = 100;
const FINE_TICK = 1;

/** No wait is longer, in ms: a wake that is lost delays a Command, it does not lose it. */
const LONGEST_WAIT = 10_000;

/**
 * One epoll instance and what its connections share: the scratch buffer, the pipes, the deadlines, the time.
 * Everything here belongs to one thread.
 */
export class Loop {
  /** Milliseconds of performance.now() at the beginning of this turn. */
  now = performance.now();
  readonly timers = new Timers(TICK);
  /** For one synchronous use at a time: no bytes stay here from one event to the next. */
  readonly scratch = Buffer.allocUnsafeSlow(SCRATCH_SIZE);

  #fine: Timers | null = null;
  readonly #epoll = new Epoll(EVENTS_PER_TURN);
  readonly #watchers: (Watcher | undefined)[] = [];
  readonly #spares: Pipe[] = [];
  #pipes = 0;
  readonly #mostPipes: number;
  #closing: number[] = [];
  #again = new Set<Runnable>();
  #running = false;
  readonly #turnEnds: (() => void)[] = [];

  /** `mostPipes`: pipes that may be open at once; a direction that gets none goes on with recv and send. */
  constructor(
    mostPipes: number,
    readonly ownSockets = new OwnSockets(allocateOwnSockets()),
  ) {
    this.#mostPipes = mostPipes;
  }

  /** For what can't wait for a coarse tick; made for the first who asks. */
  get fine(): Timers {
    this.#fine ??= new Timers(FINE_TICK);
    return this.#fine;
  }

  /**
   * Registers a descriptor for life, edge-triggered as `events` says: there is no second epoll_ctl for it.
   * @throws SystemError
   */
  add(fd: number, events: number, watcher: Watcher): void {
    this.#epoll.add(fd, events);
    this.#watchers[fd] = watcher;
  }

  /**
   * Closes a descriptor at the end of this turn. Not at once: its number could be given to a new connection while an
   * event for the old one is still in this turn's batch.
   */
  close(fd: number): void {
    this.#watchers[fd] = undefined;
    this.#closing.push(fd);
  }

  /** Lets go of a descriptor that others still use: it has no more events here, and stays open. */
  remove(fd: number): void {
    this.#watchers[fd] = undefined;
    this.#epoll.remove(fd);
  }

  /** Runs `runnable` once in the next turn, which then does not wait. */
  again(runnable: Runnable): void {
    this.#again.add(runnable);
  }

  /** Calls `hook` at the end of each turn. */
  onTurnEnd(hook: () => void): void {
    this.#turnEnds.push(hook);
  }

  /** An empty pipe, or null where there is none to be had. Give it back with releasePipe. */
  takePipe(): Pipe | null {
    const spare = this.#spares.pop();
    if (spare !== undefined) return spare;
    if (this.#pipes >= this.#mostPipes) return null;
    const pipe = createPipe(PIPE_SIZE);
    if (typeof pipe === 'number') return null;
    this.#pipes++;
    return pipe;
  }

  /** A pipe goes back when it is `empty`; one that still holds bytes of an ended connection is closed. */
  releasePipe(pipe: Pipe, empty: boolean): void {
    if (empty && this.#spares.length < SPARE_PIPES) {
      this.#spares.push(pipe);
      return;
    }
    this.#pipes--;
    closePipe(pipe);
  }

  stop(): void {
    this.#running = false;
  }

  /** Turns until stop() is called. */
  run(): void {
    this.#running = true;
    while (this.#running) this.#turn();
    for (const pipe of this.#spares) closePipe(pipe);
    this.#epoll.close();
  }

  #turn(): void {
    const deadlines = Math.min(this.timers.wait(this.now), this.#fine?.wait(this.now) ?? LONGEST_WAIT);
    const wait = this.#again.size > 0 ? 0 : Math.min(LONGEST_WAIT, deadlines);
    const count = this.#epoll.wait(wait);
    // A signal handler ran in this thread: nothing is lost, the next turn sees the events.
    if (count < 0 && count !== -E.INTR) throw new SystemError('epoll_wait', -count);
    this.now = performance.now();

    if (this.#again.size > 0) {
      const again = this.#again;
      this.#again = new Set();
      for (const runnable of again) runnable.run();
    }
    for (let i = 0; i < count; i++) this.#watchers[this.#epoll.fd(i)]?.onEvents(this.#epoll.bits(i));
    // First: bytes that had to wait may put a connection's own deadline off.
    this.#fine?.expire(this.now);
    this.timers.expire(this.now);
    for (const hook of this.#turnEnds) hook();

    if (this.#closing.length > 0) {
      for (const fd of this.#closing) closeFd(fd);
      this.#closing = [];
    }
  }
}
