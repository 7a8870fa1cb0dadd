import { readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EX, Failure } from '../failure.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import {
  connectAbstract,
  listenAbstract,
  MOST_FDS,
  peerCredentials,
  receiveRights,
  sendRights,
} from '../sys/rights.js';
import { accept } from '../sys/socket.js';
import type { Sockets } from './listeners.js';
import { readPidFile } from './pid-file.js';

/**
 * How a new process takes the listening sockets over from a running one, through a unix socket that the running one
 * listens on: the very sockets, so that a connection is accepted by the one or the other, and never lost between them.
 *
 * ```
 * new                         old
 * take ──────────────────────►          to root, or to who has started the old one
 *      ◄────────────────────── sockets  one message or more, with descriptors
 *      (it serves)
 * taken, ready ──────────────►          which of them it has; the old one listens no more
 *      ◄────────────────────── released
 *      (it writes the pid file)
 * done ──────────────────────►          the old one drains and ends
 * ```
 * If the channel breaks before `ready`, the old one goes on as if nothing had been.
 */
type Message =
  | { readonly kind: 'take'; readonly version: number }
  /** The descriptors that come with it, in this order. */
  | {
      readonly kind: 'sockets';
      readonly places: readonly (readonly [key: string, count: number])[];
      readonly last: boolean;
    }
  | { readonly kind: 'taken'; readonly places: readonly string[] }
  /** `drain`: how long the old one's connections may go on, in ms, if it would not let them that long itself. */
  | { readonly kind: 'ready'; readonly drain: number }
  | { readonly kind: 'released' }
  | { readonly kind: 'done' };

const VERSION = 1;

/** Keys of places in one message. */
const MOST_PLACES = 500;

/** How often a channel is looked at: Node can't wait for a descriptor of ours. */
const LOOK = 5;

/** Longest waits for the other process, in ms: for an answer, and for the new one to get ready. */
const ANSWER = 10_000;
const READY = 60_000;

/** How long the old one drains when neither has a time for it: to cut all connections is not what anybody means. */
export const DEFAULT_DRAIN = 60_000;

/** Where a process listens. Its number means something only in its namespace of processes, and names are the network's. */
const nameOf = (pid: number): string => `tproxy/${readlinkSync('/proc/self/ns/pid').replace(/\D/g, '')}/${pid}`;

/** One end of the connection between the two. */
class Channel {
  constructor(readonly fd: number) {}

  /** @throws Failure when the other end has closed, is silent, or says something else */
  async receive<K extends Message['kind']>(
    kinds: readonly K[],
    within: number,
  ): Promise<{ readonly message: Extract<Message, { kind: K }>; readonly fds: readonly number[] }> {
    for (const end = Date.now() + within; ; await sleep(LOOK)) {
      const received = receiveRights(this.fd);
      if (received === -E.AGAIN && Date.now() < end) continue;
      if (typeof received === 'number') {
        throw broken(
          received === -E.AGAIN ? `no answer within ${within / 1000} s` : `recvmsg: ${errnoName(-received)}`,
        );
      }
      if (received.data.length === 0) throw broken('the other process has ended it');
      const message = JSON.parse(received.data.toString('utf8')) as Message;
      if ((kinds as readonly string[]).includes(message.kind)) {
        return { message: message as Extract<Message, { kind: K }>, fds: received.fds };
      }
      received.fds.forEach(closeFd);
      throw broken(`the other process says ${message.kind} where ${kinds.join(' or ')} belongs`);
    }
  }

  /** @throws Failure */
  async send(message: Message, fds: readonly number[] = []): Promise<void> {
    const data = Buffer.from(JSON.stringify(message));
    for (const end = Date.now() + ANSWER; ; await sleep(LOOK)) {
      const sent = sendRights(this.fd, data, fds);
      if (sent === 0) return;
      // Its buffer is full, or as many descriptors are on their way as a user may have open (ETOOMANYREFS, unix(7)).
      const waits = sent === -E.AGAIN || sent === -E.TOOMANYREFS;
      if (!waits || Date.now() > end) throw broken(`sendmsg: ${errnoName(-sent)}`);
    }
  }

  close(): void {
    closeFd(this.fd);
  }
}

const broken = (why: string): Failure => new Failure(`takeover: ${why}`, EX.UNAVAILABLE);

/** The running process's side. */
export class TakeoverOffer {
  /** A listening socket. */
  readonly fd: number;
  readonly #startedAs: number;

  private constructor(fd: number) {
    this.fd = fd;
    this.#startedAs = process.getuid?.() ?? 0;
  }

  /**
   * Begins to listen. Call it as the user who starts the program: that one may take over, and root; but not the user who
   * we become, and whatever else runs as that. null, and `complain` is told, where it can't be.
   */
  static make(complain: (why: string) => void): TakeoverOffer | null {
    try {
      return new TakeoverOffer(listenAbstract(nameOf(process.pid)));
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      complain(`${error.message}: --takeover will not work with this process`);
      return null;
    }
  }

