import { closeSync, ftruncateSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
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
      closeSync(this.#fd);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** Removes the file, unless it has come to be another process's. */
  remove(): void {
    try {
      const owner = readFileSync(this.#path, 'latin1').trim();
      if (owner === '' || owner === String(process.pid)) unlinkSync(this.#path);
    } catch {
      // Its directory may belong to root, who we are no more: it stays behind, as that of a daemon that was killed does.
    }
  }

  #failure(error: unknown): Failure {
    return new Failure(`pid file ${this.#path}: ${(error as NodeJS.ErrnoException).code}`, EX.CANTCREAT);
  }
}

/**
 * The process that a file names; null where there is no such file.
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
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new Failure(`pid file ${path}: it names no process`, EX.NOINPUT);
  return Number(text);
};
