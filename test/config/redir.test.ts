import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, describe, it } from 'node:test';
import { parseRedir } from '../../src/config/redir.js';
import { UsageError } from '../../src/config/usage-error.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Plan, targetTo } from '../../src/plan.js';

const words = (line: string) => line.split(' ').filter(Boolean);
const plan = (line: string): Plan => {
  const request = parseRedir(words(line));
  return request.kind === 'plan' ? request.plan : assert.fail('no plan');
};
const service = (line: string) => plan(line).services[0] ?? assert.fail();
const refused = (line: string, message: RegExp) =>
  assert.throws(
    () => parseRedir(words(line)),
    (error) => error instanceof UsageError && message.test(error.message) && !error.message.includes('\n'),
    line,
  );
/** Lines that mean the same. */
const same = (...lines: string[]) => {
  for (const line of lines) assert.deepEqual(plan(line), plan(lines[0] as string), line);
};

describe('a command line of redir', () => {
  it('fills in every default of redir 3', () => {
    assert.deepEqual(plan(':8080 www.example.net:80'), {
      ...DEFAULT_PLAN,
      services: [
        {
          ...DEFAULT_SERVICE,
          name: 'relay to www.example.net:80',
          listen: [{ host: null, port: 8080 }],
          mode: 'relay',
          targets: [targetTo({ host: 'www.example.net', port: 80 })],
          upstreams: [],
          proxyOnly: false,
          source: null,
          spoof: false,
          ftp: null,
          shaping: null,
          tcpWrappers: null,
          logConnections: true,
          limits: { ...DEFAULT_LIMITS, idle: Number.POSITIVE_INFINITY, halfClosed: 120_000 },
        },
      ],
      user: null,
      pidFile: null,
      foreground: false,
      workers: null,
      logLevel: 'notice',
      logTo: null,
      ident: 'redir',
    });
  });

  it('reads SRC and DST as names, addresses and IPv6 in brackets, and ports as numbers and names', () => {
    const ends = (line: string) => [...service(line).listen, service(line).targets[0]?.to];
    assert.deepEqual(ends('localhost:http-alt mail.example.net:smtp'), [
      { host: 'localhost', port: 8080 },
      { host: 'mail.example.net', port: 25 },
    ]);
    assert.deepEqual(ends('192.0.2.1:8080 [2001:db8::1]:80'), [
      { host: '192.0.2.1', port: 8080 },
      { host: '2001:db8::1', port: 80 },
    ]);
    assert.deepEqual(ends('[::]:8080 [::1]:http'), [
      { host: '::', port: 8080 },
      { host: '::1', port: 80 },
    ]);
  });

  it('listens on every address without SRC, and connects to this host without DST', () => {
    const { listen, targets } = service(':8080 :80');
    assert.deepEqual(listen, [{ host: null, port: 8080 }]);
    assert.deepEqual(targets[0]?.to, { host: '127.0.0.1', port: 80 });
  });

  it('takes every option of redir 3 by its letter and by its long name', () => {
    same('-b 192.0.2.1 :80 a:80', '--bind=192.0.2.1 :80 a:80', '--bind_addr=192.0.2.1 :80 a:80');
    same('-f both :80 a:80', '--ftp=both :80 a:80', '--ftp BOTH :80 a:80', '-fboth :80 a:80');
    same('-i a:80', '--inetd a:80', 'a:80 -i');
    same('-I web :80 a:80', '--ident=web :80 a:80', '--name=web :80 a:80');
    same('-l debug :80 a:80', '--loglevel=debug :80 a:80', '--log-level debug :80 a:80', '--debug :80 a:80');
    same('-n :80 a:80', '--foreground :80 a:80', ':80 a:80 -nn');
    same('-p :80 a:80', '--transproxy :80 a:80', '--spoof :80 a:80');
    same('-s :80 a:80', '--syslog :80 a:80');
    same('-t 5 :80 a:80', '--timeout=5 :80 a:80');
    same('-x b:22 :80 a:80', '--connect=b:22 :80 a:80');
    same('-m 100 :80 a:80', '--max-bandwidth=100 :80 a:80', '--max_bandwidth 100 :80 a:80');
    same('-w 5 -o 1 :80 a:80', '--random-wait=5 --wait-in-out=1 :80 a:80', '--random_wait 5 --wait_in_out=1 :80 a:80');
    same('-z 4096 :80 a:80', '--bufsize=4096 :80 a:80');
  });

  it('takes the command line of redir 2, which stays in the foreground', () => {
    const { foreground, services } = plan('--lport=8080 --cport=http --laddr=192.0.2.1 --caddr=a');
    assert.equal(foreground, true);
    assert.deepEqual(services[0]?.listen, [{ host: '192.0.2.1', port: 8080 }]);
    assert.deepEqual(services[0]?.targets[0]?.to, { host: 'a', port: 80 });
    same('-n :8080 :80', '--lport=8080 --cport=80', '--lport 8080 --cport 80 -n');
    same('-i a:80', '--inetd --caddr=a --cport=80');
    assert.equal(plan('--inetd --cport=80').foreground, false);
  });

  it('takes its connection from inetd with -i, and DST only', () => {
    const { listen, targets } = service('-i [::1]:80');
    assert.deepEqual(listen, []);
    assert.deepEqual(targets[0]?.to, { host: '::1', port: 80 });
    assert.equal(plan('-i :80').foreground, false);
    assert.equal(plan('-n -i :80').foreground, true);
  });

  it('logs at the level and to where redir would', () => {
    const level = (given: string) => plan(`-l ${given} :80 :81`).logLevel;
    assert.deepEqual(['none', 'err', 'error', 'warning', 'warn', 'notice', 'info', 'debug'].map(level), [
      'error',
      'error',
      'error',
      'warn',
      'warn',
      'notice',
      'info',
      'debug',
    ]);
    assert.equal(plan('-n :80 :81').logTo, null);
    assert.equal(plan('-ns :80 :81').logTo, 'syslog');
    assert.equal(plan('-I www.1_a/b-c :80 :81').ident, 'www.1_a/b-c');
  });

  it('ends idle connections after -t seconds, or never, and half-closed ones in any case', () => {
    const bounds = (line: string) => {
      const { idle, halfClosed } = service(line).limits;
      return [idle, halfClosed];
    };
    assert.deepEqual(bounds('-t 5 :80 :81'), [5000, 5000]);
    assert.deepEqual(bounds('-t 0.5 :80 :81'), [500, 500]);
    assert.deepEqual(bounds('-t 0 :80 :81'), [Number.POSITIVE_INFINITY, 120_000]);
  });

  it('goes through the HTTP proxy DST with -x, and past it never', () => {
    const { upstreams, targets, proxyOnly, name } = service('-x [2001:db8::7]:ssh :2222 squid:3128');
    assert.deepEqual(upstreams, [{ scheme: 'http', host: 'squid', port: 3128, credentials: null }]);
    assert.deepEqual(targets[0]?.to, { host: '2001:db8::7', port: 22 });
    assert.equal(proxyOnly, true);
    assert.equal(name, 'relay to [2001:db8::7]:22 through squid:3128');
  });

  it('connects from an address of ours, or from the client’s', () => {
    assert.equal(service('-b 192.0.2.1 :80 :81').source, '192.0.2.1');
    assert.equal(service('-b [2001:db8::1] :80 a:81').source, '2001:db8::1');
    assert.deepEqual([service('-p :80 :81').spoof, service('-p :80 :81').source], [true, null]);
  });

  it('follows FTP', () => {
    const ftp = (line: string) => service(`${line} :21 ftp.example.net:21`).ftp;
    assert.deepEqual(ftp('-f port'), { active: true, passive: false, ports: null });
    assert.deepEqual(ftp('-f PASV'), { active: false, passive: true, ports: null });
    assert.deepEqual(ftp('-f both --ftp-ports 1024-65535'), {
      active: true,
      passive: true,
      ports: { low: 1024, high: 65535 },
    });
    assert.deepEqual(service('-f pasv -x ftp.example.net:21 :21 squid:3128').ftp?.passive, true);
  });

  it('slows down both directions or one, by bandwidth, wait and size of pieces', () => {
    const shaping = (line: string) => service(`${line} :80 :81`).shaping;
    const both = { toClient: true, toUpstream: true, maxBandwidth: null, randomWait: 0, bufferSize: null };
    assert.deepEqual(shaping('-m 64000'), { ...both, maxBandwidth: 64_000 });
    assert.deepEqual(shaping('-w 100'), { ...both, randomWait: 100 });
    assert.deepEqual(shaping('-z 256'), { ...both, bufferSize: 256 });
    assert.deepEqual(shaping('-m 1 -o 1'), { ...both, maxBandwidth: 1, toUpstream: false });
    assert.deepEqual(shaping('-m 1 -o 2'), { ...both, maxBandwidth: 1, toClient: false });
    assert.deepEqual(shaping('-m 1 -o 3'), { ...both, maxBandwidth: 1 });
    assert.equal(shaping('-m 0 -w 0'), null);
  });

  it('asks TCP wrappers by its own name', () => {
    assert.equal(service('--tcp-wrappers :80 :81').tcpWrappers, 'redir');
    assert.equal(service('--tcp-wrappers -I web :80 :81').tcpWrappers, 'web');
  });

  it('drops its privileges, writes a pid file and has so many threads', () => {
    const { user, pidFile, workers } = plan('--user nobody --pid-file r.pid --workers 2 :80 :81');
    assert.deepEqual([user, pidFile, workers], ['nobody', resolve('r.pid'), 2]);
  });

  it('survives structured clone, as it crosses to the workers', () => {
    const whole = plan('-f both --ftp-ports 2000-3000 -m 1000 -b ::1 :80 a:81');
    assert.deepEqual(structuredClone(whole), whole);
  });
});

