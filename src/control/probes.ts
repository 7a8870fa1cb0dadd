import { connect } from 'node:net';
import { bracketed, formatAddress, type UpstreamAddress } from '../address.js';
import type { Service, Upstream } from '../plan.js';
import type { Log } from './log.js';

/** What probes need to know, and who they tell. Services go by their ids. */
export interface ProbesOwner {
  readonly log: Log;
  /** An upstream's addresses as they are now. */
  addressesOf(service: number, upstream: number): readonly UpstreamAddress[];
  /** An upstream went down, or came up again. */
  onHealth(service: number, upstream: number, up: boolean): void;
}

/** The probes of all services, from plan to plan. */
export class Probes {
  readonly #owner: ProbesOwner;
  readonly #running = new Map<number, readonly Probe[]>();

  constructor(owner: ProbesOwner) {
    this.#owner = owner;
  }

  begin(services: Iterable<readonly [id: number, service: Service]>): void {
    for (const [id, service] of services) {
      if (service.check === null) continue;
      this.#running.set(
        id,
        service.upstreams.map((upstream, i) => new Probe(service, id, upstream, i, this.#owner)),
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

/** The probes of one upstream, one after the other. It counts as up until one fails. */
class Probe {
  readonly #service: Service;
  readonly #id: number;
  readonly #upstream: Upstream;
  readonly #upstreamIndex: number;
  readonly #owner: ProbesOwner;
  #timer: NodeJS.Timeout | null = null;
  #isUp = true;

  constructor(service: Service, id: number, upstream: Upstream, upstreamIndex: number, owner: ProbesOwner) {
    this.#service = service;
    this.#id = id;
    this.#upstream = upstream;
    this.#upstreamIndex = upstreamIndex;
    this.#owner = owner;
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
    const addresses = this.#owner.addressesOf(this.#id, this.#upstreamIndex);
    // A client's connection would wait for so long, so that a lost packet is no reason to call an upstream down.
    const failure = await tryAddresses(addresses, this.#service.limits.connect);
    if (this.#timer === null) return;
    this.#settle(failure);
    this.#schedule();
  }

  #settle(failure: string | null): void {
    const isUp = failure === null;
    if (isUp === this.#isUp) return;
    this.#isUp = isUp;
    const { scheme, host, port } = this.#upstream;
    const name = `upstream ${scheme}://${bracketed(host)}:${port}`;
    if (isUp) this.#owner.log.write('info', `${name} is up again`);
    else this.#owner.log.write('warn', `${name} is down: ${failure}`);
    this.#owner.onHealth(this.#id, this.#upstreamIndex, isUp);
  }
}

/**
 * Connects to all addresses at once, and hangs up. Settles with null as soon as one of them takes it, or else with what
 * is wrong with each. `timeout` in milliseconds.
 */
const tryAddresses = async (addresses: readonly UpstreamAddress[], timeout: number): Promise<string | null> => {
  if (addresses.length === 0) return 'it has no address';
  const failures: string[] = [];
  const attempts = addresses.map(async (address) => {
    const failure = await tryAddress(address, timeout);
    if (failure === null) return;
    failures.push(failure);
    throw failure;
  });
  return Promise.any(attempts).then(
    () => null,
    () => failures.join('; '),
  );
};

const tryAddress = (address: UpstreamAddress, timeout: number): Promise<string | null> =>
  new Promise((settle) => {
    const socket = connect({ host: address.ip, port: address.port, timeout });
    const end = (failure: string | null): void => {
      socket.destroy();
      settle(failure === null ? null : `connect ${formatAddress(address)}: ${failure}`);
    };
    socket.once('connect', () => end(null));
    socket.once('timeout', () => end('ETIMEDOUT'));
    // Also behind a connect: a reset that comes at once must not end the process.
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
