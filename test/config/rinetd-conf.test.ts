import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Service, targetTo } from '../../src/plan.js';
import { ConfFolder } from '../support/conf.js';

const folder = new ConfFolder();
after(() => folder.remove());
const RULE = '127.0.0.1 8080 192.0.2.1 80';
const plan = (...lines: string[]) => folder.read(lines.map((line) => `${line}\n`).join('')).plan;
const services = (...lines: string[]) => plan(...lines).services;
const service = (line: string): Service => services(line)[0] ?? assert.fail();
const withProperties = (properties: string): Service => service(`${RULE} [${properties}]`);
const warnings = (...lines: string[]) => folder.read(`${lines.join('\n')}\n`).warnings;
const none = Number.POSITIVE_INFINITY;

describe('a rule of rinetd.conf', () => {
  it('fills in every default of rinetd', () => {
    const { services, ...rest } = plan(RULE);
    assert.deepEqual(rest, { ...DEFAULT_PLAN, ident: 'rinetd' });
    assert.deepEqual(services, [
      {
        ...DEFAULT_SERVICE,
        name: '127.0.0.1:8080 to 192.0.2.1:80',
        listen: [{ host: '127.0.0.1', port: 8080 }],
        targets: [targetTo({ host: '192.0.2.1', port: 80 })],
        dnsRefresh: 600_000,
        limits: { ...DEFAULT_LIMITS, idle: none, halfClosed: 120_000 },
      },
    ]);
  });

  it('has addresses of both families, names, and 0', () => {
    const ends = (line: string) => [...service(line).listen, service(line).targets[0]?.to];
    assert.deepEqual(ends('localhost http-alt www.example.net. http'), [
      { host: 'localhost', port: 8080 },
      { host: 'www.example.net.', port: 80 },
    ]);
    assert.deepEqual(ends('[::1] 1 2001:db8::1 2'), [
      { host: '::1', port: 1 },
      { host: '2001:db8::1', port: 2 },
    ]);
    assert.deepEqual(ends('0 1 0 2'), [
      { host: '0.0.0.0', port: 1 },
      { host: '0.0.0.0', port: 2 },
    ]);
  });

  it('listens on every address of both families for ::, as the kernel has it', () => {
    for (const any of ['::', '[::]', '0:0:0:0:0:0:0:0']) {
      assert.deepEqual(service(`${any} 1 b 2`).listen, [{ host: null, port: 1 }]);
    }
  });

  it('has unix sockets on both sides, with permissions', () => {
    const { listen, targets, name, protocol } = service('unix:/run/a unix:@b [mode=0660]');
    assert.deepEqual([listen, targets], [[{ path: '/run/a', mode: 0o660 }], [targetTo({ path: '@b' })]]);
    assert.equal(name, 'unix:/run/a to unix:@b');
    assert.equal(protocol, 'tcp');
    assert.deepEqual(service('unix:@a b 2').listen, [{ path: '@a', mode: null }]);
  });

  it('goes to the original destination for *', () => {
    assert.deepEqual(service('0 1 *').targets, []);
    assert.equal(service('0 1 *').name, '0.0.0.0:1 to original destination');
  });

  it('is for udp if one of its ports is, with 72 seconds unless they are given', () => {
    const idle = (line: string) => [service(line).protocol, service(line).limits.idle];
    assert.deepEqual(idle('0 1/udp b 2/udp'), ['udp', 72_000]);
    assert.deepEqual(idle('0 1/udp b 2'), ['udp', 72_000]);
    assert.deepEqual(idle('0 1 b 2/udp'), ['udp', 72_000]);
    assert.deepEqual(idle('0 1/udp b 2/udp [timeout=30]'), ['udp', 30_000]);
    assert.deepEqual(idle('0 1/udp b 2/udp [timeout=0]'), ['udp', 72_000]);
    assert.deepEqual(idle('0 1/tcp b 2'), ['tcp', none]);
    assert.equal(service('0 1/udp b 2/udp').name, '0.0.0.0:1/udp to b:2');
    assert.deepEqual(service('0 ntp/udp b tftp/udp').listen, [{ host: '0.0.0.0', port: 123 }]);
  });

  it('may bind one port for tcp and for udp', () => {
    assert.equal(services('0 1/tcp b 2/tcp', '0 1/udp b 2/udp').length, 2);
  });

  it('reads every property that a service can have', () => {
    const part = (properties: string, names: readonly (keyof Service)[]) => {
      const read = withProperties(properties);
      return names.map((name) => read[name]);
    };
    assert.deepEqual(part('src=192.0.2.9', ['source']), ['192.0.2.9']);
    assert.deepEqual(part('source=192.0.2.9', ['source']), ['192.0.2.9']);
    assert.deepEqual(part('keepalive=off', ['keepalive']), [false]);
    assert.deepEqual(part('keepalive=on', ['keepalive']), [true]);
    assert.deepEqual(part('dns-refresh=60', ['dnsRefresh']), [60_000]);
    assert.deepEqual(part('dns-refresh=0', ['dnsRefresh']), [null]);
    assert.deepEqual(part('listen-backlog=5', ['backlog']), [5]);
    assert.deepEqual(part('name="the web"', ['name']), ['the web']);
    assert.deepEqual(part('spoof,intercept=tproxy', ['spoof', 'intercept']), [true, 'tproxy']);
    assert.deepEqual(part('tcp-wrappers', ['tcpWrappers']), ['rinetd']);
    assert.deepEqual(part('proxy-protocol=v2', ['proxyProtocol']), ['v2']);
    assert.deepEqual(part('ftp=both,ftp-ports=2000-3000', ['ftp']), [
      { active: true, passive: true, ports: { low: 2000, high: 3000 } },
    ]);
    assert.deepEqual(part('max-bandwidth=1000,random-wait=5,wait-in-out=1,bufsize=512', ['shaping']), [
      { toClient: true, toUpstream: false, maxBandwidth: 1000, randomWait: 5, bufferSize: 512 },
    ]);
    assert.deepEqual(part('affinity-ttl=5,affinity-max-entries=7', ['affinity']), [{ ttl: 5000, entries: 7 }]);
    assert.deepEqual(part('affinity-ttl=5', ['affinity']), [{ ttl: 5000, entries: 10_000 }]);
    assert.deepEqual(part('health-threshold=3,recovery-timeout=30', ['health']), [{ threshold: 3, recovery: 30_000 }]);
    assert.deepEqual(part('balance=least-conn', ['balance']), ['least-conn']);
    const { limits } = withProperties('connect-timeout=2.5,tcp-timeout=300');
    assert.deepEqual([limits.connect, limits.idle, limits.halfClosed], [2500, 300_000, 300_000]);
    assert.equal(service('0 1/udp b 2/udp [max-udp-connections=9]').limits.flows, 9);
  });

  it('goes through proxies', () => {
    const read = withProperties('upstream=socks5://u:p@[2001:db8::1]:1080,upstream=a:3128,proxy-only,check=5');
    assert.deepEqual(read.upstreams, [
      { scheme: 'socks5', host: '2001:db8::1', port: 1080, credentials: { user: 'u', password: 'p' } },
      { scheme: 'http', host: 'a', port: 3128, credentials: null },
    ]);
    assert.deepEqual([read.proxyOnly, read.check], [true, 5000]);
    assert.equal(read.name, '127.0.0.1:8080 to 192.0.2.1:80 through socks5://[2001:db8::1]:1080, a:3128');
  });

  it('translates HTTP with mode=http for the proxy that it connects to, or those of upstream', () => {
    const squid = { scheme: 'http', host: 'squid', port: 3128, credentials: null };
    const read = service(':: 8081 squid 3128 [mode=http,forwarded-for,trust=10/8,trust=::1,tls=close,unknown=direct]');
    assert.deepEqual([read.mode, read.targets, read.upstreams], ['http', [], [squid]]);
    assert.deepEqual([read.tls, read.unknown, read.http.forwardedFor], ['close', 'direct', true]);
    assert.deepEqual(read.http.trust, [
      { ip: '10.0.0.0', prefix: 8 },
      { ip: '::1', prefix: 128 },
    ]);
    assert.equal(read.limits.idle, DEFAULT_LIMITS.idle);
    assert.match(read.http.via ?? '', /^tproxy-[\da-f]{8}$/);
    assert.equal(read.name, '[::]:8081 to squid:3128');
    assert.deepEqual(service('0 1 * [mode=http,upstream=squid:3128]').upstreams, [squid]);
    const names = services('0 1 a 1 [mode=http]', '0 2 a 1 [mode=http]').map(({ http }) => http.via);
    assert.notEqual(names[0], names[1]);
    assert.equal(services('0 1 a 1 [mode=http]')[0]?.http.via, names[0]);
  });
});

