import type { Plan, StatusSettings } from '../plan.js';
import type { Log } from './log.js';
import { formatStatus, type Running, replaceFile, statusOf, summaryOf } from './status.js';

/** Writes the status file and the summaries in the log, as a plan wants them. */
export class StatusReports {
  readonly #log: Log;
  readonly #running: () => Running;
  #timers: readonly NodeJS.Timeout[] = [];
  #failing = false;

  /** `running` says what there is to tell, when it is to be told. */
  constructor(log: Log, running: () => Running) {
    this.#log = log;
    this.#running = running;
  }

  /** Reports as `plan` wants it from now on, and no more as one before did. The file is there at once. */
  begin({ status, statsInterval }: Plan): void {
    this.end();
    const timers: NodeJS.Timeout[] = [];
    if (status !== null) {
      this.#write(status);
      timers.push(setInterval(() => this.#write(status), status.interval));
    }
    if (statsInterval !== null) timers.push(setInterval(() => this.#summarize(), statsInterval));
    this.#timers = timers;
  }

  end(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
  }

  /** The first failure of a row of them is logged: a full disk is no reason to stop serving. */
  #write({ path, format }: StatusSettings): void {
    try {
      replaceFile(path, formatStatus(statusOf(this.#running(), new Date()), format));
      this.#failing = false;
    } catch (error) {
      const { code, syscall } = error as NodeJS.ErrnoException;
      if (!this.#failing) this.#log.write('error', `status file ${path}: ${syscall}: ${code}`);
      this.#failing = true;
    }
  }

  #summarize(): void {
    this.#log.write('info', summaryOf(statusOf(this.#running(), new Date())));
  }
}
