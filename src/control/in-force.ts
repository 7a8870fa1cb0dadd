import { setTimeout as sleep } from 'node:timers/promises';
import type { UpstreamAddress } from '../address.js';
import { allocateAffinity } from '../affinity-table.js';
import type { Counters } from '../counters.js';
import type { ListenerHandle, ServiceStart } from '../messages.js';
import { hostsOf, isUnix, type Plan, type Reading, type Service } from '../plan.js';
import { AccessLog } from './access-log.js';
import { Hosts, sameAddresses, whereItIs } from './hosts.js';
import { type Budget, shareDescriptors } from './limits.js';
import { placesOf } from './listen.js';
import type { Change, Listeners } from './listeners.js';
import type { Log } from './log.js';
import { capabilitiesFor } from './privileges.js';
import { Probes } from './probes.js';
import { ServiceIds, withFixed } from './reload.js';
import { StatusReports } from './status-reports.js';
import { TcpWrappers } from './tcp-wrappers.js';
import type { Workers } from './workers.js';

/**
 * How long a service that is gone may still get clients, in ms, and more: those that its sockets have accepted, and those
 * that TCP wrappers are being asked about.
 */
const LATECOMERS = 60_000;

/** What a plan has come to, when the server starts with it. */
export interface Beginning {
  readonly plan: Plan;
  readonly log: Log;
  /** The log as a plan has it. */
  readonly openLog: (plan: Plan) => Log;
  readonly accessLog: AccessLog | null;
  readonly hosts: Hosts;
  /** null where no service asks them. */
  readonly wrappers: TcpWrappers | null;
  readonly counters: Counters;
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
  readonly #openLog: (plan: Plan) => Log;
  readonly #counters: Counters;
  readonly #services: ServiceIds;
  readonly #probes: Probes;
  readonly #reports: StatusReports;
  /** The log as it is at the time, for whoever outlives a plan. */
  readonly #lasting: Log = { write: (level, message) => this.#log.write(level, message) };
  #plan: Plan;
  #log: Log;
  #accessLog: AccessLog | null;
  #hosts: Hosts;
  #wrappers: TcpWrappers | null;
  #reloads = 0;

