import { connect } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { formatAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import type { HostPort, Limits } from '../plan.js';
import { resolveHostPort } from './resolve.js';

/**
 * Relays stdin and stdout to a target, as nc(1) does, and waits for good as it does: behind a ProxyCommand of ssh silence
 * is an ordinary thing. Node's streams do it: they know pipes, terminals and files alike,
 * where epoll refuses files.
 * @throws Failure when no address of the target can be connected to
 */
export const relayStdio = async (target: HostPort, limits: Limits): Promise<void> => {
  const failures: string[] = [];
  for (const address of await resolveHostPort(target)) {
    const socket = connect({ host: address.ip, port: address.port, allowHalfOpen: true, noDelay: true });
    try {
      await new Promise<void>((connected, failed) => {
        const deadline = setTimeout(() => failed(new Error('ETIMEDOUT')), limits.connect);
        socket.once('connect', () => {
          clearTimeout(deadline);
          connected();
        });
        socket.once('error', failed);
      });
    } catch (error) {
      socket.destroy();
      failures.push(
        `connect ${formatAddress(address)}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`,
      );
      continue;
    }
    try {
      await Promise.all([pipeline(process.stdin, socket), pipeline(socket, process.stdout)]);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Failure(`${formatAddress(address)}: ${code ?? message}`, EX.UNAVAILABLE);
    }
    return;
  }
  throw new Failure(failures.join('; '), EX.UNAVAILABLE);
};
