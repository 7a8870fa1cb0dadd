import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CounterRow } from '../counters.js';
import type { Command, ListenerHandle, Report, ServiceStart, Settings, WorkerStart } from '../messages.js';
import { OwnSockets } from '../own-sockets.js';
import { isPlainRelay, LOG_LEVELS, type LogLevel } from '../plan.js';
import { clearEventfd, EPOLLET, EPOLLIN } from '../sys/epoll.js';
import { AccessEntries } from './access-entries.js';
import { Listener, Room } from './listener.js';
import { Loop } from './loop.js';
import { Names } from './names.js';
import { parts } from './parts.js';
import { type Reporter, Site, type Thread } from './site.js';

/**
 * A worker thread: one loop for its share of all services' connections. From here on nothing of Node's runs in this
 * thread, neither timers nor promises nor a port's events: Commands are fetched when the wake eventfd says so.
 */
const start = workerData as WorkerStart;
const port = parentPort;
if (port === null) throw new Error('this file is the main module of a worker thread');

const report = (message: Report): void => port.postMessage(message);

const loop = new Loop(start.maxPipes, new OwnSockets(start.ownSockets));
const entries = new AccessEntries((lines) => report({ kind: 'access', lines }));
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
const room = new Room(start.maxConnections);
const thread: Thread = {
  loop,
  reporter,
  counters: new CounterRow(start.counters, start.index),
  connections: new Set(),
  names: new Names((name) => report({ kind: 'resolve', name })),
  onClosed: () => room.onClosed(),
};
/** By id. */
const sites = new Map<number, Site>();
/** By descriptor. */
const listeners = new Map<number, Listener>();

const configure = ({ logLevel, accessLog }: Settings): void => {
  most = LOG_LEVELS.indexOf(logLevel);
  reporter.verbose = logLevel === 'debug';
  reporter.access = accessLog === null ? null : (entry) => entries.add(entry);
};

const serve = ({ id, service, addresses }: ServiceStart): void => {
  sites.set(id, new Site(id, service, thread, isPlainRelay(service) ? null : parts, addresses, start.index));
};

const listen = ({ service, fd }: ListenerHandle): void => {
  const site = sites.get(service) as Site;
  const known = listeners.get(fd);
  if (known === undefined) listeners.set(fd, new Listener(site, fd, room));
  else known.site = site;
};

const leave = (fds: readonly number[], last: boolean): void => {
  for (const fd of fds) {
    listeners.get(fd)?.leave(last);
    listeners.delete(fd);
  }
};

const obey = (command: Command): void => {
  switch (command.kind) {
    case 'addresses':
      sites.get(command.service)?.setAddresses(command.host, command.addresses);
      return;
    case 'health': {
      const member = sites.get(command.service)?.pool.members[command.upstream];
      if (member !== undefined) member.probedUp = command.up;
      // What this thread held against it is older news.
      if (command.up) member?.succeeded();
      return;
    }
    case 'resolved':
      thread.names.answer(command.name, command.ips, loop.now);
      return;
    case 'plan':
      configure(command.settings);
      command.added.forEach(serve);
      room.most = command.maxConnections;
      command.listeners.forEach(listen);
      for (const id of command.gone) {
        sites.get(id)?.retire();
        sites.delete(id);
      }
      return;
    case 'leave': {
      const { number, fds, last } = command;
      leave(fds, last);
      // In the next turn, for which epoll has no events of theirs any more: their numbers may be given out again then.
      loop.again({ run: () => report({ kind: 'left', number }) });
      return;
    }
    case 'dump':
      report({ kind: 'dump', lines: [...thread.connections].map((connection) => connection.describe()) });
      return;
    case 'stop':
      loop.stop();
  }
};

configure(start.plan);
for (const [id, service] of start.plan.services.entries()) {
  serve({ id, service, addresses: start.addresses[id] ?? [] });
}
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
entries.flush();
// The control plane waits for this thread to end, and an open port would keep it.
port.close();
