import { chmodSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EX, Failure } from '../failure.js';
import type { ListenerHandle } from '../messages.js';
import { isUnix, type Service } from '../plan.js';
import { closeFd } from '../sys/process.js';
import { localUnixAddress, stopHandshakes } from '../sys/socket.js';
import { adoptSocket, applyOptions, makeFit, type Opened, openPlace, type Place } from './listen.js';
import { SocketFile } from './unix-socket.js';

/** How long a socket that shall be closed waits for the last step of handshakes that have begun, in ms: a long way there and back. */
const GRACE = 300;

/** How keys of unix sockets begin, and of those that have a file. */
const UNIX = 'unix ';
const UNIX_FILE = `${UNIX}/`;

/** Sockets by their place's key. */
export type Sockets = ReadonlyMap<string, readonly number[]>;

/** Has all workers leave sockets (see Command), and settles when they have. */
type Leave = (fds: readonly number[], last: boolean) => Promise<void>;

/** The sockets of one place, and who they are for. */
interface Share {
  /** Index into the plan's services. */
  readonly service: number;
  readonly isUdp: boolean;
  readonly host: string | null;
  readonly fds: readonly number[];
}

/** What a plan would change, with all sockets open that it needs. One of the two ends it. */
export interface Change {
  /** By worker. `service` is an index into the plan's services. */
  readonly handles: readonly (readonly ListenerHandle[])[];
  /** Names of places that are new. */
  readonly opened: readonly string[];
  /** Keys of places that the plan has no more. */
  readonly dropped: readonly string[];
  /** The plan counts: what it has no more is left, and closed once nothing waits there. */
  commit(): void;
  /** It does not: all is as it was. */
  abandon(): void;
}

/** All sockets that the process listens on, from plan to plan. The workers accept from them, and here they are closed. */
export class Listeners {
  readonly #workers: number;
  readonly #leave: Leave;
  readonly #complain: (why: string) => void;
  /** By place. */
  readonly #open = new Map<string, readonly number[]>();
  /** By place, of unix sockets that have one. */
  readonly #files = new Map<string, SocketFile>();
  /** Places where no handshakes begin any more, and what waits is still accepted. */
  readonly #ending = new Set<string>();
  /** Places of sockets that were handed to us: whoever did that goes on with them. */
  readonly #handed = new Set<string>();

  /** `complain` is told of files that stay behind. `taken` was taken over from another process. */
  constructor(workers: number, leave: Leave, complain: (why: string) => void, taken: Sockets = new Map()) {
    this.#workers = workers;
    this.#leave = leave;
    this.#complain = complain;
    for (const [key, fds] of taken) {
      this.#open.set(key, fds);
      if (key.startsWith(UNIX_FILE)) this.#files.set(key, new SocketFile(key.slice(UNIX.length)));
    }
  }

