import { availableParallelism } from 'node:os';
import { Counters } from '../counters.js';
import type { Plan, Reading, Service } from '../plan.js';
import { AccessLog } from './access-log.js';
import { announceReady, isDaemon } from './daemonize.js';
import { Hosts } from './hosts.js';
import { wrappersFor } from './in-force.js';
import { logDestination } from './inherited.js';
import { raiseDescriptorLimit } from './limits.js';
import { placesOf } from './listen.js';
import { Listeners } from './listeners.js';
import { type Log, openLog } from './log.js';
import { PidFile } from './pid-file.js';
import { capabilitiesFor, dropPrivileges, findUser } from './privileges.js';
import { Server } from './server.js';
import { handleSignals } from './signals.js';
import { Takeover, TakeoverOffer } from './takeover.js';
import { checkWorkersLoadable, Workers } from './workers.js';

/** How a plan is carried out, beside what stands in it. */
interface Start {
  /** Reads the plan again, from the file that it comes from. Throws Failure. */
  readonly reread?: (() => Reading) | undefined;
  /** The pid file of a process to take the listening sockets over from. */
  readonly takeover?: string | undefined;
}

/**
 * The server from start to end. `inherited` are listening sockets that were handed to us; without any, the plan's own
 * are opened. Settles with the exit code, when a signal, idleness, another process that takes over or a
 * dead worker ends it.
 * @throws Failure when it can't start; nothing is left running then
 */
export const supervise = async (
  plan: Plan,
  inherited: readonly number[],
  { reread, takeover: from }: Start = {},
): Promise<number> => {
  const obeySignals = handleSignals();
  const workerCount = plan.workers ?? availableParallelism();
  const openLogOf = (of: Plan): Log => openLog(logDestination(of, inherited), of);
  const log = openLogOf(plan);
  const limit = raiseDescriptorLimit();
  const user = plan.user === null ? null : findUser(plan.user);
  const wrappers = wrappersFor(plan);
  const capabilities = capabilitiesFor(plan, reread !== undefined);
  const hosts = await Hosts.resolve(plan, log);
  const places = await placesOf(plan);
  const takeover = from === undefined ? null : await Takeover.begin(from);
  const workers: Workers = new Workers({
    onReport: (report, worker) => server.onReport(report, worker),
    onDeath: (reason) => server.onDeath(reason),
  });
  const taken = takeover?.take(new Set(places.map(({ key }) => key)));
  const listeners = new Listeners(
    workerCount,
    (fds, last) => workers.leave(fds, last),
    (why) => log.write('warn', why),
    taken,
  );
  const change =
    inherited.length > 0 ? listeners.adopt(inherited, plan.services[0] as Service) : await listeners.prepare(places);
  change.commit();
  let accessLog: AccessLog | null;
  let pidFile: PidFile | null = null;
  let offer: TakeoverOffer | null;
  try {
    accessLog = plan.accessLog === null ? null : new AccessLog(plan.accessLog.path, user);
    if (plan.pidFile !== null) pidFile = new PidFile(plan.pidFile);
    // With a takeover it names the other process, until that one serves no more.
    if (takeover === null) pidFile?.write();
    // Before the drop, so that it knows who starts us.
    offer = pidFile === null ? null : TakeoverOffer.make((why) => log.write('warn', why));
    // Before the first worker: capabilities belong to a thread and are inherited when it starts.
    if (user !== null) dropPrivileges(user, capabilities);
    checkWorkersLoadable();
  } catch (error) {
    pidFile?.remove();
    if (takeover === null) listeners.removeFiles();
    throw error;
  }

  const server: Server = new Server(
    {
      plan,
      log,
      openLog: openLogOf,
      accessLog,
      hosts,
      wrappers,
      counters: new Counters(workerCount),
      listeners,
      workers,
      workerCount,
      limit,
    },
    { pidFile, offer, reread },
  );
  await server.startWorkers(change.handles);
  obeySignals(server);
  process.on('uncaughtException', (error) => server.onDefect(error));
  for (const name of change.opened) log.write('info', `listening on ${name}`);
  if (takeover !== null) {
    try {
      await takeover.ready(plan.drain);
    } catch (error) {
      await workers.stop();
      throw error;
    }
    pidFile?.write();
    await takeover.done();
    log.write('info', `took ${taken?.size ?? 0} listening addresses over`);
  } else if (from !== undefined) log.write('info', `${from} names no process: nothing to take over`);
  log.write('info', `ready: ${workerCount} workers${user === null ? '' : `, as user ${user.name}`}`);
  if (isDaemon()) announceReady();
  if (inherited.length > 0) server.endWhenIdle();
  return server.ended;
};
