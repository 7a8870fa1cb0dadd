import { formatAddress, sameAddress, type UpstreamAddress } from '../address.js';
import { Failure } from '../failure.js';
import { type HostPort, hostsOf, isUnix, type Plan } from '../plan.js';
import type { Log } from './log.js';
import { type Resolved, resolveHostPort, resolveService } from './resolve.js';

/** Hears of each host whose addresses have changed. */
type OnChange = (service: number, host: number, addresses: readonly UpstreamAddress[]) => void;

/** The addresses of all hosts of a plan, as they were found last. */
export class Hosts {
  /** By service, and by host of hostsOf(service); empty for a host that was never found. */
  readonly addresses: (readonly UpstreamAddress[])[][];
  readonly #plan: Plan;
  readonly #log: Log;
  /** Hosts that were not found the last time: that is said once, not every time. */
  readonly #lost = new Set<HostPort>();
  #refreshing = false;

  private constructor(plan: Plan, log: Log, resolved: readonly Resolved[]) {
    this.#plan = plan;
    this.#log = log;
    this.addresses = resolved.map(({ addresses }) => [...addresses]);
    for (const { problems } of resolved) for (const { message } of problems) log.write('warn', message);
    for (const [host, service, index] of this.#all()) {
      if (this.addresses[service]?.[index]?.length === 0) this.#lost.add(host);
    }
  }

  /** @throws Failure when a service has nowhere to go */
  static async resolve(plan: Plan, log: Log): Promise<Hosts> {
    return new Hosts(plan, log, await Promise.all(plan.services.map(resolveService)));
  }

  /** Looks them all up again, unless that is under way. A host that is not found keeps the addresses that it had. */
  async refresh(onChange: OnChange): Promise<void> {
    if (this.#refreshing) return;
    this.#refreshing = true;
    await Promise.all(this.#all().map(([host, service, index]) => this.#refresh(host, service, index, onChange)));
    this.#refreshing = false;
  }

  async #refresh(host: HostPort, service: number, index: number, onChange: OnChange): Promise<void> {
    const addresses = await this.#find(host);
    const ofService = this.addresses[service];
    if (addresses === null || ofService === undefined || sameAddresses(addresses, ofService[index] ?? [])) return;
    ofService[index] = addresses;
    this.#log.write('info', `${host.host} is ${addresses.map(formatAddress).join(', ')} now`);
    onChange(service, index, addresses);
  }

  async #find(host: HostPort): Promise<readonly UpstreamAddress[] | null> {
    try {
      const addresses = await resolveHostPort(host);
      if (this.#lost.delete(host)) this.#log.write('info', `the host ${host.host} is found again`);
      return addresses;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (!this.#lost.has(host)) this.#log.write('warn', `${error.message}; its last addresses stay in use`);
      this.#lost.add(host);
      return null;
    }
  }

  #all(): (readonly [host: HostPort, service: number, index: number])[] {
    return this.#plan.services.flatMap((service, i) =>
      hostsOf(service).flatMap((host, j) => (isUnix(host) ? [] : [[host, i, j] as const])),
    );
  }
}

export const sameAddresses = (a: readonly UpstreamAddress[], b: readonly UpstreamAddress[]): boolean =>
  a.length === b.length && a.every((address) => b.some((other) => sameAddress(address, other)));
