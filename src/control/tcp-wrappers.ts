import { accessSync, constants } from 'node:fs';
import { isAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { type Judge, LIBWRAP, loadLibwrap, PARANOID, UNKNOWN } from '../sys/libwrap.js';
import { NameCache } from './name-cache.js';
import { resolveHost } from './resolve.js';

/** What libwrap reads. One that it can't read counts for it like one that is not there: everybody may come. */
const TABLES = ['/etc/hosts.allow', '/etc/hosts.deny'];

/** How long a client's name is looked for, in ms; without one it is unknown, as where it has none. */
const LONGEST_LOOKUP = 3000;

/**
 * TCP wrappers, asked about each client (hosts_access(5)). The library is given the client's address and name, but looks
 * neither up: patterns for a user, or for one of our own addresses (`daemon@host`), match nobody.
 */
export class TcpWrappers {
  readonly #judge: Judge;
  readonly #names: NameCache;
  readonly #tables: readonly string[];

  /** @throws Failure when the library can't be loaded */
  constructor(
    judge: Judge = load(),
    nameOf: (ip: string) => Promise<readonly string[]> = nameOfClient,
    tables = TABLES,
  ) {
    this.#judge = judge;
    this.#names = new NameCache(nameOf);
    this.#tables = tables;
  }

  /** Why the client may not use `daemon`; null if it may. `ip`: null for one without an address. Never rejects. */
  async refusal(daemon: string, ip: string | null): Promise<string | null> {
    const address = ip?.replace(/%.*$/, '') ?? UNKNOWN;
    const name = ip === null ? UNKNOWN : await this.#nameOf(address);
    for (const table of this.#tables) {
      try {
        accessSync(table, constants.R_OK);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOENT') return `${table}: ${code}`;
      }
    }
    return this.#judge(daemon, name, address) ? null : `its name is ${name}, the service's ${daemon}`;
  }

  async #nameOf(ip: string): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<readonly string[]>((settle) => {
      timer = setTimeout(() => settle([]), LONGEST_LOOKUP);
    });
    const [name] = await Promise.race([this.#names.lookup(ip), late]);
    clearTimeout(timer);
    return name ?? UNKNOWN;
  }
}

const load = (): Judge => {
  try {
    return loadLibwrap();
  } catch (error) {
    const why = (error as Error).message;
    throw new Failure(`TCP wrappers: ${LIBWRAP}: ${why} (in Debian it is in the package libwrap0)`, EX.UNAVAILABLE);
  }
};

/**
 * The name of an address, none if it has none, as libwrap finds it (sock_hostname() in socket.c): one whose addresses
 * don't have this among them is nobody's, and neither is one that looks like an address.
 */
const nameOfClient = async (ip: string): Promise<readonly string[]> => {
  const { lookupService } = await import('node:dns/promises');
  let name: string;
  try {
    name = (await lookupService(ip, 0)).hostname;
  } catch {
    return [];
  }
  // getnameinfo(3) gives the address itself where there is no name.
  if (name === ip) return [];
  if (isAddress(name)) return [PARANOID];
  try {
    return (await resolveHost(name)).includes(ip) ? [name] : [PARANOID];
  } catch (error) {
    if (error instanceof Failure) return [PARANOID];
    throw error;
  }
};
