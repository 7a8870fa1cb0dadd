import { constants, fstatSync, openSync } from 'node:fs';
import { Loop } from '../data/loop.js';
import { StdioBridge } from '../data/stdio-bridge.js';
import { EX, Failure } from '../failure.js';
import { DEFAULT_LIMITS, type Limits, type LogLevel, type Plan, type Service } from '../plan.js';
import { adoptFd, duplicateFd } from '../sys/process.js';
import { PIPES, serveAlone } from './inetd.js';
import { putNothingAt } from './inherited.js';
import { localTime, writeLine } from './stderr.js';

/**
 * Relays stdin and stdout: they are the client, at the far end of a socket pair whose near end is served as inetd's
 * connection is. Settles with the exit code: 0 after an end in order, and when nobody reads stdout any more.
 * @throws Failure when it can't begin, and for other errors of stdin and stdout
 */
export const relayStdio = async (plan: Plan): Promise<number> => {
  const service = plan.services[0] as Service;
  refuseWithoutAddress(service);
  const loop = new Loop(PIPES);
  let open = 2;
  const closed = (): void => {
    if (--open === 0) loop.stop();
  };
  const bridge = new StdioBridge(loop, openStream(0), openStream(1), closed);
  // What ends stdout is the end of the bridge's descriptor.
  putNothingAt(1);
  const write = await openLog(plan);
  let said = '';
  const log: Write = (level, message) => {
    said = message;
    write(level, message);
  };
  const access = await openAccess(plan, log);
  // On a terminal that ssh has, lines about what goes well are in the way.
  const logConnections = service.logConnections && plan.logTo === 'syslog';
  const patient = { ...service, logConnections, limits: withoutHurry(service.limits) };
  const failure = await serveAlone({ ...plan, services: [patient] }, bridge.near, loop, { log, access, closed });
  // Who reads no more has what it wants: `tproxy ... | head` is no error, nor is ssh when it ends first.
  if (bridge.fault?.code === 'EPIPE') return EX.OK;
  if (bridge.fault !== null) throw new Failure(`${bridge.fault.what}: ${bridge.fault.code}`, EX.IOERR);
  if (failure === null) return EX.OK;
  // A way that can't be opened was said by the connection, and one that broke off is news here.
  if (!said.endsWith(failure)) log('warn', `${service.name}: ${failure}`);
  return EX.UNAVAILABLE;
};

/** What asks who the client is gets no answer here, and must not be passed by. */
const refuseWithoutAddress = ({ access, tcpWrappers, spoof, ftp }: Service): void => {
  const wants =
    (access.length > 0 && 'an access list') ||
    (tcpWrappers !== null && 'TCP wrappers') ||
    (spoof && "a connect from the client's address") ||
    (ftp !== null && 'FTP');
  if (wants !== false) throw new Failure(`${wants}: that needs a client's address, and stdin has none`, EX.USAGE);
};

/**
 * Nobody but its user ends a silence, as with nc(1): behind a ProxyCommand of ssh it is an ordinary thing. Limits that
 * are not the usual ones are the user's.
 */
const withoutHurry = (limits: Limits): Limits => {
  const patient = (key: 'idle' | 'halfClosed'): number =>
    limits[key] === DEFAULT_LIMITS[key] ? Number.POSITIVE_INFINITY : limits[key];
  return { ...limits, idle: patient('idle'), halfClosed: patient('halfClosed') };
};

/**
 * A descriptor for stdin or stdout whose calls don't wait. A pipe or a terminal is opened anew where we may: O_NONBLOCK
 * belongs to what a descriptor stands for, and the one that we were given may be shared with programs that know nothing
 * of it.
 */
const openStream = (fd: 0 | 1): number => {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  const stat = fstatSync(fd);
  if (stat.isFIFO() || stat.isCharacterDevice()) {
    try {
      return openSync(`/proc/self/fd/${fd}`, (fd === 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY);
    } catch {
      // Another user's, or a FIFO that nobody reads.
    }
  }
  const copy = duplicateFd(fd);
  adoptFd(copy);
  return copy;
};

type Write = (level: LogLevel, message: string) => void;

/** stderr is ours: ssh shows what a ProxyCommand says there. The log itself is loaded when syslog is asked for. */
const openLog = async (plan: Plan): Promise<Write> => {
  if (plan.logTo !== 'syslog') return (level, message) => writeLine(localTime(), level, message);
  const log = (await import('./log.js')).openLog('syslog', plan);
  return (level, message) => log.write(level, message);
};

/**
 * Who writes the access log, at once: a signal may be what ends us, and ssh ends its ProxyCommand by one. The file is
 * opened with its first line: by then we are who we shall be.
 */
const openAccess = async ({ accessLog }: Plan, log: Write): Promise<(lines: string) => void> => {
  if (accessLog === null) return () => {};
  const { AccessLog } = await import('./access-log.js');
  let file: InstanceType<typeof AccessLog> | null = null;
  return (lines) => {
    file ??= new AccessLog(accessLog.path, null);
    const problem = file.write(lines);
    if (problem !== null) log('error', problem);
  };
};
