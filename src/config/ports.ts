import { readFileSync } from 'node:fs';
import { quoted, UsageError } from './usage-error.js';

const SERVICES = '/etc/services';

/**
 * A TCP port from its number (1 to 65535, leading zeros allowed) or its service name.
 * `what` is the argument's name in messages. Throws UsageError.
 */
export const parsePort = (what: string, text: string): number => {
  if (/^\d+$/.test(text)) {
    const port = Number(text);
    if (port < 1 || port > 65535) throw new UsageError(`${what}: ${quoted(text)} is not a port from 1 to 65535`);
    return port;
  }
  const port = tcpServices(`${what}: ${quoted(text)}`).get(text);
  if (port === undefined) {
    throw new UsageError(`${what}: ${quoted(text)} is neither a port from 1 to 65535 nor a TCP service in ${SERVICES}`);
  }
  return port;
};

let services: ReadonlyMap<string, number> | undefined;

const tcpServices = (what: string): ReadonlyMap<string, number> => {
  if (services) return services;
  try {
    services = readServices(readFileSync(SERVICES, 'latin1'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new UsageError(`${what} can't be looked up: open ${SERVICES}: ${code}; give the port's number`);
  }
  return services;
};

/** TCP ports by service name and alias, from the text of services(5). The first line of a name counts. */
export const readServices = (text: string): ReadonlyMap<string, number> => {
  const ports = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name, portAndProtocol, ...aliases] = line.replace(/#.*/, '').split(/\s+/).filter(Boolean);
    const port = Number(/^(\d{1,5})\/tcp$/.exec(portAndProtocol ?? '')?.[1]);
    if (name === undefined || !(port >= 1 && port <= 65535)) continue;
    for (const known of [name, ...aliases]) if (!ports.has(known)) ports.set(known, port);
  }
  return ports;
};