  /**
   * Serves whoever knocks, if anybody does: offers `sockets`, and has `handOver` called with the keys of those that the
   * other one has. Settles with how long the other one would have us drain, in ms; with null when there was nobody.
   * @throws Failure when it came to nothing, and this process shall go on
   */
  async answer(sockets: Sockets, handOver: (taken: ReadonlySet<string>) => Promise<void>): Promise<number | null> {
    const fd = accept(this.fd);
    if (fd < 0) return null;
    const channel = new Channel(fd);
    try {
      const { pid, uid } = peerCredentials(fd);
      if (uid !== 0 && uid !== this.#startedAs) throw broken(`process ${pid} of user #${uid} may not have the sockets`);
      const { message } = await channel.receive(['take'], ANSWER);
      if (message.version !== VERSION) throw broken(`process ${pid} speaks version ${message.version}, not ${VERSION}`);
      await this.#sendSockets(channel, sockets);
      const taken = new Set<string>();
      for (;;) {
        const { message: next } = await channel.receive(['taken', 'ready'], READY);
        if (next.kind === 'taken') for (const place of next.places) taken.add(place);
        else {
          await handOver(taken);
          await this.#release(channel);
          return next.drain;
        }
      }
    } finally {
      channel.close();
    }
  }

  close(): void {
    closeFd(this.fd);
  }

  async #sendSockets(channel: Channel, sockets: Sockets): Promise<void> {
    const flat = [...sockets].flatMap(([key, fds]) => fds.map((fd) => [key, fd] as const));
    for (let at = 0; at === 0 || at < flat.length; at += MOST_FDS) {
      const some = flat.slice(at, at + MOST_FDS);
      const counts = new Map<string, number>();
      for (const [key] of some) counts.set(key, (counts.get(key) ?? 0) + 1);
      const last = at + MOST_FDS >= flat.length;
      await channel.send(
        { kind: 'sockets', places: [...counts], last },
        some.map(([, fd]) => fd),
      );
    }
  }

  /** From here on it is the other one that serves, whatever becomes of the channel. */
  async #release(channel: Channel): Promise<void> {
    try {
      await channel.send({ kind: 'released' });
      await channel.receive(['done'], ANSWER);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
    }
  }
}

/** The new process's side. */
export class Takeover {
  readonly #channel: Channel;
  readonly #sockets: Sockets;
  readonly #taken: string[] = [];

  private constructor(channel: Channel, sockets: Sockets) {
    this.#channel = channel;
    this.#sockets = sockets;
  }

  /**
   * Asks the process that a pid file names for its sockets; null when there is none, and nothing to take over.
   * @throws Failure
   */
  static async begin(pidFile: string): Promise<Takeover | null> {
    const pid = readPidFile(pidFile);
    if (pid === null || !isRunning(pid)) return null;
    let channel: Channel;
    try {
      channel = new Channel(connectAbstract(nameOf(pid)));
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      throw broken(`process ${pid}, which ${pidFile} names: ${error.message} (it must be a tproxy with a pid file)`);
    }
    try {
      // Anybody can listen on a name of this kind.
      if (peerCredentials(channel.fd).pid !== pid) throw broken(`it is not process ${pid} that answers for it`);
      await channel.send({ kind: 'take', version: VERSION });
      const sockets = new Map<string, number[]>();
      for (;;) {
        const { message, fds } = await channel.receive(['sockets'], ANSWER);
        let at = 0;
        for (const [key, count] of message.places) {
          sockets.set(key, [...(sockets.get(key) ?? []), ...fds.slice(at, at + count)]);
          at += count;
        }
        // What finds no room in our table of descriptors is thrown away by the kernel (unix(7)).
        if (at !== fds.length) throw broken(`only ${fds.length} of ${at} sockets have come: EMFILE`);
        if (message.last) return new Takeover(channel, sockets);
      }
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  /** The sockets of these places, as far as there are any; the others are let go. */
  take(places: ReadonlySet<string>): Sockets {
    const taken = new Map<string, readonly number[]>();
    for (const [key, fds] of this.#sockets) {
      if (places.has(key)) taken.set(key, fds);
      else fds.forEach(closeFd);
    }
    this.#taken.push(...taken.keys());
    return taken;
  }

  /**
   * Says that this process serves, and settles when the other one listens no more.
   * @throws Failure
   */
  async ready(drain: number): Promise<void> {
    for (let at = 0; at < this.#taken.length; at += MOST_PLACES) {
      await this.#channel.send({ kind: 'taken', places: this.#taken.slice(at, at + MOST_PLACES) });
    }
    await this.#channel.send({ kind: 'ready', drain });
    await this.#channel.receive(['released'], ANSWER);
  }

  /** Lets the other process end. */
  async done(): Promise<void> {
    try {
      await this.#channel.send({ kind: 'done' });
    } catch (error) {
      // It has not waited for so long; there is nothing that it is still needed for.
      if (!(error instanceof Failure)) throw error;
    }
    this.#channel.close();
  }
}

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
};
