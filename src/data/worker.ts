import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CounterRow } from '../counters.js';
import type { Command, Report, WorkerStart } from '../messages.js';
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
const entries = new AccessEntries((lines) => report({ kind: 'access', lines }));
loop.onTurnEnd(() => entries.flush());
let listeners: readonly Listener[] = [];
const thread: Thread = {
  loop,
  reporter: {
    verbose: start.plan.logLevel === 'debug',
    log: (level: LogLevel, message: string) => {
      if (LOG_LEVELS.indexOf(level) <= most) report({ kind: 'log', level, message });
    },
    access: start.plan.accessLog === null ? null : (entry) => entries.add(entry),
    unreachable: (service) => report({ kind: 'unreachable', service }),
  },
  counters: new CounterRow(start.counters, start.index),
  connections: new Set(),
  mostConnections: start.maxConnections,
  names: new Names((name) => report({ kind: 'resolve', name })),
  admissions: start.plan.services.some(({ tcpWrappers }) => tcpWrappers !== null)
    ? new Admissions(loop, (id, service, ip) => report({ kind: 'admission', id, service, ip }))
    : null,
  onClosed: () => {
    for (const listener of listeners) listener.onClosed();
  },
};
const sites = start.plan.services.map(
  (service, i) =>
    new Site(i, service, thread, isPlainRelay(service) ? null : parts, start.addresses[i] ?? [], start.index),
);
listeners = start.listeners.map(({ service, fd }) => new Listener(sites[service] as Site, fd));

const obey = (command: Command): void => {
  switch (command.kind) {
    case 'addresses':
      sites[command.service]?.setAddresses(command.host, command.addresses);
      return;
    case 'health': {
      const member = sites[command.service]?.pool.members[command.upstream];
      if (member !== undefined) member.probedUp = command.up;
      // What this thread held against it is older news.
      if (command.up) member?.succeeded();
      return;
    }
    case 'resolved':
      thread.names.answer(command.name, command.ips, loop.now);
      return;
    case 'admitted':
      thread.admissions?.answer(command.id, command.refusal);
      return;
    case 'dump':
      report({ kind: 'dump', lines: [...thread.connections].map((connection) => connection.describe()) });
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
entries.flush();
// The control plane waits for this thread to end, and an open port would keep it.
port.close();