describe('allow and deny', () => {
  const access = (...lines: string[]) => services(...lines).map((each) => each.access);

  it('hold for all rules before the first one, and behind a rule for that one', () => {
    const lists = access('allow 10.*', 'deny 10.1.?', RULE, 'deny 10.2.*', 'allow 10.3.0.1', '0 1 b 2');
    const global = { allow: [{ glob: '10.*' }], deny: [{ glob: '10.1.?' }] };
    const own = { allow: [{ ip: '10.3.0.1', prefix: 32 }], deny: [{ glob: '10.2.*' }] };
    assert.deepEqual(lists, [[global, own], [global]]);
    assert.deepEqual(access(RULE, 'deny *'), [[{ allow: null, deny: [{ glob: '*' }] }]]);
    assert.deepEqual(access(RULE), [[]]);
  });

  it('take addresses, networks and patterns of both families', () => {
    for (const [text, pattern] of [
      ['10.0.0.0', { ip: '10.0.0.0', prefix: 32 }],
      ['10.0.0.0/8', { ip: '10.0.0.0', prefix: 8 }],
      ['10/8', { ip: '10.0.0.0', prefix: 8 }],
      ['2001:DB8::/32', { ip: '2001:db8::', prefix: 32 }],
      ['[2001:db8::]/32', { ip: '2001:db8::', prefix: 32 }],
      ['[::1]', { ip: '::1', prefix: 128 }],
      ['2001:db8:0::1', { ip: '2001:db8::1', prefix: 128 }],
      ['FE80:*', { glob: 'fe80:*' }],
      ['2001:618:*:e43f', { glob: '2001:618:*:e43f' }],
      ['192.168.2.1?', { glob: '192.168.2.1?' }],
      ['*', { glob: '*' }],
      ['::FFFF:10.*', { glob: '10.*' }],
      ['::ffff:10.0.0.1', { ip: '10.0.0.1', prefix: 32 }],
      ['::ffff:*', { glob: '::ffff:*' }],
    ] as const) {
      assert.deepEqual(access(`allow ${text}`, RULE), [[{ allow: [pattern], deny: [] }]], text);
    }
  });

  it('are none of a unix socket, whose clients have no address', () => {
    assert.deepEqual(access('deny *', 'unix:/a b 1', 'allow 10.*'), [[]]);
    assert.deepEqual(warnings('unix:/a b 1', 'allow 10.*'), [
      'rinetd.conf:2:7: warning: allow has no effect: clients of a unix socket have no address',
    ]);
  });
});

