import { accessSync, constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { EX, Failure } from '../failure.js';
import type { Command, Report, WorkerStart } from '../messages.js';
import { createEventfd, raiseEventfd } from '../sys/epoll.js';

const MAIN = new URL('../data/worker.js', import.meta.url);

/** @throws Failure when the user that we are by now may not read the program: it would fail later, and less clearly. */
export const checkWorkersLoadable = (): void => {
  const path = fileURLToPath(MAIN);
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new Failure(`${path}: ${code}: uid ${process.getuid?.()} must be able to read the program`, EX.NOPERM);
  }
};

/** What the control plane does with what workers say. */
export interface WorkersOwner {
  /** `worker` is the index of who says it. */
  onReport(report: Exclude<Report, { kind: 'ready' | 'left' }>, worker: number): void;
  /** A worker ended that was not told to. There is no half daemon: the process must end. */
  onDeath(reason: string): void;
}

interface Running {
  readonly worker: Worker;
  readonly wakeFd: number;
  readonly ended: Promise<void>;
}

/** The worker threads: all of one plan, from start to stop. */
export class Workers {
  readonly #owner: WorkersOwner;
  readonly #running: Running[] = [];
  #stopping = false;
  #leaves = 0;
  /** By number of a `leave`: called for each worker that has obeyed it. */
  readonly #leaving = new Map<number, () => void>();

  constructor(owner: WorkersOwner) {
    this.#owner = owner;
  }

  /** Starts one worker and settles when it serves. Rejects when it dies first. */
  start(start: Omit<WorkerStart, 'wakeFd'>): Promise<void> {
    const wakeFd = createEventfd();
    const workerData: WorkerStart = { ...start, wakeFd };
    const worker = new Worker(MAIN, { workerData, name: `tproxy worker ${start.index}` });
    return new Promise((ready, failed) => {
      // An error is followed by the exit, which says nothing new.
      let dead = false;
      const die = (reason: string): void => {
        if (dead) return;
        dead = true;
        failed(new Error(reason));
        if (!this.#stopping) this.#owner.onDeath(`worker ${start.index}: ${reason}`);
      };
      worker.on('message', (report: Report) => {
        if (report.kind === 'ready') ready();
        else if (report.kind === 'left') this.#leaving.get(report.number)?.();
        else this.#owner.onReport(report, start.index);
      });
      worker.on('error', (error) => die(error.stack ?? error.message));
      const ended = new Promise<void>((resolve) => {
        worker.on('exit', (code) => {
          resolve();
          die(`ended with code ${code}`);
        });
      });
      this.#running[start.index] = { worker, wakeFd, ended };
    });
  }

  /** Posts a command to every worker. */
  tell(command: Command): void {
    for (const index of this.#running.keys()) this.tellOne(index, command);
  }

  /** Posts a command to the worker of this index. */
  tellOne(index: number, command: Command): void {
    const running = this.#running[index];
    if (running === undefined) return;
    running.worker.postMessage(command);
    raiseEventfd(running.wakeFd);
  }

  /** Has all workers leave sockets, and settles when the last one has; see the command of this name. */
  async leave(fds: readonly number[], last: boolean): Promise<void> {
    let missing = this.#running.length;
    if (missing === 0 || fds.length === 0) return;
    const number = ++this.#leaves;
    await new Promise<void>((settle) => {
      this.#leaving.set(number, () => {
        if (--missing === 0) settle();
      });
      this.tell({ kind: 'leave', number, fds, last });
    });
    this.#leaving.delete(number);
  }

  /**
   * Ends all workers. It has to go before any exit of the process: Node waits for its threads then, and a thread in
   * epoll_wait does not hear of it.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.tell({ kind: 'stop' });
    await Promise.all(this.#running.map(({ ended }) => ended));
  }
}
