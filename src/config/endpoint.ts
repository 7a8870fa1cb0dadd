import type { HostPort, InetListen, Service } from '../plan.js';
import { parseHost } from './host.js';
import { parsePort } from './ports.js';
import { quoted, UsageError } from './usage-error.js';

/**
 * `[HOST]:PORT`: an IPv6 address in brackets, a port by number or service name, of TCP unless another protocol is given, a
 * host of null where there is none.
 * `what` is the argument's name in messages. Throws UsageError.
 */
export const parseEndpoint = (what: string, text: string, protocol: Service['protocol'] = 'tcp'): InetListen => {
  const [, host, port] = /^(\[.*\]|[^:]*):([^:]*)$/s.exec(text) ?? [];
  if (host === undefined || port === undefined) {
    const why = text.includes(':') ? 'has more than one colon: write IPv6 as [ADDRESS]:PORT' : 'has no colon in it';
    throw new UsageError(`${what}: ${quoted(text)} ${why}`);
  }
  return { host: host === '' ? null : parseHost(what, host), port: parsePort(what, port, protocol) };
};

/** `HOST:PORT`, as parseEndpoint reads it. */
export const parseHostPort = (what: string, text: string): HostPort => {
  const { host, port } = parseEndpoint(what, text);
  if (host === null) throw new UsageError(`${what}: ${quoted(text)} has no host in front of its colon`);
  return { host, port };
};