  constructor(beginning: Beginning) {
    this.#listeners = beginning.listeners;
    this.#workers = beginning.workers;
    this.#workerCount = beginning.workerCount;
    this.#limit = beginning.limit;
    this.#openLog = beginning.openLog;
    this.#counters = beginning.counters;
    this.#plan = beginning.plan;
    this.#log = beginning.log;
    this.#accessLog = beginning.accessLog;
    this.#hosts = beginning.hosts;
    this.#wrappers = beginning.wrappers;
    this.#services = new ServiceIds(beginning.plan.services);
    this.#probes = new Probes({
      log: this.#lasting,
      addressesOf: (service, host) => this.#hosts.addresses[this.#services.indexOf(service)]?.[host] ?? [],
      onHealth: (service, host, address, up) => this.#workers.tell({ kind: 'health', service, host, address, up }),
    });
    const startedAt = performance.now();
    this.#reports = new StatusReports(this.#lasting, () => ({
      services: this.#plan.services.map((service, i) => ({ id: this.#services.ids[i] as number, service })),
      counters: this.#counters,
      uptime: performance.now() - startedAt,
      reloads: this.#reloads,
    }));
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

  /** null where no service asks them. */
  get wrappers(): TcpWrappers | null {
    return this.#wrappers;
  }

  /** The services, each with memory that its workers share. To be called once. */
  firstServices(): readonly ServiceStart[] {
    return this.#plan.services.map((_, i) => this.#startOf(i));
  }

  budget(): Budget {
    return shareDescriptors(this.#limit - this.#listeners.count, this.#workerCount);
  }

  /** The workers serve: begins what goes on beside them. */
  begin(): void {
    this.#watchHosts();
    this.#probes.begin(this.#plan.services.entries());
    this.#reports.begin(this.#plan);
  }

  end(): void {
    this.#reports.end();
  }

  /** Every address of a service's host failed: its name may have moved. */
  onUnreachable(service: number): void {
    const index = this.#services.indexOf(service);
    if (index >= 0) this.#hosts.onUnreachable(index);
  }

  lookAgain(): void {
    this.#hosts.lookAgain();
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
  async replaceBy({ plan: given, warnings }: Reading, mayStill: () => boolean): Promise<void> {
    const { plan, refused } = withFixed(this.#plan, given);
    // What the process does not have by now it can't come to have.
    capabilitiesFor(plan);
    const wrappers = this.#wrappers ?? wrappersFor(plan);
    const hosts = await Hosts.resolve(plan, this.#lasting);
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
    this.#wrappers = wrappers;
    this.#log = this.#openLog(plan);
    for (const warning of warnings) this.#log.write('warn', warning);
    for (const what of refused) {
      this.#log.write('warn', `reload: ${what} can't be changed without a restart, and stays`);
    }
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
    this.#hosts.stop();
    this.#plan = plan;
    this.#hosts = hosts;
    this.#reloads++;
    change.commit();

    const { services, ...settings } = plan;
    const starts = added.map((i) => this.#startOf(i));
    const withIds = (handles: readonly ListenerHandle[]): ListenerHandle[] =>
      handles.map((handle) => ({ ...handle, service: ids[handle.service] as number }));
    const { connections: maxConnections } = this.budget();
    for (const [worker, handles] of change.handles.entries()) {
      const listeners = withIds(handles);
      this.#workers.tellOne(worker, { kind: 'plan', settings, added: starts, gone, listeners, maxConnections });
    }
    for (const [i, ofService] of hosts.addresses.entries()) {
      const known = before.get(ids[i] as number);
      if (known === undefined) continue;
      const named = hostsOf(services[i] as Service);
      for (const [j, addresses] of ofService.entries()) {
        const old = known[j] ?? [];
        if (sameAddresses(addresses, old)) continue;
        // As at any other time: a host that is not found keeps the addresses that it had.
        if (addresses.length === 0) {
          ofService[j] = old;
          continue;
        }
        const host = named[j];
        if (host !== undefined && !isUnix(host)) this.#log.write('info', whereItIs(host, addresses));
        this.#tellAddresses(i, j, addresses);
      }
    }
    this.#probes.end(gone);
    this.#probes.begin(starts.map(({ id, service }) => [id, service]));
    this.#watchHosts();
    this.#reports.begin(plan);
    void this.#retire(gone);

    for (const name of change.opened) this.#log.write('info', `listening on ${name}`);
    for (const name of change.dropped) this.#log.write('info', `not listening on ${name} any more`);
    const counts = `${services.length} services, ${added.length} new or changed, ${gone.length} gone or changed`;
    this.#log.write('info', `reloaded: ${counts}`);
  }

  /** The service of this index of the plan, with memory that its workers share. */
  #startOf(index: number): ServiceStart {
    const service = this.#plan.services[index] as Service;
    const id = this.#services.ids[index] as number;
    return {
      id,
      service,
      addresses: this.#hosts.addresses[index] ?? [],
      counters: this.#counters.add(id),
      affinity: service.affinity === null ? null : allocateAffinity(service.affinity),
    };
  }

  #watchHosts(): void {
    this.#hosts.watch(
      () => this.#counters.total('accepted'),
      (service, host, addresses) => this.#tellAddresses(service, host, addresses),
    );
  }

  async #retire(ids: readonly number[]): Promise<void> {
    await this.#listeners.settled();
    await sleep(LATECOMERS, null, { ref: false });
    for (const id of ids) this.#counters.retire(id);
  }

  /** `service` is an index of the plan. */
  #tellAddresses(service: number, host: number, addresses: readonly UpstreamAddress[]): void {
    this.#workers.tell({ kind: 'addresses', service: this.#services.ids[service] as number, host, addresses });
  }
}

/** @throws Failure when there are no TCP wrappers to ask */
export const wrappersFor = ({ services }: Plan): TcpWrappers | null =>
  services.some(({ tcpWrappers }) => tcpWrappers !== null) ? new TcpWrappers() : null;
