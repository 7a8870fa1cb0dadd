import { isUnix, type Service } from '../plan.js';
import { type Arguments, type Option, optionName } from './command-line.js';
import { OF_SERVICE, refuseContradictions as refuseInService } from './service.js';
import { HANDING_OVER, type Refuse, refuseIn, SHARED } from './shared.js';
import { quoted, UsageError } from './usage-error.js';

/** The options of transproxy 1.6 under its letters, and ours beside them under long names. */
export const OPTIONS = {
  ...SHARED,
  ...OF_SERVICE,
  server: { long: 'server', short: 's', takes: 'many' },
  bind: { long: 'bind', short: 'b', takes: 'one' },
  allow: { long: 'allow', short: 'a', takes: 'many' },
  socketMode: { long: 'socket-mode', takes: 'one' },
  confFile: { long: 'conf-file', short: 'c', takes: 'one' },
  exitIdle: { long: 'exit-idle', takes: 'one' },
  transparent: { long: 'transparent', short: 't', takes: 'switch' },
  proxyOnly: { ...OF_SERVICE.proxyOnly, short: 'p' },
  force: { ...OF_SERVICE.force, short: 'f' },
  foreground: { long: 'foreground', short: 'd', takes: 'switch' },
  user: { ...SHARED.user, short: 'r' },
  log: { long: 'log', short: 'l', takes: 'one' },
  pidFile: { ...SHARED.pidFile, short: 'P' },
  workers: { ...SHARED.workers, short: 'w' },
  logLevel: { long: 'log-level', takes: 'one' },
  ...HANDING_OVER,
  version: { long: 'version', short: 'v', takes: 'switch' },
  help: { long: 'help', short: 'h', takes: 'switch' },
} as const satisfies Record<string, Option>;

/** Throws UsageError for options that have no effect beside the others, or take back what another says. */
export const refuseContradictions = (args: Arguments, service: Service): void => {
  const refuse = refuseIn(args);
  if (service.listen.length === 0) {
    for (const option of [OPTIONS.bind, OPTIONS.takeover]) refuse(option, `needs ${optionName(OPTIONS.server)}`);
  } else refuse(OPTIONS.exitIdle, `is for sockets of inetd or systemd, not for ${optionName(OPTIONS.server)}`);

  refuseInListening(service, refuse);
  const relay = optionName(OPTIONS.transparent);
  refuseInService(args, OPTIONS, service, { relay, target: 'HOST PORT' });
};

const refuseInListening = ({ mode, listen, targets }: Service, refuse: Refuse): void => {
  const server = optionName(OPTIONS.server);
  if (!listen.some((at) => isUnix(at) && at.path.startsWith('/'))) {
    refuse(OPTIONS.socketMode, `needs ${server} unix:/PATH`);
  }
  if (listen.some(isUnix) && mode === 'relay' && targets.length === 0) {
    refuse(OPTIONS.transparent, 'needs HOST PORT: connections to a unix socket have no original destination');
  }
  if (listen.length > 0 && listen.every(isUnix)) {
    for (const option of [OPTIONS.bind, OPTIONS.allow]) {
      refuse(option, `needs ${server} PORT: no address comes with a unix socket`);
    }
  }
};

/** What may stand beside a file, which says all the rest. */
const BESIDE_FILE: readonly Option[] = [
  OPTIONS.confFile,
  OPTIONS.foreground,
  OPTIONS.user,
  OPTIONS.pidFile,
  OPTIONS.workers,
  OPTIONS.syslog,
  OPTIONS.ident,
  OPTIONS.logLevel,
  OPTIONS.drain,
  OPTIONS.takeover,
];

/** Throws UsageError for what a file says. */
export const refuseBesideFile = (args: Arguments): void => {
  const refuse = refuseIn(args);
  const file = optionName(OPTIONS.confFile);
  for (const option of Object.values(OPTIONS)) {
    if (!BESIDE_FILE.includes(option)) refuse(option, `contradicts ${file}, whose file says what the services are`);
  }
  const [extra] = args.positionals;
  if (extra !== undefined) throw new UsageError(`${quoted(extra)} is one argument too many beside ${file}`);
};
