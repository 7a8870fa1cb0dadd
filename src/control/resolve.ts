import { isAddress, type UpstreamAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { type HostPort, hostsOf, isUnix, type Service } from '../plan.js';

/**
 * All addresses of a host, in the order that getaddrinfo(3) gives them: /etc/hosts counts as DNS does.
 * @throws Failure with the host and the reason
 */
export const resolveHost = async (host: string): Promise<string[]> => {
  if (isAddress(host)) return [await inOneSpelling(host)];
  // Loaded when there is a name: most connections under inetd go to an address.
  const { lookup } = await import('node:dns/promises');
  try {
    const found = await lookup(host, { all: true, order: 'verbatim' });
    return [...new Set(found.map(({ address }) => address))];
  } catch (error) {
    throw new Failure(`can't find the host ${host}: ${(error as NodeJS.ErrnoException).code}`, EX.NOHOST);
  }
};

/** An address as inet_ntop(3) writes it, so that it can be compared with what the kernel says. */
const inOneSpelling = async (address: string): Promise<string> => {
  if (!address.includes(':')) return address;
  const { SocketAddress } = await import('node:net');
  return new SocketAddress({ address, family: 'ipv6' }).address;
};

/** The same with the port. */
export const resolveHostPort = async ({ host, port }: HostPort): Promise<UpstreamAddress[]> =>
  (await resolveHost(host)).map((ip) => ({ ip, port }));

/** The addresses of a service's hosts, and what is wrong with some of them. */
export interface Resolved {
  /** By host of hostsOf(service); empty for one that was not found. */
  readonly addresses: readonly (readonly UpstreamAddress[])[];
  readonly problems: readonly Failure[];
}

/**
 * Looks up all hosts of a service.
 * @throws Failure when none was found of those that it connects to first: its upstreams, or the target if it has none
 */
export const resolveService = async (service: Service): Promise<Resolved> => {
  const problems: Failure[] = [];
  const addresses = await Promise.all(
    hostsOf(service).map(async (host) => {
      try {
        return isUnix(host) ? [host] : await resolveHostPort(host);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        problems.push(error);
        return [];
      }
    }),
  );
  const first = service.upstreams.length > 0 ? addresses.slice(0, service.upstreams.length) : addresses;
  const [problem] = problems;
  if (problem !== undefined && first.every(({ length }) => length === 0)) throw problem;
  return { addresses, problems };
};
