import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, describe, it } from 'node:test';
import { ownPseudonym } from '../../src/config/pseudonym.js';
import { parseTransproxy } from '../../src/config/transproxy.js';
import { UsageError } from '../../src/config/usage-error.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Plan, targetTo, type Upstream } from '../../src/plan.js';

const words = (line: string) => line.split(' ').filter(Boolean);
const plan = (line: string): Plan => {
  const request = parseTransproxy(words(line));
  assert.equal(request.kind, 'plan');
  return request.kind === 'plan' ? request.plan : assert.fail();
};
const service = (line: string) => plan(line).services[0] ?? assert.fail();
const refused = (line: string, message: RegExp) =>
  assert.throws(
    () => parseTransproxy(words(line)),
    (error) => error instanceof UsageError && message.test(error.message) && !error.message.includes('\n'),
    line,
  );

const proxy = (host: string, port: number, others: Partial<Upstream> = {}): Upstream => ({
  scheme: 'http',
  host,
  port,
  credentials: null,
  ...others,
});

describe('a command line of transproxy', () => {
  it('fills in every default', () => {
    assert.deepEqual(plan('squid.example.net 3128'), {
      ...DEFAULT_PLAN,
      services: [
        {
          name: 'http to squid.example.net:3128',
          listen: [],
          ...DEFAULT_SERVICE,
          mode: 'http',
          upstreams: [proxy('squid.example.net', 3128)],
          balance: 'round-robin',
          check: null,
          proxyOnly: false,
          proxyProtocol: null,
          tls: 'connect',
          ech: 'address',
          unknown: 'direct',
          http: {
            force: null,
            via: ownPseudonym(['squid.example.net', '3128']),
            forwardedFor: false,
            trust: [],
            upgrade: 'connect',
            verifyHost: 'off',
          },
          limits: DEFAULT_LIMITS,
        },
      ],
      user: null,
      accessLog: null,
      pidFile: null,
      foreground: false,
      workers: null,
      logLevel: 'info',
      exitIdle: 60_000,
    });
  });

  it('reads every option by its short name and by its long name', () => {
    const short =
      '-s 8081 -b ::1 -r nobody -p -f http://a/ -a 10.0.0.0 -l /l -d -P /p -w 3 --log-level warn --via gw proxy 80';
    const long =
      '--server 8081 --bind ::1 --user nobody --proxy-only --force http://a/ --allow 10.0.0.0/8 --log /l' +
      ' --foreground --pid-file /p --workers 3 --log-level warn --via gw proxy 80';
    assert.deepEqual(plan(short), plan(long));
    assert.deepEqual(plan(short), {
      ...DEFAULT_PLAN,
      services: [
        {
          name: 'http to proxy:80',
          listen: [{ host: '::1', port: 8081 }],
          ...DEFAULT_SERVICE,
          mode: 'http',
          upstreams: [proxy('proxy', 80)],
          balance: 'round-robin',
          check: null,
          proxyOnly: true,
          proxyProtocol: null,
          tls: 'connect',
          ech: 'address',
          unknown: 'connect',
          http: {
            force: { url: 'http://a/', host: 'a' },
            via: 'gw',
            forwardedFor: false,
            trust: [],
            upgrade: 'connect',
            verifyHost: 'off',
          },
          access: [{ allow: [{ ip: '10.0.0.0', prefix: 8 }], deny: [] }],
          limits: DEFAULT_LIMITS,
        },
      ],
      user: 'nobody',
      accessLog: { path: '/l', format: 'transproxy' },
      pidFile: '/p',
      foreground: true,
      workers: 3,
      logLevel: 'warn',
      exitIdle: 60_000,
    });
  });

  it('takes over from the process of a pid file, which is its own then, unless it says another', () => {
    const request = parseTransproxy('-s 80 --takeover /run/t.pid proxy 80'.split(' '));
    assert.ok(request.kind === 'plan');
    assert.equal(request.takeover, '/run/t.pid');
    assert.equal(request.plan.pidFile, '/run/t.pid');
    assert.equal(plan('-s 80 --takeover /run/t.pid -P /run/u.pid proxy 80').pidFile, '/run/u.pid');
    refused('--takeover /run/t.pid proxy 80', /^--takeover needs -s \(--server\)/);
  });

  it('drains for some seconds, or not at all', () => {
    assert.equal(plan('-s 80 --drain 1.5 proxy 80').drain, 1500);
    assert.equal(plan('-s 80 --drain 0 proxy 80').drain, 0);
    refused('-s 80 --drain soon proxy 80', /^--drain/);
  });

  it('makes one service of all its ports', () => {
    assert.deepEqual(service('-s 8081 -s 8082 -b localhost proxy 80').listen, [
      { host: 'localhost', port: 8081 },
      { host: 'localhost', port: 8082 },
    ]);
    assert.deepEqual(service('-s 8081 proxy 80').listen, [{ host: null, port: 8081 }]);
  });

  it('takes the proxy by IPv4, IPv6 with or without brackets, and name', () => {
    for (const [host, parsed] of [
      ['192.0.2.1', '192.0.2.1'],
      ['[::1]', '::1'],
      ['::1', '::1'],
      ['a.b', 'a.b'],
    ] as const) {
      assert.deepEqual(service(`${host} 3128`).upstreams, [proxy(parsed, 3128)]);
    }
    assert.equal(service('::1 3128').name, 'http to [::1]:3128');
  });

  it('relays to a target with -t HOST PORT, wherever -t stands', () => {
    for (const line of ['-t mail.example.net 25', 'mail.example.net 25 -t', '-ts 2525 mail.example.net 25']) {
      assert.equal(service(line).mode, 'relay');
      assert.deepEqual(service(line).targets[0]?.to, { host: 'mail.example.net', port: 25 });
      assert.deepEqual(service(line).upstreams, []);
    }
  });

  it('relays to the original destination with -t alone', () => {
    const { mode, targets, name } = service('-t -s 8081');
    assert.deepEqual({ mode, targets, name }, { mode: 'relay', targets: [], name: 'relay to original destination' });
  });

  it('accepts -p with -t HOST PORT, which has no way past its target', () => {
    assert.equal(service('-p -t mail.example.net 25').proxyOnly, true);
  });

  it('makes the paths of files absolute', () => {
    const { accessLog, pidFile } = plan('-l access.log -P ../run/x.pid proxy 80');
    assert.deepEqual([accessLog?.path, pidFile], [resolve('access.log'), resolve('../run/x.pid')]);
  });

  it('maps the waits and bounds onto the limits, and --timeout also onto half-closed connections', () => {
    const line =
      '--connect-timeout 1 --timeout 2 --first-byte 3.5 --head-timeout 4 --head-bytes 8192 --exit-idle 5 proxy 80';
    const expected = { connect: 1000, idle: 2000, halfClosed: 2000, firstByte: 3500, head: 4000, headBytes: 8192 };
    assert.deepEqual(service(line).limits, { ...DEFAULT_LIMITS, ...expected });
    assert.equal(plan(line).exitIdle, 5000);
  });

  it('ends no idle connection with --timeout 0, but half-closed ones still', () => {
    const { idle, halfClosed } = service('--timeout 0 proxy 80').limits;
    assert.deepEqual([idle, halfClosed], [Number.POSITIVE_INFINITY, DEFAULT_LIMITS.halfClosed]);
  });

  it('maps what a relay can do beside moving bytes, with the original destination and with a target', () => {
    const line =
      '-t --ftp both --ftp-ports 2000-3000 --max-bandwidth 8000 --random-wait 5 --wait-in-out 1 --bufsize 512';
    for (const whole of [line, `${line} mail.example.net 25`]) {
      const { ftp, shaping } = service(whole);
      assert.deepEqual(ftp, { active: true, passive: true, ports: { low: 2000, high: 3000 } });
      assert.deepEqual(shaping, {
        toClient: true,
        toUpstream: false,
        maxBandwidth: 8000,
        randomWait: 5,
        bufferSize: 512,
      });
    }
    assert.equal(service('-t --ftp pasv --upstream socks5://s:1080').ftp?.active, false);
    assert.equal(service('--max-bandwidth 8000 proxy 80').shaping?.maxBandwidth, 8000);
  });

  it('connects from another address, and takes what TPROXY sends', () => {
    assert.equal(service('--source 192.0.2.1 proxy 80').source, '192.0.2.1');
    assert.equal(service('-t --source 2001:db8::1').source, '2001:db8::1');
    assert.equal(service('--spoof proxy 80').spoof, true);
    assert.equal(service('-s 8081 --intercept tproxy proxy 80').intercept, 'tproxy');
    assert.equal(service('-s 8081 --intercept redirect proxy 80').intercept, 'redirect');
  });

  it('takes --intercept tproxy without -s: the sockets of systemd may be transparent', () => {
    assert.equal(service('--intercept tproxy proxy 80').intercept, 'tproxy');
  });

  it('logs to syslog under a name, which TCP wrappers know it by too', () => {
    const { logTo, ident, services, logLevel } = plan(
      '--syslog --ident web --tcp-wrappers --log-level notice proxy 80',
    );
    assert.deepEqual([logTo, ident, services[0]?.tcpWrappers, logLevel], ['syslog', 'web', 'web', 'notice']);
    assert.equal(service('--tcp-wrappers proxy 80').tcpWrappers, 'tproxy');
    assert.deepEqual([plan('proxy 80').logTo, service('proxy 80').tcpWrappers], [null, null]);
  });

  it('collects all -a', () => {
    const expected = [
      { ip: '10.0.0.0', prefix: 8 },
      { ip: '2001:db8::', prefix: 32 },
    ];
    assert.deepEqual(service('-a 10.0.0.0 -a 2001:db8::/32 proxy 80').access[0]?.allow, expected);
  });

  it('takes proxyhost and proxyport as the first upstream, or none beside --upstream', () => {
    const [first, second] = [proxy('a', 3128), proxy('b', 3129)];
    assert.deepEqual(service('a 3128 --upstream b:3129').upstreams, [first, second]);
    assert.deepEqual(service('--upstream b:3129 a 3128').upstreams, [first, second]);
    assert.deepEqual(service('--upstream a:3128 --upstream http://b:3129').upstreams, [first, second]);
    assert.equal(service('a 3128 --upstream socks5://u:p@[::1]:1080').name, 'http to a:3128, socks5://[::1]:1080');
  });

  it('relays through upstreams, which -p may then insist on', () => {
    const { targets, upstreams, proxyOnly, name } = service('-t -p --upstream socks5://s:1080 mail.example.net 25');
    assert.deepEqual(targets[0]?.to, { host: 'mail.example.net', port: 25 });
    assert.deepEqual(upstreams, [proxy('s', 1080, { scheme: 'socks5' })]);
    assert.equal(proxyOnly, true);
    assert.equal(name, 'relay to mail.example.net:25 through socks5://s:1080');
    assert.equal(service('-t -p --upstream a:3128').name, 'relay to original destination through a:3128');
  });

  it('maps what is said about the upstreams and other protocols', () => {
    const line = '--balance url-hash --check 2.5 --proxy-protocol v2 --tls close --unknown close proxy 80';
    const { balance, check, proxyProtocol, tls, unknown } = service(line);
    assert.deepEqual([balance, check, proxyProtocol, tls, unknown], ['url-hash', 2500, 'v2', 'close', 'close']);
    assert.equal(service('-p --unknown close proxy 80').unknown, 'close');
    assert.equal(service('--tls direct proxy 80').tls, 'direct');
  });

  it('maps what is said about requests', () => {
    const line = '--upgrade pass --forwarded-for --trust 10.0.0.0/8 --trust ::1 --verify-host strict proxy 80';
    const { upgrade, forwardedFor, trust, verifyHost } = service(line).http;
    assert.deepEqual([upgrade, forwardedFor, verifyHost], ['pass', true, 'strict']);
    assert.deepEqual(trust, [
      { ip: '10.0.0.0', prefix: 8 },
      { ip: '::1', prefix: 128 },
    ]);
    assert.equal(service('--verify-host address proxy 80').http.verifyHost, 'address');
  });

  it('has a name of its own in Via, the one that it is given, or none', () => {
    assert.match(service('proxy 80').http.via ?? '', /^tproxy-[0-9a-f]{8}$/);
    assert.equal(service('--via gw.example.net proxy 80').http.via, 'gw.example.net');
    assert.equal(service('--no-via proxy 80').http.via, null);
    assert.equal(service('-t').http.via, null);
  });

  it('survives structured clone, as it crosses to the workers', () => {
    const whole = plan('-s 8081 -a 10.0.0.0/8 -f http://a/ proxy 80');
    assert.deepEqual(structuredClone(whole), whole);
  });

  it('listens on unix sockets beside ports, and relays to one', () => {
    assert.deepEqual(service('-s 80 -s unix:/run/a -s unix:@b --socket-mode 660 -t unix:/run/c'), {
      ...service('-s 80 -t c 80'),
      name: 'relay to unix:/run/c',
      listen: [
        { host: null, port: 80 },
        { path: '/run/a', mode: 0o660 },
        { path: '@b', mode: null },
      ],
      targets: [targetTo({ path: '/run/c' })],
    });
    assert.deepEqual(service('-s unix:/run/a proxy 80').listen, [{ path: '/run/a', mode: null }]);
    assert.deepEqual(service('-t unix:@c').targets, [targetTo({ path: '@c' })]);
    assert.equal(service('-s 80 -s unix:/run/a -a 10/8 -b ::1 proxy 80').access.length, 1);
  });
});

