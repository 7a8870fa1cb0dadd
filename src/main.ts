#!/usr/bin/env node
import { writeSync } from 'node:fs';
import { basename } from 'node:path';
import type { Request } from './config/command-line.js';
import { chooseDialect } from './config/dialect.js';
import { UsageError } from './config/usage-error.js';
import { EX, Failure } from './failure.js';
import { isUnix, type Service } from './plan.js';

/** Carries a plan out in the way that the command line and the inherited descriptors ask for: the exit code. */
const carryOut = async ({ plan, reread, takeover }: Extract<Request, { kind: 'plan' }>): Promise<number> => {
  // A file without services may come to have some.
  if (reread !== undefined || plan.services.some(({ listen }) => listen.length > 0)) {
    const { isDaemon, startDaemon } = await import('./control/daemonize.js');
    if (!plan.foreground && !isDaemon()) return startDaemon();
    const { supervise } = await import('./control/supervisor.js');
    return supervise(plan, [], { reread, takeover });
  }
  const { inspectInheritance } = await import('./control/inherited.js');
  const inheritance = inspectInheritance();
  if (inheritance.kind === 'listening') {
    const { supervise } = await import('./control/supervisor.js');
    return supervise(plan, inheritance.fds);
  }
  if (inheritance.kind === 'connection') {
    const { serveConnection } = await import('./control/inetd.js');
    await serveConnection(plan, inheritance.fd);
    return EX.OK;
  }
  const { targets, upstreams, proxyProtocol, limits } = plan.services[0] as Service;
  const target = targets[0]?.to;
  if (target === undefined || isUnix(target))
    throw new UsageError('there is no -s (--server), and stdin is no socket as inetd would give it');
  if (upstreams.length > 0 || proxyProtocol !== null) {
    throw new UsageError(
      'standard input and output are relayed to HOST PORT as nc does, without proxies and PROXY header',
    );
  }
  const { relayStdio } = await import('./control/stdio.js');
  await relayStdio(target, limits);
  return EX.OK;
};

/** Says why the program ends, and returns the exit code. `usage` is the dialect's, empty where none was found. */
const explain = async (error: unknown, usage: string): Promise<number> => {
  const known = error instanceof Failure;
  const reason = known ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  const { stderrIsTheSocket } = await import('./control/inherited.js');
  if (stderrIsTheSocket()) {
    const { openLog } = await import('./control/log.js');
    openLog('syslog', 'error').write('error', reason);
  } else {
    writeSync(2, `tproxy: ${reason}\n${error instanceof UsageError && usage !== '' ? `${usage}\n` : ''}`);
  }
  return known ? error.exitCode : EX.SOFTWARE;
};

const run = async (): Promise<number> => {
  let usage = '';
  try {
    // Node gives the path that it was told, made absolute: a link keeps its name, npm's among them.
    const commandLine = await chooseDialect(basename(process.argv[1] ?? 'tproxy'), process.argv.slice(2));
    usage = commandLine.usage;
    const request = commandLine.parse(commandLine.argv);
    if (request.kind === 'plan') return await carryOut(request);
    writeSync(1, request.text);
    return EX.OK;
  } catch (error) {
    return await explain(error, usage);
  }
};

process.exit(await run());
