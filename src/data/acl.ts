import { NetworkSet } from '../address.js';
import { matchesGlob } from '../glob.js';
import type { AccessList, ClientPattern } from '../plan.js';

/** Why a client may not connect, in rinetd's words: there is a list of who may, without it; or a list of who may not. */
export type Refusal = 'not-allowed' | 'denied';

/** Of a client's address as text; its interface, if it is link-local, is of no account. */
const withoutInterface = (ip: string): string => {
  const at = ip.indexOf('%');
  return at < 0 ? ip : ip.slice(0, at);
};

/** A glob as it is compared with our text of addresses: in lower case, and an IPv4-mapped address as its IPv4 one. */
const normalGlob = (glob: string): string => glob.toLowerCase().replace(/^::ffff:(?=[^:]*\.[^:]*$)/, '');

/** Patterns, made ready to be asked about many clients. */
class Patterns {
  readonly #networks: NetworkSet;
  /** Globs that are whole addresses. */
  readonly #addresses = new Set<string>();
  readonly #globs: string[] = [];

  constructor(patterns: readonly ClientPattern[]) {
    this.#networks = new NetworkSet(patterns.filter((pattern) => 'ip' in pattern));
    for (const pattern of patterns) {
      if ('ip' in pattern) continue;
      const glob = normalGlob(pattern.glob);
      if (/[*?]/.test(glob)) this.#globs.push(glob);
      else this.#addresses.add(glob);
    }
  }

  has(ip: string): boolean {
    if (this.#networks.has(ip)) return true;
    if (this.#addresses.size === 0 && this.#globs.length === 0) return false;
    const text = withoutInterface(ip);
    return this.#addresses.has(text) || this.#globs.some((glob) => matchesGlob(glob, text));
  }
}

/** The access lists of one service. */
export class Acl {
  readonly #lists: readonly { readonly allow: Patterns | null; readonly deny: Patterns }[];

  constructor(lists: readonly AccessList[]) {
    this.#lists = lists.map(({ allow, deny }) => ({
      allow: allow === null ? null : new Patterns(allow),
      deny: new Patterns(deny),
    }));
  }

  /** The first reason to refuse a client, in the order of the lists; null: it may connect. */
  refusal(ip: string): Refusal | null {
    for (const { allow, deny } of this.#lists) {
      if (allow !== null && !allow.has(ip)) return 'not-allowed';
      if (deny.has(ip)) return 'denied';
    }
    return null;
  }
}

/** null: everybody may connect. */
export const compileAcl = (lists: readonly AccessList[]): Acl | null => {
  const telling = lists.filter(({ allow, deny }) => allow !== null || deny.length > 0);
  return telling.length === 0 ? null : new Acl(telling);
};
