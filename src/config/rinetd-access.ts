import { isIPv4, isIPv6 } from '../address.js';
import type { AccessList, ClientPattern } from '../plan.js';
import { parseAcl } from './acl.js';
import { quoted, UsageError } from './usage-error.js';

/**
 * Clients as `allow` and `deny` name them: an address, a network as 192.0.2.0/24 or 2001:db8::/32, or an address with
 * `*` and `?` in it. IPv6 may stand in brackets. Throws UsageError.
 */
export const parsePattern = (verb: string, text: string): ClientPattern => {
  // On ::, rinetd sees IPv4 clients as ::ffff:192.0.2.1; here they have one spelling.
  const pattern = text
    .replace(/^\[([^[\]]*)\]/, '$1')
    .toLowerCase()
    .replace(/^::ffff:(?=[\d*?]+\.[\d.*?]*$)/, '');
  if (pattern.includes('/')) return parseAcl(verb, pattern);
  if (/^[\da-f:.*?]*[*?][\da-f:.*?]*$/.test(pattern)) return { glob: pattern };
  // Not as parseAcl has it, to whom 10.0.0.0 is a network.
  if (isIPv4(pattern)) return { ip: pattern, prefix: 32 };
  if (isIPv6(pattern) && !pattern.includes('%')) return parseAcl(verb, pattern);
  throw new UsageError(`${verb}: ${quoted(text)} is no address, no network (ADDRESS/BITS) and no pattern with * or ?`);
};

/** One list of a file: its lines in any order. null: it lets everyone in. */
export const accessList = (
  entries: readonly { readonly verb: 'allow' | 'deny'; readonly pattern: ClientPattern }[],
): AccessList | null => {
  const of = (verb: 'allow' | 'deny'): ClientPattern[] =>
    entries.filter((entry) => entry.verb === verb).map(({ pattern }) => pattern);
  const [allow, deny] = [of('allow'), of('deny')];
  if (allow.length === 0 && deny.length === 0) return null;
  return { allow: allow.length === 0 ? null : allow, deny };
};
