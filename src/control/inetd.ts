import { closeSync, fstatSync, openSync } from 'node:fs';
import { allocateCounters, CounterRow } from '../counters.js';
import { AccessEntries } from '../data/access-entries.js';
import { admit } from '../data/connection.js';
import { Loop } from '../data/loop.js';
import { Names } from '../data/names.js';
import { Site, type Thread } from '../data/site.js';
import { EX, Failure } from '../failure.js';
import { isPlainRelay, LOG_LEVELS, type LogLevel, type Plan, type Service } from '../plan.js';
import { adoptFd, replaceFd } from '../sys/process.js';
import { peerAddress } from '../sys/socket.js';
import { resolveService } from './resolve.js';

/** Pipes for both directions. */
const PIPES = 2;

/**
 * Serves the one connection on `fd` to its end, on this thread: a worker would take longer to start than most
 * connections to serve, and so would the log and the access log, which are loaded when there is something to write.
 */
export const serveConnection = async (plan: Plan, fd: number): Promise<void> => {
  const service = plan.services[0] as Service;
  if (service.http.verifyHost !== 'off') {
    const why = "--verify-host looks names up while it serves: that needs -s (--server), or inetd's wait";
    throw new Failure(why, EX.USAGE);
  }
  const { addresses, problems } = await resolveService(service);
  if (plan.user !== null) {
    const { dropPrivileges, findUser } = await import('./privileges.js');
    dropPrivileges(findUser(plan.user));
  }
  const parts = isPlainRelay(service) ? null : (await import('../data/parts.js')).parts;
  adoptFd(fd);
  keepStrayBytesOff(fd);

  const messages: [LogLevel, string][] = [];
  let lines = '';
  const entries = new AccessEntries((more) => {
    lines += more;
  });
  const most = LOG_LEVELS.indexOf(plan.logLevel);
  const loop = new Loop(PIPES);
  const thread: Thread = {
    loop,
    reporter: {
      verbose: plan.logLevel === 'debug',
      log: (level, message) => {
        if (LOG_LEVELS.indexOf(level) <= most) messages.push([level, message]);
      },
      access: plan.accessLog === null ? null : (entry) => entries.add(entry),
      unreachable: () => {},
    },
    counters: new CounterRow(allocateCounters(1), 0),
    connections: new Set(),
    flowSockets: 0,
    names: new Names(() => {}),
    onClosed: () => loop.stop(),
  };
  for (const { message } of problems) thread.reporter.log('warn', message);
  // Which of several upstream addresses comes first must differ between processes as it does between connections.
  const site = new Site(0, service, thread, parts, addresses, process.pid);
  admit(site, fd, peerAddress(fd));
  if (thread.connections.size > 0) loop.run();
  entries.flush();

  if (lines !== '' && plan.accessLog !== null) {
    const { AccessLog } = await import('./access-log.js');
    new AccessLog(plan.accessLog.path, null).write(lines);
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
