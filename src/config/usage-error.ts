import { EX, Failure } from '../failure.js';

/** A command line that can't be carried out: the message says in one line what is wrong, and with what value. */
export class UsageError extends Failure {
  constructor(message: string) {
    super(message, EX.USAGE);
  }
}

/** A value as messages show it: on one line, with visible ends, and nothing in it that a terminal would obey. */
export const quoted = (value: string): string => printable(JSON.stringify(value));

/** A text without anything in it that a terminal would obey. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`);