  /** How many sockets there are. */
  get count(): number {
    let count = 0;
    for (const fds of this.#open.values()) count += fds.length;
    return count;
  }

  get sockets(): Sockets {
    return this.#open;
  }

  /**
   * Listens on sockets that were handed to us, all for one service; returns what workers listen on, and names.
   * @throws Failure
   */
  adopt(fds: readonly number[], service: Service): Pick<Change, 'handles' | 'opened' | 'commit'> {
    const opened = fds.map((fd) => adoptSocket(fd, service));
    const commit = (): void => {
      for (const fd of fds) {
        const key = `${service.protocol} fd ${fd}`;
        this.#open.set(key, [fd]);
        this.#handed.add(key);
      }
    };
    const isUdp = service.protocol === 'udp';
    // One place each, although all are of one service: every worker has each of them.
    const shares = fds.map((fd) => ({ service: 0, isUdp, host: localUnixAddress(fd)?.path ?? null, fds: [fd] }));
    return { handles: this.#share(shares), opened, commit };
  }

  /**
   * Opens what is not open yet. Sockets of a place that is open stay what they are, with their queues.
   * @throws Failure when one can't be opened; nothing has changed then
   */
  async prepare(places: readonly Place[]): Promise<Change> {
    // What is being closed can't be opened anew before it is.
    if (places.some(({ key }) => this.#ending.has(key))) await this.settled();
    const opened = new Map<string, Opened>();
    const abandon = (): void => {
      for (const { fds, file } of opened.values()) {
        this.#remove(file);
        fds.forEach(closeFd);
      }
    };
    const kept: [Place, readonly number[]][] = [];
    const names: string[] = [];
    const shares: Share[] = [];
    try {
      for (const place of places) {
        const known = this.#open.get(place.key);
        if (known !== undefined) {
          for (const fd of known) makeFit(fd, place);
          kept.push([place, known]);
        }
        const fresh = known === undefined ? this.#openNew(place) : null;
        if (fresh !== null) opened.set(place.key, fresh);
        const fds = known ?? fresh?.fds ?? [];
        if (fresh !== null && fds.length > 0) names.push(place.name);
        const { index, host, service } = place;
        shares.push({ service: index, isUdp: service.protocol === 'udp', host: host ?? '::', fds });
      }
    } catch (error) {
      abandon();
      throw error;
    }
    const wanted = new Set(places.map(({ key }) => key));
    const dropped = [...this.#open.keys()].filter((key) => !wanted.has(key));
    const commit = (): void => {
      for (const [key, { fds, file }] of opened) {
        this.#open.set(key, fds);
        if (file !== null) this.#files.set(key, file);
      }
      for (const [place, fds] of kept) this.#adapt(place, fds);
      void this.#end(dropped);
    };
    return { handles: this.#share(shares), opened: names, dropped, commit, abandon };
  }

  /**
   * Lets no more connections begin, has all accepted that wait, but where others have the socket too, and settles when
   * nothing is listened on.
   */
  async close(): Promise<void> {
    await this.#end([...this.#open.keys()]);
    await this.settled();
  }

  /** Removes the files of unix sockets: the program ends. Those that another process has taken over are its own. */
  removeFiles(): void {
    for (const file of this.#files.values()) this.#remove(file);
    this.#files.clear();
  }

  /** Settles when everything is closed that shall be. */
  async settled(): Promise<void> {
    while (this.#ending.size > 0) await sleep(GRACE / 10);
  }

  /**
   * Leaves all sockets: those of `taken` as they are, because another process has them and accepts what waits there; the
   * others as close() does.
   */
  async handOver(taken: ReadonlySet<string>): Promise<void> {
    const theirs = [...this.#open.keys()].filter((key) => taken.has(key));
    const fds = theirs.flatMap((key) => this.#open.get(key) ?? []);
    for (const key of theirs) {
      this.#open.delete(key);
      this.#files.delete(key);
    }
    await this.#leave(fds, false);
    fds.forEach(closeFd);
    await this.close();
  }

  /** Sockets that stay get what the new plan says of them. */
  #adapt({ key, address, mode, service }: Place, fds: readonly number[]): void {
    for (const fd of fds) applyOptions(fd, address, service);
    if (mode === null || !isUnix(address) || !this.#files.has(key)) return;
    try {
      chmodSync(address.path, mode);
    } catch (error) {
      this.#complain(`chmod ${address.path}: ${(error as NodeJS.ErrnoException).code}: it keeps the mode that it had`);
    }
  }

  #remove(file: SocketFile | null | undefined): void {
    const problem = file?.remove() ?? null;
    if (problem !== null) this.#complain(problem);
  }

  #openNew(place: Place): Opened {
    try {
      return openPlace(place, this.#workers);
    } catch (error) {
      if (!(error instanceof Failure) || error.exitCode !== EX.UNAVAILABLE) throw error;
      throw new Failure(`${error.message}${this.#overlap(place)}`, EX.UNAVAILABLE);
    }
  }

  /** Why our own sockets may be the ones in the way: one for all addresses and one for one of them exclude each other. */
  #overlap({ address, service: { protocol } }: Place): string {
    if (isUnix(address)) return '';
    const { ip, port } = address;
    const all = ip.includes(':') ? '[::]' : '0.0.0.0';
    const same = [...this.#open.keys()].find((key) =>
      ip === '::' || ip === '0.0.0.0'
        ? key.startsWith(protocol) && key.endsWith(`:${port}`)
        : key === `${protocol} ${all}:${port}`,
    );
    return same === undefined ? '' : `: this one does, on ${same}; a change between the two needs a restart`;
  }

  async #end(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const handed = keys.filter((key) => this.#handed.has(key)).flatMap((key) => this.#open.get(key) ?? []);
    const own = keys.filter((key) => !this.#handed.has(key));
    const fds = own.flatMap((key) => this.#open.get(key) ?? []);
    // A socket for datagrams is also the way out for the answers.
    const tcp = own.filter((key) => key.startsWith('tcp ')).flatMap((key) => this.#open.get(key) ?? []);
    tcp.forEach(stopHandshakes);
    for (const key of keys) {
      // Who looks for the socket from now on finds none.
      this.#remove(this.#files.get(key));
      this.#files.delete(key);
      this.#open.delete(key);
      this.#ending.add(key);
    }
    await this.#leave(handed, false);
    await sleep(GRACE);
    await this.#leave(fds, true);
    for (const fd of [...handed, ...fds]) closeFd(fd);
    for (const key of keys) this.#ending.delete(key);
  }

  /**
   * Shares sockets out: each worker has one of a place's, or more where there are more sockets than workers, and where
   * there are fewer, workers share. Those for datagrams are one worker's each: of several each datagram would come to
   * another one, and make flows in all of them.
   */
  #share(shares: readonly Share[]): ListenerHandle[][] {
    const handles: ListenerHandle[][] = Array.from({ length: this.#workers }, () => []);
    for (const { service, isUdp, host, fds } of shares) {
      const most = fds.length === 0 || isUdp ? fds.length : Math.max(this.#workers, fds.length);
      for (let i = 0; i < most; i++) {
        handles[i % this.#workers]?.push({ service, fd: fds[i % fds.length] as number, host });
      }
    }
    return handles;
  }
}
