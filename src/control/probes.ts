import { connect } from 'node:net';
import { formatAddress, formatEnd, isUnix, sameAddress, type UpstreamAddress } from '../address.js';
import type { Service, Target } from '../plan.js';
import { errnoName } from '../sys/errno.js';
import { knock } from '../sys/socket.js';
import type { Log } from './log.js';

/** What probes need to know, and who they tell. `service`: its id; `host`: index into hostsOf(service). */
export interface ProbesOwner {
  readonly log: Log;
  /** A host's addresses as they are now. */
  addressesOf(service: number, host: number): readonly UpstreamAddress[];
  /** One of a host's addresses went down, or came up again. */
  onHealth(service: number, host: number, address: UpstreamAddress, up: boolean): void;
}

/** The probes of all services, from plan to plan. They are connects, so there are none for udp. */
export class Probes {
  readonly #owner: ProbesOwner;
  readonly #running = new Map<number, readonly Probe[]>();

  constructor(owner: ProbesOwner) {
    this.#owner = owner;
  }

  begin(services: Iterable<readonly [id: number, service: Service]>): void {
    for (const [id, service] of services) {
      if (service.check === null || service.protocol === 'udp') continue;
      this.#running.set(
        id,
        firstOf(service).map((_, host) => new Probe(service, id, host, this.#owner)),
      );
    }
  }

  end(ids: Iterable<number>): void {
    for (const id of ids) {
      for (const probe of this.#running.get(id) ?? []) probe.stop();
      this.#running.delete(id);
    }
  }
}

/** Behind upstreams it is theirs to connect to targets. */
const firstOf = ({ upstreams, targets }: Service): readonly unknown[] => (upstreams.length > 0 ? upstreams : targets);

/** The probes of one host, one round over its addresses after the other. An address counts as up until one fails. */
class Probe {
  readonly #service: Service;
  readonly #id: number;
  readonly #host: number;
  readonly #owner: ProbesOwner;
  readonly #name: string;
  /** The local address that connects come from; a probe stands for no client, and so never has one's address. */
  readonly #source: string | null;
  #down: readonly UpstreamAddress[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(service: Service, id: number, host: number, owner: ProbesOwner) {
    this.#service = service;
    this.#id = id;
    this.#host = host;
    this.#owner = owner;
    this.#name = nameOf(service, host);
    this.#source = service.targets[host - service.upstreams.length]?.source ?? service.source;
    this.#schedule();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(): void {
    this.#timer = setTimeout(() => void this.#run(), this.#service.check ?? 0);
  }

  async #run(): Promise<void> {
    const addresses = this.#owner.addressesOf(this.#id, this.#host);
    // Of addresses that the host has no more nobody wants to know; should one come back, it is a new one.
    this.#down = this.#down.filter((address) => addresses.some((known) => sameAddress(known, address)));
    await Promise.all(addresses.map((address) => this.#try(address, addresses.length > 1)));
    if (this.#timer !== null) this.#schedule();
  }

  async #try(address: UpstreamAddress, isOneOfSeveral: boolean): Promise<void> {
    // A client's connection would wait for so long, so that a lost packet is no reason to call an address down.
    const failure = await tryAddress(address, this.#source, this.#service.limits.connect);
    const wasUp = !this.#down.some((known) => sameAddress(known, address));
    if (this.#timer === null || (failure === null) === wasUp) return;
    const name = isOneOfSeveral ? `${this.#name} at ${formatAddress(address)}` : this.#name;
    if (wasUp) {
      this.#down = [...this.#down, address];
      this.#owner.log.write('warn', `${name} is down: ${failure}`);
    } else {
      this.#down = this.#down.filter((known) => !sameAddress(known, address));
      this.#owner.log.write('info', `${name} is up again`);
    }
    this.#owner.onHealth(this.#id, this.#host, address, !wasUp);
  }
}

const nameOf = (service: Service, host: number): string => {
  const upstream = service.upstreams[host];
  if (upstream !== undefined) return `upstream ${upstream.scheme}://${formatEnd(upstream)}`;
  const { to } = service.targets[host - service.upstreams.length] as Target;
  return `target ${formatEnd(to)}`;
};

/** Connects and hangs up: null, or what is wrong. `timeout` in milliseconds. */
const tryAddress = (address: UpstreamAddress, source: string | null, timeout: number): Promise<string | null> =>
  new Promise((settle) => {
    if (isUnix(address)) {
      // Node would fill an abstract name up with NULs.
      const outcome = knock(address);
      settle(outcome === 0 ? null : `connect ${formatAddress(address)}: ${errnoName(-outcome)}`);
      return;
    }
    const from = source === null ? {} : { localAddress: source };
    const socket = connect({ host: address.ip, port: address.port, timeout, ...from });
    const end = (failure: string | null): void => {
      socket.destroy();
      settle(failure === null ? null : `connect ${formatAddress(address)}: ${failure}`);
    };
    socket.once('connect', () => end(null));
    socket.once('timeout', () => end('ETIMEDOUT'));
    // Also behind a connect: a reset that comes at once must not end the process.
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
