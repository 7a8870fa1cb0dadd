import type { UnixAddress } from '../plan.js';
import type { Parse } from './command-line.js';
import { quoted, UsageError } from './usage-error.js';

const PREFIX = 'unix:';

/** The path of a sockaddr_un has 108 bytes, a NUL at its end or, for the abstract kind, in front (unix(7)). */
const MOST_PATH_BYTES = 107;

/** `unix:/PATH` or `unix:@NAME`; null for what begins with no `unix:`. `what` is its name in messages. Throws UsageError. */
export const readUnix = (what: string, text: string): UnixAddress | null => {
  if (!text.startsWith(PREFIX)) return null;
  const path = text.slice(PREFIX.length);
  if (!/^[/@]./s.test(path)) throw new UsageError(`${what}: ${quoted(text)} is neither unix:/PATH nor unix:@NAME`);
  if (path.includes('\0')) throw new UsageError(`${what}: ${quoted(text)} has a zero byte in it`);
  if (Buffer.byteLength(path) <= MOST_PATH_BYTES) return { path };
  throw new UsageError(`${what}: ${quoted(text)} has more than ${MOST_PATH_BYTES} bytes behind ${PREFIX}`);
};

/** A file's permissions, as chmod(1) has them in octal. Throws UsageError. */
export const parseMode: Parse<number> = (what, text) => {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError(`${what}: ${quoted(text)} is not a mode from 000 to 777, in octal`);
};
