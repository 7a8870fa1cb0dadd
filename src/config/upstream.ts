import { closeSync, openSync, readSync } from 'node:fs';
import { EX, Failure } from '../failure.js';
import type { Credentials, Upstream } from '../plan.js';
import { parseHost } from './host.js';
import { parsePort } from './ports.js';
import { quoted, UsageError } from './usage-error.js';

const FORM =
  /^(?:(?<scheme>[a-z][a-z0-9+.-]*):\/\/)?(?:(?<userinfo>.*)@)?(?<host>\[[^@]*\]|[^:@/]+):(?<port>[^:@/]+)\/?$/is;

/**
 * An upstream, `[http://|socks5://][USER:PASSWORD@]HOST:PORT`: HTTP without a scheme, an IPv6 address in brackets, and
 * percent-encoding (RFC 3986 section 2.1) for what USER and PASSWORD could not have in them otherwise.
 * `what` is the option's name in messages, and these never show USER and PASSWORD. Throws UsageError.
 */
export const parseUpstream = (what: string, text: string): Upstream => {
  const shown = quoted(text.replace(/^([a-z0-9+.-]*:\/\/)?.*@/is, '$1'));
  const { scheme: given = 'http', userinfo, host, port } = FORM.exec(text)?.groups ?? {};
  if (host === undefined || port === undefined) {
    throw new UsageError(
      `${what}: ${shown} is not HOST:PORT, http://HOST:PORT or socks5://HOST:PORT, IPv6 in brackets`,
    );
  }
  const scheme = (['http', 'socks5'] as const).find((known) => known === given.toLowerCase());
  if (scheme === undefined) throw new UsageError(`${what}: ${shown} begins with neither http:// nor socks5://`);
  return {
    scheme,
    host: parseHost(what, host),
    port: parsePort(what, port),
    credentials: userinfo === undefined ? null : readUserinfo(`${what}: ${shown}`, scheme, userinfo),
  };
};

const readUserinfo = (what: string, scheme: Upstream['scheme'], userinfo: string): Credentials => {
  const colon = userinfo.includes(':') ? userinfo.indexOf(':') : userinfo.length;
  const [user, password] = [userinfo.slice(0, colon), userinfo.slice(colon + 1)].map((text) => decode(what, text));
  const credentials = { user: user as string, password: password as string };
  const flaw = flawOf(credentials, scheme);
  if (flaw !== null) throw new UsageError(`${what}: the user name and password in front of @ ${flaw}`);
  return credentials;
};

const decode = (what: string, text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UsageError(
      `${what}: a % in front of @ is not followed by two hexadecimal digits of UTF-8 (write %25 for %)`,
    );
  }
};

/** RFC 1929 section 2 has one byte for a length; HTTP gets the same bound, far below that of a head. */
const MOST_BYTES = 255;
const MOST_TEXT = 4096;

/** Why credentials can't be sent to a proxy, as the end of a sentence about them; null if they can. */
export const flawOf = ({ user, password }: Credentials, scheme: Upstream['scheme']): string | null => {
  if (user === '') return 'have no user name';
  // RFC 7617 section 2.
  if (/\p{Cc}/u.test(user + password)) return 'have a control character in them';
  if (scheme === 'http' && user.includes(':')) return 'have a colon in the user name, where HTTP ends it';
  // RFC 1929 section 2 counts a password's bytes from 1.
  if (scheme === 'socks5' && password === '') return 'have no password, which SOCKS 5 needs';
  const tooLong = [user, password].some((text) => Buffer.byteLength(text) > MOST_BYTES);
  return tooLong ? `are longer than ${MOST_BYTES} bytes` : null;
};

/**
 * Reads `user:password` from the first line of a file, in UTF-8.
 * `what` is the option's name in messages, and these never show what is in the file.
 * @throws Failure when the file can't be read or has no such line
 */
export const readCredentials = (what: string, path: string): Credentials => {
  const line = readText(what, path).split(/\r?\n/, 1)[0] as string;
  const colon = line.indexOf(':');
  if (colon === -1) throw new Failure(`${what}: the first line of ${quoted(path)} is not user:password`, EX.NOINPUT);
  return { user: line.slice(0, colon), password: line.slice(colon + 1) };
};

/** The beginning of a file: what is more is no first line with two names of 255 bytes, and may be without an end. */
const readText = (what: string, path: string): string => {
  try {
    const fd = openSync(path, 'r');
    try {
      const text = Buffer.alloc(MOST_TEXT);
      let length = 0;
      for (let read = 1; read > 0 && length < MOST_TEXT; length += read) read = readSync(fd, text, { offset: length });
      return text.toString('utf8', 0, length);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new Failure(`${what}: ${quoted(path)}: ${(error as NodeJS.ErrnoException).code}`, EX.NOINPUT);
  }
};
