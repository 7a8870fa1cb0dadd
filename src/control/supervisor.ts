import { availableParallelism } from 'node:os';
import type { UpstreamAddress } from '../address.js';
import { allocateCounters, total } from '../counters.js';
import { EX, Failure } from '../failure.js';
import type { ListenerHandle, Report } from '../messages.js';
import { allocateOwnSockets } from '../own-sockets.js';
import type { Plan, Service } from '../plan.js';
import { CAP_NET_BIND_SERVICE } from '../sys/capabilities.js';
import { AccessLog } from './access-log.js';
import { announceReady, isDaemon } from './daemonize.js';
import { drained } from './drain.js';
import { Hosts, sameAddresses } from './hosts.js';
import { type Budget, raiseDescriptorLimit, shareDescriptors } from './limits.js';
import { placesOf } from './listen.js';
import { type Change, Listeners } from './listeners.js';
import { type Log, openLog } from './log.js';
import { NameCache } from './name-cache.js';
import { PidFile } from './pid-file.js';
import { dropPrivileges, findUser, held } from './privileges.js';
import { Probes } from './probes.js';
import { Coalesced, ServiceIds, withFixed } from './reload.js';
import { handleSignals } from './signals.js';
import { DEFAULT_DRAIN, Takeover, TakeoverOffer } from './takeover.js';
import { checkWorkersLoadable, Workers } from './workers.js';

/** How often hosts' names are looked up again while there is traffic, in ms. */
const RESOLVE_INTERVAL = 10_000;

/** After a failed connect they are looked up at once, but not more often than this. */
const RESOLVE_PAUSE = 1000;

/** How a plan is carried out, beside what stands in it. */
export interface Start {
  /** Reads the plan again, from the file that it comes from. Throws Failure. */
  readonly reread?: (() => Plan) | undefined;
  /** The pid file of a process to take the listening sockets over from. */
  readonly takeover?: string | undefined;
}

/**
 * The server from start to end. `inherited` are listening sockets that were handed to us; without any, the plan's own
 * are opened. Settles with the exit code, when a signal, idleness, another process that takes over or a
 * dead worker ends it.
 * @throws Failure when it can't start; nothing is left running then
 */
export const supervise = async (
  plan: Plan,
  inherited: readonly number[],
  { reread, takeover: from }: Start = {},
): Promise<number> => {
  const workerCount = plan.workers ?? availableParallelism();
  const logTo = logsToStderr(plan, inherited) ? 'stderr' : 'syslog';
  const log = openLog(logTo, plan.logLevel);
  const limit = raiseDescriptorLimit();
  const user = plan.user === null ? null : findUser(plan.user);
  const hosts = await Hosts.resolve(plan, log);
  const places = await placesOf(plan);
  const takeover = from === undefined ? null : await Takeover.begin(from);
  const workers: Workers = new Workers({
    onReport: (report, worker) => server.onReport(report, worker),
    onDeath: (reason) => server.onDeath(reason),
  });
  const taken = takeover?.take(new Set(places.map(({ key }) => key)));
  const listeners = new Listeners(workerCount, (fds, last) => workers.leave(fds, last), taken);
  const change =
    inherited.length > 0 ? listeners.adopt(inherited, plan.services[0] as Service) : await listeners.prepare(places);
  change.commit();
  const accessLog = plan.accessLog === null ? null : new AccessLog(plan.accessLog.path, user);
  const pidFile = plan.pidFile === null ? null : new PidFile(plan.pidFile);
  // With a takeover it names the other process, until that one serves no more.
  if (takeover === null) pidFile?.write();
  // Before the drop, so that it knows who starts us.
  const offer = pidFile === null ? null : TakeoverOffer.make((why) => log.write('warn', why));
  // Before the first worker: capabilities belong to a thread and are inherited when it starts.
  try {
    // The file may come to have ports below 1024.
    const kept = reread === undefined ? [] : held([CAP_NET_BIND_SERVICE]);
    if (user !== null) dropPrivileges(user, kept);
  } catch (error) {
    pidFile?.remove();
    throw error;
  }
  checkWorkersLoadable();

  const server: Server = new Server({
    plan,
    log,
    logTo,
    accessLog,
    hosts,
    workers,
    listeners,
    pidFile,
    offer,
    limit,
    workerCount,
    reread,
  });
  await server.startWorkers(change.handles);
  handleSignals(server);
  process.on('uncaughtException', (error) => server.onDefect(error));
  for (const name of change.opened) log.write('info', `listening on ${name}`);
  if (takeover !== null) {
    try {
      await takeover.ready(plan.drain);
    } catch (error) {
      await workers.stop();
      throw error;
    }
    pidFile?.write();
    await takeover.done();
    log.write('info', `took ${taken?.size ?? 0} listening addresses over`);
  } else if (from !== undefined) log.write('info', `${from} names no process: nothing to take over`);
  log.write('info', `ready: ${workerCount} workers${user === null ? '' : `, as user ${user.name}`}`);
  if (isDaemon()) announceReady();
  if (inherited.length > 0) server.endWhenIdle();
  return server.ended;
};

