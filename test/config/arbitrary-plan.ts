import fc, { type Arbitrary } from 'fast-check';
import type { Cidr } from '../../src/address.js';
import { parseAcl } from '../../src/config/acl.js';
import {
  type AccessList,
  BALANCES,
  type ClientPattern,
  DEFAULT_SERVICE,
  type Ftp,
  type HostPort,
  isUnix,
  type Limits,
  type Listen,
  LOG_LEVELS,
  PASSAGES,
  type Plan,
  type Service,
  type Shaping,
  type Target,
  type UnixAddress,
  type Upstream,
} from '../../src/plan.js';

const WEEK = 7 * 24 * 60 * 60 * 1000;

const milliseconds = fc.integer({ min: 1, max: WEEK });
const orNull = <T>(value: Arbitrary<T>): Arbitrary<T | null> => fc.option(value, { nil: null });

/** Texts that YAML could take for something else, among others. */
const text = fc
  .oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
    fc.string({ unit: fc.constantFrom(...'#:-?[]{},&*!|>\'"%@` ~0x.\\'), minLength: 1, maxLength: 8 }),
    fc.constantFrom('null', '~', 'true', 'no', '0', '0660', '1e3', '.inf', '2026-01-01', '<<', '=', '__proto__'),
  )
  .filter((given) => /^[^\p{Cc}\p{Cs}]+$/u.test(given));

const ipv4 = fc.ipV4();
/** In the spelling that the plan has, and none that is IPv4's. */
const ipv6 = fc
  .ipV6()
  .filter((ip) => !/^[0:]*(:|:ffff:)\d+\./i.test(ip) && !/^[0:]*:ffff:/i.test(ip))
  .map((ip) => parseAcl('', ip).ip)
  .filter((ip) => !ip.includes('.'));
const name = fc.constantFrom('a', 'www.example.net', 'a_b-c.local.', 'localhost');
const port = fc.integer({ min: 1, max: 65535 });
const hostPort: Arbitrary<HostPort> = fc.record({ host: fc.oneof(name, ipv4, ipv6), port });

const unixPath = fc
  .tuple(fc.constantFrom('/', '@'), text)
  .map(([kind, rest]) => `${kind}${rest}`)
  .filter((path) => Buffer.byteLength(path) <= 107);
const unix: Arbitrary<UnixAddress> = fc.record({ path: unixPath });

const listen: Arbitrary<Listen> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ host: orNull(fc.oneof(name, ipv4, ipv6)), port }) },
  {
    weight: 1,
    arbitrary: fc
      .record({ path: unixPath, mode: orNull(fc.integer({ min: 0, max: 0o7777 })) })
      .map(({ path, mode }) => ({ path, mode: path.startsWith('@') ? null : mode })),
  },
);

const network: Arbitrary<Cidr> = fc.oneof(
  fc.record({ ip: ipv4, prefix: fc.integer({ min: 0, max: 32 }) }),
  fc.record({ ip: ipv6, prefix: fc.integer({ min: 0, max: 128 }) }),
);
const glob: Arbitrary<ClientPattern> = fc
  .string({ unit: fc.constantFrom(...'0123456789abcdef:.*?'), minLength: 1, maxLength: 12 })
  .map((inner) => ({ glob: `${inner}*` }));
const pattern = fc.oneof(network, glob);
const access: Arbitrary<AccessList> = fc.record({
  allow: orNull(fc.array(pattern, { minLength: 1, maxLength: 3 })),
  deny: fc.array(pattern, { maxLength: 3 }),
});

const upstream = (scheme: Upstream['scheme']): Arbitrary<Upstream> =>
  fc
    .record({
      end: hostPort,
      credentials: orNull(
        fc.record({ user: text.map((user) => user.replaceAll(':', '')).filter((user) => user !== ''), password: text }),
      ),
    })
    .map(({ end, credentials }) => ({ scheme, ...end, credentials }));
const upstreamsOf = (mode: Service['mode']): Arbitrary<Upstream[]> =>
  fc
    .uniqueArray(fc.oneof(upstream('http'), upstream('socks5')), {
      maxLength: 3,
      selector: ({ scheme, host, port }) => `${scheme} ${host} ${port}`,
    })
    .filter((all) => mode === 'relay' || all.some(({ scheme }) => scheme === 'http'));

/** Of one family, by name: which addresses it may come from is known later. */
const target = (tcp: boolean): Arbitrary<Target> =>
  fc
    .record({
      to: tcp ? fc.oneof({ weight: 4, arbitrary: hostPort }, { weight: 1, arbitrary: unix }) : hostPort,
      weight: fc.integer({ min: 1, max: 100 }),
      source: orNull(fc.oneof(ipv4, ipv6)),
    })
    .map(({ to, weight, source }) => ({ to, weight, source: isUnix(to) ? null : sourceFor([to], source) }));

