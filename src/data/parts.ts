import { type End, formatEnd, type SocketAddress } from '../address.js';
import type { Limits, Shaping, Upstream } from '../plan.js';
import { basicAuthorization, ConnectHandshake } from '../protocol/connect.js';
import type { Handshake } from '../protocol/handshake.js';
import { writeProxyV1, writeProxyV2 } from '../protocol/proxy-protocol.js';
import { Socks5Handshake } from '../protocol/socks5.js';
import { FirstBytes, type FirstBytesLink } from './first-bytes.js';
import { type FtpLink, FtpRelay, type FtpSides } from './ftp-relay.js';
import { type HttpLink, HttpRelay } from './http-relay.js';
import type { Runnable } from './loop.js';
import { Shaper } from './shaper.js';

/**
 * All that a plain relay has no use for, in one object: under inetd a relay's process does not load it.
 */
export const parts = {
  firstBytes: (link: FirstBytesLink): FirstBytes => new FirstBytes(link),

  relay: (link: HttpLink): HttpRelay => new HttpRelay(link),

  follow: (link: FtpLink, sides: FtpSides): FtpRelay => new FtpRelay(link, sides),

  /** The value of Proxy-Authorization for an upstream; null where it has no credentials, or speaks SOCKS. */
  authorization: ({ scheme, credentials }: Upstream): string | null =>
    scheme === 'http' && credentials !== null ? basicAuthorization(credentials.user, credentials.password) : null,

  handshake: (upstream: Upstream, authorization: string | null, tunnel: End, limits: Limits): Handshake =>
    upstream.scheme === 'socks5'
      ? new Socks5Handshake(tunnel, upstream.credentials)
      : new ConnectHandshake(formatEnd(tunnel), authorization, limits.headBytes),

  /** The PROXY protocol's header for a connection from `source` that meant to go to `destination`. */
  preface: (version: 'v1' | 'v2', source: SocketAddress | null, destination: SocketAddress | null): Buffer =>
    version === 'v1' ? writeProxyV1(source, destination) : writeProxyV2(source, destination),

  /** The same for the datagrams of `source`, in version 2, which alone knows of them. */
  datagramPreface: (source: SocketAddress, destination: SocketAddress): Buffer =>
    writeProxyV2(source, destination, true),

  shaper: (shaping: Shaping, now: number, owner: Runnable): Shaper => new Shaper(shaping, now, owner),
};

export type Parts = typeof parts;
