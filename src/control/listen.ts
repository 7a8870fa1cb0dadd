import { formatAddress, type ListenAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { isUnix, type Plan, type Service } from '../plan.js';
import { E, SystemError } from '../sys/errno.js';
import { adoptFd, closeFd } from '../sys/process.js';
import { boundSocket, localAddress, prepareListener, startListening } from '../sys/socket.js';
import { resolveHost } from './resolve.js';

/** One address that a plan listens on. */
export interface Place {
  /** Tells it from all others, in every plan and every process: `tcp 192.0.2.1:80`. */
  readonly key: string;
  /** For the log: where a client finds us. */
  readonly name: string;
  readonly address: ListenAddress;
  readonly service: Service;
  /** Of the service in its plan. */
  readonly index: number;
  /** One of all addresses of both families: a kernel without IPv6 still has every IPv4 address. */
  readonly anyFamily: boolean;
}

/**
 * Where a plan listens, its names looked up.
 * @throws Failure for a name that has no address, and for a place that two services have
 */
export const placesOf = async (plan: Plan): Promise<readonly Place[]> => {
  const places = new Map<string, Place>();
  for (const [index, service] of plan.services.entries()) {
    for (const at of service.listen) {
      if (isUnix(at)) continue;
      const { host, port } = at;
      for (const ip of host === null ? ['::', '0.0.0.0'] : await resolveHost(host)) {
        const address: ListenAddress = { ip, port };
        const name = formatAddress(address);
        const key = `tcp ${name}`;
        const other = places.get(key);
        if (other !== undefined) {
          throw new Failure(`${name} is listened on twice: by ${other.service.name} and ${service.name}`, EX.CONFIG);
        }
        places.set(key, { key, name, address, service, index, anyFamily: host === null });
      }
    }
  }
  return [...places.values()];
};

/**
 * Opens a place with one socket for each worker (SO_REUSEPORT), so that workers do not contend for one queue; none at
 * all where the kernel lacks the family and another will do.
 * @throws Failure with the address and the errno
 */
export const openPlace = ({ address, service, anyFamily }: Place, workers: number): readonly number[] => {
  const fds: number[] = [];
  try {
    // A socket that does not share fails where any other listens. Without this a second daemon of the same user would
    // quietly take a part of the first one's connections (socket(7), SO_REUSEPORT).
    closeFd(boundSocket(address, false));
    for (let i = 0; i < workers; i++) fds.push(boundSocket(address, workers > 1));
    for (const fd of fds) applyOptions(fd, address, service);
    return fds;
  } catch (error) {
    fds.forEach(closeFd);
    if (anyFamily && address.ip === '::' && isWithoutIPv6(error)) return [];
    throw asFailure(error);
  }
};

/** Gives a socket what a service says of its sockets, and lets it listen. One that listens already is changed to that. */
export const applyOptions = (fd: number, address: ListenAddress, { keepalive, backlog }: Service): void => {
  prepareListener(fd, keepalive);
  startListening(fd, address, backlog ?? undefined);
};

/** Makes a listening socket that was handed to us ready to serve; returns its name for the log. */
export const adoptListener = (fd: number, { keepalive }: Service): string => {
  adoptFd(fd);
  prepareListener(fd, keepalive);
  const address = localAddress(fd);
  return address === null ? `fd ${fd}` : formatAddress(address);
};

const isWithoutIPv6 = (error: unknown): boolean =>
  error instanceof SystemError && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL');

const asFailure = (error: unknown): unknown => {
  if (!(error instanceof SystemError)) return error;
  const { errno, message } = error;
  if (errno === E.ADDRINUSE) return new Failure(`${message} (another program listens there)`, EX.UNAVAILABLE);
  if (errno === E.ACCES || errno === E.PERM) {
    return new Failure(`${message} (ports below 1024 need root or CAP_NET_BIND_SERVICE)`, EX.NOPERM);
  }
  return new Failure(message, EX.OSERR);
};
