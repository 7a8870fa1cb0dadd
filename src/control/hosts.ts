import { formatAddress, isAddress, sameAddress, type UpstreamAddress } from '../address.js';
import { Failure } from '../failure.js';
import { type HostPort, hostsOf, isUnix, type Plan } from '../plan.js';
import type { Log } from './log.js';
import { type Resolved, resolveHost, resolveService } from './resolve.js';

/** After a failed connect a service's names are looked up at once, but not more often than this, in ms. */
const PAUSE = 1000;

/** How often those that have no address yet are looked up, whatever the service's time is, in ms. */
const MISSING_INTERVAL = 10_000;

/** setInterval takes no more. */
const LONGEST_INTERVAL = 2 ** 31 - 1;

/** Hears of each host whose addresses have changed. */
type OnChange = (service: number, host: number, addresses: readonly UpstreamAddress[]) => void;

/** A host by name, which may have other addresses later. */
interface Named {
  readonly host: HostPort;
  /** Index into Plan.services. */
  readonly service: number;
  /** Index into hostsOf(service). */
  readonly index: number;
}

/** The addresses of all hosts of a plan, as they were found last. */
export class Hosts {
  /** By service, and by host of hostsOf(service); empty for a host that was never found. */
  readonly addresses: (readonly UpstreamAddress[])[][];
  readonly #plan: Plan;
  readonly #log: Log;
  readonly #lookup: typeof resolveHost;
  readonly #named: readonly Named[];
  /** Hosts that were not found the last time: that is said once, not every time. */
  readonly #lost = new Set<HostPort>();
  /** Lookups under way, by name: services may well have names in common. */
  readonly #underWay = new Map<string, Promise<readonly string[]>>();
  /** When a service's names were looked up last. */
  readonly #lookedAt: number[];
  readonly #timers: NodeJS.Timeout[] = [];
  #onChange: OnChange = () => {};

  /** `lookup`: see resolveHost. */
  constructor(plan: Plan, log: Log, resolved: readonly Resolved[], lookup: typeof resolveHost = resolveHost) {
    this.#plan = plan;
    this.#log = log;
    this.#lookup = lookup;
    this.addresses = resolved.map(({ addresses }) => [...addresses]);
    this.#lookedAt = resolved.map(() => Date.now());
    this.#named = plan.services.flatMap((service, i) =>
      hostsOf(service).flatMap((host, index) =>
        isUnix(host) || isAddress(host.host) ? [] : [{ host, service: i, index }],
      ),
    );
    for (const { problems } of resolved) for (const { message } of problems) log.write('warn', message);
    for (const named of this.#named) if (this.#addressesOf(named).length === 0) this.#lost.add(named.host);
  }

  /** @throws Failure when a service has nowhere to go */
  static async resolve(plan: Plan, log: Log): Promise<Hosts> {
    return new Hosts(plan, log, await Promise.all(plan.services.map(resolveService)));
  }

  /**
   * Looks names up again from now on, each service's in its time, as long as there is traffic: `accepted` gives a count
   * that grows with it.
   */
  watch(accepted: () => number, onChange: OnChange): void {
    this.#onChange = onChange;
    this.#every(MISSING_INTERVAL, accepted, (named) => this.#addressesOf(named).length === 0);
    const times = new Set(this.#plan.services.map(({ dnsRefresh }) => dnsRefresh));
    for (const time of times) {
      if (time === null) continue;
      this.#every(time, accepted, ({ service }) => this.#plan.services[service]?.dnsRefresh === time);
    }
  }

  /** Not unref'ed: without these timers nothing would keep the main thread's event loop alive. */
  #every(time: number, accepted: () => number, which: (named: Named) => boolean): void {
    let before = accepted();
    const look = (): void => {
      const now = accepted();
      if (now !== before) void this.refresh(which);
      before = now;
    };
    this.#timers.push(setInterval(look, Math.min(time, LONGEST_INTERVAL)));
  }

  /** Nothing is looked up any more but what is under way, and nobody hears of that. */
  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#onChange = () => {};
  }

  /** A host of the service could not be connected to: its name may have moved. */
  onUnreachable(service: number): void {
    if (Date.now() - (this.#lookedAt[service] ?? 0) >= PAUSE) void this.refresh((named) => named.service === service);
  }

  /** Looks all names up now. */
  lookAgain(): void {
    void this.refresh(() => true);
  }

  /** Looks up those of the hosts. One that is not found keeps the addresses that it had. */
  async refresh(which: (named: Named) => boolean): Promise<void> {
    await Promise.all(this.#named.filter(which).map((named) => this.#refresh(named)));
  }

  async #refresh(named: Named): Promise<void> {
    const { host, service, index } = named;
    this.#lookedAt[service] = Date.now();
    const addresses = await this.#find(host);
    const ofService = this.addresses[service];
    if (addresses === null || ofService === undefined || sameAddresses(addresses, this.#addressesOf(named))) return;
    ofService[index] = addresses;
    this.#log.write('info', whereItIs(host, addresses));
    this.#onChange(service, index, addresses);
  }

  async #find(host: HostPort): Promise<readonly UpstreamAddress[] | null> {
    try {
      const ips = await this.#ipsOf(host.host);
      if (this.#lost.delete(host)) this.#log.write('info', `the host ${host.host} is found again`);
      return ips.map((ip) => ({ ip, port: host.port }));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (!this.#lost.has(host)) this.#log.write('warn', `${error.message}; its last addresses stay in use`);
      this.#lost.add(host);
      return null;
    }
  }

  #ipsOf(name: string): Promise<readonly string[]> {
    const known = this.#underWay.get(name);
    if (known !== undefined) return known;
    const ips = this.#lookup(name).finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, ips);
    return ips;
  }

  #addressesOf({ service, index }: Named): readonly UpstreamAddress[] {
    return this.addresses[service]?.[index] ?? [];
  }
}

/** What the log says when a name has other addresses than before. */
export const whereItIs = ({ host }: HostPort, addresses: readonly UpstreamAddress[]): string =>
  `${host} is ${addresses.map(formatAddress).join(', ')} now`;

/** In whatever order. */
export const sameAddresses = (a: readonly UpstreamAddress[], b: readonly UpstreamAddress[]): boolean =>
  a.length === b.length && a.every((address) => b.some((other) => sameAddress(address, other)));
