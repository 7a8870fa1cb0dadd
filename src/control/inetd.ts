import { fstatSync } from 'node:fs';
import { allocateCounters, CounterRow } from '../counters.js';
import { AccessEntries } from '../data/access-entries.js';
import { admit } from '../data/admit.js';
import { Loop } from '../data/loop.js';
import { Names } from '../data/names.js';
import { Site, type Thread } from '../data/site.js';
import { EX, Failure } from '../failure.js';
import { isPlainRelay, LOG_LEVELS, type LogLevel, needsTransparency, type Plan, type Service } from '../plan.js';
import { adoptFd } from '../sys/process.js';
import { localUnixAddress, peerAddress } from '../sys/socket.js';
import { logDestination, putNothingAt } from './inherited.js';
import type { Log } from './log.js';
import { resolveService } from './resolve.js';

/** Pipes for both directions. */
export const PIPES = 2;

/** What a connection that is served alone says, at once. */
export interface Owner {
  log(level: LogLevel, message: string): void;
  /** Whole lines of the access log. */
  access(lines: string): void;
  /** It has ended, and its loop may be stopped. */
  closed(): void;
}

/**
 * Serves the one connection on `fd` to its end, on this thread: a worker would take longer to start than most
 * connections to serve, and so would the log and the access log, which are loaded when there is something to write. A
 * log that is sure to get lines while the connection lasts is loaded before.
 */
export const serveConnection = async (plan: Plan, fd: number): Promise<void> => {
  const messages: [LogLevel, string][] = [];
  let lines = '';
  const loop = new Loop(PIPES);
  // Before stderr becomes nothing.
  const destination = logDestination(plan, [fd]);
  const open = async (): Promise<Log> => (await import('./log.js')).openLog(destination, plan);
  const log = plan.services[0]?.logConnections || plan.logLevel === 'debug' ? await open() : null;
  await serveAlone(plan, fd, loop, {
    log: (level, message) => {
      if (log === null) messages.push([level, message]);
      else log.write(level, message);
    },
    access: (more) => {
      lines += more;
    },
    closed: () => loop.stop(),
  });
  if (lines !== '' && plan.accessLog !== null) {
    const { AccessLog } = await import('./access-log.js');
    new AccessLog(plan.accessLog.path, null).write(lines);
  }
  if (messages.length > 0) {
    const late = await open();
    for (const [level, message] of messages) late.write(level, message);
  }
};

/**
 * Serves a connected socket on this thread, which does nothing else until the loop is stopped. Settles with why the
 * connection broke off, or null when it ended in order.
 * @throws Failure when it can't begin
 */
export const serveAlone = async (plan: Plan, fd: number, loop: Loop, owner: Owner): Promise<string | null> => {
  const service = plan.services[0] as Service;
  if (service.http.verifyHost !== 'off') {
    const why = "--verify-host looks names up while it serves: that needs -s (--server), or inetd's wait";
    throw new Failure(why, EX.USAGE);
  }
  const { addresses, problems } = await resolveService(service);
  if (plan.user !== null || needsTransparency(service)) {
    const { capabilitiesFor, dropPrivileges, findUser } = await import('./privileges.js');
    const capabilities = capabilitiesFor(plan);
    if (plan.user !== null) dropPrivileges(findUser(plan.user), capabilities);
  }
  const parts = isPlainRelay(service) ? null : (await import('../data/parts.js')).parts;
  const asking = service.tcpWrappers === null ? null : await loadAdmissions();
  adoptFd(fd);
  keepStrayBytesOff(fd);

  const access =
    plan.accessLog === null ? null : new AccessEntries(plan.accessLog.format, (lines) => owner.access(lines));
  const most = LOG_LEVELS.indexOf(plan.logLevel);
  /** Questions for TCP wrappers: none, or the one about this client. */
  const asked: number[] = [];
  loop.onTurnEnd(() => access?.flush());
  let failure: string | null = 'the connection was refused';
  const thread: Thread = {
    loop,
    reporter: {
      verbose: plan.logLevel === 'debug',
      log: (level, message) => {
        if (LOG_LEVELS.indexOf(level) <= most) owner.log(level, message);
      },
      access,
      unreachable: () => {},
    },
    countersOf: () => new CounterRow(allocateCounters(1), 0),
    several: false,
    connections: new Set(),
    flowSockets: 0,
    mostConnections: Number.POSITIVE_INFINITY,
    waiting: new Set(),
    names: new Names(() => {}),
    admissions: asking === null ? null : new asking.Admissions(loop, (id) => asked.push(id)),
    onClosed: (why) => {
      failure = why;
      // FTP's data connections may outlive the one that they came with.
      if (thread.connections.size === 0) owner.closed();
    },
  };
  for (const { message } of problems) thread.reporter.log('warn', message);
  // Which of several upstream addresses comes first must differ between processes as it does between connections.
  const site = new Site(0, service, thread, parts, addresses, process.pid);
  // Names may have taken a while, which is no part of the time for connects.
  loop.now = performance.now();
  const client = peerAddress(fd);
  const unix = client === null ? localUnixAddress(fd) : null;
  admit(site, fd, client, unix === null ? null : { host: unix.path, port: null });
  const [id] = asked;
  if (asking !== null && id !== undefined) {
    const refusal = await asking.wrappers.refusal(service.tcpWrappers as string, client?.ip ?? null);
    // The loop has not turned meanwhile.
    loop.now = performance.now();
    thread.admissions?.answer(id, refusal);
  }
  if (thread.connections.size > 0) loop.run();
  access?.flush();
  return failure;
};

/** @throws Failure when there are no TCP wrappers to ask */
const loadAdmissions = async () => {
  const { Admissions } = await import('../data/admissions.js');
  const { TcpWrappers } = await import('./tcp-wrappers.js');
  return { Admissions, wrappers: new TcpWrappers() };
};

/** inetd hands the socket over as stdout and stderr too, where a stray message would reach the client as data. */
const keepStrayBytesOff = (fd: number): void => {
  const { ino } = fstatSync(fd);
  const same = [1, 2].filter((other) => other !== fd && fstatSync(other).ino === ino);
  if (same.length > 0) putNothingAt(...same);
};
