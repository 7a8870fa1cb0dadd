import { type Cidr, isUnix, type UnixAddress } from './address.js';

export { isUnix, type UnixAddress } from './address.js';

/** The daemon's log levels, most urgent first. */
export const LOG_LEVELS = ['error', 'warn', 'notice', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A host name or address and a port, before its name is looked up. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Waits and bounds of one service. All times in milliseconds, all sizes in bytes. */
export interface Limits {
  /** From accept to the client's first byte: who says nothing for so long waits for the server to begin. */
  readonly firstByte: number;
  /** From a request's first byte to the end of its head. */
  readonly head: number;
  /** For one connect to the upstream or the original destination, over all of its addresses. */
  readonly connect: number;
  /** Without a byte in either direction; Infinity: however long. */
  readonly idle: number;
  /** After one direction has ended, without a byte in the other. */
  readonly halfClosed: number;
  /** Of a request or response head. */
  readonly headBytes: number;
  /** Of a udp service: flows at once; the one that was silent longest makes room. */
  readonly flows: number;
}

/** Where a service listens. */
export type Listen =
  /** `host` null is every address of both families. */
  | { readonly host: string | null; readonly port: number }
  /** `mode`: the file's permissions; null: as the umask has them. */
  | { readonly path: string; readonly mode: number | null };

/** Where a service listens by address. */
export type InetListen = Extract<Listen, { host: unknown }>;

/** One of the ends that a relay connects to. */
export interface Target {
  readonly to: HostPort | UnixAddress;
  /** Its part of the connections, beside those of the others; 1 and more. */
  readonly weight: number;
  /** The local address that connections to it come from; null: the service's. */
  readonly source: string | null;
}

/** Clients by their address: a network, or a pattern in which `*` is any characters and `?` is one. */
export type ClientPattern = Cidr | { readonly glob: string };

/** Who may connect: those of `allow`, null being all, who are not of `deny`. */
export interface AccessList {
  readonly allow: readonly ClientPattern[] | null;
  readonly deny: readonly ClientPattern[];
}

/** One client keeps its target, as long as it comes again within `ttl` milliseconds; `entries` clients are remembered. */
export interface Affinity {
  readonly ttl: number;
  readonly entries: number;
}

/** When an upstream or a target counts as down, and for how long. */
export interface Health {
  /** Failed connects in a row. */
  readonly threshold: number;
  /** Milliseconds; null: one second, and twice as long after each further failure, up to 30. */
  readonly recovery: number | null;
}

/** The URL of `--force`. `url` goes into the request line as it is; `host` is its authority, for the Host field. */
export interface ForcedUrl {
  readonly url: string;
  readonly host: string;
}

/** A proxy that connections go through. */
export interface Upstream extends HostPort {
  /** `http` takes absolute-URI requests and CONNECT, `socks5` (RFC 1928) takes connections only. */
  readonly scheme: 'http' | 'socks5';
  readonly credentials: Credentials | null;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** How a connection, or with `url-hash` a request, gets its upstream when there are several. */
export const BALANCES = ['round-robin', 'least-conn', 'random', 'source-hash', 'url-hash'] as const;
export type Balance = (typeof BALANCES)[number];

/** What is done with TLS, and with what is neither HTTP nor TLS: through the upstream by CONNECT, past it, or nothing. */
export const PASSAGES = ['connect', 'direct', 'close'] as const;
export type Passage = (typeof PASSAGES)[number];

/** What an HTTP service does beyond translating. */
export interface HttpSettings {
  /** Every request goes to this URL, but those whose Referer it is. */
  readonly force: ForcedUrl | null;
  /** Our name in the Via field (RFC 9110 section 7.6.3), and how a request that comes back is known; null: no Via. */
  readonly via: string | null;
  /** Tells the upstream the client's address in X-Forwarded-For. */
  readonly forwardedFor: boolean;
  /** Clients whose own X-Forwarded-For is kept and added to. */
  readonly trust: readonly Cidr[];
  /** A request for an upgrade: through CONNECT to its origin, or to the upstream as any request. */
  readonly upgrade: 'connect' | 'pass';
  /** Whether the Host field must resolve to the original destination, and what becomes of a request whose does not. */
  readonly verifyHost: 'off' | 'address' | 'strict';
}

/** FTP's control connections are followed, and data connections relayed with them. */
export interface Ftp {
  /** PORT and EPRT: the origin connects to us, and we to the client. */
  readonly active: boolean;
  /** PASV and EPSV: the client connects to us, and we to the origin. */
  readonly passive: boolean;
  /** The ports that data connections may come to, both ends included; null: any that is free. */
  readonly ports: { readonly low: number; readonly high: number } | null;
}

/** How the directions of a connection are slowed down, each on its own. */
export interface Shaping {
  readonly toClient: boolean;
  readonly toUpstream: boolean;
  /** Bits per second; null: no bound. */
  readonly maxBandwidth: number | null;
  /** Each piece waits for up to twice so many milliseconds, at random; 0: not at all. */
  readonly randomWait: number;
  /** Bytes of a piece, at most; null: what a read gives. */
  readonly bufferSize: number | null;
}

/** One row of the plan: where to listen, what to do, where to send. */
export interface Service {
  /** For logs. */
  readonly name: string;
  /** Empty: the service is given its sockets (inetd, socket activation). */
  readonly listen: readonly Listen[];
  /** `http` looks at the first bytes, and translates HTTP for an HTTP proxy; `relay` moves bytes. */
  readonly mode: 'http' | 'relay';
  /** udp is for relays: one flow for each address of a client. */
  readonly protocol: 'tcp' | 'udp';
  /**
   * How connections come here, and so how the original destination is known: conntrack's by REDIRECT, or the accepted
   * socket's own address by TPROXY. Connections that come by themselves are served by both.
   */
  readonly intercept: 'redirect' | 'tproxy';
  /** Of a relay: where to; empty is the original destination. */
  readonly targets: readonly Target[];
  /** Proxies to go through. Empty: straight to the target, or the original destination. */
  readonly upstreams: readonly Upstream[];
  readonly balance: Balance;
  readonly affinity: Affinity | null;
  readonly health: Health;
  /** Look the hosts' names up so often, in milliseconds; null: only after failures, and on reload. */
  readonly dnsRefresh: number | null;
  /** Probe each upstream, or without one each target, so often, in milliseconds; null: never. Not of udp. */
  readonly check: number | null;
  /** Never connect past the upstreams. */
  readonly proxyOnly: boolean;
  /** The header of the PROXY protocol that connections to upstreams, or a relay's target, begin with. */
  readonly proxyProtocol: 'v1' | 'v2' | null;
  /** The local address that connects come from; null: as the route has it. */
  readonly source: string | null;
  /** Connects come from the client's own address. */
  readonly spoof: boolean;
  /** Of a relay: it carries FTP's control connections. */
  readonly ftp: Ftp | null;
  readonly shaping: Shaping | null;
  /** Of http mode: connections that are TLS. */
  readonly tls: Passage;
  /**
   * What a CONNECT for TLS with an encrypted ClientHello asks for: the original address, or the name outside, which with
   * a true one is that of who can decrypt it (RFC 9849). Browsers make every hello look like one.
   */
  readonly ech: 'address' | 'name';
  /** Of http mode: connections that are neither HTTP nor TLS, and those whose client says nothing. */
  readonly unknown: Passage;
  readonly http: HttpSettings;
  /** A client must pass each of them; empty: all may connect. */
  readonly access: readonly AccessList[];
  /** TCP wrappers decide on each client too, who know the service by this name (hosts_access(5)); null: not asked. */
  readonly tcpWrappers: string | null;
  /** Each connection is logged at level notice when it begins and when it ends. */
  readonly logConnections: boolean;
  /** Connections that wait to be accepted, at most; null: as many as the kernel lets. */
  readonly backlog: number | null;
  /** The kernel looks after peers that are gone (SO_KEEPALIVE). */
  readonly keepalive: boolean;
  readonly limits: Limits;
}

/** Where a line for each request or connection goes. */
export interface AccessLogSettings {
  /** Absolute. */
  readonly path: string;
  /** `tab` and `common` are rinetd's. */
  readonly format: 'transproxy' | 'tab' | 'common';
}

/** A file that is written anew again and again, with what the program has done and is doing. */
export interface StatusSettings {
  /** Absolute. */
  readonly path: string;
  /** Milliseconds. */
  readonly interval: number;
  readonly format: 'json' | 'text';
}

/** All services and settings, parsed and validated. Plain data: it crosses to the workers by structured clone. */
export interface Plan {
  readonly services: readonly Service[];
  /** A user's name, or `#uid`; null: stay who we are. */
  readonly user: string | null;
  readonly accessLog: AccessLogSettings | null;
  readonly status: StatusSettings | null;
  /** Sums are logged so often, in milliseconds; null: never. */
  readonly statsInterval: number | null;
  /** How long connections may go on when the program shall end, in milliseconds; 0: not at all. */
  readonly drain: number;
  /** Absolute path. */
  readonly pidFile: string | null;
  readonly foreground: boolean;
  /** null: as many as there are cores available. */
  readonly workers: number | null;
  readonly logLevel: LogLevel;
  /** null: standard error in the foreground, syslog elsewhere. */
  readonly logTo: 'stderr' | 'syslog' | null;
  /** Our name in syslog. */
  readonly ident: string;
  /** For listening sockets that were handed to us: end after so many milliseconds without a connection. */
  readonly exitIdle: number;
}

/** The only target there is, as command lines have it. */
export const targetTo = (to: HostPort | UnixAddress): Target => ({ to, weight: 1, source: null });

/** A plan, and what its writer should know: one line each, `FILE:LINE:COLUMN: what`. */
export interface Reading {
  readonly plan: Plan;
  readonly warnings: readonly string[];
}

/**
 * The hosts that a service connects to by name or address: its upstreams, and behind them its targets, unless only
 * upstreams go there and are told their names. Addresses go by this order wherever they are handed on.
 */
export const hostsOf = ({ upstreams, targets, proxyOnly }: Service): readonly (HostPort | UnixAddress)[] =>
  proxyOnly && upstreams.length > 0 ? upstreams : [...upstreams, ...targets.map(({ to }) => to)];

/** The service moves bytes to its end, and does nothing else. */
export const isPlainRelay = ({ mode, upstreams, proxyProtocol, ftp, shaping }: Service): boolean =>
  mode === 'relay' && upstreams.length === 0 && proxyProtocol === null && ftp === null && shaping === null;

/** Why a service can't be carried out with datagrams; null: it can. */
export const unfitForUdp = (service: Service): string | null => {
  const { mode, listen, targets, upstreams, intercept, proxyProtocol } = service;
  if (mode !== 'relay') return 'http mode is for TCP';
  if (upstreams.length > 0) return 'proxies take TCP only';
  if (listen.some(isUnix) || targets.some(({ to }) => isUnix(to))) return 'unix sockets are for TCP services';
  if (service.ftp !== null) return 'FTP is for TCP';
  if (service.shaping !== null) return 'shaping is for TCP';
  if (service.tcpWrappers !== null) return 'TCP wrappers are for TCP';
  if (proxyProtocol === 'v1') return 'datagrams can have the header of PROXY version 2 only';
  // SO_ORIGINAL_DST is for TCP and SCTP (getorigdst in net/netfilter/nf_conntrack_proto.c).
  if (targets.length === 0 && intercept !== 'tproxy') return 'their original destination is known by TPROXY only';
  return null;
};

/**
 * The service makes sockets transparent while it serves, which takes a capability then: those that connect from a client's
 * address, those that wait for FTP's data connections at the origin's, and those that answer datagrams. Its own listening
 * sockets are made so before privileges are dropped, and what they accept is transparent by itself.
 */
export const needsTransparency = (service: Service): boolean =>
  service.spoof || (service.ftp?.passive === true && service.intercept === 'tproxy') || answersForOthers(service);

/** Its answers come from addresses that are not this host's. */
export const answersForOthers = ({ protocol, intercept }: Service): boolean =>
  protocol === 'udp' && intercept === 'tproxy';

export const DEFAULT_LIMITS: Limits = {
  firstByte: 1000,
  head: 30_000,
  connect: 10_000,
  idle: 120_000,
  halfClosed: 120_000,
  headBytes: 64 * 1024,
  flows: 10_000,
};

/** A relay to the original destination; dialects say what theirs does beyond that. */
export const DEFAULT_SERVICE: Omit<Service, 'name' | 'listen'> = {
  mode: 'relay',
  protocol: 'tcp',
  intercept: 'redirect',
  targets: [],
  upstreams: [],
  balance: 'round-robin',
  affinity: null,
  health: { threshold: 1, recovery: null },
  dnsRefresh: 10_000,
  check: null,
  proxyOnly: false,
  proxyProtocol: null,
  source: null,
  spoof: false,
  ftp: null,
  shaping: null,
  tls: 'connect',
  ech: 'address',
  unknown: 'direct',
  http: {
    force: null,
    via: null,
    forwardedFor: false,
    trust: [],
    upgrade: 'connect',
    verifyHost: 'off',
  },
  access: [],
  tcpWrappers: null,
  logConnections: false,
  backlog: null,
  keepalive: true,
  limits: DEFAULT_LIMITS,
};

export const DEFAULT_PLAN: Omit<Plan, 'services'> = {
  user: null,
  accessLog: null,
  status: null,
  statsInterval: null,
  drain: 0,
  pidFile: null,
  foreground: false,
  workers: null,
  logLevel: 'info',
  logTo: null,
  ident: 'tproxy',
  exitIdle: 60_000,
};
