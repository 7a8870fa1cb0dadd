import type { ClientAddress, SocketAddress } from '../address.js';
import type { Service } from '../plan.js';
import { E, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { bindSource, setTransparent } from '../sys/socket.js';
import { connectUdp, udpSocket } from '../sys/udp-socket.js';

/** A socket that is connected to one of some addresses. */
export interface Dialed {
  readonly fd: number;
  readonly address: SocketAddress;
}

/** Takes its local address, where the service says which: what went wrong, or null. */
const takeSource = (
  fd: number,
  { spoof, source, targets }: Service,
  client: ClientAddress,
  to: SocketAddress,
): SystemError | null => {
  const ip = spoof ? client.ip : (targets[0]?.source ?? source);
  if (ip === null) return null;
  const purpose = `${ip} for ${to.ip}`;
  const transparent = spoof ? setTransparent(fd) : 0;
  if (transparent < 0) return new SystemError('setsockopt IP_TRANSPARENT', -transparent, purpose);
  const bound = bindSource(fd, ip);
  return bound < 0 ? new SystemError('bind', -bound, purpose) : null;
};

/** Connects to the first address that the kernel has a way to, or tells why there is none. Nothing is sent by that. */
export const dialUdp = (
  service: Service,
  client: ClientAddress,
  addresses: readonly SocketAddress[],
): Dialed | SystemError => {
  let error: SystemError | null = null;
  for (const address of addresses) {
    const fd = udpSocket(address.ip.includes(':'));
    if (fd < 0) {
      error = new SystemError('socket', -fd, address);
      continue;
    }
    error = takeSource(fd, service, client, address);
    if (error === null) {
      const connected = connectUdp(fd, address);
      if (connected === 0) return { fd, address };
      error = new SystemError('connect', -connected, address);
    }
    closeFd(fd);
  }
  return error ?? new SystemError('lookup', E.NOENT);
};
