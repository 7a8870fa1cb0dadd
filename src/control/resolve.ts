import { isAddress, type UpstreamAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import type { HostPort } from '../plan.js';

/**
 * All addresses of a host, in the order that getaddrinfo(3) gives them: /etc/hosts counts as DNS does.
 * @throws Failure with the host and the reason
 */
export const resolveHost = async (host: string): Promise<string[]> => {
  if (isAddress(host)) return [host];
  // Loaded when there is a name: most connections under inetd go to an address.
  const { lookup } = await import('node:dns/promises');
  try {
    const found = await lookup(host, { all: true, order: 'verbatim' });
    return [...new Set(found.map(({ address }) => address))];
  } catch (error) {
    throw new Failure(`can't find the host ${host}: ${(error as NodeJS.ErrnoException).code}`, EX.NOHOST);
  }
};

/** The same for an upstream. */
export const resolveUpstream = async ({ host, port }: HostPort): Promise<UpstreamAddress[]> =>
  (await resolveHost(host)).map((ip) => ({ ip, port }));
