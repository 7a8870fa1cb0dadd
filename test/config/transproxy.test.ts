import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parseTransproxy } from '../../src/config/transproxy.js';
import { UsageError } from '../../src/config/usage-error.js';
import { DEFAULT_LIMITS, type Plan } from '../../src/plan.js';

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

describe('a command line of transproxy', () => {
  it('fills in every default', () => {
    assert.deepEqual(plan('squid.example.net 3128'), {
      services: [
        {
          name: 'http to squid.example.net:3128',
          listen: [],
          mode: 'http',
          upstream: { host: 'squid.example.net', port: 3128 },
          proxyOnly: false,
          force: null,
          allow: null,
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
    const short = '-s 8081 -b ::1 -r nobody -p -f http://a/ -a 10.0.0.0 -l /l -d -P /p -w 3 --log-level warn proxy 80';
    const long =
      '--server 8081 --bind ::1 --user nobody --proxy-only --force http://a/ --allow 10.0.0.0/8 --log /l' +
      ' --foreground --pid-file /p --workers 3 --log-level warn proxy 80';
    assert.deepEqual(plan(short), plan(long));
    assert.deepEqual(plan(short), {
      services: [
        {
          name: 'http to proxy:80',
          listen: [{ host: '::1', port: 8081 }],
          mode: 'http',
          upstream: { host: 'proxy', port: 80 },
          proxyOnly: true,
          force: { url: 'http://a/', host: 'a' },
          allow: [{ ip: '10.0.0.0', prefix: 8 }],
          limits: DEFAULT_LIMITS,
        },
      ],
      user: 'nobody',
      accessLog: '/l',
      pidFile: '/p',
      foreground: true,
      workers: 3,
      logLevel: 'warn',
      exitIdle: 60_000,
    });
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
      assert.deepEqual(service(`${host} 3128`).upstream, { host: parsed, port: 3128 });
    }
    assert.equal(service('::1 3128').name, 'http to [::1]:3128');
  });

  it('relays to a target with -t HOST PORT, wherever -t stands', () => {
    for (const line of ['-t mail.example.net 25', 'mail.example.net 25 -t', '-ts 2525 mail.example.net 25']) {
      assert.equal(service(line).mode, 'relay');
      assert.deepEqual(service(line).upstream, { host: 'mail.example.net', port: 25 });
    }
  });

  it('relays to the original destination with -t alone', () => {
    const { mode, upstream, name } = service('-t -s 8081');
    assert.deepEqual(
      { mode, upstream, name },
      { mode: 'relay', upstream: null, name: 'relay to original destination' },
    );
  });

  it('accepts -p with -t HOST PORT, which has no way past its target', () => {
    assert.equal(service('-p -t mail.example.net 25').proxyOnly, true);
  });

  it('makes the paths of files absolute', () => {
    const { accessLog, pidFile } = plan('-l access.log -P ../run/x.pid proxy 80');
    assert.deepEqual([accessLog, pidFile], [resolve('access.log'), resolve('../run/x.pid')]);
  });

  it('maps the waits and bounds onto the limits, and --idle also onto half-closed connections', () => {
    const line =
      '--connect-timeout 1 --idle 2 --first-byte 3.5 --head-timeout 4 --head-bytes 8192 --exit-idle 5 proxy 80';
    const expected = { connect: 1000, idle: 2000, halfClosed: 2000, firstByte: 3500, head: 4000, headBytes: 8192 };
    assert.deepEqual(service(line).limits, expected);
    assert.equal(plan(line).exitIdle, 5000);
  });

  it('collects all -a', () => {
    const expected = [
      { ip: '10.0.0.0', prefix: 8 },
      { ip: '2001:db8::', prefix: 32 },
    ];
    assert.deepEqual(service('-a 10.0.0.0 -a 2001:db8::/32 proxy 80').allow, expected);
  });

  it('survives structured clone, as it crosses to the workers', () => {
    const whole = plan('-s 8081 -a 10.0.0.0/8 -f http://a/ proxy 80');
    assert.deepEqual(structuredClone(whole), whole);
  });
});

describe('a command line of transproxy is refused', () => {
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
    refused('-t -p -s 8081', /^-p \(--proxy-only\) contradicts -t \(--transparent\) without HOST PORT/);
    refused('-t -f http://a/ -s 8081', /^-f \(--force\) is for HTTP/);
    for (const option of ['--first-byte', '--head-timeout'])
      refused(`-t ${option} 5`, new RegExp(`^${option} is for HTTP`));
    refused('-t --head-bytes 8192', /^--head-bytes is for HTTP/);
  });

  it('with values out of bounds', () => {
    refused('-w 0 proxy 80', /^-w \(--workers\): "0" is not a number from 1 to 1024$/);
    refused('-w 1025 proxy 80', /from 1 to 1024/);
    refused('--head-bytes 8191 proxy 80', /from 8192 to 1048576/);
    refused('--head-bytes 1048577 proxy 80', /from 8192 to 1048576/);
    refused('--idle 0 proxy 80', /^--idle: "0" is not a number of seconds/);
    refused('--log-level loud proxy 80', /^--log-level: "loud" is none of error, warn, info, debug$/);
    refused('-a 10.0.0.0/33 proxy 80', /^-a \(--allow\): "10\.0\.0\.0\/33"/);
    refused('-b 300.1.1.1 -s 80 proxy 80', /^-b \(--bind\): "300\.1\.1\.1"/);
    refused('-r #x proxy 80', /^-r \(--user\): "#x"/);
    refused('-f https://a/ proxy 80', /^-f \(--force\): "https:\/\/a\/" is not an http:\/\/ URL$/);
  });
});
