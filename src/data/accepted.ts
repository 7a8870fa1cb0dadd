/** What can be asked about a socket that was accepted: where it was meant to go, and whether it is one of our own. */

import { type ClientAddress, type OriginalDestination, sameAddress } from '../address.js';
import { localAddress, originalDestination, tproxyDestination } from '../sys/socket.js';
import type { Entrance } from './access-entries.js';
import type { Site } from './site.js';

/** `listenPort`: of the socket that accepted it, if it is known. null: it was not redirected here. */
export const originalOf = (
  { service }: Site,
  fd: number,
  client: ClientAddress | null,
  listenPort: number | null,
): OriginalDestination | null => {
  if (client === null) return null;
  if (service.intercept === 'tproxy') return tproxyDestination(fd, listenPort);
  const original = originalDestination(fd, client.ip.includes(':'));
  if (original === null) return null;
  // A connection that was not redirected reports the address that it was accepted on: going there would come back.
  if (listenPort !== null && original.port !== listenPort) return original;
  const local = localAddress(fd);
  return local !== null && sameAddress(local, original) ? null : original;
};

/** An accepted connection is one that this program has made itself. */
export const isOwn = (site: Site, fd: number, client: ClientAddress | null): boolean =>
  client !== null &&
  site.loop.ownSockets.has(client, () => originalDestination(fd, client.ip.includes(':')) ?? localAddress(fd));

/** What is wrong with such a connection. */
export const LOOP = 'loop: the connection is our own; a redirect rule catches what this program sends';

/** Of a socket, where the plan does not say. */
export const entranceOf = (fd: number): Entrance | null => {
  const local = localAddress(fd);
  return local === null ? null : { host: local.ip, port: local.port };
};
