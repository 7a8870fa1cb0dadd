/** What is told of a connection: its name in messages, the lines of its beginning and end, its entries in the access log. */

import {
  type ClientAddress,
  type End,
  formatAddress,
  formatEnd,
  type OriginalDestination,
  type UpstreamAddress,
} from '../address.js';
import type { HostPort, Service, UnixAddress } from '../plan.js';
import { entranceOf } from './accepted.js';
import type { Entrance, Visit } from './access-entries.js';
import type { Pump } from './pump.js';
import type { Site } from './site.js';
import { originalEnd } from './ways.js';

/** A connection, as far as it is told of. */
export interface Told {
  readonly site: Site;
  readonly clientFd: number;
  /** null: a client of a unix socket has none. */
  readonly clientAddress: ClientAddress | null;
  readonly original: OriginalDestination | null;
  /** null: no way is open. */
  readonly upstreamAddress: UpstreamAddress | null;
  /** The socket that accepted it, if it is known. */
  readonly entrance: Entrance | null;
  /** When it was accepted, in the loop's milliseconds. */
  readonly since: number;
  readonly toUpstream: Pump;
  readonly toClient: Pump;
}

/** How messages about it begin. */
export const nameOf = ({ site, clientAddress, original, upstreamAddress }: Told): string => {
  const parts = [clientAddress === null ? 'client' : `client ${formatAddress(clientAddress)}`];
  if (original !== null) parts.push(`original destination ${formatAddress(original)}`);
  if (upstreamAddress !== null) parts.push(`upstream ${formatAddress(upstreamAddress)}`);
  return `${site.service.name}: ${parts.join(', ')}`;
};

/** One line for a dump. `lastActive`: in the loop's milliseconds; `requests`: null where it is not HTTP. */
export const describe = (told: Told, state: string, requests: number | null, lastActive: number): string => {
  const { now } = told.site.loop;
  const seconds = (since: number): string => `${((now - since) / 1000).toFixed(1)} s`;
  const http = requests === null ? '' : `, ${requests} requests`;
  return (
    `${nameOf(told)}: ${state}${http}, ${told.toUpstream.moved} bytes from the client, ` +
    `${told.toClient.moved} bytes to it, age ${seconds(told.since)}, idle ${seconds(lastActive)}`
  );
};

/** The line of its beginning, of a service with logConnections. */
export const logBegin = (told: Told): void => {
  told.site.reporter.log('notice', `${prefix(told.site)}Connecting ${endsOf(told)}`);
};

/** The lines of its end, where they are wanted. */
export const logEnd = (told: Told, how: string, reason: string): void => {
  const { site, upstreamAddress, since } = told;
  const { service, reporter, loop } = site;
  const [sent, received] = [told.toUpstream.moved, told.toClient.moved];
  const age = loop.now - since;
  if (reporter.verbose) {
    const bytes = `${sent} bytes from the client, ${received} bytes to it`;
    reporter.log('debug', `${nameOf(told)}: ${how}: ${reason}; ${bytes}, ${(age / 1000).toFixed(1)} s`);
  }
  if (!service.logConnections) return;
  const upstream = upstreamAddress === null ? '' : `, upstream ${formatAddress(upstreamAddress)}`;
  // redir(1)'s words, whose bytes in are those that come in from the target.
  const what = `Disconnect after ${Math.floor(age / 1000)} sec, ${received} bytes in, ${sent} bytes out`;
  reporter.log('notice', `${prefix(site)}${what}: ${endsOf(told)}${upstream}, ${how}: ${reason}`);
};

/** As redir(1) names them: the client, and where the connection is meant to go. */
const endsOf = ({ site, clientAddress, original }: Told): string => {
  const end = endOf(site.service, originalEnd(original));
  const client = clientAddress === null ? '-' : formatAddress(clientAddress);
  return `${client} to ${end === null ? '-' : formatEnd(end)}`;
};

/** As the access log tells of it. */
export const visitOf = ({ site, clientFd, clientAddress, original, entrance, toUpstream, toClient }: Told): Visit => ({
  client: clientAddress?.ip ?? null,
  entrance: entrance ?? entranceOf(clientFd),
  target: endOf(site.service, originalEnd(original)),
  fromClient: toUpstream.moved,
  toClient: toClient.moved,
});

/** The same for a connection that is none yet. */
export const unopened = ({ service }: Site, client: ClientAddress | null, entrance: Entrance | null): Visit => ({
  client: client?.ip ?? null,
  entrance,
  target: endOf(service, null),
  fromClient: 0,
  toClient: 0,
});

/** Where a connection of a service is meant to go: not to an upstream, unless nothing else is known. */
const endOf = ({ targets, upstreams }: Service, original: End | null): HostPort | UnixAddress | null =>
  targets[0]?.to ?? original ?? upstreams[0] ?? null;

/** How a message without it begins, where there are several services. */
const prefix = ({ thread, service }: Site): string => (thread.several ? `${service.name}: ` : '');
