import type { ClientAddress, SocketAddress } from '../address.js';
import type { Service } from '../plan.js';
import { E, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { connectUdp, udpSocket } from '../sys/udp-socket.js';
import type { Member } from './pool.js';
import { connectError, explain, fits, isOfSource, misfit, sourceOf, takeSource } from './source.js';

/** One of the ends that a flow may have. */
export interface FlowEnd {
  readonly address: SocketAddress;
  /** null: it is the original destination. */
  readonly member: Member | null;
}

/** A socket that is connected to one of them. */
export interface Dialed extends FlowEnd {
  readonly fd: number;
}

/** Why there is none. */
export interface Undialed {
  /** What was tried last, and how it failed. */
  readonly message: string;
  /** That lies with the ends, and not with where the datagrams were to come from. */
  readonly unreachable: boolean;
}

/** Connects to the first end that the kernel has a way to. Nothing is sent by that. */
export const dialUdp = (service: Service, client: ClientAddress, ends: readonly FlowEnd[]): Dialed | Undialed => {
  let error = new SystemError('lookup', E.NOENT);
  let message = explain(error, null);
  let unreachable = true;
  for (const end of ends) {
    const { address, member } = end;
    const ofClient = sourceOf(service, client, member === null);
    const source = ofClient?.foreign ? ofClient : (member?.host.source ?? ofClient);
    const outcome = tryEnd(address, source);
    if (typeof outcome === 'number') return { ...end, fd: outcome };
    error = outcome;
    message = explain(error, source);
    unreachable = !isOfSource(error, source);
  }
  return { message, unreachable };
};

/** A socket that is connected to an address, or what went wrong. */
const tryEnd = (address: SocketAddress, source: ReturnType<typeof sourceOf>): number | SystemError => {
  if (source !== null && !fits(source, address)) return misfit(source, address);
  const fd = udpSocket(address.ip.includes(':'));
  if (fd < 0) return new SystemError('socket', -fd, address);
  const wrong = source === null ? null : takeSource(fd, source, address);
  const connected = wrong === null ? connectUdp(fd, address) : 0;
  if (wrong === null && connected === 0) return fd;
  closeFd(fd);
  return wrong ?? connectError(-connected, address, source);
};