describe('the other words', () => {
  it('say where logs, the process id and the status go', () => {
    const read = plan('logfile "/var/log/my log"', 'pidlogfile run/pid', 'statusfile /s', 'logcommon', RULE);
    assert.deepEqual(read.accessLog, { path: '/var/log/my log', format: 'common' });
    assert.equal(read.pidFile, `${folder.path}/run/pid`);
    assert.deepEqual(read.status, { path: '/s', interval: 30_000, format: 'json' });
    const other = plan('logfile l', 'pidfile /p', 'statusfile s', 'statusinterval 5', 'statusformat text', RULE);
    assert.deepEqual(other.accessLog, { path: `${folder.path}/l`, format: 'tab' });
    assert.equal(other.pidFile, '/p');
    assert.deepEqual(other.status, { path: `${folder.path}/s`, interval: 5000, format: 'text' });
    assert.equal(plan('logcommon', RULE).accessLog, null);
  });

  it('hold for all rules that say nothing else and that they mean something to, wherever they stand', () => {
    const limits = services(
      '0 1 b 2',
      'connect-timeout 3',
      'dns-refresh 60',
      'listen-backlog 9',
      'max-udp-connections 7',
      '0 2 b 2 [connect-timeout=4,dns-refresh=5,listen-backlog=6]',
      '0 3/udp b 2/udp [max-udp-connections=8]',
    ).map((each) => [each.limits.connect, each.dnsRefresh, each.backlog, each.limits.flows]);
    assert.deepEqual(limits, [
      [3000, 60_000, 9, 10_000],
      [4000, 5000, 6, 10_000],
      [10_000, 60_000, null, 8],
    ]);
    assert.equal(services('max-udp-connections 7', '0 1/udp b 2/udp')[0]?.limits.flows, 7);
    assert.equal(services('connect-timeout 0', RULE)[0]?.limits.connect, none);
    assert.equal(services('dns-refresh 0', RULE)[0]?.dnsRefresh, null);
    assert.equal(plan('statsloginterval 60', RULE).statsInterval, 60_000);
    assert.equal(plan('statsloginterval 0', RULE).statsInterval, null);
  });

  it('are warned of when they have no effect', () => {
    for (const line of [
      'buffersize 16384',
      'pool-min-free 1',
      'pool-max-free 1',
      'pool-trim-delay 100',
      'dns-multi-ip-expand off',
      'dns-multi-ip-proto IPv4',
    ]) {
      const [warning = ''] = warnings(RULE, line);
      assert.match(warning, new RegExp(`^rinetd\\.conf:2:1: warning: ${line.split(' ')[0]} (off )?has no effect`));
    }
    assert.deepEqual(warnings('dns-multi-ip-expand on', 'dns-multi-ip-proto any', RULE), []);
  });
});

