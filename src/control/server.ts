import type { Counters, Slot } from '../counters.js';
import { EX, Failure } from '../failure.js';
import type { Report } from '../messages.js';
import { allocateOwnSockets } from '../own-sockets.js';
import type { Reading } from '../plan.js';
import { drained } from './drain.js';
import { type Beginning, InForce } from './in-force.js';
import type { Change, Listeners } from './listeners.js';
import { NameCache } from './name-cache.js';
import type { PidFile } from './pid-file.js';
import { Coalesced, InTurn } from './reload.js';
import { DEFAULT_DRAIN, type TakeoverOffer } from './takeover.js';
import type { TcpWrappers } from './tcp-wrappers.js';
import type { Workers } from './workers.js';

/** What a server has when it starts, beside its plan. */
interface Parts {
  readonly pidFile: PidFile | null;
  readonly offer: TakeoverOffer | null;
  /** Reads the plan again; undefined where it does not come from a file. Throws Failure. */
  readonly reread: (() => Reading) | undefined;
}

/** The server, from its first worker to its end: what signals and workers say, and what follows from it. */
export class Server {
  readonly ended: Promise<number>;
  readonly #parts: Parts;
  readonly #counters: Counters;
  readonly #workers: Workers;
  readonly #listeners: Listeners;
  readonly #names = new NameCache();
  readonly #inForce: InForce;
  readonly #reload = new Coalesced(() => this.#turn.run(() => this.#reloadNow()));
  /** A reload and a takeover wait for each other: both change what is listened on. */
  readonly #turn = new InTurn();
  /** Clients that TCP wrappers are being asked about. */
  #undecided = 0;
  #end: (code: number) => void = () => {};
  /** It serves; or what is open may come to its end; or it ends. */
  #state: 'serving' | 'draining' | 'ending' = 'serving';
  #handingOver = false;
  /** A signal to stop that came while another process was taking over. */
  #stopSignal: string | null = null;

  constructor(beginning: Beginning, parts: Parts) {
    this.#parts = parts;
    this.#workers = beginning.workers;
    this.#listeners = beginning.listeners;
    this.#counters = beginning.counters;
    this.#inForce = new InForce(beginning);
    this.ended = new Promise((settle) => {
      this.#end = settle;
    });
  }

