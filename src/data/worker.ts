import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CounterRow } from '../counters.js';
import type { Command, Report, WorkerStart } from '../messages.js';
import { LOG_LEVELS, type LogLevel } from '../plan.js';
import { clearEventfd, EPOLLET, EPOLLIN } from '../sys/epoll.js';
import { AccessEntries } from './access-entries.js';
import type { Connection } from './connection.js';
import { type HttpLink, HttpRelay } from './http-relay.js';
import { Listener } from './listener.js';
import { Loop } from './loop.js';
import { type Reporter, Site } from './site.js';

/**
 * A worker thread: one loop for its share of all services' connections. From here on nothing of Node's runs in this
 * thread, neither timers nor promises nor a port's events: Commands are fetched when the wake eventfd says so.
 */
const start = workerData as WorkerStart;
const port = parentPort;
if (port === null) throw new Error('this file is the main module of a worker thread');

const report = (message: Report): void => port.postMessage(message);
const most = LOG_LEVELS.indexOf(start.plan.logLevel);

const loop = new Loop(start.maxPipes);
const entries = new AccessEntries((lines) => report({ kind: 'access', lines }));
loop.onTurnEnd(() => entries.flush());
const reporter: Reporter = {
  verbose: start.plan.logLevel === 'debug',
  log: (level: LogLevel, message: string) => {
    if (LOG_LEVELS.indexOf(level) <= most) report({ kind: 'log', level, message });
  },
  access: start.plan.accessLog === null ? null : (entry) => entries.add(entry),
  unreachable: (service) => report({ kind: 'unreachable', service }),
};
const counters = new CounterRow(start.counters, start.index);
const connections = new Set<Connection>();
const sites = start.plan.services.map((service, i) => {
  const translate = service.mode === 'http' ? (link: HttpLink) => new HttpRelay(link) : null;
  const upstreams = start.upstreams[i] ?? [];
  return new Site(i, service, loop, reporter, counters, connections, translate, upstreams, start.index);
});
const listeners = start.listeners.map(
  ({ service, fd }) => new Listener(sites[service] as Site, fd, start.maxConnections),
);
for (const site of sites) {
  site.onClosed = () => {
    for (const listener of listeners) listener.onClosed();
  };
}

const obey = (command: Command): void => {
  switch (command.kind) {
    case 'upstream':
      sites[command.service]?.setUpstreams(command.addresses);
      return;
    case 'dump':
      report({ kind: 'dump', lines: [...connections].map((connection) => connection.describe()) });
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