describe('a warning', () => {
  it('is for what rinetd takes and means otherwise, or not at all', () => {
    for (const [line, column, what] of [
      [`${RULE} [timeout=5]`, 30, /^timeout has no effect on tcp/],
      [`${RULE} [keepalive=on,keepalive=off]`, 43, /^keepalive is given more than once/],
      ['0 1/udp b 2', 4, /^CONNECTPORT is taken for udp too/],
      ['0 1 b 2/udp', 8, /^BINDPORT is taken for udp too/],
      ['0 1/udp b 2/udp [keepalive=off]', 18, /^keepalive has no effect on udp$/],
      ['0 1/udp b 2/udp [connect-timeout=1]', 18, /^connect-timeout has no effect on udp$/],
    ] as const) {
      const [warning = '', ...rest] = warnings(line);
      assert.ok(warning.startsWith(`rinetd.conf:1:${column}: warning: `), warning);
      assert.match(warning.replace(/^.*warning: /, ''), what);
      assert.deepEqual(rest, []);
    }
    assert.deepEqual(warnings('logfile a', 'logfile b', RULE), [
      'rinetd.conf:2:1: warning: logfile is given more than once, and the last one counts',
    ]);
    assert.equal(plan('pidfile /a', 'pidlogfile /b', RULE).pidFile, '/b');
  });
});

