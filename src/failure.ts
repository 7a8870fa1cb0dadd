/**
 * Exit codes of sysexits.h that this program uses.
 * Source: sysexits.h(3head).
 */
export const EX = {
  OK: 0,
  USAGE: 64,
  NOINPUT: 66,
  NOUSER: 67,
  NOHOST: 68,
  UNAVAILABLE: 69,
  SOFTWARE: 70,
  OSERR: 71,
  CANTCREAT: 73,
  IOERR: 74,
  NOPERM: 77,
  CONFIG: 78,
} as const;

/**
 * A reason for the program to end that its user can act on: a line for stderr, of a file one for each of its mistakes, and
 * an exit code.
 * Anything else that is thrown is a defect of ours and is shown with its stack.
 */
export class Failure extends Error {
  override readonly name = 'Failure';

  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message);
  }
}
