import { isAddress } from '../address.js';
import type { ForcedUrl, Ftp } from '../plan.js';
import type { Parse } from './command-line.js';
import { parseHost } from './host.js';
import { quoted, UsageError } from './usage-error.js';

// Each of these reads one option's value; `what` is the option's name in messages. All throw UsageError.

/** A timer counts 2^31 milliseconds at most, and a longer wait than a week helps nobody. */
export const MOST_SECONDS = 7 * 24 * 60 * 60;
/** The last one, (uid_t)-1, means "no change" to setresuid(2). */
const MOST_UID = 2 ** 32 - 2;

export const parseInteger = (what: string, text: string, least: number, most: number): number => {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`${what}: ${quoted(text)} is not a number from ${least} to ${most}`);
};

/** Seconds, to the millisecond (`2.5`), as milliseconds. */
export const parseSeconds = (what: string, text: string): number => {
  const seconds = /^\d+(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds > 0 && seconds <= MOST_SECONDS) return Math.round(seconds * 1000);
  throw new UsageError(`${what}: ${quoted(text)} is not a number of seconds from 0.001 to ${MOST_SECONDS}`);
};

/** Seconds as parseSeconds reads them, or 0 for no bound, which is Infinity. */
export const parseTimeout = (what: string, text: string): number =>
  text === '0' ? Number.POSITIVE_INFINITY : parseSeconds(what, text);

/** Seconds as parseSeconds reads them, or 0 for none at all. */
export const parseDrain = (what: string, text: string): number => (text === '0' ? 0 : parseSeconds(what, text));

/** A local address to connect from. */
export const parseSource = (what: string, text: string): string => {
  const ip = parseHost(what, text);
  if (isAddress(ip)) return ip;
  throw new UsageError(`${what}: ${quoted(text)} is not an IP address`);
};

/** Ports to listen on, `LOW-HIGH`; those below 1024 would need root when a connection is long open. */
export const parsePortRange = (what: string, text: string): NonNullable<Ftp['ports']> => {
  const [, low, high] = (/^(\d{1,5})-(\d{1,5})$/.exec(text) ?? []).map(Number);
  if (low !== undefined && high !== undefined && 1024 <= low && low <= high && high <= 65535) return { low, high };
  throw new UsageError(`${what}: ${quoted(text)} is not LOW-HIGH, two ports from 1024 to 65535`);
};

/** A program's name as syslog (RFC 5424 section 6.2.5) and hosts_access(5) take it. */
export const parseIdent = (what: string, text: string): string => {
  if (/^[\w./-]{1,48}$/.test(text)) return text;
  throw new UsageError(`${what}: ${quoted(text)} is not a name of at most 48 letters, digits and . _ / -`);
};

/** A service's name in logs. */
export const parseName = (what: string, text: string): string => {
  if (/^[^\p{Cc}]{1,64}$/u.test(text)) return text;
  throw new UsageError(`${what}: ${quoted(text)} is not a name of at most 64 characters`);
};

/** One of some words. */
export const parseOneOf =
  <T extends string>(...words: readonly T[]): Parse<T> =>
  (what, text) => {
    const word = words.find((known) => known === text);
    if (word !== undefined) return word;
    throw new UsageError(`${what}: ${quoted(text)} is none of ${words.join(', ')}`);
  };

/** A pseudonym in Via, which is a token (RFC 9110 sections 5.6.2 and 7.6.3). */
export const parsePseudonym = (what: string, text: string): string => {
  if (/^[!#$%&'*+.^_`|~0-9a-z-]{1,255}$/i.test(text)) return text;
  throw new UsageError(`${what}: ${quoted(text)} is not a name of letters, digits, dots and hyphens`);
};

/** A user's name or `#uid`. Whether the user exists is seen when the privileges are dropped. */
export const parseUser = (what: string, text: string): string => {
  const uid = /^#(.*)$/s.exec(text)?.[1];
  if (uid === undefined || (/^\d{1,10}$/.test(uid) && Number(uid) <= MOST_UID)) return text;
  throw new UsageError(`${what}: ${quoted(text)} is not # and a number from 0 to ${MOST_UID}`);
};

/**
 * An `http:` URL in the spelling of the WHATWG URL standard, which is the one that browsers put into Referer. So it is
 * printable ASCII without spaces and fits into a request line as it is.
 */
export const parseForcedUrl = (what: string, text: string): ForcedUrl => {
  // RFC 3986 section 2. The URL class would repair what isn't a URL, into one that its writer hardly meant.
  const looksRight = /^http:\/\/(?![/?#])[!-~]+$/i.test(text) && !/[\\^`{|}<>"]/.test(text);
  if (!looksRight || !URL.canParse(text)) throw new UsageError(`${what}: ${quoted(text)} is not an http:// URL`);
  const url = new URL(text);
  if (url.username || url.password) throw new UsageError(`${what}: ${quoted(text)} has a user name in it`);
  if (text.includes('#')) throw new UsageError(`${what}: ${quoted(text)} has a fragment (#), which HTTP never sends`);
  return { url: url.href, host: url.host };
};