describe('a mistake in rinetd.conf', () => {
  const one = (text: string, place: string, what: RegExp) => {
    const [mistake = '', ...rest] = folder.mistakes(text);
    assert.deepEqual(rest, [], text);
    assert.ok(mistake.startsWith(`${place}: `), `${text}: ${mistake}`);
    assert.match(mistake.slice(place.length + 2), what);
  };

  it('is told with its line and column', () => {
    for (const [text, place, what] of [
      ['', '1:1', /^there is no rule in this file$/],
      ['# nothing\n', '1:1', /^there is no rule/],
      [`${RULE}\r\nfoo\r\n`, '2:1', /^"foo" is no word/],
      ['0 0 b 1', '1:3', /^BINDPORT: "0" is not a port from 1 to 65535$/],
      ['0 nosuch b 1', '1:3', /^BINDPORT: "nosuch" is neither .* TCP service/],
      ['0 1/udp b nosuch/udp', '1:11', /^CONNECTPORT: "nosuch" is neither .* UDP service/],
      ['0 1 b 70000', '1:7', /^CONNECTPORT: "70000" is not a port/],
      ['1.2.3 1 b 2', '1:1', /^BINDADDRESS: "1\.2\.3" is not a host name/],
      ['0 1 1.2.3.400 2', '1:5', /^CONNECTADDRESS: /],
      ['0 1 fe80::1%eth0 2', '1:5', /zone/],
      ['* 1 b 2', '1:1', /^BINDADDRESS: "\*" is not/],
      ['unix:a b 2', '1:1', /^BINDADDRESS: "unix:a" is neither unix:\/PATH nor unix:@NAME$/],
      [`unix:/${'a'.repeat(107)} b 2`, '1:1', /has more than 107 bytes behind unix:$/],
      ['0 1/udp b 2/tcp', '1:12', /^\/tcp contradicts \/udp of BINDPORT/],
      ['0 1/tcp b 2/udp', '1:12', /^\/udp contradicts \/tcp of BINDPORT/],
      ['0 1/udp unix:/a', '1:9', /^a unix socket is for tcp$/],
      ['unix:/a b 2/udp', '1:9', /^a unix socket is for tcp$/],
      ['unix:/a *', '1:9', /^connections to a unix socket have no original destination$/],
      ['0 1/udp *', '1:9', /with intercept=tproxy only$/],
      ['0 1 b 2 [foo=1]', '1:10', /^"foo" is no property of a rule$/],
      ['0 1 b 2 [user=a]', '1:10', /^"user" is no property of a rule$/],
      ['0 1 b 2 [spoof=on]', '1:10', /^spoof takes no value$/],
      ['0 1 b 2 [src]', '1:10', /^src needs a value$/],
      ['0 1/udp b 2/udp [timeout=x]', '1:26', /^timeout: "x" is not a number of seconds/],
      ['0 1 b 2 [src=localhost]', '1:14', /^src: "localhost" is not an IP address$/],
      ['0 1 b 2 [keepalive=yes]', '1:20', /^keepalive: "yes" is none of on, off$/],
      ['0 1 b 2 [mode=tls]', '1:15', /^mode: "tls" is none of relay, http$/],
      ['unix:/a b 2 [mode=660]', '1:19', /^mode: "660" is not an octal number/],
      ['unix:/a b 2 [mode=010000]', '1:19', /^mode: "010000" is not an octal number/],
      ['0 1 b 2 [mode=0660]', '1:10', /^mode with a number is for unix:\/PATH/],
      ['unix:@a b 2 [mode=0660]', '1:14', /^mode with a number is for unix:\/PATH/],
      ['unix:/a b 2 [spoof]', '1:14', /^spoof is for clients with an address, not for those of unix:$/],
      ['0 1 unix:/a [src=::1]', '1:18', /^src is for targets with an address, not for unix:$/],
      ['0 1 unix:/a [mode=http]', '1:5', /^mode=http needs an HTTP proxy/],
      ['0 1 * [mode=http]', '1:5', /^mode=http needs an HTTP proxy: CONNECTADDRESS CONNECTPORT, or upstream/],
      ['0 1/udp b 2/udp [mode=http]', '1:9', /^mode=http is for tcp$/],
      ['0 1/udp b 2/udp [ftp=both]', '1:18', /^ftp is for tcp$/],
      ['0 1/udp b 2/udp [proxy-protocol=v1]', '1:33', /^proxy-protocol v1 is for tcp$/],
      ['0 1 b 2 [max-udp-connections=1]', '1:10', /^max-udp-connections is for udp$/],
      ['0 1 b 2 [tls=close]', '1:14', /^tls is for HTTP, which mode=relay doesn't look at$/],
      ['0 1 b 2 [mode=http,ftp=both]', '1:24', /^ftp needs mode=relay$/],
      [
        '0 1 * [check=1]',
        '1:14',
        /^check needs CONNECTADDRESS or upstream beside mode=relay: an origin has one address$/,
      ],
      ['0 1 * [proxy-only]', '1:8', /^proxy-only contradicts mode=relay without CONNECTADDRESS or upstream/],
      ['0 1 b 2 [spoof,src=::1]', '1:20', /^src contradicts spoof/],
      ['0 1 b 2 [ftp-ports=2000-3000]', '1:20', /^ftp-ports needs ftp$/],
      ['0 1 b 2 [affinity-max-entries=1]', '1:31', /^affinity-max-entries needs affinity-ttl$/],
      ['0 1 b 2 [upstream=a:1,upstream=b]', '1:32', /^upstream: "b" is not HOST:PORT/],
      ['0 1 b 2 [upstream=a:1,upstream=a:1]', '1:1', /^the upstream a:1 is given twice$/],
      ['0 1 b 2 [upstream=a:1,proxy-auth=/none]', '1:34', /^proxy-auth: "\/none": ENOENT$/],
      ['0 1 b 2 [name="a\tb"]', '1:15', /^name: "a\\tb" is not a name/],
      ['allow nowhere\n0 1 b 2', '1:7', /^allow: "nowhere" is no address, no network/],
      ['0 1 b 2\ndeny 192.168.2', '2:6', /^deny: "192\.168\.2" is no address/],
      ['0 1 b 2\nallow 10.0.0.0/33', '2:7', /^allow: "10\.0\.0\.0\/33"/],
      ['dns-refresh x\n0 1 b 2', '1:13', /^dns-refresh: "x" is not a number of seconds/],
      ['connect-timeout -1\n0 1 b 2', '1:17', /^connect-timeout: "-1"/],
      ['listen-backlog 0\n0 1 b 2', '1:16', /^listen-backlog: "0" is not a number from 1 to 65535$/],
      ['max-udp-connections 0\n0 1 b 2', '1:21', /^max-udp-connections: "0"/],
      ['buffersize 1\n0 1 b 2', '1:12', /^buffersize: "1" is not a number from 1024 to 1048576$/],
      ['pool-min-free x\n0 1 b 2', '1:15', /^pool-min-free: "x"/],
      ['statusinterval 0\n0 1 b 2', '1:16', /^statusinterval: "0"/],
      ['statusformat xml\n0 1 b 2', '1:14', /^statusformat: "xml" is none of json, text$/],
      ['statsloginterval x\n0 1 b 2', '1:18', /^statsloginterval: "x"/],
      ['dns-multi-ip-expand yes\n0 1 b 2', '1:21', /^dns-multi-ip-expand: "yes"/],
      ['dns-multi-ip-proto 4\n0 1 b 2', '1:20', /^dns-multi-ip-proto: "4"/],
      ['0 1 b 2\n0 1 c 3', '2:1', /^0\.0\.0\.0:1\/tcp is taken by the rule at rinetd\.conf:1:1$/],
      [':: 1 b 2\n0 1 c 3', '2:1', /^0\.0\.0\.0:1\/tcp is taken/],
      ['unix:/a b 2\nunix:/a c 3', '2:1', /^unix:\/a is taken/],
      ['0 1 b 2 [name=x]\n0 2 b 2 [name=x]', '2:1', /^the rule at rinetd\.conf:1:1 has the name "x" too$/],
      [`0 1 b 2 #${'x'.repeat(4096)}`, '1:4097', /^a line has 4096 characters at most$/],
    ] as const) {
      one(text, place, what);
    }
  });

  it('is one of all that are told at once, from top to bottom', () => {
    const mistakes = folder.mistakes('foo\nallow x\n0 0 b 0 [timeout=x,foo=1,ftp=all,ftp-ports=1-2]\nlogcommon y\n');
    assert.deepEqual(
      mistakes.map((line) => /^\d+:\d+/.exec(line)?.[0]),
      ['1:1', '2:7', '3:3', '3:7', '3:18', '3:20', '3:30', '3:44', '4:11'],
    );
  });

  it('is one of a hundred at most', () => {
    const mistakes = folder.mistakes('foo\n'.repeat(500));
    assert.equal(mistakes.length, 101);
    assert.equal(mistakes.at(-1), 'and 400 more');
  });

  it('is more than ten thousand rules', () => {
    const rules = Array.from({ length: 10_001 }, (_, i) => `127.0.${i >> 8}.${i & 255} 1 b 2\n`);
    one(rules.join(''), '10001:1', /^a file has 10000 rules at most$/);
    assert.equal(services(...rules.slice(0, 10_000).map((line) => line.trim())).length, 10_000);
  });
});

describe('any bytes', () => {
  it('are a plan or a Failure whose places are in the file', () => {
    const line = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.constantFrom(RULE, '0 1/udp b 2/udp', ':: 3 *', 'unix:/a b 4', 'allow 10.*', 'logcommon'),
      },
      fc
        .tuple(
          fc.constantFrom(RULE, '0 5 b 6 ', '0 7/udp b 8', 'unix:@a unix:/b'),
          fc.array(
            fc.tuple(
              fc.constantFrom(
                'timeout',
                'src',
                'mode',
                'spoof',
                'ftp',
                'upstream',
                'trust',
                'tls',
                'name',
                'x',
                'proxy-auth',
              ),
              fc.constantFrom(
                '',
                '=',
                '=1',
                '=http',
                '=0600',
                '=both',
                '=a:1',
                '="',
                '="a b"',
                '=[::1]:1',
                '=/dev/zero',
              ),
            ),
            { maxLength: 4 },
          ),
        )
        .map(([rule, properties]) => `${rule}[${properties.map((pair) => pair.join('')).join(',')}]`),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom(
        'logfile',
        'logfile "',
        'include',
        'include *',
        'include rinetd.conf',
        'include /dev/null',
        'allow x',
      ),
    );
    const bytes = fc.oneof(
      { weight: 4, arbitrary: fc.array(line, { maxLength: 6 }).map((lines) => Buffer.from(lines.join('\n'))) },
      fc.uint8Array({ maxLength: 200 }).map((some) => Buffer.from(some)),
    );
    const seen = new Set<string>();
    fc.assert(
      fc.property(bytes, (content) => {
        try {
          const { plan } = folder.read(content);
          assert.ok(plan.services.length > 0);
          seen.add('plan');
        } catch (error) {
          assert.ok(error instanceof Failure, error instanceof Error ? error.stack : String(error));
          assert.equal(error.exitCode, EX.CONFIG);
          const lines = new TextDecoder().decode(content).split('\n');
          for (const told of error.message.split('\n')) {
            const [, at, column] = /^rinetd\.conf:(\d+):(\d+): ./.exec(told) ?? assert.fail(told);
            const text = lines[Number(at) - 1] ?? assert.fail(told);
            assert.ok(Number(column) >= 1 && Number(column) <= text.length + 1, told);
            assert.doesNotMatch(told, /\p{Cc}/u);
          }
          seen.add('failure');
        }
      }),
      { numRuns: 2000, seed: 1 },
    );
    assert.deepEqual([...seen].sort(), ['failure', 'plan']);
  });
});
