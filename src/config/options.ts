import type { Service } from '../plan.js';
import { type Arguments, type Option, optionName } from './command-line.js';
import { type Refuse, refuseIn, refuseContradictions as refuseSharedContradictions, SHARED } from './shared.js';

/** The options of transproxy 1.6 under its letters, and ours beside them under long names. */
export const OPTIONS = {
  ...SHARED,
  server: { long: 'server', short: 's', takes: 'many' },
  bind: { long: 'bind', short: 'b', takes: 'one' },
  allow: { long: 'allow', short: 'a', takes: 'many' },
  intercept: { long: 'intercept', takes: 'one' },
  exitIdle: { long: 'exit-idle', takes: 'one' },
  transparent: { long: 'transparent', short: 't', takes: 'switch' },
  proxyOnly: { long: 'proxy-only', short: 'p', takes: 'switch' },
  tls: { long: 'tls', takes: 'one' },
  ech: { long: 'ech', takes: 'one' },
  unknown: { long: 'unknown', takes: 'one' },
  upstream: { long: 'upstream', takes: 'many' },
  balance: { long: 'balance', takes: 'one' },
  check: { long: 'check', takes: 'one' },
  proxyProtocol: { long: 'proxy-protocol', takes: 'one' },
  force: { long: 'force', short: 'f', takes: 'one' },
  upgrade: { long: 'upgrade', takes: 'one' },
  via: { long: 'via', takes: 'one' },
  noVia: { long: 'no-via', takes: 'switch' },
  forwardedFor: { long: 'forwarded-for', takes: 'switch' },
  trust: { long: 'trust', takes: 'many' },
  verifyHost: { long: 'verify-host', takes: 'one' },
  foreground: { long: 'foreground', short: 'd', takes: 'switch' },
  user: { ...SHARED.user, short: 'r' },
  log: { long: 'log', short: 'l', takes: 'one' },
  pidFile: { ...SHARED.pidFile, short: 'P' },
  workers: { ...SHARED.workers, short: 'w' },
  logLevel: { long: 'log-level', takes: 'one' },
  drain: { long: 'drain', takes: 'one' },
  takeover: { long: 'takeover', takes: 'one' },
  connectTimeout: { long: 'connect-timeout', takes: 'one' },
  firstByte: { long: 'first-byte', takes: 'one' },
  headTimeout: { long: 'head-timeout', takes: 'one' },
  headBytes: { long: 'head-bytes', takes: 'one' },
  version: { long: 'version', short: 'v', takes: 'switch' },
  help: { long: 'help', short: 'h', takes: 'switch' },
} as const satisfies Record<string, Option>;

/** Options that say something about HTTP, or about telling it from other protocols. */
const OF_HTTP: readonly Option[] = [
  OPTIONS.force,
  OPTIONS.tls,
  OPTIONS.ech,
  OPTIONS.unknown,
  OPTIONS.upgrade,
  OPTIONS.via,
  OPTIONS.noVia,
  OPTIONS.forwardedFor,
  OPTIONS.trust,
  OPTIONS.verifyHost,
  OPTIONS.firstByte,
  OPTIONS.headTimeout,
  OPTIONS.headBytes,
];

const OF_UPSTREAMS: readonly Option[] = [OPTIONS.balance, OPTIONS.check, OPTIONS.proxyAuth];

/** Throws UsageError for options that have no effect beside the others, or take back what another says. */
export const refuseContradictions = (args: Arguments, service: Service): void => {
  const refuse = refuseIn(args);
  if (service.listen.length === 0) {
    for (const option of [OPTIONS.bind, OPTIONS.takeover]) refuse(option, `needs ${optionName(OPTIONS.server)}`);
  } else refuse(OPTIONS.exitIdle, `is for sockets of inetd or systemd, not for ${optionName(OPTIONS.server)}`);

  if (service.mode === 'http') refuseInHttp(service, refuse);
  else refuseInRelay(service, refuse);
  refuseSharedContradictions(args, OPTIONS, service);
};

const refuseInHttp = ({ proxyOnly, tls, unknown, http }: Service, refuse: Refuse): void => {
  refuse(OPTIONS.ftp, `needs ${optionName(OPTIONS.transparent)}`);
  const past = `direct contradicts ${optionName(OPTIONS.proxyOnly)}, which lets nothing past the proxy`;
  if (proxyOnly && tls === 'direct') refuse(OPTIONS.tls, past);
  if (proxyOnly && unknown === 'direct') refuse(OPTIONS.unknown, past);
  if (http.via === null) refuse(OPTIONS.via, `contradicts ${optionName(OPTIONS.noVia)}`);
  if (!http.forwardedFor) refuse(OPTIONS.trust, `needs ${optionName(OPTIONS.forwardedFor)}`);
};

const refuseInRelay = ({ upstreams, targets, balance }: Service, refuse: Refuse): void => {
  const relay = optionName(OPTIONS.transparent);
  for (const option of OF_HTTP) refuse(option, `is for HTTP, which ${relay} doesn't look at`);
  if (balance === 'url-hash') refuse(OPTIONS.balance, `url-hash is for HTTP, which ${relay} doesn't look at`);
  if (upstreams.length > 0) return;
  for (const option of OF_UPSTREAMS) refuse(option, `needs ${optionName(OPTIONS.upstream)} beside ${relay}`);
  if (targets.length > 0) return;
  refuse(OPTIONS.proxyOnly, `contradicts ${relay} without HOST PORT or --upstream, which has no proxy`);
  refuse(OPTIONS.proxyProtocol, `needs HOST PORT or --upstream beside ${relay}: an origin does not expect it`);
};