/** A source that all ends can be reached from. */
const sourceFor = (ends: readonly HostPort[], source: string | null): string | null => {
  const isOther = ({ host }: HostPort) => /^[\d.]+$|:/.test(host) && host.includes(':') !== source?.includes(':');
  return source !== null && ends.some(isOther) ? null : source;
};

const ftp: Arbitrary<Ftp> = fc
  .record({
    which: fc.constantFrom('port', 'pasv', 'both'),
    ports: orNull(
      fc
        .tuple(fc.integer({ min: 1024, max: 65535 }), fc.integer({ min: 1024, max: 65535 }))
        .map(([a, b]) => ({ low: Math.min(a, b), high: Math.max(a, b) })),
    ),
  })
  .map(({ which, ports }) => ({ active: which !== 'pasv', passive: which !== 'port', ports }));

const shaping: Arbitrary<Shaping | null> = fc
  .record({
    which: fc.integer({ min: 1, max: 3 }),
    maxBandwidth: orNull(fc.integer({ min: 1, max: 1e12 })),
    randomWait: fc.integer({ min: 0, max: 3_600_000 }),
    bufferSize: orNull(fc.integer({ min: 256, max: 1024 * 1024 })),
  })
  .map(({ which, maxBandwidth, randomWait, bufferSize }) => {
    if (maxBandwidth === null && randomWait === 0 && bufferSize === null) return null;
    const waits = maxBandwidth !== null || randomWait !== 0;
    const [toClient, toUpstream] = [!waits || (which & 1) !== 0, !waits || (which & 2) !== 0];
    return { toClient, toUpstream, maxBandwidth, randomWait, bufferSize };
  });

const limits: Arbitrary<Limits> = fc.record({
  firstByte: milliseconds,
  head: milliseconds,
  connect: fc.oneof(milliseconds, fc.constant(Number.POSITIVE_INFINITY)),
  idle: fc.oneof(milliseconds, fc.constant(Number.POSITIVE_INFINITY)),
  halfClosed: milliseconds,
  headBytes: fc.integer({ min: 8192, max: 1024 * 1024 }),
  flows: fc.integer({ min: 1, max: 1_000_000 }),
});

const http: Arbitrary<Service['http']> = fc
  .record({
    force: orNull(fc.constantFrom({ url: 'http://a.example/x?y', host: 'a.example' })),
    via: orNull(fc.stringMatching(/^[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,20}$/)),
    forwardedFor: fc.boolean(),
    trust: fc.array(network, { maxLength: 2 }),
    upgrade: fc.constantFrom('connect' as const, 'pass' as const),
    verifyHost: fc.constantFrom('off' as const, 'address' as const, 'strict' as const),
  })
  .map((all) => ({ ...all, trust: all.forwardedFor ? all.trust : [] }));

const anyService = (
  mode: Service['mode'],
  protocol: Service['protocol'],
): Arbitrary<{ [K in keyof Service]: Service[K] }> =>
  fc.record({
    name: text,
    listen: fc.array(listen, { maxLength: 3 }),
    mode: fc.constant(mode),
    protocol: fc.constant(protocol),
    intercept: fc.constantFrom('redirect', 'tproxy'),
    targets: mode === 'relay' ? fc.array(target(protocol === 'tcp'), { maxLength: 3 }) : fc.constant([]),
    upstreams: protocol === 'tcp' ? upstreamsOf(mode) : fc.constant([]),
    balance: fc.constantFrom(...BALANCES),
    affinity: orNull(fc.record({ ttl: milliseconds, entries: fc.integer({ min: 1, max: 1_000_000 }) })),
    health: fc.record({ threshold: fc.integer({ min: 1, max: 1000 }), recovery: orNull(milliseconds) }),
    dnsRefresh: orNull(milliseconds),
    check: orNull(milliseconds),
    proxyOnly: fc.boolean(),
    proxyProtocol: fc.constantFrom(null, 'v1', 'v2'),
    source: orNull(fc.oneof(ipv4, ipv6)),
    spoof: fc.boolean(),
    ftp: orNull(ftp),
    shaping,
    tls: fc.constantFrom(...PASSAGES),
    ech: fc.constantFrom('address', 'name'),
    unknown: fc.constantFrom(...PASSAGES),
    http,
    access: fc.array(access, { maxLength: 3 }),
    tcpWrappers: orNull(fc.stringMatching(/^[\w./-]{1,48}$/).filter((ident) => !/^(yes|no|on|off)$/.test(ident))),
    logConnections: fc.boolean(),
    backlog: orNull(fc.integer({ min: 1, max: 65_535 })),
    keepalive: fc.boolean(),
    limits,
  });