describe('a command line of transproxy is refused', () => {
  it('with a unix socket that is none, or is given twice', () => {
    refused('-s unix:a proxy 80', /^-s \(--server\): "unix:a" is neither unix:\/PATH nor unix:@NAME$/);
    refused('-s unix:/a -s unix:/a proxy 80', /^-s \(--server\): unix:\/a is given twice$/);
    refused('-t unix:/a 80', /^too many arguments: "80" behind -t \(--transparent\) unix:\/a$/);
    refused('-t unix:a', /^-t \(--transparent\): HOST: "unix:a" is neither/);
    refused('unix:/a 80', /^proxyhost: "unix:\/a" is not a host name/);
  });

  it('with options for addresses where there are only unix sockets', () => {
    refused('-s unix:/a -t', /^-t \(--transparent\) needs HOST PORT: connections to a unix socket have no original/);
    refused('-s 80 -s unix:/a -t', /^-t \(--transparent\) needs HOST PORT/);
    for (const option of ['-b ::1', '-a 10/8']) {
      refused(`-s unix:/a ${option} -t host 21`, / needs -s \(--server\) PORT: /);
    }
    for (const option of ['--intercept tproxy', '--spoof', '--ftp pasv']) {
      refused(`-s unix:/a ${option} -t host 21`, / is for clients with an address, not for those of unix:$/);
    }
    refused('-s unix:/a --forwarded-for --trust ::1 proxy 80', /^--trust is for clients with an address/);
    for (const option of ['--source 192.0.2.1', '--spoof', '--ftp pasv']) {
      refused(`-s 80 ${option} -t unix:/a`, / is for targets with an address, not for unix:$/);
    }
    refused('-s 80 --upstream proxy:3128 -t unix:/a', /^--upstream can not go to unix:/);
    refused('-s 80 --socket-mode 600 proxy 80', /^--socket-mode needs -s \(--server\) unix:\/PATH$/);
    refused('-s unix:@a --socket-mode 600 proxy 80', /^--socket-mode needs/);
    refused('-s unix:/a --socket-mode 8 proxy 80', /^--socket-mode: "8" is not a mode/);
  });

  it('without a whole proxy address, or with more than one', () => {
    refused('', /^proxyhost and proxyport are missing$/);
    refused('-s 8081', /^proxyhost and proxyport are missing$/);
    refused('proxy', /^proxyport is missing behind proxyhost "proxy"$/);
    refused('proxy 80 more', /^too many arguments: "more" behind proxyhost and proxyport$/);
    refused('pro/xy 80', /^proxyhost: "pro\/xy" is not a host name or an IP address$/);
    refused('proxy 0', /^proxyport: "0" is not a port from 1 to 65535$/);
  });

  it('with half a target of -t, or with more than one', () => {
    refused('-t host', /PORT is missing behind HOST "host"/);
    refused('-t host 25 more', /too many arguments: "more"/);
  });

  it('with a port that nobody can listen on', () => {
    refused('-s 0 proxy 80', /^-s \(--server\): "0" is not a port from 1 to 65535$/);
    refused('-s 70000 proxy 80', /"70000"/);
    refused(
      '-s no-such-service proxy 80',
      /"no-such-service" is neither a port .* nor a TCP service in \/etc\/services/,
    );
    refused('-s 8081 -s 08081 proxy 80', /^-s \(--server\): port 8081 is given twice$/);
  });

  it('with options that contradict each other', () => {
    refused('-b ::1 proxy 80', /^-b \(--bind\) needs -s \(--server\)$/);
    refused('-s 8081 --exit-idle 5 proxy 80', /^--exit-idle is for sockets of inetd or systemd/);
    refused('-t -p -s 8081', /^-p \(--proxy-only\) contradicts -t \(--transparent\) without HOST PORT or --upstream/);
    refused('-t -f http://a/ -s 8081', /^-f \(--force\) is for HTTP/);
    for (const option of ['--first-byte', '--head-timeout'])
      refused(`-t ${option} 5`, new RegExp(`^${option} is for HTTP`));
    refused('-t --head-bytes 8192', /^--head-bytes is for HTTP/);
    for (const option of ['--no-via', '--forwarded-for', '--via x', '--trust ::1', '--upgrade pass', '--tls close'])
      refused(`-t ${option}`, new RegExp(`^${option.split(' ')[0]} is for HTTP`));
    refused('-t --unknown close', /^--unknown is for HTTP/);
    refused('-t --verify-host strict', /^--verify-host is for HTTP/);
    refused('-t --upstream a:1 --balance url-hash', /^--balance url-hash is for HTTP/);
    for (const option of ['--balance least-conn', '--check 1'])
      refused(`-t ${option}`, new RegExp(`^${option.split(' ')[0]} needs HOST PORT or --upstream`));
    refused('-t --balance url-hash a 1', /^--balance url-hash is for HTTP/);
    refused('-t --proxy-protocol v1', /^--proxy-protocol needs HOST PORT or --upstream/);
    refused('-p --tls direct a 1', /^--tls direct contradicts -p \(--proxy-only\)/);
    refused('-p --unknown direct a 1', /^--unknown direct contradicts -p \(--proxy-only\)/);
    refused('--via x --no-via a 1', /^--via contradicts --no-via$/);
    refused('--trust ::1 a 1', /^--trust needs --forwarded-for$/);
    refused('--ftp both a 1', /^--ftp needs -t \(--transparent\)$/);
    refused('-t --ftp port --upstream a:1', /^--ftp takes connections that the server makes, which no proxy passes on/);
    refused('-t --ftp-ports 2000-3000', /^--ftp-ports needs --ftp$/);
    refused('--spoof --source ::1 a 1', /^--source contradicts --spoof, which takes the client's address$/);
    refused('-t --source ::1 192.0.2.1 25', /^--source is of another family than 192\.0\.2\.1/);
    refused('--source ::1 --upstream 192.0.2.1:1', /^--source is of another family than 192\.0\.2\.1/);
    refused('--wait-in-out 1 a 1', /^--wait-in-out needs --max-bandwidth or --random-wait$/);
    refused('--wait-in-out 1 --bufsize 512 a 1', /^--wait-in-out needs/);
  });

  it('in http mode with no upstream that takes requests', () => {
    refused(
      '--upstream socks5://a:1080',
      /^HTTP requests need an HTTP proxy.*socks5:\/\/ takes other connections only$/,
    );
  });

  it('with one upstream twice', () => {
    refused('a 3128 --upstream u:p@a:3128', /^the upstream a:3128 is given twice$/);
    assert.equal(service('a 3128 --upstream socks5://a:3128').upstreams.length, 2);
  });

  it('with values out of bounds', () => {
    refused('-w 0 proxy 80', /^-w \(--workers\): "0" is not a number from 1 to 1024$/);
    refused('-w 1025 proxy 80', /from 1 to 1024/);
    refused('--head-bytes 8191 proxy 80', /from 8192 to 1048576/);
    refused('--head-bytes 1048577 proxy 80', /from 8192 to 1048576/);
    refused('--timeout 0.0 proxy 80', /^--timeout: "0\.0" is not a number of seconds/);
    refused('--intercept nat proxy 80', /^--intercept: "nat" is none of redirect, tproxy$/);
    refused(
      '--balance chance proxy 80',
      /^--balance: "chance" is none of round-robin, least-conn, random, source-hash, url-hash$/,
    );
    refused('--tls splice proxy 80', /^--tls: "splice" is none of connect, direct, close$/);
    refused('--unknown relay proxy 80', /^--unknown: "relay" is none of connect, direct, close$/);
    refused('--upgrade direct proxy 80', /^--upgrade: "direct" is none of connect, pass$/);
    refused('--proxy-protocol 2 proxy 80', /^--proxy-protocol: "2" is none of v1, v2$/);
    refused('--verify-host yes proxy 80', /^--verify-host: "yes" is none of address, strict$/);
    refused('--verify-host', /^--verify-host needs a value$/);
    refused('--check 0 proxy 80', /^--check: "0" is not a number of seconds/);
    refused('--log-level loud proxy 80', /^--log-level: "loud" is none of error, warn, notice, info, debug$/);
    refused('-a 10.0.0.0/33 proxy 80', /^-a \(--allow\): "10\.0\.0\.0\/33"/);
    refused('-b 300.1.1.1 -s 80 proxy 80', /^-b \(--bind\): "300\.1\.1\.1"/);
    refused('-r #x proxy 80', /^-r \(--user\): "#x"/);
    refused('-f https://a/ proxy 80', /^-f \(--force\): "https:\/\/a\/" is not an http:\/\/ URL$/);
  });
});

describe('--proxy-auth', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tproxy-test-'));
  after(() => rmSync(folder, { recursive: true }));
  const file = (text: string): string => {
    const path = join(folder, 'auth');
    writeFileSync(path, text);
    return path;
  };
  const credentials = (text: string, line = 'a 3128') =>
    service(`--proxy-auth ${file(text)} ${line}`).upstreams.map((upstream) => upstream.credentials);
  const fails = (line: string, message: RegExp) =>
    assert.throws(
      () => parseTransproxy(words(line)),
      (error) => error instanceof Failure && error.exitCode === EX.NOINPUT && message.test(error.message),
    );

  it("takes the first line's user and password, which may have colons in it", () => {
    assert.deepEqual(credentials('me:a:b%20\r\nmore:lines\n'), [{ user: 'me', password: 'a:b%20' }]);
    assert.deepEqual(credentials('me:'), [{ user: 'me', password: '' }]);
    assert.deepEqual(credentials('mé:ö'), [{ user: 'mé', password: 'ö' }]);
  });

  it('is for the upstreams that have none of their own', () => {
    assert.deepEqual(credentials('me:x', 'a 1 --upstream you:y@b:2 --upstream socks5://c:3'), [
      { user: 'me', password: 'x' },
      { user: 'you', password: 'y' },
      { user: 'me', password: 'x' },
    ]);
  });

  it('needs a file that can be read and has a user and a password', () => {
    fails(`--proxy-auth ${folder}/none a 1`, /^--proxy-auth: ".*\/none": ENOENT$/);
    fails(`--proxy-auth ${file('')} a 1`, /^--proxy-auth: the first line of ".*" is not user:password$/);
    fails(`--proxy-auth ${file('secret')} a 1`, /^(?!.*secret).*is not user:password$/);
    fails(`--proxy-auth ${file(':x')} a 1`, /have no user name \(for upstream a:1\)$/);
    fails(`--proxy-auth ${file('me:')} a 1 --upstream socks5://b:2`, /SOCKS 5 needs \(for upstream socks5:\/\/b:2\)$/);
  });

  it('may name a file without an end', () => {
    fails('--proxy-auth /dev/zero a 1', /^--proxy-auth: the first line of "\/dev\/zero" is not user:password$/);
  });

  it('needs an upstream beside -t', () => {
    refused(`-t --proxy-auth ${file('me:x')}`, /^--proxy-auth needs --upstream/);
    assert.deepEqual(credentials('me:x', '-t --upstream a:1'), [{ user: 'me', password: 'x' }]);
  });
});
