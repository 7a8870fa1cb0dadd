import { connect } from 'node:net';
import { bracketed, formatAddress, isUnix, type UpstreamAddress } from '../address.js';
import type { Plan, Service, Upstream } from '../plan.js';
import { errnoName } from '../sys/errno.js';
import { knock } from '../sys/socket.js';
import type { Log } from './log.js';

/** What a row of probes needs to know, and who it tells. */
export interface ProbesOwner {
  readonly log: Log;
  /** An upstream's addresses as they are now. */
  addressesOf(service: number, upstream: number): readonly UpstreamAddress[];
  /** An upstream went down, or came up again. */
  onHealth(service: number, upstream: number, up: boolean): void;
}

/** Starts the probes of a plan; what it returns ends them. */
export const startProbes = (plan: Plan, owner: ProbesOwner): (() => void) => {
  const probes = plan.services.flatMap((service, i) =>
    service.check === null ? [] : service.upstreams.map((upstream, j) => new Probe(service, i, upstream, j, owner)),
  );
  return () => {
    for (const probe of probes) probe.stop();
  };
};

/** The probes of one upstream, one after the other. It counts as up until one fails. */
class Probe {
  readonly #service: Service;
  readonly #serviceIndex: number;
  readonly #upstream: Upstream;
  readonly #upstreamIndex: number;
  readonly #owner: ProbesOwner;
  #timer: NodeJS.Timeout | null = null;
  #isUp = true;

  constructor(service: Service, serviceIndex: number, upstream: Upstream, upstreamIndex: number, owner: ProbesOwner) {
    this.#service = service;
    this.#serviceIndex = serviceIndex;
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
    const addresses = this.#owner.addressesOf(this.#serviceIndex, this.#upstreamIndex);
    // A client's connection would wait for so long, so that a lost packet is no reason to call an upstream down.
    const { limits, source } = this.#service;
    const failure = await tryAddresses(addresses, limits.connect, source);
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
    this.#owner.onHealth(this.#serviceIndex, this.#upstreamIndex, isUp);
  }
}

/**
 * Connects to all addresses at once, and hangs up. Settles with null as soon as one of them takes it, or else with what
 * is wrong with each. `timeout` in milliseconds. `source`: see Service; a probe stands for no client, and so never has
 * one's address.
 */
const tryAddresses = async (
  addresses: readonly UpstreamAddress[],
  timeout: number,
  source: string | null,
): Promise<string | null> => {
  if (addresses.length === 0) return 'it has no address';
  const failures: string[] = [];
  const attempts = addresses.map(async (address) => {
    const failure = await tryAddress(address, timeout, source);
    if (failure === null) return;
    failures.push(failure);
    throw failure;
  });
  return Promise.any(attempts).then(
    () => null,
    () => failures.join('; '),
  );
};

const tryAddress = (address: UpstreamAddress, timeout: number, source: string | null): Promise<string | null> =>
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
