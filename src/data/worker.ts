import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { AffinityTable } from '../affinity-table.js';
import { CounterRow } from '../counters.js';
import type { Command, ListenerHandle, Report, ServiceStart, Settings, WorkerStart } from '../messages.js';
import { OwnSockets } from '../own-sockets.js';
import { isPlainRelay, LOG_LEVELS, type LogLevel } from '../plan.js';
import { clearEventfd, EPOLLET, EPOLLIN } from '../sys/epoll.js';
import { AccessEntries } from './access-entries.js';
import { Admissions } from './admissions.js';
import { Listener, onRoom } from './listener.js';
import { Loop } from './loop.js';
import { Names } from './names.js';
import { parts } from './parts.js';
import { type Reporter, Site, type Thread } from './site.js';
import { type Inlet, serveUdp } from './udp.js';
import { Flows, STOPPED } from './udp-flows.js';

/**
 * A worker thread: one loop for its share of all services' connections. From here on nothing of Node's runs in this
 * thread, neither timers nor promises nor a port's events: Commands are fetched when the wake eventfd says so.
 */
const start = workerData as WorkerStart;
const port = parentPort;
if (port === null) throw new Error('this file is the main module of a worker thread');

const report = (message: Report): void => port.postMessage(message);

const loop = new Loop(start.maxPipes, new OwnSockets(start.ownSockets));
const ownFlows = new OwnSockets(start.ownSockets, 'udp');
const entries = new AccessEntries('transproxy', (lines) => report({ kind: 'access', lines }));
loop.onTurnEnd(() => entries.flush());
let most = 0;
const reporter: Reporter = {
  verbose: false,
  log: (level: LogLevel, message: string) => {
    if (LOG_LEVELS.indexOf(level) <= most) report({ kind: 'log', level, message });
  },
  access: null,
  unreachable: (service) => report({ kind: 'unreachable', service }),
};
/** By service. */
const counters = new Map<number, SharedArrayBuffer>();
const sites = new Map<number, Site>();
/** By service; of those that are udp's. */
const flows = new Map<number, Flows>();
/** Those of services that are gone. */
let goneFlows: readonly Flows[] = [];
/** By descriptor. */
const listeners = new Map<number, Listener>();
const inlets = new Map<number, Inlet>();
const thread: Thread = {
  loop,
  reporter,
  countersOf: (service) => new CounterRow(counters.get(service) as SharedArrayBuffer, start.index),
  several: false,
  connections: new Set(),
  mostConnections: start.maxConnections,
  waiting: new Set(),
  flowSockets: 0,
  names: new Names((name) => report({ kind: 'resolve', name })),
  admissions: null,
  onClosed: () => onRoom(thread),
};

const configure = ({ logLevel, accessLog }: Settings): void => {
  most = LOG_LEVELS.indexOf(logLevel);
  reporter.verbose = logLevel === 'debug';
  reporter.access = accessLog === null ? null : entries;
  if (accessLog !== null) entries.useFormat(accessLog.format);
};

const begin = ({ id, service, addresses, counters: memory, affinity }: ServiceStart): void => {
  counters.set(id, memory);
  if (service.tcpWrappers !== null) {
    thread.admissions ??= new Admissions(loop, (client, daemon, ip) =>
      report({ kind: 'admission', id: client, daemon, ip }),
    );
  }
  const table = affinity === null || service.affinity === null ? null : new AffinityTable(affinity, service.affinity);
  sites.set(id, new Site(id, service, thread, isPlainRelay(service) ? null : parts, addresses, start.index, table));
};

const listen = ({ service, fd, host }: ListenerHandle): void => {
  const site = sites.get(service) as Site;
  if (site.service.protocol === 'udp') {
    const ofService = flows.get(service) ?? new Flows(site, ownFlows);
    flows.set(service, ofService);
    inlets.set(fd, serveUdp(ofService, fd, host, inlets.get(fd)));
    return;
  }
  const known = listeners.get(fd);
  if (known === undefined) listeners.set(fd, new Listener(site, fd, host));
  else known.serve(site, host);
};

const leave = (fds: readonly number[], last: boolean): void => {
  for (const fd of fds) {
    (listeners.get(fd) ?? inlets.get(fd))?.leave(last);
    listeners.delete(fd);
    inlets.delete(fd);
  }
};

/** The service is in the plan no more; what is open of it goes on. */
const end = (service: number): void => {
  sites.get(service)?.retire();
  sites.delete(service);
  counters.delete(service);
  const ofService = flows.get(service);
  if (ofService !== undefined) goneFlows = [...goneFlows, ofService];
  flows.delete(service);
};

const describe = (): string[] => [
  ...[...thread.connections].map((connection) => connection.describe()),
  ...[...flows.values(), ...goneFlows].flatMap((ofService) => ofService.describe()),
];

const obey = (command: Command): void => {
  switch (command.kind) {
    case 'addresses':
      sites.get(command.service)?.setAddresses(command.host, command.addresses);
      return;
    case 'health':
      sites.get(command.service)?.setHealth(command.host, command.address, command.up);
      return;
    case 'resolved':
      thread.names.answer(command.name, command.ips, loop.now);
      return;
    case 'admitted':
      thread.admissions?.answer(command.id, command.refusal);
      return;
    case 'plan':
      configure(command.settings);
      command.added.forEach(begin);
      thread.mostConnections = command.maxConnections;
      command.listeners.forEach(listen);
      goneFlows = goneFlows.filter(({ size, inlets: left }) => size > 0 || left.size > 0);
      command.gone.forEach(end);
      thread.several = sites.size > 1;
      return;
    case 'leave': {
      const { number, fds, last } = command;
      leave(fds, last);
      // In the next turn, for which epoll has no events of theirs any more: their numbers may be given out again then.
      loop.again({ run: () => report({ kind: 'left', number }) });
      return;
    }
    case 'dump':
      report({ kind: 'dump', lines: describe() });
      return;
    case 'stop':
      loop.stop();
  }
};

configure(start.settings);
start.services.forEach(begin);
thread.several = sites.size > 1;
start.listeners.forEach(listen);
if (start.knockFd !== null) loop.add(start.knockFd, EPOLLIN | EPOLLET, { onEvents: () => report({ kind: 'knock' }) });
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
for (const ofService of [...flows.values(), ...goneFlows]) ofService.close(STOPPED);
entries.flush();
// The control plane waits for this thread to end, and an open port would keep it.
port.close();
