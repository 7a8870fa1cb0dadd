import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { bounded, until } from './until.js';

/** How a command ended and what it said. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const collect = (stream: Readable | null): (() => string) => {
  const pieces: Buffer[] = [];
  stream?.on('data', (piece: Buffer) => pieces.push(piece));
  return () => Buffer.concat(pieces).toString('latin1');
};

/** The child that nsenter forked into the namespaces, or undefined when it has not yet or has ended. */
const onlyChild = (pid: number): number | undefined => {
  try {
    const first = Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1'), 10);
    return Number.isNaN(first) ? undefined : first;
  } catch {
    return undefined;
  }
};

/**
 * A command that runs in a host. Its output is collected as latin1 text, so that no byte is lost.
 * It ends with its host at the latest.
 */
export class Running {
  readonly command: string;
  readonly exited: Promise<Outcome>;
  readonly stdin: ChildProcess['stdin'];
  #stdout: () => string;
  #stderr: () => string;
  #child: ChildProcess;
  #over = false;
  #pid: number | undefined;

  private constructor(command: string, child: ChildProcess) {
    this.command = command;
    this.#child = child;
    this.stdin = child.stdin;
    this.stdin?.on('error', () => {});
    this.#stdout = collect(child.stdout);
    this.#stderr = collect(child.stderr);
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => {
        this.#over = true;
      });
      child.once('close', (code, signal) => resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }));
    });
    // A failure is for whoever waits for the end; nobody has to.
    this.exited.catch(() => {});
  }

  /** Follows `nsenter`, which was just started and forks the command proper. */
  static async follow(command: string, nsenter: ChildProcess): Promise<Running> {
    const running = new Running(command, nsenter);
    const { pid } = nsenter;
    if (pid === undefined) await running.exited;
    else {
      running.#pid = await until(`the process of ${command}`, () => running.#over || onlyChild(pid), { every: 2 }).then(
        (found) => (found === true ? undefined : found),
      );
    }
    return running;
  }

  /** The process's number as seen from outside its host: for signals and /proc. */
  get pid(): number {
    if (this.#pid === undefined) throw new Error(`${this.command} was over before its process number was known`);
    return this.#pid;
  }

  /** Whether it is still running. */
  get alive(): boolean {
    return !this.#over;
  }

  /** What it wrote so far. */
  get stdout(): string {
    return this.#stdout();
  }

  get stderr(): string {
    return this.#stderr();
  }

  /** Sends a signal to the command itself; nothing happens when it is over. */
  signal(name: NodeJS.Signals): void {
    if (this.#over || this.#pid === undefined) return;
    try {
      process.kill(this.#pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** How it ends, within a bound. */
  outcome(within?: number): Promise<Outcome> {
    return bounded(`${this.command} to end`, this.exited, within);
  }

  /** Ends it with `signal`, and with SIGKILL if that takes longer than five seconds. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Outcome> {
    this.signal(signal);
    // nsenter stops itself when it sees that its command is stopped, and does not go on with it.
    this.#child.kill('SIGCONT');
    try {
      return await bounded(this.command, this.exited, 5000);
    } catch {
      this.signal('SIGKILL');
      this.#child.stdout?.destroy();
      this.#child.stderr?.destroy();
      return this.outcome(5000);
    }
  }

  /** Waits until its standard output or error matches. */
  says(pattern: RegExp, within?: number): Promise<RegExpExecArray> {
    return until(
      `${this.command} to say ${pattern}`,
      () => {
        const match = pattern.exec(`${this.stdout}\n${this.stderr}`);
        if (!match && this.#over)
          throw new Error(`${this.command} ended instead of saying ${pattern}:\n${this.stderr}`);
        return match;
      },
      within === undefined ? {} : { within },
    );
  }
}
