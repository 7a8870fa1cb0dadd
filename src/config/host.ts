import { isAddress } from '../address.js';
import { quoted, UsageError } from './usage-error.js';

/**
 * A host as a command line names it: IPv4, IPv6 with or without brackets, or a name. Returned without brackets; names
 * are not looked up here.
 * `what` is the argument's name in messages. Throws UsageError.
 */
export const parseHost = (what: string, text: string): string => {
  const host = /^\[(.*)\]$/s.exec(text)?.[1] ?? text;
  // A zone names an interface, which an address in a plan has no room for.
  if (host.includes('%') && isAddress(host)) {
    throw new UsageError(`${what}: ${quoted(text)}: addresses with a zone (%) are not supported`);
  }
  if (isAddress(host) ? host === text || host.includes(':') : host === text && isName(host)) return host;
  throw new UsageError(`${what}: ${quoted(text)} is not a host name or an IP address`);
};

/**
 * RFC 1123 section 2.1, and the underscore that people use. A last label that is a number is refused: getaddrinfo(3)
 * would read `10.1` or `0x7f.1` as an address that its writer hardly meant.
 */
const isName = (text: string): boolean => {
  const labels = text.replace(/\.$/, '').split('.');
  return (
    text.length <= 254 &&
    labels.every((label) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/i.test(label)) &&
    !/^(\d+|0x[0-9a-f]*)$/i.test(labels.at(-1) as string)
  );
};
