import { readFileSync } from 'node:fs';
import type { Service } from '../plan.js';
import { quoted, UsageError } from './usage-error.js';

const SERVICES = '/etc/services';

type Protocol = Service['protocol'];

/**
 * A port from its number (1 to 65535, leading zeros allowed) or its service name, of TCP unless another protocol is
 * given. `what` is the argument's name in messages. Throws UsageError.
 */
export const parsePort = (what: string, text: string, protocol: Protocol = 'tcp'): number => {
  if (/^\d+$/.test(text)) {
    const port = Number(text);
    if (port < 1 || port > 65535) throw new UsageError(`${what}: ${quoted(text)} is not a port from 1 to 65535`);
    return port;
  }
  const port = servicesOf(protocol, `${what}: ${quoted(text)}`).get(text);
  if (port === undefined) {
    const service = `${protocol.toUpperCase()} service in ${SERVICES}`;
    throw new UsageError(`${what}: ${quoted(text)} is neither a port from 1 to 65535 nor a ${service}`);
  }
  return port;
};

const services: Partial<Record<Protocol, ReadonlyMap<string, number>>> = {};

const servicesOf = (protocol: Protocol, what: string): ReadonlyMap<string, number> => {
  try {
    services[protocol] ??= readServices(readFileSync(SERVICES, 'latin1'), protocol);
    return services[protocol];
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new UsageError(`${what} can't be looked up: open ${SERVICES}: ${code}; give the port's number`);
  }
};

/** Ports by service name and alias, from the text of services(5). The first line of a name counts. */
export const readServices = (text: string, protocol: Protocol = 'tcp'): ReadonlyMap<string, number> => {
  const ports = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name, portAndProtocol, ...aliases] = line.replace(/#.*/, '').split(/\s+/).filter(Boolean);
    const [, digits, of] = /^(\d{1,5})\/(tcp|udp)$/.exec(portAndProtocol ?? '') ?? [];
    const port = Number(digits);
    if (name === undefined || of !== protocol || !(port >= 1 && port <= 65535)) continue;
    for (const known of [name, ...aliases]) if (!ports.has(known)) ports.set(known, port);
  }
  return ports;
};
