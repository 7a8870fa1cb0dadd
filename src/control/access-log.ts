import { closeSync, fchownSync, openSync, writeSync } from 'node:fs';
import { EX, Failure } from '../failure.js';

/** Who a new file shall belong to, so that it can be opened again after the privileges went. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The access log: a file that lines are appended to. */
export class AccessLog {
  readonly path: string;
  #fd: number;
  #failing = false;

  /** @throws Failure when the file can't be opened for appending */
  constructor(path: string, owner: Owner | null) {
    this.path = path;
    try {
      this.#fd = this.#create(owner) ?? openSync(path, 'a', 0o640);
    } catch (error) {
      throw new Failure(`access log ${path}: ${(error as NodeJS.ErrnoException).code}`, EX.CANTCREAT);
    }
  }

  /**
   * Makes the file, if there is none, its owner's. One that is there stays whose it is: root must not give away what
   * somebody with the right to write in its folder put in its place.
   */
  #create(owner: Owner | null): number | null {
    try {
      const fd = openSync(this.path, 'ax', 0o640);
      if (owner !== null) fchownSync(fd, owner.uid, owner.gid);
      return fd;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
      throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  /**
   * `lines`: one character a byte, each line with its newline. The first failure of a row of them is returned, for
   * the daemon's log: a full disk is no reason to stop serving, nor to say so for every request.
   */
  write(lines: string): string | null {
    try {
      writeSync(this.#fd, lines, null, 'latin1');
      this.#failing = false;
      return null;
    } catch (error) {
      const first = !this.#failing;
      this.#failing = true;
      return first ? `access log ${this.path}: ${(error as NodeJS.ErrnoException).code}; lines are lost` : null;
    }
  }

  /**
   * Opens the path anew, after a rotation. On failure the old file stays in use: nothing is lost, and the error is
   * returned.
   */
  reopen(): string | null {
    try {
      const fd = openSync(this.path, 'a', 0o640);
      closeSync(this.#fd);
      this.#fd = fd;
      return null;
    } catch (error) {
      return (
        `access log ${this.path}: ${(error as NodeJS.ErrnoException).code}; the old file stays in use ` +
        '(logrotate: create the new one for our user)'
      );
    }
  }
}
