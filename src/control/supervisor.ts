import { availableParallelism } from 'node:os';
import { allocateAffinity } from '../affinity-table.js';
import { Counters, type Slot } from '../counters.js';
import { EX } from '../failure.js';
import type { Report } from '../messages.js';
import { allocateOwnSockets } from '../own-sockets.js';
import type { Plan } from '../plan.js';
import { AccessLog } from './access-log.js';
import { announceReady, isDaemon } from './daemonize.js';
import { Hosts } from './hosts.js';
import { logDestination } from './inherited.js';
import { type Budget, raiseDescriptorLimit, shareDescriptors } from './limits.js';
import { adoptListeners, type Listening, openListeners } from './listen.js';
import { type Log, openLog } from './log.js';
import { NameCache } from './name-cache.js';
import { removePidFile, writePidFile } from './pid-file.js';
import { capabilitiesFor, dropPrivileges, findUser } from './privileges.js';
import { startProbes } from './probes.js';
import { handleSignals } from './signals.js';
import { StatusReports } from './status-reports.js';
import { TcpWrappers } from './tcp-wrappers.js';
import type { SocketFile } from './unix-socket.js';
import { checkWorkersLoadable, Workers } from './workers.js';

/**
 * The server from start to end. `inherited` are listening sockets that were handed to us; without any, the plan's own
 * are opened. Settles with the exit code, when a signal, idleness or a dead worker ends it.
 * @throws Failure when it can't start; nothing is left running then
 */
export const supervise = async (plan: Plan, inherited: readonly number[]): Promise<number> => {
  const obeySignals = handleSignals();
  const workerCount = plan.workers ?? availableParallelism();
  const log = openLog(logDestination(plan, inherited), plan);
  const budget = shareDescriptors(raiseDescriptorLimit(), workerCount);
  const user = plan.user === null ? null : findUser(plan.user);
  const wrappers = plan.services.some(({ tcpWrappers }) => tcpWrappers !== null) ? new TcpWrappers() : null;
  const capabilities = capabilitiesFor(plan);
  const hosts = await Hosts.resolve(plan, log);
  const listening =
    inherited.length > 0 ? adoptListeners(plan, inherited, workerCount) : await openListeners(plan, workerCount);
  let accessLog: AccessLog | null;
  try {
    accessLog = plan.accessLog === null ? null : new AccessLog(plan.accessLog.path, user);
    if (plan.pidFile !== null) writePidFile(plan.pidFile);
    // Before the first worker: capabilities belong to a thread and are inherited when it starts.
    try {
      if (user !== null) dropPrivileges(user, capabilities);
    } catch (error) {
      if (plan.pidFile !== null) removePidFile(plan.pidFile);
      throw error;
    }
    checkWorkersLoadable();
  } catch (error) {
    for (const file of listening.files) file.remove();
    throw error;
  }

  const counters = new Counters(workerCount);
  const server = new Server(plan, log, accessLog, counters, hosts, wrappers);
  await server.startWorkers(listening, budget);
  server.report();
  obeySignals(server);
  process.on('uncaughtException', (error) => server.onDefect(error));
  for (const name of listening.names) log.write('info', `listening on ${name}`);
  log.write('info', `ready: ${workerCount} workers${user === null ? '' : `, as user ${user.name}`}`);
  if (isDaemon()) announceReady();
  if (inherited.length > 0) server.endWhenIdle();
  return server.ended;
};

class Server {
  readonly ended: Promise<number>;
  readonly #plan: Plan;
  readonly #log: Log;
  readonly #accessLog: AccessLog | null;
  readonly #counters: Counters;
  readonly #workers: Workers;
  readonly #reports: StatusReports;
  readonly #hosts: Hosts;
  readonly #names = new NameCache();
  readonly #wrappers: TcpWrappers | null;
  #files: readonly SocketFile[] = [];
  /** Clients that TCP wrappers are being asked about. */
  #undecided = 0;
  #end: (code: number) => void = () => {};
  #ending = false;

