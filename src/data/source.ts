import { type ClientAddress, formatAddress, isUnix, type UpstreamAddress } from '../address.js';
import type { Service } from '../plan.js';
import { E, SystemError } from '../sys/errno.js';
import { bindSource, isLocal, setTransparent } from '../sys/socket.js';

/** What EAGAIN says of a connect to a unix socket. */
const QUEUE_IS_FULL = 'too many connections wait to be accepted there';

/** The call that EPERM comes from. */
const TRANSPARENT = 'setsockopt IP_TRANSPARENT';

/** The local address that a socket connects from. */
export interface Source {
  readonly ip: string;
  /** It is not this host's: that takes CAP_NET_RAW or CAP_NET_ADMIN, and rules that bring the answers back here. */
  readonly foreign: boolean;
  /**
   * Its connections are no loop, and not to be known as our own (OwnSockets). Between a client's address and where the
   * client was going, any port of ours may be one that the client itself connects from. And there can be no loop: what
   * our own listener would answer goes to the client, who has not asked for it. That is different for a client on this
   * host, which can't have a port of ours.
   */
  readonly unlisted: boolean;
}

/**
 * Where the connects for a client come from; null: the route decides. `toOriginal`: they go to its original destination,
 * or where its data connection was meant to go.
 */
export const sourceOf = (
  { spoof, source }: Service,
  client: ClientAddress | null,
  toOriginal: boolean,
): Source | null => {
  if (spoof && client !== null && !staysHere(client.ip)) {
    return { ip: client.ip, foreign: true, unlisted: toOriginal && !isLocal(client.ip) };
  }
  return ownSource(source);
};

/** One of our own addresses; null: the route decides. */
export const ownSource = (ip: string | null): Source | null =>
  ip === null ? null : { ip, foreign: false, unlisted: false };

/**
 * An address that nobody else could answer: of loopback, or link-local with its interface. Other addresses of this host
 * are taken as any client's: the port is left to connect(2), and the answers come by themselves.
 */
const staysHere = (ip: string): boolean => ip.startsWith('127.') || ip === '::1' || ip.includes('%');

/** The two are of one family, or `address` is that of a unix socket, which takes none. */
export const fits = (source: Source, address: UpstreamAddress): boolean =>
  isUnix(address) || source.ip.includes(':') === address.ip.includes(':');

/** What is wrong with a connect to an address of the other family. */
export const misfit = (source: Source, address: UpstreamAddress): SystemError =>
  new SystemError('bind', E.AFNOSUPPORT, purpose(source, address));

/** Gives `fd` its local address, on the way to `address`: what went wrong, or null. */
export const takeSource = (fd: number, source: Source, address: UpstreamAddress): SystemError | null => {
  if (source.foreign) {
    const set = setTransparent(fd);
    if (set < 0) return new SystemError(TRANSPARENT, -set, purpose(source, address));
  }
  const bound = bindSource(fd, source.ip);
  return bound < 0 ? new SystemError('bind', -bound, purpose(source, address)) : null;
};

const purpose = (source: Source, address: UpstreamAddress): string => `${source.ip} for ${formatAddress(address)}`;

/** `connect` and what it was tried on, for messages. */
export const connectError = (errno: number, address: UpstreamAddress, source: Source | null): SystemError =>
  new SystemError(
    'connect',
    errno,
    source === null || isUnix(address) ? address : `${formatAddress(address)} from ${source.ip}`,
  );

/** The failure lies with what the socket connects from, and says nothing about the far end. */
export const isOfSource = ({ syscall, errno }: SystemError, source: Source | null): boolean =>
  source !== null && (syscall === 'bind' || syscall === TRANSPARENT || (source.foreign && errno === E.TIMEDOUT));

/** The error's message, and what is missing where that can be told. */
export const explain = (error: SystemError, source: Source | null): string => {
  const missing = error.errno === E.AGAIN ? QUEUE_IS_FULL : source === null ? null : whatIsMissing(error, source);
  return missing === null ? error.message : `${error.message} (${missing})`;
};

const whatIsMissing = ({ syscall, errno }: SystemError, { ip, foreign }: Source): string | null => {
  if (errno === E.AFNOSUPPORT) return 'one is IPv4 and the other is IPv6';
  if (errno === E.PERM && foreign) return "a client's address needs CAP_NET_RAW or CAP_NET_ADMIN";
  if (errno === E.ADDRNOTAVAIL && syscall === 'bind') return `no address of this host is ${ip}`;
  if (errno === E.TIMEDOUT && foreign) {
    return (
      `perhaps answers to ${ip} don't come back through this host, or the rule for transparent sockets, ` +
      'the ip rule or the local route is missing that has them delivered here: docs/transparent.md'
    );
  }
  return null;
};