  async startWorkers(handles: Change['handles']): Promise<void> {
    const { offer } = this.#parts;
    const { services: _, ...settings } = this.#inForce.plan;
    const services = this.#inForce.firstServices();
    const ownSockets = allocateOwnSockets();
    const budget = this.#inForce.budget();
    await Promise.all(
      handles.map((listeners, index) =>
        this.#workers.start({
          index,
          settings,
          services,
          listeners,
          maxConnections: budget.connections,
          maxPipes: budget.pipes,
          knockFd: index === 0 ? (offer?.fd ?? null) : null,
          ownSockets,
        }),
      ),
    );
    this.#inForce.begin();
  }

  /** The first time, connections may go on for the plan's time; the second time nothing does. */
  stop(signal: string): void {
    const { drain } = this.#inForce.plan;
    if (this.#state === 'draining' || drain === 0 || this.#stopSignal !== null) {
      this.#log('info', `${signal}: ending`);
      void this.#shutDown(EX.OK);
    } else if (this.#handingOver) {
      // To close the sockets now would take them from the other process too.
      this.#log('info', `${signal}: when the takeover has come to something`);
      this.#stopSignal = signal;
    } else if (this.#state === 'serving') {
      void this.#drain(signal, this.#listeners.close(), drain);
    }
  }

  /** Opens the logs anew, and where the plan comes from a file, reads it; else only its hosts' names are looked up. */
  reload(): void {
    this.reopen();
    if (this.#parts.reread !== undefined) void this.#reload.run();
    else this.#inForce.lookAgain();
  }

  reopen(): void {
    this.#inForce.reopen();
  }

  dump(): void {
    const sum = (slot: Slot): number => this.#counters.total(slot);
    // A signal asked for it, and the level that redir has by default shall not hide it.
    this.#log(
      'notice',
      `SIGUSR2: ${sum('open')} connections open, ${sum('accepted')} accepted, ${sum('refused')} refused`,
    );
    this.#workers.tell({ kind: 'dump' });
  }

  /** Ends the server when there was no connection for the plan's time. */
  endWhenIdle(): void {
    const { exitIdle } = this.#inForce.plan;
    let idleSince = Date.now();
    let accepted = 0;
    const check = setInterval(
      () => {
        const now = this.#counters.total('accepted');
        if (now !== accepted || this.#undecided > 0 || this.#counters.total('open') > 0) {
          accepted = now;
          idleSince = Date.now();
        } else if (Date.now() - idleSince >= exitIdle) {
          clearInterval(check);
          this.#log('info', `no connection for ${exitIdle / 1000} s: ending`);
          void this.#shutDown(EX.OK);
        }
      },
      Math.min(1000, exitIdle / 4),
    );
  }

  onReport(report: Exclude<Report, { kind: 'ready' | 'left' }>, worker: number): void {
    switch (report.kind) {
      case 'log':
        this.#log(report.level, report.message);
        return;
      case 'access': {
        const problem = this.#inForce.accessLog?.write(report.lines) ?? null;
        if (problem !== null) this.#log('error', problem);
        return;
      }
      case 'dump':
        for (const line of report.lines) this.#log('notice', line);
        return;
      case 'unreachable':
        this.#inForce.onUnreachable(report.service);
        return;
      case 'knock':
        void this.#turn.run(() => this.#handOver());
        return;
      case 'resolve':
        void this.#answer(report.name, worker);
        return;
      case 'admission':
        void this.#decide(report, worker);
    }
  }

  #log(...[level, message]: Parameters<InForce['log']['write']>): void {
    this.#inForce.log.write(level, message);
  }

  async #reloadNow(): Promise<void> {
    if (this.#state !== 'serving') return;
    let reading: Reading;
    try {
      reading = (this.#parts.reread as () => Reading)();
    } catch (error) {
      // Whatever a file does to its reader, the server goes on without it.
      this.#sayUnchanged(error instanceof Failure ? error.message : ((error as Error).stack ?? String(error)));
      return;
    }
    try {
      await this.#inForce.replaceBy(reading, () => this.#state === 'serving');
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#sayUnchanged(error.message);
    }
  }

  #sayUnchanged(why: string): void {
    for (const line of why.split('\n')) this.#log('error', `reload: ${line}`);
    this.#log('error', 'reload: nothing was changed');
  }

  /** Hands the listening sockets over to who asks for them, if it may have them and gets ready. */
  async #handOver(): Promise<void> {
    const { offer } = this.#parts;
    if (offer === null || this.#state !== 'serving') return;
    this.#handingOver = true;
    try {
      await this.#listeners.settled();
      const drain = await offer.answer(this.#listeners.sockets, (taken) => {
        this.#state = 'draining';
        // The status file is the other one's from now on.
        this.#inForce.end();
        return this.#listeners.handOver(taken);
      });
      if (drain === null) return;
      const within = Math.max(drain, this.#inForce.plan.drain) || DEFAULT_DRAIN;
      // Nobody waits for its end.
      void this.#drain('takeover', Promise.resolve(), within);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#log('error', `${error.message}; this process goes on`);
      // Another one may have knocked meanwhile.
      void this.#turn.run(() => this.#handOver());
    } finally {
      this.#handingOver = false;
      const signal = this.#stopSignal;
      this.#stopSignal = null;
      if (signal !== null && this.#state === 'serving') this.stop(signal);
    }
  }

  /** Ends when `closed` has settled and the last connection has ended, or the time is over. */
  async #drain(why: string, closed: Promise<void>, within: number): Promise<void> {
    this.#state = 'draining';
    const open = this.#counters.total('open');
    this.#log('info', `${why}: ${open} connections may go on for up to ${within / 1000} s`);
    const left = await drained(this.#counters, closed, within);
    this.#log('info', left === 0 ? 'all connections have ended' : `${left} connections are cut`);
    await this.#shutDown(EX.OK);
  }

  async #answer(name: string, worker: number): Promise<void> {
    const ips = await this.#names.lookup(name);
    this.#workers.tellOne(worker, { kind: 'resolved', name, ips });
  }

  async #decide({ id, daemon, ip }: Extract<Report, { kind: 'admission' }>, worker: number): Promise<void> {
    this.#undecided++;
    const refusal = await (this.#inForce.wrappers as TcpWrappers).refusal(daemon, ip);
    this.#undecided--;
    this.#workers.tellOne(worker, { kind: 'admitted', id, refusal });
  }

  /** Whatever is wrong with the main thread, the workers must not go on without it. */
  onDefect(error: Error): void {
    this.onDeath(`main thread: ${error.stack ?? error.message}`);
  }

  onDeath(reason: string): void {
    this.#log('error', `${reason}; the process ends`);
    void this.#shutDown(EX.SOFTWARE);
  }

  async #shutDown(code: number): Promise<void> {
    if (this.#state === 'ending') return;
    this.#state = 'ending';
    this.#parts.offer?.close();
    this.#inForce.end();
    await this.#workers.stop();
    this.#listeners.removeFiles();
    this.#parts.pidFile?.remove();
    this.#end(code);
  }
}
