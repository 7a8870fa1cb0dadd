import { formatAddress, type ListenAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import type { ListenerHandle } from '../messages.js';
import { isUnix, type Plan } from '../plan.js';
import { E, errnoName, SystemError } from '../sys/errno.js';
import { adoptFd, closeFd } from '../sys/process.js';
import {
  boundSocket,
  isTransparent,
  localAddress,
  localUnixAddress,
  prepareListener,
  setTransparent,
  startListening,
} from '../sys/socket.js';
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
    for (const [service, { listen, intercept, backlog }] of plan.services.entries()) {
      for (const at of listen) {
        if (isUnix(at)) {
          const { fd, file } = openUnixListener(at, at.mode, backlog ?? undefined);
          for (const ofWorker of handles) ofWorker.push({ service, fd });
          names.push(formatAddress(at));
          if (file !== null) files.push(file);
          continue;
        }
        const { host, port } = at;
        for (const ip of host === null ? ['::', '0.0.0.0'] : await resolveHost(host)) {
          const address: ListenAddress = { ip, port };
          try {
            const fds = openShared(address, workers, intercept === 'tproxy');
            for (const [worker, fd] of fds.entries()) handles[worker]?.push({ service, fd });
            names.push(formatAddress(address));
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
 * Makes listening sockets that were handed to us ready to serve: all workers share them.
 * @throws Failure when TPROXY needs one to be transparent and it is not
 */
export const adoptListeners = (plan: Plan, fds: readonly number[], workers: number): Listening => {
  for (const fd of fds) {
    adoptFd(fd);
    prepareListener(fd);
    if (plan.services[0]?.intercept === 'tproxy') makeTransparent(fd);
  }
  // All of them belong to the one service that a command line makes.
  const shared = fds.map((fd) => ({ service: 0, fd }));
  const names = fds.map((fd) => {
    const address = localAddress(fd) ?? localUnixAddress(fd);
    return address === null ? `fd ${fd}` : formatAddress(address);
  });
  return { handles: Array.from({ length: workers }, () => shared), names, files: [] };
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

const NEEDS_TRANSPARENCY = 'taking what TPROXY sends needs root, CAP_NET_RAW or CAP_NET_ADMIN';

const isWithoutIPv6 = (error: unknown): boolean =>
  error instanceof SystemError && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL');

const asFailure = (error: unknown): unknown => {
  if (!(error instanceof SystemError)) return error;
  const { errno, message, syscall } = error;
  if (errno === E.ADDRINUSE) return new Failure(`${message} (another program listens there)`, EX.UNAVAILABLE);
  if (errno === E.ACCES || errno === E.PERM) {
    const needs = syscall === 'bind' ? 'ports below 1024 need root or CAP_NET_BIND_SERVICE' : NEEDS_TRANSPARENCY;
    return new Failure(`${message} (${needs})`, EX.NOPERM);
  }
  return new Failure(message, EX.OSERR);
};
