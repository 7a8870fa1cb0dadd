import { z } from 'zod';
import { Failure } from '../failure.js';
import {
  BALANCES,
  type Balance,
  type HostPort,
  type Listen,
  LOG_LEVELS,
  PASSAGES,
  type Service,
  type UnixAddress,
} from '../plan.js';
import { parseAcl } from './acl.js';
import type { Parse } from './command-line.js';
import { parseEndpoint } from './endpoint.js';
import { parsePattern } from './rinetd-access.js';
import { MOST_BACKLOG, MOST_CLIENTS, MOST_FAILURES, MOST_FLOWS } from './rinetd-rules.js';
import { LEAST_HEAD_BYTES, MOST_HEAD_BYTES } from './service.js';
import { LEAST_BUFFER, MOST_BANDWIDTH, MOST_BUFFER, MOST_RANDOM_WAIT, MOST_WORKERS } from './shared.js';
import { readUnix } from './unix.js';
import { parseUpstream } from './upstream.js';
import { quoted, UsageError } from './usage-error.js';
import {
  MOST_SECONDS,
  parseForcedUrl,
  parseIdent,
  parsePortRange,
  parsePseudonym,
  parseSource,
  parseUser,
} from './values.js';

/** rinetd-uv's. */
const MOST_WEIGHT = 100;

/** A text that a parser of command lines' values reads. */
const text = <T>(parse: Parse<T>) =>
  z.string().transform((given, context) => {
    try {
      return parse('', given);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      context.issues.push({ code: 'custom', message: error.message.replace(/^: /, ''), input: given });
      return z.NEVER;
    }
  });

const oneOrMore = <T extends z.ZodType>(one: T) => z.union([one, z.array(one)]);

/** The words of YAML 1.1 mean what they say. */
const flag = z
  .union([z.boolean(), z.enum(['yes', 'on', 'no', 'off'])])
  .transform((given) => given === true || given === 'yes' || given === 'on');

const integer = (least: number, most: number) => z.int().min(least).max(most);

const toMilliseconds = (seconds: number): number => Math.round(seconds * 1000);

/** As milliseconds. */
const seconds = z.number().min(0.001).max(MOST_SECONDS).transform(toMilliseconds);

/** As milliseconds, with something else for 0. */
const secondsOr = <T>(zero: T) =>
  z
    .number()
    .min(0)
    .max(MOST_SECONDS)
    .transform((given) => (given === 0 ? zero : Math.max(1, toMilliseconds(given))));

const timeout = secondsOr(Number.POSITIVE_INFINITY);
const interval = secondsOr(null);

const path = z.string().min(1).max(4096);

/** One end of a rule's, and what it says of the protocol. */
export interface Said<T> {
  readonly end: T;
  readonly protocol: Service['protocol'] | null;
}

const parseInet = (given: string): Said<{ readonly host: string | null; readonly port: number }> => {
  const [, end = '', protocol] = /^(.*?)(?:\/(tcp|udp))?$/is.exec(given) ?? [];
  const said = protocol === undefined ? null : protocol.toLowerCase() === 'udp' ? 'udp' : 'tcp';
  return { end: parseEndpoint('', end, said ?? 'tcp'), protocol: said };
};

const parseBind = (_: string, given: string): Said<Listen> => {
  const socket = readUnix('', given);
  return socket === null ? parseInet(given) : { end: { ...socket, mode: null }, protocol: null };
};

/** Where connections were meant to go. */
export const ORIGINAL = '*';

const parseDest = (_: string, given: string): Said<HostPort | UnixAddress | null> => {
  if (given === ORIGINAL) return { end: null, protocol: null };
  const socket = readUnix('', given);
  if (socket !== null) return { end: socket, protocol: null };
  const { end, protocol } = parseInet(given);
  const { host, port } = end;
  if (host === null) throw new UsageError(`${quoted(given)} has no host in front of its colon`);
  return { end: { host, port }, protocol };
};

/** Permissions of a socket's file, as chmod(1) takes them. */
const permissions = z
  .string()
  .regex(/^0[0-7]{1,4}$/, 'permissions as 0660')
  .transform((given) => Number.parseInt(given, 8));

const bindAddress = text(parseBind);
const bind = z.union([
  bindAddress,
  z
    .strictObject({
      address: bindAddress.describe('HOST:PORT[/tcp|/udp], unix:/PATH or unix:@NAME'),
      mode: permissions.optional().describe('the permissions of the socket\'s file, as "0660"'),
    })
    .readonly(),
]);

