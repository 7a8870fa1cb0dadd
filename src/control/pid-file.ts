import { ftruncateSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { EX, Failure } from '../failure.js';

/** The file that says which process we are. Open from before the drop: its folder may belong to root. */
export class PidFile {
  readonly #path: string;
  readonly #fd: number;

  /**
   * What is in the file stays there until write().
   * @throws Failure
   */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, 'a');
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** @throws Failure */
  write(): void {
    try {
      ftruncateSync(this.#fd);
      writeSync(this.#fd, `${process.pid}\n`);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** Removes the file, or empties it where that is not ours to do; unless it has come to be another process's. */
  remove(): void {
    try {
      const owner = readFileSync(this.#path, 'latin1').trim();
      if (owner !== '' && owner !== String(process.pid)) return;
      // Its folder may belong to root, who we are no more.
      ftruncateSync(this.#fd);
      unlinkSync(this.#path);
    } catch {
      // What is left behind is no worse than what a daemon leaves that was killed.
    }
  }

  #failure(error: unknown): Failure {
    return new Failure(`pid file ${this.#path}: ${(error as NodeJS.ErrnoException).code}`, EX.CANTCREAT);
  }
}

/**
 * The process that a file names; null where there is no such file, or nothing in it.
 * @throws Failure when it can't be read, or names no process
 */
export const readPidFile = (path: string): number | null => {
  let text: string;
  try {
    text = readFileSync(path, 'latin1').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw new Failure(`pid file ${path}: ${code}`, EX.NOINPUT);
  }
  // That of a process that ended, and could not remove it.
  if (text === '') return null;
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new Failure(`pid file ${path}: it names no process`, EX.NOINPUT);
  return Number(text);
};