/** Under inetd stderr is the client's socket, or inetd's own; systemd's stderr is the journal. */
const logsToStderr = (plan: Plan, inherited: readonly number[]): boolean =>
  plan.foreground || (inherited.length > 0 && !inherited.includes(0));

/** What a server has when it starts. */
interface Parts {
  readonly plan: Plan;
  readonly log: Log;
  readonly logTo: 'stderr' | 'syslog';
  readonly accessLog: AccessLog | null;
  readonly hosts: Hosts;
  readonly workers: Workers;
  readonly listeners: Listeners;
  readonly pidFile: PidFile | null;
  readonly offer: TakeoverOffer | null;
  /** Descriptors that the process may have. */
  readonly limit: number;
  readonly workerCount: number;
  readonly reread: (() => Plan) | undefined;
}

class Server {
  readonly ended: Promise<number>;
  readonly #parts: Parts;
  readonly #counters: SharedArrayBuffer;
  readonly #workers: Workers;
  readonly #listeners: Listeners;
  readonly #names = new NameCache();
  readonly #probes: Probes;
  readonly #reload = new Coalesced(() => this.#reloadNow());
  // Of the plan that is in force.
  #plan: Plan;
  #log: Log;
  #accessLog: AccessLog | null;
  #hosts: Hosts;
  readonly #services: ServiceIds;