describe('a command line of redir is refused', () => {
  it('without both ends, or with more', () => {
    refused('', /^\[SRC\]:PORT and \[DST\]:PORT are missing$/);
    refused('-n', /^\[SRC\]:PORT and \[DST\]:PORT are missing$/);
    refused(':80', /^\[DST\]:PORT is missing behind ":80"$/);
    refused('-i', /^\[DST\]:PORT is missing$/);
    refused(':80 :81 :82', /^too many arguments: ":82" behind ":81"$/);
    refused('-i :80 :81', /^too many arguments: ":81" behind ":80": -i \(--inetd\) takes \[DST\]:PORT only$/);
  });

  it('with an end that is none', () => {
    refused('80 :81', /^\[SRC\]:PORT: "80" has no colon in it$/);
    refused(':80 a', /^\[DST\]:PORT: "a" has no colon in it$/);
    refused('::1:80 :81', /^\[SRC\]:PORT: "::1:80" has more than one colon: write IPv6 as \[ADDRESS\]:PORT$/);
    refused('[::1 :81', /^\[SRC\]:PORT: "\[::1" has more than one colon/);
    refused('[a]:80 :81', /^\[SRC\]:PORT: "\[a\]" is not a host name or an IP address$/);
    refused(':0 :81', /^\[SRC\]:PORT: "0" is not a port from 1 to 65535$/);
    refused(':80 a:65536', /^\[DST\]:PORT: "65536" is not a port/);
    refused(':80 a:no-such', /^\[DST\]:PORT: "no-such" is neither a port .* nor a TCP service/);
    refused(':80 300.1.1.1:80', /^\[DST\]:PORT: "300\.1\.1\.1" is not a host name or an IP address$/);
    refused(': :81', /^\[SRC\]:PORT: "" is neither/);
  });

  it("with half of redir 2's ends, or with both kinds", () => {
    refused('--lport=80', /^--cport is missing$/);
    refused('--cport=80', /^--lport is missing$/);
    refused('--caddr=a', /^--cport is missing$/);
    refused('--lport=80 --cport=81 :82', /^too many arguments: ":82" beside --lport, --laddr, --cport, --caddr$/);
    refused('-i --cport=81 --lport=80', /^--lport contradicts -i \(--inetd\)/);
    refused('-i --cport=81 --laddr=a', /^--laddr contradicts -i \(--inetd\)/);
    refused('--lport=0 --cport=81', /^--lport: "0" is not a port/);
  });

  it('with an option that there is none of, or that lacks its value', () => {
    refused('-d :80 :81', /^unknown option "-d"$/);
    refused('--max-b=1 :80 :81', /^unknown option "--max-b=1"$/);
    refused(':80 :81 -I', /^-I \(--ident\) needs a value$/);
    refused('-t 1 --timeout 2 :80 :81', /^-t \(--timeout\) is given more than once/);
    refused('-m 1 --max_bandwidth 2 :80 :81', /^-m \(--max-bandwidth\) is given more than once/);
    refused('--inetd=yes :80', /^-i \(--inetd\) takes no value/);
  });

  it('with a value that is out of bounds', () => {
    refused('-t soon :80 :81', /^-t \(--timeout\): "soon" is not a number of seconds/);
    refused('-o 0 :80 :81', /^-o \(--wait-in-out\): "0" is none of 1, 2, 3$/);
    refused('-z 255 :80 :81', /^-z \(--bufsize\): "255" is not a number from 256 to 1048576$/);
    refused('-m 1k :80 :81', /^-m \(--max-bandwidth\): "1k" is not a number from 0 to 1000000000000$/);
    refused('-w 3600001 :80 :81', /^-w \(--random-wait\): "3600001" is not a number from 0 to 3600000$/);
    refused('-l loud :80 :81', /^-l \(--loglevel\): "loud" is none of none, err,/);
    refused('-l __proto__ :80 :81', /^-l \(--loglevel\): "__proto__" is none of/);
    refused('-f ftp :80 :81', /^-f \(--ftp\): "ftp" is none of port, pasv, both$/);
    refused('-b gw.example.net :80 :81', /^-b \(--bind\): "gw\.example\.net" is not an IP address$/);
    refused('-I a:b :80 :81', /^-I \(--ident\): "a:b" is not a name/);
    refused('-x host :80 :81', /^-x \(--connect\): "host" has no colon in it$/);
    refused('-x :22 :80 :81', /^-x \(--connect\): ":22" has no host in front of its colon$/);
    for (const ports of ['2000', '3000-2000', '1023-2000', '2000-65536', '2000-3000-4000']) {
      refused(`-f both --ftp-ports ${ports} :80 :81`, /^--ftp-ports: ".*" is not LOW-HIGH, two ports from 1024 to/);
    }
  });

  it('with options that contradict each other', () => {
    refused('-p -b 192.0.2.1 :80 :81', /^-b \(--bind\) contradicts -p \(--transproxy\)/);
    refused('-b ::1 :80 :81', /^-b \(--bind\) is of another family than 127\.0\.0\.1/);
    refused('-b ::1 -x a:1 :80 192.0.2.1:81', /^-b \(--bind\) is of another family than 192\.0\.2\.1/);
    refused('-f port -x a:21 :21 squid:3128', /^-f \(--ftp\) takes connections that the server makes/);
    refused('-f both -x a:21 :21 squid:3128', /only pasv goes through one$/);
    refused('--ftp-ports 2000-3000 :80 :81', /^--ftp-ports needs -f \(--ftp\)$/);
    refused('-o 1 :80 :81', /^-o \(--wait-in-out\) needs -m \(--max-bandwidth\) or -w \(--random-wait\)$/);
    refused('-o 1 -z 512 :80 :81', /^-o \(--wait-in-out\) needs/);
    refused('--debug -l info :80 :81', /^-l \(--loglevel\) contradicts --debug$/);
    refused('--proxy-auth /dev/null :80 :81', /^--proxy-auth needs -x \(--connect\)$/);
  });
});

describe("redir's --proxy-auth", () => {
  const folder = mkdtempSync(join(tmpdir(), 'tproxy-test-'));
  after(() => rmSync(folder, { recursive: true }));

  it('gives the proxy of -x a user and a password, which the first line of a file has', () => {
    const file = join(folder, 'auth');
    writeFileSync(file, 'me:secret\n');
    assert.deepEqual(service(`--proxy-auth ${file} -x b:22 :80 a:81`).upstreams[0]?.credentials, {
      user: 'me',
      password: 'secret',
    });
  });

  it('says what is wrong with the file', () => {
    assert.throws(
      () => parseRedir(words(`--proxy-auth ${folder}/none -x b:22 :80 a:81`)),
      (error) => error instanceof Failure && error.exitCode === EX.NOINPUT && /ENOENT$/.test(error.message),
    );
  });
});
