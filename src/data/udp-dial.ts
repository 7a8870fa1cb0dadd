import type { ClientAddress, SocketAddress } from '../address.js';
import type { Service } from '../plan.js';
import { E, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { connectUdp, udpSocket } from '../sys/udp-socket.js';
import { connectError, explain, fits, isOfSource, misfit, sourceOf, takeSource } from './source.js';

/** A socket that is connected to one of some addresses. */
export interface Dialed {
  readonly fd: number;
  readonly address: SocketAddress;
}

/** Why there is none. */
export interface Undialed {
  /** What was tried last, and how it failed. */
  readonly message: string;
  /** That lies with the addresses, and not with where the datagrams were to come from. */
  readonly unreachable: boolean;
}

/**
 * Connects to the first address that the kernel has a way to. Nothing is sent by that. `toOriginal`: they are the
 * client's original destination.
 */
export const dialUdp = (
  service: Service,
  client: ClientAddress,
  addresses: readonly SocketAddress[],
  toOriginal: boolean,
): Dialed | Undialed => {
  const source = sourceOf(service, client, toOriginal);
  let error = new SystemError('lookup', E.NOENT);
  for (const address of addresses) {
    if (source !== null && !fits(source, address)) {
      error = misfit(source, address);
      continue;
    }
    const fd = udpSocket(address.ip.includes(':'));
    if (fd < 0) {
      error = new SystemError('socket', -fd, address);
      continue;
    }
    const wrong = source === null ? null : takeSource(fd, source, address);
    const connected = wrong === null ? connectUdp(fd, address) : 0;
    if (wrong === null && connected === 0) return { fd, address };
    error = wrong ?? connectError(-connected, address, source);
    closeFd(fd);
  }
  return { message: explain(error, source), unreachable: !isOfSource(error, source) };
};