const dest = text(parseDest);
const connect = z.union([
  dest,
  z
    .strictObject({
      dest: dest.describe('HOST:PORT, unix:/PATH or unix:@NAME'),
      weight: integer(1, MOST_WEIGHT).optional().describe('its part of the connections, beside the others (1)'),
      src: text(parseSource).optional().describe('the local address that connections to it come from'),
      dns_refresh: interval.optional().describe('the least of a rule counts for all of its names'),
      name: z.string().optional().describe('without effect'),
    })
    .readonly(),
]);

const access = z.strictObject({
  allow: z.array(text(parsePattern)).min(1).optional().describe('these clients and no others'),
  deny: z.array(text(parsePattern)).optional().describe('not these, even if they are allowed'),
});

/** rinetd-uv's words for some, and all of our own. */
const ALGORITHMS: Readonly<Record<string, Balance>> = {
  roundrobin: 'round-robin',
  leastconn: 'least-conn',
  iphash: 'source-hash',
  ...(Object.fromEntries(BALANCES.map((balance) => [balance, balance])) as Record<Balance, Balance>),
};

/** How files spell it. */
export const algorithmName = (balance: Balance): string =>
  Object.keys(ALGORITHMS).find((name) => ALGORITHMS[name] === balance) as string;

const loadBalancing = z.strictObject({
  algorithm: z
    .enum(Object.keys(ALGORITHMS) as [string, ...string[]])
    .transform((name) => ALGORITHMS[name] as Balance)
    .optional()
    .describe('which upstream, or target, a connection goes to (roundrobin)'),
  health_threshold: integer(1, MOST_FAILURES)
    .optional()
    .describe('failed connects in a row that make one of them count as down (1)'),
  recovery_timeout: seconds.optional().describe('for so many seconds (1 to 30, longer after each failure)'),
  affinity_ttl: interval
    .optional()
    .describe('a client that comes again within so many seconds gets the same one (0: off)'),
  affinity_max_entries: integer(1, MOST_CLIENTS).optional().describe('clients that are remembered (10000)'),
});

/** What a rule may say, by the words of a file. */
export const RULE = z.strictObject({
  name: z
    .string()
    .regex(/^[^\p{Cc}]+$/u, 'a name without control characters')
    .optional()
    .describe('for logs; no two rules have the same'),
  bind: oneOrMore(bind).describe(
    'where to listen: HOST:PORT[/tcp|/udp], :PORT, unix:/PATH or unix:@NAME; [] for the sockets of inetd or systemd',
  ),
  mode: z
    .union([z.enum(['relay', 'http', 'auto']), permissions])
    .optional()
    .describe('http, or auto, translates HTTP for a proxy and looks at what else comes; relay (default) moves bytes'),
  connect: oneOrMore(connect)
    .optional()
    .describe('of a relay: where to, HOST:PORT, unix:/PATH or unix:@NAME; "*" is the original destination'),
  upstreams: oneOrMore(text(parseUpstream))
    .optional()
    .describe('proxies to go through: [http://|socks5://][USER:PASSWORD@]HOST:PORT'),
  proxy_auth: path.optional().describe('a file with user:password for the upstreams that have none of their own'),
  proxy_only: flag.optional().describe('never connect past the upstreams'),
  proxy_protocol: z.enum(['v1', 'v2']).optional().describe('connections begin with this header of the PROXY protocol'),
  check: seconds.optional().describe('try to connect to each upstream every so many seconds'),
  load_balancing: loadBalancing.optional(),
  dns_refresh: interval.optional().describe("look the hosts' names up every so many seconds; 0: after failures only"),
  intercept: z.enum(['redirect', 'tproxy']).optional().describe('how connections come here'),
  src: text(parseSource).optional().describe('connect from this local address'),
  spoof: flag.optional().describe("connect from the client's own address"),
  access: z
    .union([access, z.array(access)])
    .optional()
    .describe('who may connect: networks, addresses, or patterns with * and ?; of several, a client must pass each'),
  tcp_wrappers: z
    .union([flag, text(parseIdent)])
    .optional()
    .describe('hosts_access(5) decides too, by this name or that of global.ident'),
  log_connections: flag.optional().describe("log each connection's beginning and end at level notice"),
  tls: z.enum(PASSAGES).optional().describe('what is done with TLS (connect)'),
  ech: z.enum(['address', 'name']).optional().describe('what a CONNECT asks for when the name is encrypted (address)'),
  unknown: z
    .enum(PASSAGES)
    .optional()
    .describe('what is done with what is neither HTTP nor TLS (direct; connect with proxy_only)'),
  force: text(parseForcedUrl).optional().describe('every request goes to this URL'),
  via: z
    .union([z.literal(false), text(parsePseudonym)])
    .optional()
    .describe('our name in Via (default: made for this rule); false: no Via'),
  forwarded_for: flag.optional().describe("tell the proxy the client's address in X-Forwarded-For"),
  trust: z.array(text(parseAcl)).optional().describe('keep what these clients say in it'),
  upgrade: z.enum(['connect', 'pass']).optional().describe('requests for web sockets and the like (connect)'),
  verify_host: z
    .enum(['off', 'address', 'strict'])
    .optional()
    .describe('whether Host must resolve to the original destination (off)'),
  ftp: z.enum(['port', 'pasv', 'both']).optional().describe("follow FTP's data connections"),
  ftp_ports: text(parsePortRange).optional().describe('LOW-HIGH: the ports that they may come to'),
  max_bandwidth: integer(1, MOST_BANDWIDTH).optional().describe('bits per second, of each connection and direction'),
  random_wait: integer(0, MOST_RANDOM_WAIT)
    .optional()
    .describe('hold each piece back for up to twice so many milliseconds'),
  wait_in_out: integer(1, 3)
    .optional()
    .describe('slow down what goes to the client (1), what comes from it (2), or both (3)'),
  bufsize: integer(LEAST_BUFFER, MOST_BUFFER).optional().describe('bytes of a piece, at most'),
  timeout: timeout.optional().describe('end connections after so many seconds without a byte; 0: never'),
  half_closed_timeout: seconds.optional().describe('and so, once one direction has ended (timeout, or 120)'),
  connect_timeout: timeout
    .optional()
    .describe('for a connect, over all addresses (10); 0: as long as the kernel tries'),
  first_byte: seconds.optional().describe("until a client's first byte (1)"),
  head_timeout: seconds.optional().describe("for a request's head to arrive (30)"),
  head_bytes: integer(LEAST_HEAD_BYTES, MOST_HEAD_BYTES).optional().describe('of a head (65536)'),
  max_udp_connections: integer(1, MOST_FLOWS).optional().describe('flows of udp at once (10000)'),
  listen_backlog: integer(1, MOST_BACKLOG).optional().describe('connections that wait to be accepted, at most'),
  keepalive: flag.optional().describe('look after peers that are gone (true)'),
});
export type Rule = z.output<typeof RULE>;
export type RuleKey = keyof Rule;

