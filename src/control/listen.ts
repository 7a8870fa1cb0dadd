import { formatAddress, type ListenAddress, type UnixAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import type { ListenerHandle } from '../messages.js';
import { isUnix, type Plan, type Service, unfitForUdp } from '../plan.js';
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

/** What the workers listen on. */
export interface Listening {
  /** By worker. */
  readonly handles: readonly (readonly ListenerHandle[])[];
  /** For the log: where a client finds us. */
  readonly names: readonly string[];
  /** To be removed at the end. */
  readonly files: readonly SocketFile[];
}

/**
 * Binds every address of every service, with one socket for each worker (SO_REUSEPORT), so that workers do not contend
 * for one queue. A unix address has one socket, which they share.
 * @throws Failure with the address and the errno
 */
export const openListeners = async (plan: Plan, workers: number): Promise<Listening> => {
  const handles: ListenerHandle[][] = Array.from({ length: workers }, () => []);
  const names: string[] = [];
  const files: SocketFile[] = [];
  refuseUnixLoops(plan);
  try {
    for (const [service, settings] of plan.services.entries()) {
      checkProtocol(settings);
      for (const at of settings.listen) {
        if (isUnix(at)) {
          const { fd, file } = openUnixListener(at, at.mode, settings.backlog ?? undefined);
          if (file !== null) files.push(file);
          for (const ofWorker of handles) ofWorker.push({ service, fd, host: at.path });
          names.push(formatAddress(at));
          continue;
        }
        const { host, port } = at;
        for (const ip of host === null ? ['::', '0.0.0.0'] : await resolveHost(host)) {
          const address: ListenAddress = { ip, port };
          try {
            const open = settings.protocol === 'udp' ? openUdp : openShared;
            const fds = open(address, workers, settings.intercept === 'tproxy');
            for (const [worker, fd] of fds.entries()) handles[worker]?.push({ service, fd, host: host ?? '::' });
            names.push(nameOf(address, settings));
          } catch (error) {
            // A kernel without IPv6 still has every IPv4 address.
            if (host === null && ip === '::' && isWithoutIPv6(error)) continue;
            throw asFailure(error);
          }
        }
      }
    }
  } catch (error) {
    for (const file of files) file.remove();
    throw error;
  }
  return { handles, names, files };
};

/**
 * Makes listening sockets that were handed to us ready to serve: all workers share them, but those for datagrams. These
 * are one worker's: of several each datagram would come to another one, and make flows in all of them.
 * @throws Failure when they are not of the protocol that the plan's service is for, or TPROXY needs one to be
 * transparent and it is not
 */
export const adoptListeners = (plan: Plan, fds: readonly number[], workers: number): Listening => {
  // All of them belong to the one service that a command line makes.
  const service = plan.services[0] as Service;
  checkProtocol(service);
  for (const fd of fds) {
    adoptFd(fd);
    if ((inheritedKind(fd) === 'datagram') !== (service.protocol === 'udp')) {
      throw new Failure(`${service.name}: fd ${fd} is no ${service.protocol} socket`, EX.CONFIG);
    }
    if (service.protocol === 'udp') growReceiveBuffer(fd);
    else prepareListener(fd);
    if (service.intercept === 'tproxy') makeTransparent(fd);
  }
  const shared = fds.map((fd) => ({ service: 0, fd, host: localUnixAddress(fd)?.path ?? null }));
  const names = fds.map((fd) => {
    const address = localAddress(fd) ?? localUnixAddress(fd);
    return address === null ? `fd ${fd}` : nameOf(address, service);
  });
  const isAlone = (worker: number): boolean => service.protocol === 'udp' && worker > 0;
  return { handles: Array.from({ length: workers }, (_, worker) => (isAlone(worker) ? [] : shared)), names, files: [] };
};

const nameOf = (address: ListenAddress | UnixAddress, { protocol }: Service): string =>
  protocol === 'udp' ? `${formatAddress(address)} (udp)` : formatAddress(address);

const checkProtocol = (service: Service): void => {
  const unfit = service.protocol === 'udp' ? unfitForUdp(service) : null;
  if (unfit !== null) throw new Failure(`${service.name}: a service of datagrams can't be that: ${unfit}`, EX.CONFIG);
};

/** Who hands a socket over may have done it (systemd.socket(5), Transparent=), and then we needn't be allowed to. */
const makeTransparent = (fd: number): void => {
  if (isTransparent(fd)) return;
  const set = setTransparent(fd);
  if (set === 0) return;
  const how = `${NEEDS_TRANSPARENCY}, or Transparent=yes in the socket's unit of systemd`;
  throw new Failure(`setsockopt IP_TRANSPARENT fd ${fd}: ${errnoName(-set)} (${how})`, EX.NOPERM);
};

const openShared = (address: ListenAddress, workers: number, transparent: boolean): number[] => {
  // A socket that does not share fails where any other listens. Without this a second daemon of the same user would
  // quietly take a part of the first one's connections (socket(7), SO_REUSEPORT).
  closeFd(boundSocket(address, false, transparent));
  const fds = Array.from({ length: workers }, () => boundSocket(address, workers > 1, transparent));
  for (const fd of fds) startListening(fd, address);
  return fds;
};

/** The same for datagrams. */
const openUdp = (address: ListenAddress, workers: number, transparent: boolean): number[] => {
  closeFd(boundUdpSocket(address, false, transparent));
  const fds = Array.from({ length: workers }, () => boundUdpSocket(address, workers > 1, transparent));
  for (const fd of fds) {
    growReceiveBuffer(fd);
    // The port that clients meant may be this one, and answers have to leave by sockets that are bound to it.
    if (transparent) shareAddress(fd);
  }
  return fds;
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