/** What no dialect would take goes back to what is so without a word. */
const sensible = (service: Service): Service => {
  const plain = DEFAULT_SERVICE;
  let it = service;
  const isFixed = (key: keyof Service) => it.mode === 'relay' && ['tls', 'ech', 'unknown', 'http'].includes(key);
  const put = (changes: Partial<Service>): void => {
    it = { ...it, ...changes };
  };
  for (const key of Object.keys(plain) as (keyof typeof plain)[]) if (isFixed(key)) put({ [key]: plain[key] });
  if (it.mode === 'relay') {
    const { firstByte, head, headBytes } = plain.limits;
    put({ limits: { ...it.limits, firstByte, head, headBytes } });
    if (it.balance === 'url-hash') put({ balance: 'random' });
    if (it.upstreams.length > 0 && it.ftp) put({ ftp: { ...it.ftp, active: false, passive: true } });
  } else {
    put({ ftp: null });
    if (it.proxyOnly && it.tls === 'direct') put({ tls: 'close' });
    if (it.proxyOnly && it.unknown === 'direct') put({ unknown: 'close' });
  }
  if (it.protocol === 'udp') {
    put({ listen: it.listen.filter((at) => !isUnix(at)), ftp: null, shaping: null, proxyOnly: false });
    put({ proxyProtocol: it.proxyProtocol && 'v2', tcpWrappers: null });
    put({ limits: { ...it.limits, halfClosed: plain.limits.halfClosed } });
    // Given sockets say nothing of themselves, and the original destination neither.
    if (it.listen.length === 0) put({ listen: [{ host: null, port: 53 }] });
    if (it.targets.length === 0) put({ intercept: 'tproxy' });
  }
  if (it.targets.some(({ to }) => isUnix(to))) put({ source: null, spoof: false, upstreams: [], ftp: null });
  if (it.listen.some(isUnix)) {
    put({ spoof: false, tcpWrappers: null, intercept: 'redirect', http: { ...it.http, trust: [] } });
    if (it.mode === 'relay' && it.targets.length === 0) put({ listen: [{ host: null, port: 80 }] });
  }
  if (it.upstreams.length === 0) put({ check: null });
  if (it.upstreams.length + it.targets.length === 0) {
    const { balance, affinity, health } = plain;
    put({ proxyOnly: false, proxyProtocol: null, balance, affinity, health });
  }
  const ends = it.upstreams.length > 0 ? it.upstreams : it.targets.flatMap(({ to }) => (isUnix(to) ? [] : [to]));
  put({ source: it.spoof ? null : sourceFor(ends, it.source) });
  return it;
};

const service: Arbitrary<Service> = fc
  .constantFrom(
    ['http', 'tcp'] as const,
    ['relay', 'tcp'] as const,
    ['relay', 'tcp'] as const,
    ['relay', 'udp'] as const,
  )
  .chain(([mode, protocol]) => anyService(mode, protocol))
  .map(sensible);

const path = text.map((last) => `/${last.replaceAll('/', '')}x`).filter((whole) => !/^\/\.{0,2}$/.test(whole));

/** Any plan that means something, over all of its properties. */
export const arbitraryPlan: Arbitrary<Plan> = fc
  .record({
    services: fc.array(service, { minLength: 1, maxLength: 4 }),
    user: orNull(
      fc.oneof(
        fc.constantFrom('nobody', '#1000', '0'),
        text.filter((given) => !given.startsWith('#')),
      ),
    ),
    accessLog: orNull(fc.record({ path, format: fc.constantFrom('transproxy', 'tab', 'common') })),
    status: orNull(fc.record({ path, interval: milliseconds, format: fc.constantFrom('json', 'text') })),
    statsInterval: orNull(milliseconds),
    drain: fc.integer({ min: 0, max: WEEK }),
    pidFile: orNull(path),
    foreground: fc.boolean(),
    workers: orNull(fc.integer({ min: 1, max: 1024 })),
    logLevel: fc.constantFrom(...LOG_LEVELS),
    logTo: fc.constantFrom(null, 'stderr', 'syslog'),
    ident: fc.stringMatching(/^[\w./-]{1,48}$/),
    exitIdle: milliseconds,
  })
  .map((plan): Plan => {
    const isAlone = plan.services.length === 1;
    // No two with one name or port, and sockets are given to a service alone.
    const services = plan.services.map((each, i) => ({
      ...each,
      name: `${each.name}${i}`,
      listen:
        each.listen.length === 0 && !isAlone
          ? [{ host: null, port: 40_000 + i }]
          : each.listen.map((at, j) =>
              isUnix(at) ? { ...at, path: `${at.path.slice(0, 20)}${i}${j}` } : { ...at, port: 50_000 + 10 * i + j },
            ),
    }));
    const isGiven = services.some((each) => each.listen.length === 0);
    // Without the null prototypes that fast-check likes to make.
    return structuredClone({ ...plan, services, exitIdle: isGiven ? plan.exitIdle : 60_000 });
  });
