import type { ListenAddress, SocketAddress } from '../address.js';
import { must } from './errno.js';
import * as libc from './libc.js';
import { AF_INET, AF_INET6, SOCKADDR_SIZE, writeSockaddr } from './sockaddr.js';
import {
  IPV6_V6ONLY,
  result,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  setInteger,
  setTransparent,
} from './socket.js';

/** UDP sockets, non-blocking; results are as in sys/socket.ts. Sources: udp(7), ip(7), ipv6(7), include/uapi/linux/in*.h. */

const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;

/** Control messages, and for IPv4 the options that have them come. */
export const IP_PKTINFO = 8;
export const IP_ORIGDSTADDR = 20;
const IPV6_RECVPKTINFO = 49;
export const IPV6_PKTINFO = 50;
export const IPV6_ORIGDSTADDR = 74;

/**
 * Of a listening socket: what waits while the thread is at something else. Datagrams that find no room are lost.
 * The kernel counts some 2 KiB for each of an ordinary length.
 */
const RECEIVE_BUFFER = 4 * 1024 * 1024;

const sockaddr = Buffer.alloc(SOCKADDR_SIZE);

export const udpSocket = (ipv6: boolean): number =>
  result(libc.socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

const bind = (fd: number, address: SocketAddress): number =>
  result(libc.bindSocket(fd, sockaddr, writeSockaddr(address, sockaddr)));

/**
 * A bound socket that clients' datagrams come to.
 * `share` sets SO_REUSEPORT: of several sockets of the same user the kernel chooses by a hash of both ends, so that what
 * one client says comes to one of them. `transparent`: see setTransparent; TPROXY asks for it.
 * @throws SystemError with the address
 */
export const boundUdpSocket = (address: ListenAddress, share: boolean, transparent: boolean): number => {
  const ipv6 = address.ip.includes(':');
  const fd = must(udpSocket(ipv6), 'socket', address);
  try {
    if (share) must(setInteger(fd, SOL_SOCKET, SO_REUSEPORT, 1), 'setsockopt SO_REUSEPORT', address);
    if (ipv6) must(setInteger(fd, SOL_IPV6, IPV6_V6ONLY, 1), 'setsockopt IPV6_V6ONLY', address);
    if (transparent) must(setTransparent(fd), 'setsockopt IP_TRANSPARENT', address);
    must(bind(fd, address), 'bind', address);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
};

/** Makes room for more datagrams than net.core.rmem_max lets, where that is allowed (SO_RCVBUFFORCE, socket(7)). */
export const growReceiveBuffer = (fd: number): void => {
  if (setInteger(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER) < 0) {
    setInteger(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
  }
};

/**
 * Lets sockets of other users, who allow it too, be bound to the same address (SO_REUSEADDR). Two that are are not told
 * apart by any hash, so no listening socket is bound with it: it is for sockets that are there to send.
 */
export const shareAddress = (fd: number): number => setInteger(fd, SOL_SOCKET, SO_REUSEADDR, 1);

/** A socket to answer from an address that need not be this host's: its descriptor, or an errno negated. */
export const answeringSocket = (address: SocketAddress): number => {
  const ipv6 = address.ip.includes(':');
  const fd = udpSocket(ipv6);
  if (fd < 0) return fd;
  let outcome = setTransparent(fd);
  if (outcome === 0) outcome = shareAddress(fd);
  if (outcome === 0 && ipv6) outcome = setInteger(fd, SOL_IPV6, IPV6_V6ONLY, 1);
  if (outcome === 0) outcome = bind(fd, address);
  if (outcome === 0) return fd;
  libc.close(fd);
  return outcome;
};

/** Has each datagram come with the local address that it was for, or not any more (IP_PKTINFO, IPV6_RECVPKTINFO). */
export const tellLocalAddress = (fd: number, ipv6: boolean, tell = true): number =>
  ipv6 ? setInteger(fd, SOL_IPV6, IPV6_RECVPKTINFO, tell ? 1 : 0) : setInteger(fd, SOL_IP, IP_PKTINFO, tell ? 1 : 0);

/** Has each come with the address that it was for before TPROXY brought it here, or not any more (IP_RECVORIGDSTADDR). */
export const tellOriginalDestination = (fd: number, ipv6: boolean, tell = true): number =>
  ipv6
    ? setInteger(fd, SOL_IPV6, IPV6_ORIGDSTADDR, tell ? 1 : 0)
    : setInteger(fd, SOL_IP, IP_ORIGDSTADDR, tell ? 1 : 0);

/** Connects a socket (udp(7)): it sends to this address, and receives from it alone. 0, or an errno negated. */
export const connectUdp = (fd: number, address: SocketAddress): number =>
  result(libc.connect(fd, sockaddr, writeSockaddr(address, sockaddr)));
