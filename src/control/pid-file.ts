import { unlinkSync, writeFileSync } from 'node:fs';
import { EX, Failure } from '../failure.js';

/** @throws Failure */
export const writePidFile = (path: string): void => {
  try {
    writeFileSync(path, `${process.pid}\n`);
  } catch (error) {
    throw new Failure(`pid file ${path}: ${(error as NodeJS.ErrnoException).code}`, EX.CANTCREAT);
  }
};

export const removePidFile = (path: string): void => {
  try {
    unlinkSync(path);
  } catch {
    // Its directory may belong to root, who we are no more: it stays behind, as that of a daemon that was killed does.
  }
};
