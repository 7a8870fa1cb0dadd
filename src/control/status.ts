import { closeSync, openSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Counters } from '../counters.js';
import { isUnix, type Service, type StatusSettings } from '../plan.js';

/** The program at a moment: its services, by what their counters know them by. */
export interface Running {
  readonly services: readonly { readonly id: number; readonly service: Service }[];
  readonly counters: Counters;
  /** Milliseconds since the start. */
  readonly uptime: number;
  /** How often the plan was replaced by another. */
  readonly reloads: number;
}

/** How clients come to a service. */
const kindOf = ({ protocol, listen }: Service): 'tcp' | 'udp' | 'unix' =>
  protocol === 'udp' ? 'udp' : listen.length > 0 && listen.every(isUnix) ? 'unix' : 'tcp';

/**
 * What the program has done and is doing, under rinetd-uv's names. Bytes are those of connections that have ended, and
 * totals have what services did that are gone by now, which the sums by kind have not.
 */
export const statusOf = ({ services, counters, uptime, reloads }: Running, now: Date) => {
  const rules = services.map(({ id, service: { name } }) => ({
    name,
    connections_active: counters.of(id, 'open'),
    connections_total: counters.of(id, 'accepted'),
    bytes_in: counters.of(id, 'bytesFromClients'),
    bytes_out: counters.of(id, 'bytesToClients'),
    errors_accept: counters.of(id, 'acceptErrors'),
    errors_connect: counters.of(id, 'connectErrors'),
    denied: counters.of(id, 'refused'),
  }));
  const kinds = services.map(({ service }) => kindOf(service));
  const sum = (what: 'connections_active' | 'connections_total', of: string): number =>
    rules.reduce((total, rule, i) => (kinds[i] === of ? total + rule[what] : total), 0);
  return {
    timestamp: `${now.toISOString().slice(0, 19)}Z`,
    uptime_seconds: Math.floor(uptime / 1000),
    config_reloads: reloads,
    connections: {
      active: counters.total('open'),
      active_tcp: sum('connections_active', 'tcp'),
      active_udp: sum('connections_active', 'udp'),
      active_unix: sum('connections_active', 'unix'),
      total: counters.total('accepted'),
      total_tcp: sum('connections_total', 'tcp'),
      total_udp: sum('connections_total', 'udp'),
      total_unix: sum('connections_total', 'unix'),
    },
    traffic: {
      bytes_in: counters.total('bytesFromClients'),
      bytes_out: counters.total('bytesToClients'),
    },
    errors: {
      accept: counters.total('acceptErrors'),
      connect: counters.total('connectErrors'),
      denied: counters.total('refused'),
    },
    servers: services.reduce((count, { service }) => count + service.listen.length, 0),
    rules,
  };
};

export type Status = ReturnType<typeof statusOf>;

const UNITS = ['B', 'K', 'M', 'G'];

/** `512B`, `1.5K`, `20.0T`: powers of 1024. */
export const formatBytes = (bytes: number): string => {
  let left = bytes;
  for (const unit of UNITS) {
    if (left < 1024) return `${unit === 'B' ? left : left.toFixed(1)}${unit}`;
    left /= 1024;
  }
  return `${left.toFixed(1)}T`;
};

const two = (n: number): string => String(n).padStart(2, '0');

/** `2 days, 3:04:05`, without days in the first one. */
export const formatUptime = (seconds: number): string => {
  const days = Math.floor(seconds / 86_400);
  const rest = seconds % 86_400;
  const time = `${Math.floor(rest / 3600)}:${two(Math.floor(rest / 60) % 60)}:${two(rest % 60)}`;
  return days === 0 ? time : `${days} day${days === 1 ? '' : 's'}, ${time}`;
};

const formatText = (status: Status): string => {
  const { connections, traffic, errors, rules } = status;
  const byKind = (what: 'active' | 'total'): string =>
    `${connections[what]} (TCP: ${connections[`${what}_tcp`]}, UDP: ${connections[`${what}_udp`]}, ` +
    `Unix: ${connections[`${what}_unix`]})`;
  return `${[
    'tproxy status',
    `Updated: ${status.timestamp}`,
    `Uptime: ${formatUptime(status.uptime_seconds)}`,
    `Config reloads: ${status.config_reloads}`,
    '',
    'CONNECTIONS',
    `Active: ${byKind('active')}`,
    `Total: ${byKind('total')}`,
    '',
    'TRAFFIC',
    `Bytes in: ${formatBytes(traffic.bytes_in)}`,
    `Bytes out: ${formatBytes(traffic.bytes_out)}`,
    '',
    'ERRORS',
    `Accept: ${errors.accept}`,
    `Connect: ${errors.connect}`,
    `Denied: ${errors.denied}`,
    '',
    'SERVERS',
    `Count: ${status.servers}`,
    '',
    'RULES',
    ...rules.map(
      (rule) =>
        `  ${rule.name}: active ${rule.connections_active}, total ${rule.connections_total}, ` +
        `in ${formatBytes(rule.bytes_in)}, out ${formatBytes(rule.bytes_out)}, ` +
        `errors ${rule.errors_accept + rule.errors_connect}, denied ${rule.denied}`,
    ),
  ].join('\n')}\n`;
};

export const formatStatus = (status: Status, format: StatusSettings['format']): string =>
  format === 'json' ? `${JSON.stringify(status, null, 2)}\n` : formatText(status);

/** One line for the log: pairs are what is now and what was in all, traffic from clients and to them, and the three errors. */
export const summaryOf = ({ uptime_seconds, connections: c, traffic, errors }: Status): string =>
  `STATS: uptime=${uptime_seconds}s conns=${c.active}/${c.total} tcp=${c.active_tcp}/${c.total_tcp} ` +
  `udp=${c.active_udp}/${c.total_udp} unix=${c.active_unix}/${c.total_unix} ` +
  `traffic=${formatBytes(traffic.bytes_in)}/${formatBytes(traffic.bytes_out)} ` +
  `errors=${errors.accept}/${errors.connect}/${errors.denied}`;

/** Opens a file that was not there: what somebody else put in its place is neither followed nor written to (open(2), O_EXCL). */
const openNew = (path: string): number => {
  try {
    return openSync(path, 'wx', 0o644);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    unlinkSync(path);
    return openSync(path, 'wx', 0o644);
  }
};

/**
 * Puts a file in the place of another at once: who reads it has the old one or the new one whole.
 * @throws the error of the system call
 */
export const replaceFile = (path: string, text: string): void => {
  const next = `${path}.${process.pid}.tmp`;
  const fd = openNew(next);
  try {
    writeFileSync(fd, text);
    renameSync(next, path);
  } catch (error) {
    unlinkSync(next);
    throw error;
  } finally {
    closeSync(fd);
  }
};
