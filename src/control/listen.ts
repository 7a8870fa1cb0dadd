import { formatAddress, type ListenAddress, type UnixAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { isUnix, type Listen, type Plan, type Service, unfitForUdp } from '../plan.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { adoptFd, closeFd } from '../sys/process.js';
import {
  boundSocket,
  inheritedKind,
  isTransparent,
  localAddress,
  localUnixAddress,
  prepareListener,
  setTransparent,
  startListening,
} from '../sys/socket.js';
import { boundUdpSocket, growReceiveBuffer, shareAddress } from '../sys/udp-socket.js';
import { resolveHost } from './resolve.js';
import { refuseUnixLoops } from './unix-loops.js';
import { openUnixListener, type SocketFile } from './unix-socket.js';

/** One address that a plan listens on. */
export interface Place {
  /** Tells it from all others, in every plan and every process: `tcp 192.0.2.1:80`. */
  readonly key: string;
  /** For the log: where a client finds us. */
  readonly name: string;
  readonly address: ListenAddress | UnixAddress;
  /** Of a unix socket's file; null: as the umask has it. */
  readonly mode: number | null;
  readonly service: Service;
  /** Of the service in its plan. */
  readonly index: number;
  /** As the plan has it, a path too; null: all addresses of both families, and a kernel without IPv6 still has every IPv4 address. */
  readonly host: string | null;
}

/**
 * Where a plan listens, its names looked up.
 * @throws Failure for a name that has no address, for a place that two services have, and for a service of datagrams that
 * can't be one
 */
export const placesOf = async (plan: Plan): Promise<readonly Place[]> => {
  refuseUnixLoops(plan);
  const places = new Map<string, Place>();
  for (const [index, service] of plan.services.entries()) {
    checkProtocol(service);
    for (const at of service.listen) {
      const host = isUnix(at) ? at.path : at.host;
      for (const address of await addressesOf(at)) {
        const name = nameOf(address, service);
        const key = isUnix(address) ? `unix ${address.path}` : `${service.protocol} ${formatAddress(address)}`;
        const other = places.get(key);
        if (other !== undefined) {
          throw new Failure(`${name} is listened on twice: by ${other.service.name} and ${service.name}`, EX.CONFIG);
        }
        places.set(key, { key, name, address, mode: isUnix(at) ? at.mode : null, service, index, host });
      }
    }
  }
  return [...places.values()];
};

const addressesOf = async (at: Listen): Promise<readonly (ListenAddress | UnixAddress)[]> => {
  if (isUnix(at)) return [{ path: at.path }];
  const ips = at.host === null ? ['::', '0.0.0.0'] : await resolveHost(at.host);
  return ips.map((ip) => ({ ip, port: at.port }));
};

/** A place that is open. */
export interface Opened {
  readonly fds: readonly number[];
  /** null: it has made no file. */
  readonly file: SocketFile | null;
}

/**
 * Opens a place with one socket for each worker (SO_REUSEPORT), so that workers do not contend for one queue, or with one
 * that they share where it is a unix socket; with none at all where the kernel lacks the family and another will do.
 * @throws Failure with the address and the errno
 */
export const openPlace = (place: Place, workers: number): Opened => {
  const { address, mode, service } = place;
  if (!isUnix(address)) return { fds: openInet({ ...place, address }, workers), file: null };
  const { fd, file } = openUnixListener(address, mode, service.backlog ?? undefined);
  return { fds: [fd], file };
};

const openInet = (
  { address, service, host }: Place & { readonly address: ListenAddress },
  workers: number,
): readonly number[] => {
  const transparent = service.intercept === 'tproxy';
  const open = service.protocol === 'udp' ? boundUdpSocket : boundSocket;
  const fds: number[] = [];
  try {
    // A socket that does not share fails where any other listens. Without this a second daemon of the same user would
    // quietly take a part of the first one's connections (socket(7), SO_REUSEPORT).
    closeFd(open(address, false, transparent));
    for (let i = 0; i < workers; i++) fds.push(open(address, workers > 1, transparent));
    for (const fd of fds) {
      if (service.protocol === 'udp') growReceiveBuffer(fd);
      applyOptions(fd, address, service);
    }
    return fds;
  } catch (error) {
    fds.forEach(closeFd);
    if (host === null && address.ip === '::' && isWithoutIPv6(error)) return [];
    throw asFailure(error);
  }
};

/** Gives a socket what a service says of its sockets, and lets it listen. One that listens already is changed to that. */
export const applyOptions = (fd: number, address: ListenAddress | UnixAddress, service: Service): void => {
  const { protocol, intercept, keepalive, backlog } = service;
  if (protocol === 'udp') {
    // The port that clients meant may be this one, and answers have to leave by sockets that are bound to it.
    if (intercept === 'tproxy') shareAddress(fd);
    return;
  }
  if (!isUnix(address)) prepareListener(fd, keepalive);
  startListening(fd, address, backlog ?? undefined);
};

/**
 * Makes a socket that was opened for something else one that a service can listen on. It harms nothing where that does
 * not come about.
 * @throws Failure when the service takes what TPROXY sends, and the socket can't
 */
export const makeFit = (fd: number, { name, service }: Place): void => {
  if (service.intercept === 'tproxy') makeTransparent(fd, name, NEEDS_TRANSPARENCY);
};

/**
 * Makes a socket that was handed to us ready to serve; returns its name for the log.
 * @throws Failure when it is not of the protocol that the service is for, or TPROXY needs it to be transparent and it is
 * not
 */
export const adoptSocket = (fd: number, service: Service): string => {
  checkProtocol(service);
  adoptFd(fd);
  if ((inheritedKind(fd) === 'datagram') !== (service.protocol === 'udp')) {
    throw new Failure(`${service.name}: fd ${fd} is no ${service.protocol} socket`, EX.CONFIG);
  }
  if (service.protocol === 'udp') growReceiveBuffer(fd);
  else prepareListener(fd, service.keepalive);
  if (service.intercept === 'tproxy') {
    // Who hands a socket over may have done it (systemd.socket(5)), and then we needn't be allowed to.
    makeTransparent(fd, `fd ${fd}`, `${NEEDS_TRANSPARENCY}, or Transparent=yes in the socket's unit of systemd`);
  }
  const address = localAddress(fd) ?? localUnixAddress(fd);
  return address === null ? `fd ${fd}` : nameOf(address, service);
};

const nameOf = (address: ListenAddress | UnixAddress, { protocol }: Service): string =>
  protocol === 'udp' ? `${formatAddress(address)} (udp)` : formatAddress(address);

const checkProtocol = (service: Service): void => {
  const unfit = service.protocol === 'udp' ? unfitForUdp(service) : null;
  if (unfit !== null) throw new Failure(`${service.name}: a service of datagrams can't be that: ${unfit}`, EX.CONFIG);
};

const makeTransparent = (fd: number, name: string, needs: string): void => {
  if (isTransparent(fd)) return;
  const set = setTransparent(fd);
  if (set === 0) return;
  throw new Failure(`setsockopt IP_TRANSPARENT ${name}: ${errnoName(-set)} (${needs})`, EX.NOPERM);
};

const NEEDS_TRANSPARENCY = 'taking what TPROXY sends needs root, CAP_NET_RAW or CAP_NET_ADMIN';

const isWithoutIPv6 = (error: unknown): boolean =>
  error instanceof SystemError && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL');

const asFailure = (error: unknown): unknown => {
  if (!(error instanceof SystemError)) return error;
  const { errno, message, syscall } = error;
  if (errno === E.ADDRINUSE) return new Failure(`${message} (another program listens there)`, EX.UNAVAILABLE);
  if (errno === E.ADDRNOTAVAIL) return new Failure(`${message} (it is no address of this host)`, EX.OSERR);
  if (errno === E.ACCES || errno === E.PERM) {
    const needs = syscall === 'bind' ? 'ports below 1024 need root or CAP_NET_BIND_SERVICE' : NEEDS_TRANSPARENCY;
    return new Failure(`${message} (${needs})`, EX.NOPERM);
  }
  return new Failure(message, EX.OSERR);
};