  constructor(
    plan: Plan,
    log: Log,
    accessLog: AccessLog | null,
    counters: Counters,
    hosts: Hosts,
    wrappers: TcpWrappers | null,
  ) {
    this.#plan = plan;
    this.#log = log;
    this.#accessLog = accessLog;
    this.#counters = counters;
    this.#hosts = hosts;
    this.#wrappers = wrappers;
    this.#workers = new Workers({
      onReport: (report, worker) => this.#onReport(report, worker),
      onDeath: (reason) => this.#onDeath(reason),
    });
    const startedAt = performance.now();
    this.#reports = new StatusReports(log, () => ({
      services: plan.services.map((service, id) => ({ id, service })),
      counters,
      uptime: performance.now() - startedAt,
      reloads: 0,
    }));
    this.ended = new Promise((settle) => {
      this.#end = settle;
    });
  }

  async startWorkers({ handles, files }: Listening, budget: Budget): Promise<void> {
    this.#files = files;
    const ownSockets = allocateOwnSockets();
    const counters = this.#plan.services.map((_, id) => this.#counters.add(id));
    const affinities = this.#plan.services.map(({ affinity }) =>
      affinity === null ? null : allocateAffinity(affinity),
    );
    await Promise.all(
      handles.map((listeners, index) =>
        this.#workers.start({
          index,
          plan: this.#plan,
          listeners,
          addresses: this.#hosts.addresses,
          maxConnections: budget.connections,
          maxPipes: budget.pipes,
          counters,
          ownSockets,
          affinities,
        }),
      ),
    );
    this.#hosts.watch(
      () => this.#counters.total('accepted'),
      (service, host, addresses) => this.#workers.tell({ kind: 'addresses', service, host, addresses }),
    );
    startProbes(this.#plan, {
      log: this.#log,
      addressesOf: (service, host) => this.#hosts.addresses[service]?.[host] ?? [],
      onHealth: (service, host, address, up) => this.#workers.tell({ kind: 'health', service, host, address, up }),
    });
  }

  /** Begins to tell how it goes. */
  report(): void {
    this.#reports.begin(this.#plan);
  }

  stop(signal: string): void {
    this.#log.write('info', `${signal}: ending`);
    void this.#shutDown(EX.OK);
  }

  reopen(): void {
    const problem = this.#accessLog?.reopen() ?? null;
    if (problem !== null) this.#log.write('error', problem);
    else this.#log.write('info', 'logs reopened');
    this.#hosts.lookAgain();
  }

  dump(): void {
    const sum = (slot: Slot): number => this.#counters.total(slot);
    // A signal asked for it, and the level that redir has by default shall not hide it.
    this.#log.write(
      'notice',
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
        const now = this.#counters.total('accepted');
        if (now !== accepted || this.#undecided > 0 || this.#counters.total('open') > 0) {
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

  #onReport(report: Exclude<Report, { kind: 'ready' }>, worker: number): void {
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
        for (const line of report.lines) this.#log.write('notice', line);
        return;
      case 'unreachable':
        this.#hosts.onUnreachable(report.service);
        return;
      case 'resolve':
        void this.#answer(report.name, worker);
        return;
      case 'admission':
        void this.#decide(report, worker);
    }
  }

  async #answer(name: string, worker: number): Promise<void> {
    const ips = await this.#names.lookup(name);
    this.#workers.tellOne(worker, { kind: 'resolved', name, ips });
  }

  async #decide({ id, service, ip }: Extract<Report, { kind: 'admission' }>, worker: number): Promise<void> {
    const daemon = this.#plan.services[service]?.tcpWrappers as string;
    this.#undecided++;
    const refusal = await (this.#wrappers as TcpWrappers).refusal(daemon, ip);
    this.#undecided--;
    this.#workers.tellOne(worker, { kind: 'admitted', id, refusal });
  }

  /** Whatever is wrong with the main thread, the workers must not go on without it. */
  onDefect(error: Error): void {
    this.#onDeath(`main thread: ${error.stack ?? error.message}`);
  }

  #onDeath(reason: string): void {
    this.#log.write('error', `${reason}; the process ends`);
    void this.#shutDown(EX.SOFTWARE);
  }

  async #shutDown(code: number): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.#reports.end();
    // While the sockets are open still: nobody else takes a file of ours for one that was left behind.
    for (const file of this.#files) {
      const problem = file.remove();
      if (problem !== null) this.#log.write('warn', problem);
    }
    await this.#workers.stop();
    if (this.#plan.pidFile !== null) removePidFile(this.#plan.pidFile);
    this.#end(code);
  }
}
