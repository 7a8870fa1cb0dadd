import {
  isUnix,
  type ListenAddress,
  type OriginalDestination,
  type SocketAddress,
  type UnixAddress,
} from '../address.js';
import { E, must } from './errno.js';
import * as libc from './libc.js';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  MOST_SOCKADDR_SIZE,
  readSockaddr,
  readUnixSockaddr,
  SOCKADDR_SIZE,
  writeSockaddr,
} from './sockaddr.js';

/**
 * Sockets, non-blocking throughout. A call returns its result, or its errno negated: on the hot path EAGAIN is an
 * ordinary answer and not worth an exception. Sources: the man pages named, and the kernel files where they are silent.
 */

const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
const SO_TYPE = 3;
const SO_ERROR = 4;
const SO_KEEPALIVE = 9;
const SO_OOBINLINE = 10;
const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SO_BINDTOIFINDEX = 62;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
export const SOL_IP = 0;
const IP_TRANSPARENT = 19;
const IP_BIND_ADDRESS_NO_PORT = 24;
export const SOL_IPV6 = 41;
export const IPV6_V6ONLY = 26;
/** linux/netfilter_ipv4.h; the IPv6 option has the same number. */
const SO_ORIGINAL_DST = 80;

const MSG_NOSIGNAL = 0x4000;
const SHUT_RD = 0;
const SHUT_WR = 1;

/** What a call of the C library returned, or its errno negated. */
export const result = (value: number): number => (value === -1 ? -libc.errno() : value);

// One set of arguments for each thread: every call here is synchronous, so they are free again when it returns.
const sockaddr = Buffer.alloc(128);
const length = new Uint32Array(1);
const integer = new Int32Array(1);
const linger = new Int32Array(2);
const ends = new Int32Array(2);

/** Sets an option that is an int (setsockopt(2)): 0, or an errno negated. */
export const setInteger = (fd: number, level: number, name: number, value: number): number => {
  integer[0] = value;
  return result(libc.setsockopt(fd, level, name, integer, 4));
};

const getInteger = (fd: number, level: number, name: number): number => {
  length[0] = 4;
  const got = result(libc.getsockopt(fd, level, name, integer, length));
  return got < 0 ? got : (integer[0] as number);
};

const readName = (call: typeof libc.getsockname, fd: number): SocketAddress | null => {
  length[0] = SOCKADDR_SIZE;
  return call(fd, sockaddr, length) === -1 ? null : readSockaddr(sockaddr);
};

