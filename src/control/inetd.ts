import { closeSync, fstatSync, openSync } from 'node:fs';
import { allocateCounters, CounterRow } from '../counters.js';
import { AccessEntries } from '../data/access-entries.js';
import { admit } from '../data/connection.js';
import { Loop } from '../data/loop.js';
import { type Reporter, Site } from '../data/site.js';
import { LOG_LEVELS, type LogLevel, type Plan, type Service } from '../plan.js';
import { adoptFd, replaceFd } from '../sys/process.js';
import { peerAddress } from '../sys/socket.js';
import { resolveUpstream } from './resolve.js';

/** Pipes for both directions. */
const PIPES = 2;

/**
 * Serves the one connection on `fd` to its end, on this thread: a worker would take longer to start than most
 * connections to serve, and so would the log and the access log, which are loaded when there is something to write.
 */
export const serveConnection = async (plan: Plan, fd: number): Promise<void> => {
  const service = plan.services[0] as Service;
  const upstreams = service.upstream === null ? [] : await resolveUpstream(service.upstream);
  if (plan.user !== null) {
    const { dropPrivileges, findUser } = await import('./privileges.js');
    dropPrivileges(findUser(plan.user));
  }
  const translate =
    service.mode === 'http'
      ? (
          (relay) => (link: ConstructorParameters<typeof relay>[0]) =>
            new relay(link)
        )((await import('../data/http-relay.js')).HttpRelay)
      : null;
  adoptFd(fd);
  keepStrayBytesOff(fd);

  const messages: [LogLevel, string][] = [];
  let lines = '';
  const entries = new AccessEntries((more) => {
    lines += more;
  });
  const most = LOG_LEVELS.indexOf(plan.logLevel);
  const reporter: Reporter = {
    verbose: plan.logLevel === 'debug',
    log: (level, message) => {
      if (LOG_LEVELS.indexOf(level) <= most) messages.push([level, message]);
    },
    access: plan.accessLog === null ? null : (entry) => entries.add(entry),
    unreachable: () => {},
  };
  const loop = new Loop(PIPES);
  const connections = new Set<never>();
  const counters = new CounterRow(allocateCounters(1), 0);
  // Which of several upstream addresses comes first must differ between processes as it does between connections.
  const site = new Site(0, service, loop, reporter, counters, connections, translate, upstreams, process.pid);
  site.onClosed = () => loop.stop();
  admit(site, fd, peerAddress(fd));
  if (connections.size > 0) loop.run();
  entries.flush();

  if (lines !== '' && plan.accessLog !== null) {
    const { AccessLog } = await import('./access-log.js');
    new AccessLog(plan.accessLog, null).write(lines);
  }
  if (messages.length > 0) {
    const { openLog } = await import('./log.js');
    const log = openLog(plan.foreground ? 'stderr' : 'syslog', plan.logLevel);
    for (const [level, message] of messages) log.write(level, message);
  }
};

/** inetd hands the socket over as stdout and stderr too, where a stray message would reach the client as data. */
const keepStrayBytesOff = (fd: number): void => {
  const { ino } = fstatSync(fd);
  const same = [1, 2].filter((other) => other !== fd && fstatSync(other).ino === ino);
  if (same.length === 0) return;
  const nothing = openSync('/dev/null', 'r+');
  for (const other of same) replaceFd(nothing, other);
  closeSync(nothing);
};