/** What a file may say for the process, and for all of its rules. */
export const GLOBAL = z.strictObject({
  access: access.optional().describe("who may connect, before each rule's own access"),
  dns_refresh: interval.optional().describe('of rules that say nothing of it (600)'),
  connect_timeout: timeout.optional().describe('of rules that say nothing of it (10)'),
  listen_backlog: integer(1, MOST_BACKLOG).optional().describe('of rules that say nothing of it'),
  max_udp_connections: integer(1, MOST_FLOWS).optional().describe('of rules that say nothing of it (10000)'),
  user: text(parseUser).optional().describe('after binding the ports, become this user: a name, or #UID'),
  pid_file: path.optional(),
  foreground: flag.optional().describe("don't become a daemon"),
  workers: integer(1, MOST_WORKERS).optional().describe('threads (default: one for each core)'),
  drain: z
    .number()
    .min(0)
    .max(MOST_SECONDS)
    .transform(toMilliseconds)
    .optional()
    .describe('let connections go on for so many seconds when the program is told to end (0)'),
  exit_idle: seconds
    .optional()
    .describe('of sockets of inetd or systemd: end after so many seconds without a connection (60)'),
  log_file: path.optional().describe('the access log'),
  log_format: z.enum(['tab', 'common', 'transproxy']).optional().describe("its format: one of rinetd's, or ours (tab)"),
  log_common: flag.optional().describe('true: log_format common'),
  log_level: z.enum(LOG_LEVELS).optional().describe('of what the program says (info)'),
  log_to: z.enum(['stderr', 'syslog']).optional().describe('default: stderr in the foreground, else syslog'),
  ident: text(parseIdent).optional().describe('our name in syslog and for tcp_wrappers (tproxy)'),
  status: z
    .strictObject({
      enabled: flag.optional(),
      file: path.optional(),
      interval: seconds.optional().describe('seconds (30)'),
      format: z.enum(['json', 'text']).optional(),
    })
    .optional()
    .describe('a file that is written anew again and again, with what the program does'),
  stats_log_interval: interval.optional().describe('log sums every so many seconds; 0: never'),
  buffer_size: z.int().optional().describe('without effect'),
  pool_min_free: z.int().optional().describe('without effect'),
  pool_max_free: z.int().optional().describe('without effect'),
  pool_trim_delay: z.int().optional().describe('without effect'),
  dns_multi_ip_expand: flag.optional().describe('every address of a name is used in any case'),
  dns_multi_ip_proto: z.string().optional().describe('the addresses of both families are used in any case'),
});
export type Global = z.output<typeof GLOBAL>;

export const FILE = z.strictObject({
  global: GLOBAL.optional(),
  rules: z.array(RULE).min(1).max(10_000),
});