/** A TCP socket of the address's family. */
export const tcpSocket = (ipv6: boolean): number =>
  result(libc.socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

/** A stream socket of family unix (unix(7)). */
export const unixSocket = (): number => result(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

/** A connection with both ends here: two connected sockets of family unix, as socketpair(2) makes them. */
export const socketPair = (): readonly [number, number] => {
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  must(result(libc.socketpair(AF_UNIX, type, 0, ends)), 'socketpair');
  return [ends[0] as number, ends[1] as number];
};

/**
 * Lets a socket have addresses that are not this host's (IP_TRANSPARENT, ip(7)): 0, or an errno negated, EPERM without
 * CAP_NET_RAW and CAP_NET_ADMIN. What a listening socket accepts is transparent too.
 */
export const setTransparent = (fd: number): number =>
  // An IPv6 socket takes the options of ip(7) as well (ipv6_setsockopt in net/ipv6/ipv6_sockglue.c), and this one is
  // the same bit of it as IPV6_TRANSPARENT.
  setInteger(fd, SOL_IP, IP_TRANSPARENT, 1);

export const isTransparent = (fd: number): boolean => getInteger(fd, SOL_IP, IP_TRANSPARENT) === 1;

/**
 * Gives a socket the local address that it is to connect from: 0, or an errno negated.
 * The port is left to connect(2), which may take one that other destinations have already (IP_BIND_ADDRESS_NO_PORT,
 * ip(7)); before Linux 4.2 bind(2) takes one for this socket alone.
 */
export const bindSource = (fd: number, ip: string): number => {
  setInteger(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  return result(libc.bindSocket(fd, sockaddr, writeSockaddr({ ip, port: 0 }, sockaddr)));
};

/**
 * An address of this host: an ordinary socket can be bound to it. Where net.ipv4.ip_nonlocal_bind or its IPv6 sister is
 * set, every address is.
 */
export const isLocal = (ip: string): boolean => {
  const fd = tcpSocket(ip.includes(':'));
  if (fd < 0) return true;
  const bound = bindSource(fd, ip);
  libc.close(fd);
  return bound !== -E.ADDRNOTAVAIL;
};

/**
 * A TCP socket that is bound and does not listen yet (bind(2)).
 * What it will accept inherits TCP_NODELAY and SO_KEEPALIVE, so they cost nothing a connection.
 * `share` sets SO_REUSEPORT: other sockets of the same user may bind the same address, and each gets its part of the
 * connections (socket(7)). `transparent`: see setTransparent.
 * @throws SystemError with the address
 */
export const boundSocket = (address: ListenAddress, share: boolean, transparent = false): number => {
  const ipv6 = address.ip.includes(':');
  const fd = must(tcpSocket(ipv6), 'socket', address);
  try {
    must(setInteger(fd, SOL_SOCKET, SO_REUSEADDR, 1), 'setsockopt SO_REUSEADDR', address);
    if (share) must(setInteger(fd, SOL_SOCKET, SO_REUSEPORT, 1), 'setsockopt SO_REUSEPORT', address);
    // Each family has a socket of its own, so an IPv4 client has one spelling only.
    if (ipv6) must(setInteger(fd, SOL_IPV6, IPV6_V6ONLY, 1), 'setsockopt IPV6_V6ONLY', address);
    if (transparent) must(setTransparent(fd), 'setsockopt IP_TRANSPARENT', address);
    prepareListener(fd);
    must(result(libc.bindSocket(fd, sockaddr, writeSockaddr(address, sockaddr))), 'bind', address);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
};

/**
 * A unix socket that is bound and does not listen yet: a connect to it is refused. With a path it has made the file.
 * @throws SystemError with the address
 */
export const boundUnixSocket = (address: UnixAddress): number => {
  const fd = must(unixSocket(), 'socket', address);
  try {
    const size = must(writeSockaddr(address, sockaddr), 'bind', address);
    must(result(libc.bindSocket(fd, sockaddr, size)), 'bind', address);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
};

/**
 * `backlog`: connections that wait to be accepted, at most; called again, it changes that (listen(2)).
 * @throws SystemError with the address, as EADDRINUSE when another socket listens there that does not share it
 */
export const startListening = (
  fd: number,
  address: ListenAddress | UnixAddress,
  backlog: number = MOST_BACKLOG,
): void => {
  must(result(libc.listen(fd, backlog)), 'listen', address);
};

/** The kernel cuts it to net.core.somaxconn, which is 4096 since Linux 5.4 (listen(2)). */
const MOST_BACKLOG = 65_535;

/** The options that accepted sockets inherit from their listener. `keepalive`: SO_KEEPALIVE. */
export const prepareListener = (fd: number, keepalive = true): void => {
  setInteger(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setInteger(fd, SOL_SOCKET, SO_KEEPALIVE, keepalive ? 1 : 0);
};

/** Has the kernel find out, in hours, whether a silent peer is still there (SO_KEEPALIVE, tcp(7)). */
export const keepAlive = (fd: number): void => {
  setInteger(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
};

/** Urgent bytes come in their place among the others (SO_OOBINLINE, socket(7)); recv skips them otherwise. */
export const receiveUrgentInline = (fd: number): void => {
  setInteger(fd, SOL_SOCKET, SO_OOBINLINE, 1);
};

/**
 * Makes a listening socket listen no more: its queue is reset, and others with SO_REUSEADDR may listen on its port
 * although it is still open (inet_shutdown in net/ipv4/af_inet.c disconnects it, and only a listener keeps such a port to
 * itself: inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c).
 */
export const stopListening = (fd: number): void => {
  libc.shutdown(fd, SHUT_RD);
};

/**
 * Lets no more handshakes begin on a listening TCP socket: who comes now is refused. Those that have begun come to their
 * end, and what waits is there to be accepted, where to close it at once would reset them all. There is no way back.
 *
 * A socket that is bound to an interface is not found for what comes by others (inet_sk_bound_dev_eq in
 * include/net/inet_sock.h), and the kernel takes the number of one that there is not; it needs no privilege since Linux
 * 5.7 (sock_bindtoindex_locked in net/core/sock.c). A handshake has the interface that it began with.
 */
export const stopHandshakes = (fd: number): void => {
  setInteger(fd, SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE);
};

/** The kernel counts interfaces from 1. */
const NO_INTERFACE = 0x7fffffff;

/**
 * Starts a connect: 0, or -EINPROGRESS while it is under way, or another errno negated (connect(2)). To a unix address it
 * is never under way: it has come about, or failed, with -EAGAIN where as many wait to be accepted as may.
 */
export const connectTo = (fd: number, address: SocketAddress | UnixAddress): number => {
  if (!isUnix(address)) setInteger(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (address !== lastTarget) {
    targetLength = writeSockaddr(address, target);
    lastTarget = address;
  }
  return targetLength < 0 ? targetLength : result(libc.connect(fd, target, targetLength));
};

/** Connects go to the same few addresses again and again, which are objects that live as long as their service. */
const target = Buffer.alloc(MOST_SOCKADDR_SIZE);
let targetLength = 0;
let lastTarget: SocketAddress | UnixAddress | null = null;

/**
 * Whether anybody listens on a unix address, by a connect that is given up at once: 0, or an errno negated, as
 * ECONNREFUSED for a socket that nobody listens on.
 */
export const knock = (address: UnixAddress): number => {
  const fd = unixSocket();
  if (fd < 0) return fd;
  const outcome = connectTo(fd, address);
  libc.close(fd);
  // As many wait there as may: somebody listens.
  return outcome === -E.AGAIN ? 0 : outcome;
};

/** Accepts one connection (accept4(2)): its descriptor, or an errno negated. `peerOfLast` is its client. */
export const accept = (fd: number): number => {
  length[0] = SOCKADDR_SIZE;
  return result(libc.accept4(fd, sockaddr, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
};

/** The client of the connection that accept() returned last; null for one without an IP address. */
export const peerOfLast = (): SocketAddress | null => readSockaddr(sockaddr);

/** getpeername(2); null where the socket has no peer or its family no port. */
export const peerAddress = (fd: number): SocketAddress | null => readName(libc.getpeername, fd);

/** getsockname(2); null where the family has no port. */
export const localAddress = (fd: number): SocketAddress | null => readName(libc.getsockname, fd);

/** The address that a unix socket is bound to; null for one that has none, and for other families (getsockname(2)). */
export const localUnixAddress = (fd: number): UnixAddress | null => {
  length[0] = MOST_SOCKADDR_SIZE;
  if (libc.getsockname(fd, sockaddr, length) === -1) return null;
  return readUnixSockaddr(sockaddr, length[0]);
};

/**
 * Where the client of a redirected connection meant to go, as conntrack remembers it (getorigdst and
 * ipv6_getorigdst in net/netfilter/nf_conntrack_proto.c). null where there is no entry (ENOENT), no conntrack
 * (ENOPROTOOPT) or no TCP.
 * A connection that was not redirected has an entry as well once any NAT rule exists: it then gives the socket's own
 * local address, so compare.
 */
export const originalDestination = (fd: number, ipv6: boolean): OriginalDestination | null => {
  // An IPv4 socket answers SOL_IPV6 with EOPNOTSUPP, and an IPv6 socket with an IPv4-mapped peer is found by SOL_IP only.
  length[0] = ipv6 ? SOCKADDR_SIZE : 16;
  if (libc.getsockopt(fd, ipv6 ? SOL_IPV6 : SOL_IP, SO_ORIGINAL_DST, sockaddr, length) === -1) return null;
  return readSockaddr(sockaddr);
};

/**
 * Where the client of a connection that TPROXY brought meant to go, which is the accepted socket's own address
 * (Documentation/networking/tproxy.rst). null where the connection was made to a listening socket of this host itself:
 * it is at that socket's port, and at an address of this host. `listenPort` null: any port may be that one.
 */
export const tproxyDestination = (fd: number, listenPort: number | null): OriginalDestination | null => {
  const local = localAddress(fd);
  if (local === null || (listenPort !== null && local.port !== listenPort)) return local;
  return isLocal(local.ip) ? null : local;
};

/** The pending error of a socket, by its errno; 0 for none (SO_ERROR, socket(7)). */
export const pendingError = (fd: number): number => Math.abs(getInteger(fd, SOL_SOCKET, SO_ERROR));

/** recv(2) into the first `count` bytes of `into`: the number of bytes, 0 at the end, or an errno negated. */
export const receive = (fd: number, into: Buffer, count: number): number => result(libc.recv(fd, into, count, 0));

/** send(2) of bytes `start` to `end` of `from`: the number of bytes taken, or an errno negated. */
export const transmit = (fd: number, from: Buffer, start: number, end: number): number =>
  result(libc.send(fd, start === 0 ? from : from.subarray(start, end), end - start, MSG_NOSIGNAL));

/** Ends our sending direction: the peer reads the end of the stream (shutdown(2)). */
export const shutdownSend = (fd: number): number => result(libc.shutdown(fd, SHUT_WR));

/** Makes close() send a reset instead of ending the stream in order (SO_LINGER with a time of 0, socket(7)). */
export const resetOnClose = (fd: number): void => {
  linger[0] = 1;
  linger[1] = 0;
  libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, 8);
};

/** What stands behind a descriptor that was handed to us. */
export type Inherited = 'listening' | 'connected' | 'datagram' | 'other';

/**
 * Tells a listening TCP socket from a connected one, from a UDP socket, and from everything else (SO_DOMAIN, SO_TYPE,
 * SO_ACCEPTCONN).
 */
export const inheritedKind = (fd: number): Inherited => {
  const domain = getInteger(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain !== AF_INET && domain !== AF_INET6 && domain !== AF_UNIX) return 'other';
  const type = getInteger(fd, SOL_SOCKET, SO_TYPE);
  if (type === SOCK_DGRAM && domain !== AF_UNIX) return 'datagram';
  if (type !== SOCK_STREAM) return 'other';
  if (getInteger(fd, SOL_SOCKET, SO_ACCEPTCONN) === 1) return 'listening';
  length[0] = SOCKADDR_SIZE;
  return libc.getpeername(fd, sockaddr, length) === 0 ? 'connected' : 'other';
};