  #resolvedAt = Date.now();
  #acceptedThen = 0;
  #end: (code: number) => void = () => {};
  /** It serves; or what is open may come to its end; or it ends. */
  #state: 'serving' | 'draining' | 'ending' = 'serving';
  #handingOver = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#plan = parts.plan;
    this.#log = parts.log;
    this.#accessLog = parts.accessLog;
    this.#hosts = parts.hosts;
    this.#workers = parts.workers;
    this.#listeners = parts.listeners;
    this.#counters = allocateCounters(parts.workerCount);
    this.#services = new ServiceIds(parts.plan.services);
    this.#probes = new Probes({
      log: { write: (level, message) => this.#log.write(level, message) },
      addressesOf: (service, upstream) => this.#hosts.addresses[this.#services.indexOf(service)]?.[upstream] ?? [],
      onHealth: (service, upstream, up) => this.#workers.tell({ kind: 'health', service, upstream, up }),
    });
    this.ended = new Promise((settle) => {
      this.#end = settle;
    });
  }

  async startWorkers(handles: Change['handles']): Promise<void> {
    const { offer } = this.#parts;
    const ownSockets = allocateOwnSockets();
    const budget = this.#budget();
    await Promise.all(
      handles.map((listeners, index) =>
        this.#workers.start({
          index,
          plan: this.#plan,
          listeners,
          addresses: this.#hosts.addresses,
          maxConnections: budget.connections,
          maxPipes: budget.pipes,
          knockFd: index === 0 ? (offer?.fd ?? null) : null,
          counters: this.#counters,
          ownSockets,
        }),
      ),
    );
    // Not unref'ed: this timer is what keeps the main thread's event loop alive.
    setInterval(() => {
      const accepted = total(this.#counters, 'accepted');
      if (accepted > this.#acceptedThen) void this.#resolveAgain();
      this.#acceptedThen = accepted;
    }, RESOLVE_INTERVAL);
    this.#probes.begin(this.#plan.services.entries());
  }

  /** The first time, connections may go on for the plan's time; the second time nothing does. */
  stop(signal: string): void {
    const { drain } = this.#plan;
    if (this.#state === 'draining' || drain === 0) {
      this.#log.write('info', `${signal}: ending`);
      void this.#shutDown(EX.OK);
    } else if (this.#state === 'serving') {
      void this.#drain(signal, this.#listeners.close(), drain);
    }
  }

  /** Opens the logs anew, and where the plan comes from a file, reads it; else only its hosts' names are looked up. */
  reload(): void {
    this.reopen();
    if (this.#parts.reread !== undefined) void this.#reload.run();
    else void this.#resolveAgain();
  }

  reopen(): void {
    const problem = this.#accessLog?.reopen() ?? null;
    if (problem !== null) this.#log.write('error', problem);
    else this.#log.write('info', 'logs reopened');
  }

  dump(): void {
    const sum = (slot: Parameters<typeof total>[1]): number => total(this.#counters, slot);
    this.#log.write(
      'info',
      `SIGUSR2: ${sum('open')} connections open, ${sum('accepted')} accepted, ${sum('refused')} refused`,
    );
    this.#workers.tell({ kind: 'dump' });
  }

  /** Ends the server when there was no connection for the plan's time. */
  endWhenIdle(): void {
    const { exitIdle } = this.#plan;
    let idleSince = Date.now();
    let accepted = 0;
    const check = setInterval(
      () => {
        const now = total(this.#counters, 'accepted');
        if (now !== accepted || total(this.#counters, 'open') > 0) {
          accepted = now;
          idleSince = Date.now();
        } else if (Date.now() - idleSince >= exitIdle) {
          clearInterval(check);
          this.#log.write('info', `no connection for ${exitIdle / 1000} s: ending`);
          void this.#shutDown(EX.OK);
        }
      },
      Math.min(1000, exitIdle / 4),
    );
  }

  onReport(report: Exclude<Report, { kind: 'ready' | 'left' }>, worker: number): void {
    switch (report.kind) {
      case 'log':
        this.#log.write(report.level, report.message);
        return;
      case 'access': {
        const problem = this.#accessLog?.write(report.lines) ?? null;
        if (problem !== null) this.#log.write('error', problem);
        return;
      }
      case 'dump':
        for (const line of report.lines) this.#log.write('info', line);
        return;
      case 'unreachable':
        if (Date.now() - this.#resolvedAt >= RESOLVE_PAUSE) void this.#resolveAgain();
        return;
      case 'knock':
        void this.#handOver();
        return;
      case 'resolve':
        void this.#answer(report.name, worker);
    }
  }

  async #resolveAgain(): Promise<void> {
    this.#resolvedAt = Date.now();
    const hosts = this.#hosts;
    await hosts.refresh((service, host, addresses) => this.#tellAddresses(hosts, service, host, addresses));
  }

  /** `service` is an index of the plan that `hosts` are of, which another may have followed by now. */
  #tellAddresses(hosts: Hosts, service: number, host: number, addresses: readonly UpstreamAddress[]): void {
    const id = this.#services.ids[service];
    if (hosts !== this.#hosts || id === undefined) return;
    this.#workers.tell({ kind: 'addresses', service: id, host, addresses });
  }

  async #reloadNow(): Promise<void> {
    try {
      if (this.#state !== 'serving') return;
      const { plan, refused } = withFixed(this.#plan, (this.#parts.reread as () => Plan)());
      const log = openLog(this.#parts.logTo, plan.logLevel);
      const hosts = await Hosts.resolve(plan, log);
      const places = await placesOf(plan);
      const change = await this.#listeners.prepare(places);
      // From here on nothing waits: either all of it counts, or nothing.
      if (this.#state !== 'serving') {
        change.abandon();
        return;
      }
      let accessLog: AccessLog | null;
      try {
        accessLog = this.#accessLogFor(plan);
      } catch (error) {
        change.abandon();
        throw error;
      }
      if (accessLog !== this.#accessLog) this.#accessLog?.close();
      this.#accessLog = accessLog;
      this.#log = log;
      for (const what of refused) log.write('warn', `reload: ${what} can't be changed without a restart, and stays`);
      this.#replace(plan, hosts, change);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#log.write('error', `reload: ${error.message}`);
      this.#log.write('error', 'reload: nothing was changed');
    }
  }

  /** @throws Failure */
  #accessLogFor({ accessLog }: Plan): AccessLog | null {
    if (accessLog === null) return null;
    return accessLog.path === this.#accessLog?.path ? this.#accessLog : new AccessLog(accessLog.path, null);
  }

  /** Puts another plan in force. */
  #replace(plan: Plan, hosts: Hosts, change: Change): void {
    const before = new Map(this.#services.ids.map((id, i) => [id, this.#hosts.addresses[i] ?? []]));
    const { ids, added, gone } = this.#services.succeed(plan.services);
    this.#plan = plan;
    this.#hosts = hosts;
    change.commit();
    const { services, ...settings } = plan;
    const starts = added.map((i) => ({
      id: ids[i] as number,
      service: services[i] as Service,
      addresses: hosts.addresses[i] ?? [],
    }));
    const { connections } = this.#budget();
    const toIds = (handles: readonly ListenerHandle[]): ListenerHandle[] =>
      handles.map(({ service, fd }) => ({ service: ids[service] as number, fd }));
    for (const [worker, handles] of change.handles.entries()) {
      const listeners = toIds(handles);
      this.#workers.tellOne(worker, {
        kind: 'plan',
        settings,
        added: starts,
        gone,
        listeners,
        maxConnections: connections,
      });
    }
    for (const [i, addresses] of hosts.addresses.entries()) {
      const known = before.get(ids[i] as number);
      if (known === undefined) continue;
      for (const [j, found] of addresses.entries()) {
        if (!sameAddresses(found, known[j] ?? [])) this.#tellAddresses(hosts, i, j, found);
      }
    }
    this.#probes.end(gone);
    this.#probes.begin(starts.map(({ id, service }) => [id, service]));
    for (const name of change.opened) this.#log.write('info', `listening on ${name}`);
    for (const key of change.dropped) this.#log.write('info', `not listening on ${key} any more`);
    this.#log.write(
      'info',
      `reloaded: ${services.length} services, ${added.length} of them new or changed, ${gone.length} gone or changed`,
    );
  }

  #budget(): Budget {
    return shareDescriptors(this.#parts.limit - this.#listeners.count, this.#parts.workerCount);
  }

  /** Hands the listening sockets over to the process that asks for them, if it may have them and gets ready. */
  async #handOver(): Promise<void> {
    const { offer } = this.#parts;
    if (offer === null || this.#handingOver || this.#state !== 'serving') return;
    this.#handingOver = true;
    try {
      const drain = await offer.answer({
        sockets: async () => {
          await this.#listeners.settled();
          return this.#listeners.sockets;
        },
        handOver: (taken) => {
          this.#state = 'draining';
          return this.#listeners.handOver(taken);
        },
      });
      if (drain !== null) {
        await this.#drain('takeover', Promise.resolve(), Math.max(drain, this.#plan.drain) || DEFAULT_DRAIN);
      }
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#log.write('error', `${error.message}; this process goes on`);
    } finally {
      this.#handingOver = false;
    }
  }

  /** Ends when `closed` has settled and the last connection has ended, or the time is over. */
  async #drain(why: string, closed: Promise<void>, within: number): Promise<void> {
    this.#state = 'draining';
    const open = total(this.#counters, 'open');
    this.#log.write('info', `${why}: ${open} connections may go on for up to ${within / 1000} s`);
    const left = await drained(this.#counters, closed, within);
    this.#log.write('info', left === 0 ? 'all connections have ended' : `${left} connections are cut`);
    await this.#shutDown(EX.OK);
  }

  async #answer(name: string, worker: number): Promise<void> {
    const ips = await this.#names.lookup(name);
    this.#workers.tellOne(worker, { kind: 'resolved', name, ips });
  }

  /** Whatever is wrong with the main thread, the workers must not go on without it. */
  onDefect(error: Error): void {
    this.onDeath(`main thread: ${error.stack ?? error.message}`);
  }

  onDeath(reason: string): void {
    this.#log.write('error', `${reason}; the process ends`);
    void this.#shutDown(EX.SOFTWARE);
  }

  async #shutDown(code: number): Promise<void> {
    if (this.#state === 'ending') return;
    this.#state = 'ending';
    this.#parts.offer?.close();
    await this.#workers.stop();
    this.#parts.pidFile?.remove();
    this.#end(code);
  }
}
