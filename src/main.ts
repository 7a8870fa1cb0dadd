#!/usr/bin/env node
import { writeSync } from 'node:fs';
import { basename } from 'node:path';
import type { Request } from './config/command-line.js';
import { chooseDialect } from './config/dialect.js';
import { UsageError } from './config/usage-error.js';
import { EX, Failure } from './failure.js';
import { DEFAULT_PLAN, type Plan, type Service } from './plan.js';

/** Carries a plan out in the way that the command line and the inherited descriptors ask for: the exit code. */
const carryOut = async ({ plan, file, takeover }: Extract<Request, { kind: 'plan' }>): Promise<number> => {
  if (plan.services.some(({ listen }) => listen.length > 0)) {
    const { isDaemon, startDaemon } = await import('./control/daemonize.js');
    if (!plan.foreground && !isDaemon()) return startDaemon();
    const { supervise } = await import('./control/supervisor.js');
    return supervise(plan, [], { reread: file?.reread, takeover });
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
  const { targets } = plan.services[0] as Service;
  if (targets.length === 0)
    throw new UsageError('there is no -s (--server), and stdin is no socket as inetd would give it');
  const { relayStdio } = await import('./control/stdio.js');
  return relayStdio(plan);
};

/**
 * Says why the program ends, and returns the exit code. `usage` is the dialect's, empty where none was found; `plan` is
 * null where the command line gave none.
 */
const explain = async (error: unknown, usage: string, plan: Plan | null): Promise<number> => {
  const known = error instanceof Failure;
  const reason = known ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  const { stderrIsTheSocket } = await import('./control/inherited.js');
  const unseen = stderrIsTheSocket();
  if (unseen || plan?.logTo === 'syslog') {
    const { openLog } = await import('./control/log.js');
    const log = openLog('syslog', plan ?? DEFAULT_PLAN);
    for (const line of known ? reason.split('\n') : [reason]) log.write('error', line);
  }
  if (!unseen) {
    const lines = known ? reason.replaceAll('\n', '\ntproxy: ') : reason;
    writeSync(2, `tproxy: ${lines}\n${error instanceof UsageError && usage !== '' ? `${usage}\n` : ''}`);
  }
  return known ? error.exitCode : EX.SOFTWARE;
};

/** A daemon's were told by the process that it comes from. */
const warn = async (warnings: readonly string[]): Promise<void> => {
  if (warnings.length === 0) return;
  const { isDaemon } = await import('./control/daemonize.js');
  if (!isDaemon()) writeSync(2, warnings.map((line) => `tproxy: ${line}\n`).join(''));
};

/** On stdout, all of it: a pipe may take a part at a time. Returns the exit code. */
const print = (text: string): number => {
  let bytes = Buffer.from(text);
  while (bytes.length > 0) bytes = bytes.subarray(writeSync(1, bytes));
  return EX.OK;
};

const run = async (): Promise<number> => {
  let usage = '';
  let plan: Plan | null = null;
  try {
    // Node gives the path that it was told, made absolute: a link keeps its name, npm's among them.
    const commandLine = await chooseDialect(basename(process.argv[1] ?? 'tproxy'), process.argv.slice(2));
    usage = commandLine.usage;
    const request = await commandLine.parse(commandLine.argv);
    if (request.kind === 'print') return print(request.text);
    plan = request.plan;
    await warn(request.file?.warnings ?? []);
    if (commandLine.purpose === 'run') return await carryOut(request);
    const { toYaml } = await import('./config/to-yaml.js');
    return print(toYaml(plan, { whole: commandLine.purpose === 'check' }));
  } catch (error) {
    return await explain(error, usage, plan);
  }
};

process.exit(await run());
