import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { AffinityTable } from '../affinity-table.js';
import { CounterRow } from '../counters.js';
import type { Command, ListenerHandle, Report, WorkerStart } from '../messages.js';
import { OwnSockets } from '../own-sockets.js';
import { isPlainRelay, LOG_LEVELS, type LogLevel } from '../plan.js';
import { clearEventfd, EPOLLET, EPOLLIN } from '../sys/epoll.js';
import { AccessEntries } from './access-entries.js';
import { Admissions } from './admissions.js';
import { Listener } from './listener.js';
import { Loop } from './loop.js';
import { Names } from './names.js';
import { parts } from './parts.js';
import { Site, type Thread } from './site.js';
import { serveUdp } from './udp.js';
import { Flows, STOPPED } from './udp-flows.js';

/**
 * A worker thread: one loop for its share of all services' connections. From here on nothing of Node's runs in this
 * thread, neither timers nor promises nor a port's events: Commands are fetched when the wake eventfd says so.
 */
const start = workerData as WorkerStart;
const port = parentPort;
if (port === null) throw new Error('this file is the main module of a worker thread');

const report = (message: Report): void => port.postMessage(message);
const most = LOG_LEVELS.indexOf(start.plan.logLevel);

const loop = new Loop(start.maxPipes, new OwnSockets(start.ownSockets));
const { accessLog } = start.plan;
const access =
  accessLog === null ? null : new AccessEntries(accessLog.format, (lines) => report({ kind: 'access', lines }));
if (access !== null) loop.onTurnEnd(() => access.flush());
let listeners: readonly Listener[] = [];
/** By service; of those that are udp's. */
const flows = new Map<number, Flows>();
const thread: Thread = {
  loop,
  reporter: {
    verbose: start.plan.logLevel === 'debug',
    log: (level: LogLevel, message: string) => {
      if (LOG_LEVELS.indexOf(level) <= most) report({ kind: 'log', level, message });
    },
    access,
    unreachable: (service) => report({ kind: 'unreachable', service }),
  },
  countersOf: (service) => new CounterRow(start.counters[service] as SharedArrayBuffer, start.index),
  several: start.plan.services.length > 1,
  connections: new Set(),
  flowSockets: 0,
  names: new Names((name) => report({ kind: 'resolve', name })),
  admissions: start.plan.services.some(({ tcpWrappers }) => tcpWrappers !== null)
    ? new Admissions(loop, (id, service, ip) => report({ kind: 'admission', id, service, ip }))
    : null,
  onClosed: () => {
    for (const listener of listeners) listener.onClosed();
  },
};
const sites = start.plan.services.map((service, i) => {
  const memory = start.affinities[i] ?? null;
  const affinity = memory === null || service.affinity === null ? null : new AffinityTable(memory, service.affinity);
  const needed = isPlainRelay(service) ? null : parts;
  return new Site(i, service, thread, needed, start.addresses[i] ?? [], start.index, affinity);
});
const isUdp = ({ service }: ListenerHandle): boolean => start.plan.services[service]?.protocol === 'udp';
listeners = start.listeners
  .filter((handle) => !isUdp(handle))
  .map(({ service, fd, host }) => new Listener(sites[service] as Site, fd, start.maxConnections, host));
const ownFlows = new OwnSockets(start.ownSockets, 'udp');
for (const { service, fd, host } of start.listeners.filter(isUdp)) {
  const known = flows.get(service) ?? new Flows(sites[service] as Site, start.maxConnections, ownFlows);
  flows.set(service, known);
  serveUdp(known, fd, host);
}

const obey = (command: Command): void => {
  switch (command.kind) {
    case 'addresses':
      sites[command.service]?.setAddresses(command.host, command.addresses);
      return;
    case 'health':
      sites[command.service]?.setHealth(command.host, command.address, command.up);
      return;
    case 'resolved':
      thread.names.answer(command.name, command.ips, loop.now);
      return;
    case 'admitted':
      thread.admissions?.answer(command.id, command.refusal);
      return;
    case 'dump':
      report({
        kind: 'dump',
        lines: [
          ...[...thread.connections].map((connection) => connection.describe()),
          ...[...flows.values()].flatMap((ofService) => ofService.describe()),
        ],
      });
      return;
    case 'stop':
      loop.stop();
  }
};

loop.add(start.wakeFd, EPOLLIN | EPOLLET, {
  onEvents: () => {
    clearEventfd(start.wakeFd);
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      obey(next.message as Command);
    }
  },
});
report({ kind: 'ready' });
loop.run();
for (const connection of thread.connections) connection.stop();
for (const ofService of flows.values()) ofService.close(STOPPED);
access?.flush();
// The control plane waits for this thread to end, and an open port would keep it.
port.close();
