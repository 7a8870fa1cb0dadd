import { formatEnd } from '../address.js';
import type { HostPort, UnixAddress, Upstream } from '../plan.js';

/** How logs name an upstream: its credentials never appear. */
export const label = (upstream: Upstream): string =>
  `${upstream.scheme === 'http' ? '' : `${upstream.scheme}://`}${formatEnd(upstream)}`;

export const labels = (upstreams: readonly Upstream[]): string => upstreams.map(label).join(', ');

/** The name of a service that relays; a `target` of null is the original destination. */
export const relayName = (target: HostPort | UnixAddress | null, upstreams: readonly Upstream[]): string => {
  const to = target === null ? 'original destination' : formatEnd(target);
  return `relay to ${to}${upstreams.length > 0 ? ` through ${labels(upstreams)}` : ''}`;
};
