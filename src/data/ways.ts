/** The ways that a client's connection may ask for: through which upstreams or to which targets, and what is said first. */

import {
  type ClientAddress,
  type End,
  formatAddress,
  formatEnd,
  isUnix,
  type OriginalDestination,
  type SocketAddress,
} from '../address.js';
import { localAddress } from '../sys/socket.js';
import type { Way } from './opening.js';
import type { Parts } from './parts.js';
import type { Member } from './pool.js';
import type { Site } from './site.js';

/** Whose way it is. */
export interface Goer {
  readonly site: Site;
  readonly clientFd: number;
  readonly clientAddress: ClientAddress | null;
  readonly original: OriginalDestination | null;
}

/** What an upstream is told of it. */
export const originalEnd = (original: OriginalDestination | null): End | null =>
  original === null ? null : { host: original.ip, port: original.port };

/** Where a relay's upstream shall connect to; null: nowhere that it could be told. */
export const relayEnd = ({ site, clientAddress, original }: Goer): End | null => {
  const { ends, loop } = site;
  if (ends === null) return originalEnd(original);
  const to = ends.order(loop.now, clientAddress?.ip ?? '')[0]?.host.to;
  return to === undefined || isUnix(to) ? null : to;
};

/** The upstreams for a URL, or for another name of where it goes, in the order in which they are tried. */
export const upstreamsFor = ({ site, clientAddress }: Goer, url: string, onlyHttp: boolean): readonly Member[] =>
  site.pool.order(site.loop.now, clientAddress?.ip ?? '', url, onlyHttp);

/** To the service's targets, or else to the original destination. */
export const directWay = (goer: Goer): Way => {
  const { site, clientAddress, original } = goer;
  const { targets, loop } = site;
  return {
    members: targets === null ? [] : targets.order(loop.now, clientAddress?.ip ?? ''),
    addresses: targets === null ? [original as SocketAddress] : [],
    tunnel: null,
    // A relay's target may want to know its client as much as an upstream may; an origin never asked for that.
    preface: targets === null ? null : prefaceFor(goer),
    spare: false,
  };
};

/** To one of these upstreams, and, if `tunnel` says so, through it. */
export const upstreamWay = (goer: Goer, members: readonly Member[], tunnel: End | null, spare: boolean): Way => ({
  // All are down and there is no way past them: to try is better than to refuse.
  members: members.length > 0 ? members : goer.site.pool.httpMembers,
  addresses: [],
  tunnel,
  preface: prefaceFor(goer),
  spare,
});

const prefaceFor = ({ site, clientFd, clientAddress, original }: Goer): Buffer | null => {
  const { proxyProtocol } = site.service;
  if (proxyProtocol === null) return null;
  return (site.parts as Parts).preface(proxyProtocol, clientAddress, original ?? localAddress(clientFd));
};

/** For a debug line. */
export const whereItGoes = ({ members, addresses, tunnel }: Way): string => {
  const to = members.length > 0 ? members.map(({ address }) => address) : addresses;
  return `connecting to ${to.map(formatAddress).join(' or ')}${tunnel === null ? '' : `, and through it to ${formatEnd(tunnel)}`}`;
};
