import type { UpstreamAddress } from '../address.js';
import type { ListenerHandle } from '../messages.js';
import type { Plan, Service } from '../plan.js';
import { AccessLog } from './access-log.js';
import { Hosts, sameAddresses } from './hosts.js';
import { type Budget, shareDescriptors } from './limits.js';
import { placesOf } from './listen.js';
import type { Change, Listeners } from './listeners.js';
import { type Log, openLog } from './log.js';
import { Probes } from './probes.js';
import { ServiceIds, withFixed } from './reload.js';
import type { Workers } from './workers.js';

/** After a failed connect names are looked up again at once, but not more often than this, in ms. */
const RESOLVE_PAUSE = 1000;

/** What a plan has come to, when the server starts with it. */
export interface Beginning {
  readonly plan: Plan;
  readonly log: Log;
  readonly logTo: 'stderr' | 'syslog';
  readonly accessLog: AccessLog | null;
  readonly hosts: Hosts;
  readonly listeners: Listeners;
  readonly workers: Workers;
  readonly workerCount: number;
  /** Descriptors that the process may have. */
  readonly limit: number;
}

/** The plan that is in force, and all that belongs to it rather than to the process. */
export class InForce {
  readonly #listeners: Listeners;
  readonly #workers: Workers;
  readonly #workerCount: number;
  readonly #limit: number;
  readonly #logTo: 'stderr' | 'syslog';
  readonly #services: ServiceIds;
  readonly #probes: Probes;
  #plan: Plan;
  #log: Log;
  #accessLog: AccessLog | null;
  #hosts: Hosts;
  #resolvedAt = Date.now();

  constructor(beginning: Beginning) {
    this.#listeners = beginning.listeners;
    this.#workers = beginning.workers;
    this.#workerCount = beginning.workerCount;
    this.#limit = beginning.limit;
    this.#logTo = beginning.logTo;
    this.#plan = beginning.plan;
    this.#log = beginning.log;
    this.#accessLog = beginning.accessLog;
    this.#hosts = beginning.hosts;
    this.#services = new ServiceIds(beginning.plan.services);
    this.#probes = new Probes({
      log: { write: (level, message) => this.#log.write(level, message) },
      addressesOf: (service, upstream) => this.#hosts.addresses[this.#services.indexOf(service)]?.[upstream] ?? [],
      onHealth: (service, upstream, up) => this.#workers.tell({ kind: 'health', service, upstream, up }),
    });
  }

  get plan(): Plan {
    return this.#plan;
  }

  get log(): Log {
    return this.#log;
  }

  get accessLog(): AccessLog | null {
    return this.#accessLog;
  }

  /** By index of the plan's services; see Hosts. */
  get addresses(): Hosts['addresses'] {
    return this.#hosts.addresses;
  }

  budget(): Budget {
    return shareDescriptors(this.#limit - this.#listeners.count, this.#workerCount);
  }

  startProbes(): void {
    this.#probes.begin(this.#plan.services.entries());
  }

  /** Every address of a host failed: its name may have moved. */
  onUnreachable(): void {
    if (Date.now() - this.#resolvedAt >= RESOLVE_PAUSE) void this.resolveAgain();
  }

  async resolveAgain(): Promise<void> {
    this.#resolvedAt = Date.now();
    const hosts = this.#hosts;
    await hosts.refresh((service, host, addresses) => {
      // Another plan may have followed meanwhile.
      if (hosts === this.#hosts) this.#tellAddresses(service, host, addresses);
    });
  }

  reopen(): void {
    const problem = this.#accessLog?.reopen() ?? null;
    if (problem !== null) this.#log.write('error', problem);
    else this.#log.write('info', 'logs reopened');
  }

  /**
   * Puts another plan in force: everything that it needs is there before anything changes. `mayStill` is asked right
   * before that.
   * @throws Failure when something is not to be had; nothing has changed then
   */
  async replaceBy(given: Plan, mayStill: () => boolean): Promise<void> {
    const { plan, refused } = withFixed(this.#plan, given);
    const log = openLog(this.#logTo, plan.logLevel);
    const hosts = await Hosts.resolve(plan, log);
    const places = await placesOf(plan);
    const change = await this.#listeners.prepare(places);
    // From here on nothing waits, and so nothing comes between.
    let accessLog: AccessLog | null;
    try {
      if (!mayStill()) {
        change.abandon();
        return;
      }
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
  }

  /** @throws Failure */
  #accessLogFor({ accessLog }: Plan): AccessLog | null {
    if (accessLog === null) return null;
    return accessLog.path === this.#accessLog?.path ? this.#accessLog : new AccessLog(accessLog.path, null);
  }

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
    const withIds = (handles: readonly ListenerHandle[]): ListenerHandle[] =>
      handles.map(({ service, fd }) => ({ service: ids[service] as number, fd }));
    const { connections: maxConnections } = this.budget();
    for (const [worker, handles] of change.handles.entries()) {
      const listeners = withIds(handles);
      this.#workers.tellOne(worker, { kind: 'plan', settings, added: starts, gone, listeners, maxConnections });
    }
    for (const [i, ofService] of hosts.addresses.entries()) {
      const known = before.get(ids[i] as number);
      if (known === undefined) continue;
      for (const [j, addresses] of ofService.entries()) {
        if (!sameAddresses(addresses, known[j] ?? [])) this.#tellAddresses(i, j, addresses);
      }
    }
    this.#probes.end(gone);
    this.#probes.begin(starts.map(({ id, service }) => [id, service]));

    for (const name of change.opened) this.#log.write('info', `listening on ${name}`);
    for (const name of change.dropped) this.#log.write('info', `not listening on ${name} any more`);
    const counts = `${services.length} services, ${added.length} new or changed, ${gone.length} gone or changed`;
    this.#log.write('info', `reloaded: ${counts}`);
  }

  /** `service` is an index of the plan. */
  #tellAddresses(service: number, host: number, addresses: readonly UpstreamAddress[]): void {
    this.#workers.tell({ kind: 'addresses', service: this.#services.ids[service] as number, host, addresses });
  }
}
