import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { readFileRequest } from '../../src/config/file.js';
import { parseYaml } from '../../src/config/yaml.js';
import { GLOBAL, RULE } from '../../src/config/yaml-words.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Plan, type Service, targetTo } from '../../src/plan.js';

const none = Number.POSITIVE_INFINITY;
const read = (text: string, said: Partial<Plan> = {}) => parseYaml('x.yaml', text, '/base', said);
const plan = (global: string, rule = 'bind: ":80", connect: "a:1"') =>
  read(`global: {${global}}\nrules: [{${rule}}]\n`).plan;
const service = (rule: string): Service => plan('', rule).services[0] ?? assert.fail();
/** Of a relay to a:1 on port 80. */
const relay = (words: string): Service => service(`bind: ":80", connect: "a:1", ${words}`);
const http = (words: string): Service => service(`bind: ":80", mode: http, upstreams: "p:1", ${words}`);
const warnings = (rule: string) => read(`rules: [{bind: ":80", connect: "a:1", ${rule}}]`).warnings;

/** All that is wrong with a file, without the file's name. */
const mistakes = (text: string): string[] => {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof Failure && error.exitCode === EX.CONFIG, String(error));
    return error.message.split('\n').map((line) => line.replace(/^x\.yaml:/, ''));
  }
  return assert.fail('nothing is wrong with it');
};
/** The one thing that is wrong with a rule, without its place. */
const flaw = (rule: string): string => {
  const [only, ...more] = mistakes(`rules: [{${rule}}]`).map((line) => line.replace(/^\d+:\d+: rules\[0\]\.?/, ''));
  assert.deepEqual(more, [], rule);
  return only ?? assert.fail();
};
const relayFlaw = (words: string): string => flaw(`bind: ":80", connect: "a:1", ${words}`);
const httpFlaw = (words: string): string => flaw(`bind: ":80", mode: http, upstreams: "p:1", ${words}`);

describe('a plan in YAML', () => {
  it('fills in every default', () => {
    assert.deepEqual(read('rules:\n- bind: 0.0.0.0:80\n  connect: www.example.net:http').plan, {
      ...DEFAULT_PLAN,
      services: [
        {
          ...DEFAULT_SERVICE,
          name: '0.0.0.0:80 to www.example.net:80',
          listen: [{ host: '0.0.0.0', port: 80 }],
          targets: [targetTo({ host: 'www.example.net', port: 80 })],
          dnsRefresh: 600_000,
          limits: { ...DEFAULT_LIMITS, idle: none, halfClosed: 120_000 },
        },
      ],
    });
  });

  it('listens on addresses, names, every address, unix sockets, and what inetd or systemd gives', () => {
    const listen = (bind: string) => service(`bind: ${bind}, connect: "a:1"`).listen;
    assert.deepEqual(listen('["192.0.2.1:80/tcp", "[::]:443", ":8080", "localhost:http-alt"]'), [
      { host: '192.0.2.1', port: 80 },
      { host: '::', port: 443 },
      { host: null, port: 8080 },
      { host: 'localhost', port: 8080 },
    ]);
    assert.deepEqual(listen('["unix:/run/a", "unix:@b", {address: "unix:/run/c", mode: 0660}]'), [
      { path: '/run/a', mode: null },
      { path: '@b', mode: null },
      { path: '/run/c', mode: 0o660 },
    ]);
    assert.deepEqual(listen('["unix:/run/a", "unix:@b"], mode: 0600'), [
      { path: '/run/a', mode: 0o600 },
      { path: '@b', mode: null },
    ]);
    assert.deepEqual(listen('[]'), []);
  });

  it('connects to one, to several with weights and sources, to unix sockets, and to the original destination', () => {
    const targets = (connect: string) => service(`bind: ":80", connect: ${connect}`).targets;
    assert.deepEqual(targets('"[2001:db8::1]:smtp"'), [targetTo({ host: '2001:db8::1', port: 25 })]);
    assert.deepEqual(targets('["unix:/run/a", {dest: "a:1", weight: 3, src: 192.0.2.1}]'), [
      targetTo({ path: '/run/a' }),
      { to: { host: 'a', port: 1 }, weight: 3, source: '192.0.2.1' },
    ]);
    assert.deepEqual(targets('"*"'), []);
  });

  it('is for udp where it listens for that, by the names of its services', () => {
    const { protocol, listen, targets, limits } = service('bind: ":ntp/udp", connect: "a:tftp/udp"');
    assert.equal(protocol, 'udp');
    assert.deepEqual([listen, targets], [[{ host: null, port: 123 }], [targetTo({ host: 'a', port: 69 })]]);
    assert.equal(limits.idle, 72_000);
    assert.equal(service('bind: ":53/udp", connect: "a:53", timeout: 10').limits.idle, 10_000);
  });

  it('translates HTTP in the modes http and auto, which are one', () => {
    assert.deepEqual(service('bind: ":80", upstreams: "p:1", mode: auto'), http(''));
    const { mode, upstreams, limits, http: settings, name } = http('');
    assert.deepEqual([mode, limits.idle, name], ['http', 120_000, '*:80 to p:1']);
    assert.deepEqual(upstreams, [{ scheme: 'http', host: 'p', port: 1, credentials: null }]);
    assert.match(settings.via ?? '', /^tproxy-[0-9a-f]{8}$/);
    assert.equal(http('via: false').http.via, null);
    assert.equal(http('proxy_only: true').unknown, 'connect');
  });

  it('has its own name in Via for each rule', () => {
    const both = read(
      'rules: [{name: a, bind: ":1", mode: http, upstreams: "p:1"}, {name: b, bind: ":2", mode: http, upstreams: "p:1"}]',
    );
    assert.equal(new Set(both.plan.services.map((each) => each.http.via)).size, 2);
  });

  it("takes rinetd-uv's algorithms and ours", () => {
    const balance = (algorithm: string) => relay(`load_balancing: {algorithm: ${algorithm}}`).balance;
    assert.deepEqual(
      ['roundrobin', 'leastconn', 'random', 'iphash', 'round-robin', 'least-conn', 'source-hash'].map(balance),
      ['round-robin', 'least-conn', 'random', 'source-hash', 'round-robin', 'least-conn', 'source-hash'],
    );
    assert.equal(http('load_balancing: {algorithm: url-hash}').balance, 'url-hash');
    const { health, affinity } = relay(
      'load_balancing: {health_threshold: 3, recovery_timeout: 30, affinity_ttl: 3600, affinity_max_entries: 500}',
    );
    assert.deepEqual(
      [health, affinity],
      [
        { threshold: 3, recovery: 30_000 },
        { ttl: 3_600_000, entries: 500 },
      ],
    );
    assert.equal(relay('load_balancing: {affinity_ttl: 0}').affinity, null);
    assert.equal(relay('load_balancing: {affinity_ttl: 5}').affinity?.entries, 10_000);
  });

  it('looks names up as often as the rule says, or the target that needs it most often, or all rules', () => {
    const refresh = (words: string) => service(`bind: ":80", ${words}`).dnsRefresh;
    assert.equal(refresh('connect: "a:1", dns_refresh: 60'), 60_000);
    assert.equal(refresh('connect: "a:1", dns_refresh: 0'), null);
    assert.equal(
      refresh('dns_refresh: 60, connect: [{dest: "a:1", dns_refresh: 30}, {dest: "b:1", dns_refresh: 9}]'),
      9000,
    );
    assert.equal(refresh('connect: {dest: "a:1", dns_refresh: 0}'), null);
    assert.equal(plan('dns_refresh: 5').services[0]?.dnsRefresh, 5000);
    assert.equal(plan('dns_refresh: 0').services[0]?.dnsRefresh, null);
  });

  it('lets clients in by networks, addresses and patterns: by the list of all rules, and then by its own', () => {
    const { services } = plan(
      'access: {deny: ["192.0.2.?"]}',
      'bind: ":80", connect: "a:1", access: {allow: [10.0.0.0/8, 10.0.0.0]}',
    );
    assert.deepEqual(services[0]?.access, [
      { allow: null, deny: [{ glob: '192.0.2.?' }] },
      {
        allow: [
          { ip: '10.0.0.0', prefix: 8 },
          { ip: '10.0.0.0', prefix: 32 },
        ],
        deny: [],
      },
    ]);
  });

  it('takes yes, on, no and off for true and false', () => {
    assert.deepEqual(
      ['yes', 'on', 'true', 'no', 'off', 'false'].map((word) => relay(`keepalive: ${word}`).keepalive),
      [true, true, true, false, false, false],
    );
  });

  it('asks TCP wrappers by its name in the whole plan, or another', () => {
    assert.equal(plan('ident: gw', 'bind: ":80", connect: "a:1", tcp_wrappers: true').services[0]?.tcpWrappers, 'gw');
    assert.equal(relay('tcp_wrappers: web').tcpWrappers, 'web');
    assert.equal(relay('tcp_wrappers: no').tcpWrappers, null);
    const said = read('rules: [{bind: ":80", connect: "a:1", tcp_wrappers: true}]', { ident: 'said' }).plan;
    assert.deepEqual([said.ident, said.services[0]?.tcpWrappers], ['said', 'said']);
  });

  it('reads times as seconds, and 0 as none where there may be none', () => {
    const { idle, halfClosed, connect } = relay('timeout: 2.5, connect_timeout: 0').limits;
    assert.deepEqual([idle, halfClosed, connect], [2500, 2500, none]);
    assert.deepEqual(relay('timeout: 0').limits.halfClosed, 120_000);
    assert.deepEqual(relay('timeout: 0.0001').limits.idle, 1);
  });

  it('says all of the process, with paths from where it was started', () => {
    const words =
      'user: nobody, pid_file: run/x, foreground: true, workers: 2, drain: 5, log_file: /l, log_format: transproxy,' +
      'log_level: debug, log_to: syslog, ident: gw, status: {file: s, format: text}, stats_log_interval: 60';
    const { services, ...rest } = plan(words);
    assert.deepEqual(rest, {
      ...DEFAULT_PLAN,
      user: 'nobody',
      pidFile: '/base/run/x',
      foreground: true,
      workers: 2,
      drain: 5000,
      accessLog: { path: '/l', format: 'transproxy' },
      logLevel: 'debug',
      logTo: 'syslog',
      ident: 'gw',
      status: { path: '/base/s', interval: 30_000, format: 'text' },
      statsInterval: 60_000,
    });
    assert.equal(plan('log_file: l').accessLog?.format, 'tab');
    assert.equal(plan('log_file: l, log_common: true').accessLog?.format, 'common');
    assert.equal(plan('status: {enabled: false, file: x}').status, null);
    assert.equal(plan('exit_idle: 5', 'bind: [], connect: "a:1"').exitIdle, 5000);
  });

  it('gives way to what the command line says', () => {
    const { user, logLevel } = read('global: {user: a, log_level: warn}\nrules: [{bind: ":80", connect: "a:1"}]', {
      user: 'b',
    }).plan;
    assert.deepEqual([user, logLevel], ['b', 'warn']);
  });

  it('may be JSON, and may use anchors', () => {
    assert.equal(read('{"rules":[{"bind":":80","connect":"a:1"}]}').plan.services.length, 1);
    const { services } = read(
      'rules:\n- {bind: ":1", connect: a:1, access: &lan {allow: ["10.*"]}}\n- {bind: ":2", connect: a:1, access: *lan}\n',
    ).plan;
    assert.deepEqual(services[1]?.access, services[0]?.access);
  });

  it('says what has no effect', () => {
    assert.deepEqual(warnings('max_udp_connections: 5'), [
      'x.yaml:1:39: warning: rules[0].max_udp_connections: has no effect on tcp',
    ]);
    assert.deepEqual(
      read('global: {buffer_size: 4096}\nrules: [{bind: ":80", connect: [{dest: "a:1", name: x}]}]').warnings,
      [
        'x.yaml:1:10: warning: global.buffer_size: has no effect: an idle connection has no buffer here, and a busy one what it needs',
        'x.yaml:2:47: warning: rules[0].connect[0].name: has no effect: targets are known by their address',
      ],
    );
  });
});

describe('a plan in YAML is refused', () => {
  it('with all of its mistakes at once, in the order of the file', () => {
    const text = `global:
  workers: many
  colour: red
rules:
  - name: a
    bind: ["x", {address: "unix:/a", mode: 0999}]
    connect:
      dest: b:0
      weight: 101
    timeout: -1
  - bind: ":80"
    keepalive: perhaps
`;
    assert.deepEqual(mistakes(text), [
      '2:12: global.workers: needs a number, and has "many"',
      '3:3: global.colour: there is no such word here',
      '6:12: rules[0].bind[0]: "x" has no colon in it',
      '6:44: rules[0].bind[1].mode: needs permissions as 0660, and has "0999"',
      '8:13: rules[0].connect.dest: "0" is not a port from 1 to 65535',
      '9:15: rules[0].connect.weight: needs 100 at most, and has 101',
      '10:14: rules[0].timeout: needs at least 0, and has -1',
      '12:16: rules[1].keepalive: needs true or false, or yes, on, no, off, and has "perhaps"',
    ]);
  });

  it('without rules, or as no mapping', () => {
    assert.deepEqual(mistakes(''), ['1:1: needs a mapping, and has nothing']);
    assert.deepEqual(mistakes('{}'), ['1:1: rules: is missing: it needs a list']);
    assert.deepEqual(mistakes('rules: []'), ['1:8: rules: needs at least one entry, and has an empty list']);
    assert.deepEqual(mistakes('- a'), ['1:1: needs a mapping, and has a list']);
    assert.deepEqual(mistakes('rules: [{}]'), [
      '1:9: rules[0].bind: is missing: it needs a text, or a mapping, or a list',
    ]);
  });

  it('when it is no YAML, or what YAML has beside mappings, lists and words', () => {
    assert.match(mistakes('a: [')[0] ?? '', /^1:5: Flow sequence/);
    assert.deepEqual(mistakes('a: 1\n---\nb: 2'), ['2:1: a file is one document']);
    assert.deepEqual(mistakes('rules: !!binary x'), ['1:8: Unresolved tag: tag:yaml.org,2002:binary']);
    assert.deepEqual(mistakes('&a [*a]'), ['1:5: there is no anchor "&a" before this alias']);
    assert.deepEqual(mistakes('rules: [{bind: ":80", connect: "a:1"}]\nrules: [{bind: ":80", connect: "a:1"}]'), [
      '2:1: "rules" is there twice',
    ]);
    assert.ok(mistakes('? [a]\n: b').includes('1:3: a key is a word, and neither a number nor anything else'));
    assert.ok(mistakes('__proto__: 1\nrules: 1').includes('1:1: __proto__: there is no such word here'));
  });

  it('when it is made to take long: nested deep, aliases of aliases, or thousands of mistakes', () => {
    const deep = '1:1: mappings and lists are nested more than 32 deep';
    for (const text of ['['.repeat(20_000), '{a: '.repeat(20_000), '- '.repeat(20_000)])
      assert.equal(mistakes(text)[0], deep);
    let bomb = 'a0: &a0 [x,x,x,x,x,x,x,x,x]\n';
    for (let i = 1; i < 20; i++)
      bomb += `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(',')}]\n`;
    assert.deepEqual(mistakes(bomb), ['1:1: this stands for more than 1000000 values']);
    const many = mistakes(Array.from({ length: 20_000 }, (_, i) => `k${i}: 1`).join('\n'));
    assert.equal(many.length, 101);
  });

  it('without showing a password', () => {
    const lines = mistakes(
      'rules: [{bind: ":80", mode: http, upstreams: ["http://me:secret@:x", "me:secret@p:1", "me:secret@p:1"]}]',
    );
    assert.match(lines.join(), /is not HOST:PORT/);
    assert.doesNotMatch(lines.join(), /secret/);
    assert.equal(httpFlaw('proxy_only: yes, tls: direct').includes('p:1'), false);
  });

  it('when two rules have one name or one place to listen', () => {
    const rule = (name: string, bind: string) => `- {name: ${name}, bind: "${bind}", connect: "a:1"}\n`;
    assert.deepEqual(mistakes(`rules:\n${rule('x', ':1')}${rule('x', ':2')}`), [
      '3:10: rules[1].name: the rule at x.yaml:2:10 has the name "x" too',
    ]);
    assert.deepEqual(mistakes(`rules:\n${rule('x', ':1')}${rule('y', '0.0.0.0:1')}`), [
      '3:19: rules[1].bind: 0.0.0.0:1/tcp is taken at x.yaml:2:19',
    ]);
    assert.equal(
      read(`rules:\n${rule('x', '[::]:1')}${rule('y', '0.0.0.0:1')}${rule('z', ':1/udp')}`).plan.services.length,
      3,
    );
    assert.deepEqual(mistakes(`rules:\n- {bind: [], connect: "a:1"}\n${rule('x', ':1')}`), [
      '2:10: rules[0].bind: [] is for a file of one rule, which gets the sockets of inetd or systemd',
    ]);
  });

  it('with words that are for other rules', () => {
    for (const words of ['tls: close', 'via: x', 'force: "http://a/"', 'head_bytes: 9000', 'verify_host: strict']) {
      assert.match(relayFlaw(words), /^\w+: is for mode: http$/);
    }
    for (const words of ['ftp: both', 'ftp_ports: 2000-3000']) assert.match(httpFlaw(words), /: is for mode: relay$/);
    assert.match(
      httpFlaw('connect: "a:1"'),
      /^connect: is for mode: relay; the proxies of mode: http are its upstreams$/,
    );
    for (const words of [
      'upstreams: "p:1"',
      'ftp: pasv',
      'max_bandwidth: 8000',
      'tcp_wrappers: true',
      'proxy_only: true',
    ]) {
      assert.match(flaw(`bind: ":53/udp", connect: "a:53", ${words}`), /^\w+: is for tcp$/);
    }
    assert.match(flaw('bind: "unix:/a", connect: "a:1", spoof: true'), /^spoof: is for clients that have an address$/);
    assert.match(flaw('bind: ":80", connect: "unix:/a", src: 192.0.2.1'), /^src: is for targets that have an address$/);
    assert.match(relayFlaw('check: 5'), /^check: needs upstreams$/);
    assert.match(relayFlaw('ftp_ports: 2000-3000'), /^ftp_ports: needs ftp$/);
    assert.match(relayFlaw('bufsize: 512, wait_in_out: 1'), /^wait_in_out: needs max_bandwidth or random_wait$/);
    assert.match(httpFlaw('trust: ["::1"]'), /^trust: needs forwarded_for$/);
    assert.match(
      relayFlaw('load_balancing: {affinity_max_entries: 5}'),
      /^load_balancing\.affinity_max_entries: needs affinity_ttl$/,
    );
    assert.match(
      flaw('bind: ":80", connect: "*", proxy_protocol: v2'),
      /^proxy_protocol: is not for the original destination/,
    );
    assert.match(
      mistakes('global: {exit_idle: 5}\nrules: [{bind: ":80", connect: "a:1"}]')[0] ?? '',
      /^1:21: global\.exit_idle: is for sockets/,
    );
  });

  it('with what contradicts itself, or serves nobody', () => {
    assert.match(flaw('bind: ":80"'), /^connect: is missing: HOST:PORT, or "\*" for the original destination$/);
    assert.match(flaw('bind: ":80", mode: http'), /^upstreams: are missing: mode: http needs an HTTP proxy/);
    assert.match(
      flaw('bind: ":80", mode: http, upstreams: "socks5://a:1"'),
      /socks5:\/\/ takes other connections only/,
    );
    assert.match(httpFlaw('proxy_only: yes, unknown: direct'), /^unknown: direct contradicts proxy_only/);
    assert.match(relayFlaw('spoof: yes, src: 192.0.2.1'), /^src: contradicts spoof/);
    assert.match(
      flaw('bind: ":80", connect: "192.0.2.1:1", src: "::1"'),
      /^src: is of another family than 192\.0\.2\.1/,
    );
    assert.match(
      flaw('bind: ":80", connect: {dest: "[::1]:1", src: 192.0.2.1}'),
      /^connect\.src: is of another family/,
    );
    assert.match(flaw('bind: ":80", connect: ["a:1", "*"]'), /^connect: "\*" is the original destination/);
    assert.match(flaw('bind: "unix:/a", connect: "*"'), /^connect: connections to a unix socket have no original/);
    assert.match(flaw('bind: ":53/udp", connect: "*"'), /^connect: .* with intercept: tproxy only$/);
    assert.match(flaw('bind: ":53/udp", connect: "unix:/a"'), /^connect: a unix socket is for tcp$/);
    assert.match(flaw('bind: ":80", connect: "a:53/udp"'), /^connect: \/udp contradicts \/tcp of bind/);
    assert.match(
      flaw('bind: [":53/udp", ":54/tcp"], connect: "a:53"'),
      /^bind: is of tcp and of udp: make two rules of it$/,
    );
    assert.match(relayFlaw('mode: 0660'), /^mode: a number is for unix:\/PATH to listen on$/);
    assert.match(flaw('bind: {address: "unix:@a", mode: "0660"}, connect: "a:1"'), /^bind\.mode: is for unix:\/PATH$/);
    assert.match(relayFlaw('upstreams: "p:1", ftp: both'), /^ftp: takes connections that the server makes/);
    assert.match(
      relayFlaw('load_balancing: {algorithm: url-hash}'),
      /^load_balancing\.algorithm: url-hash is for mode: http$/,
    );
    assert.match(flaw('bind: ":53/udp", connect: "a:53", proxy_protocol: v1'), /^proxy_protocol: v1 is for tcp$/);
    assert.match(relayFlaw('upstreams: ["p:1", "u:p@p:1"]'), /^upstreams\[1\]: p:1 is there twice$/);
    assert.match(relayFlaw('access: {allow: []}'), /^access\.allow: needs at least one entry/);
    assert.match(
      mistakes('global: {status: {}}\nrules: [{bind: ":80", connect: "a:1"}]')[0] ?? '',
      /global\.status: needs a file$/,
    );
  });

  it('whatever is in it, in lines that say where and what', () => {
    const pieces = fc.constantFrom(
      ...[
        'rules:',
        'global:',
        'bind',
        'connect',
        ': ',
        '- ',
        '\n',
        '  ',
        '"',
        ':80',
        'a:1',
        '[',
        ']',
        '{',
        '}',
        ',',
        '&a ',
        '*a',
      ],
      ...['!!x ', '|', '>', '#', '? ', '0660', '-1', '1e9', 'mode', 'http', 'upstreams', '\u0000', '\u2028', '<<', '%'],
    );
    const text = fc.oneof(
      fc.array(pieces, { maxLength: 40 }).map((all) => all.join('')),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(text, (given) => {
        try {
          read(given);
        } catch (error) {
          assert.ok(error instanceof Failure && error.exitCode === EX.CONFIG, String(error));
          for (const line of error.message.split('\n'))
            assert.match(line, /^(x\.yaml:\d+:\d+: [^\p{Cc}]+|and \d+ more)$/u);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('the file of -c', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tproxy-test-'));
  after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string | Buffer): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const open = async (path: string, said: Partial<Plan> = {}) => {
    const request = await readFileRequest({ kind: 'file', path, said, takeover: undefined });
    return request.kind === 'plan' ? request : assert.fail();
  };
  const YAML = 'rules: [{bind: ":80", connect: "a:1"}]';

  it('is YAML by its name, and else a rinetd.conf', async () => {
    for (const name of ['a.yaml', 'a.yml', 'a.YAML', 'a.json'])
      assert.equal((await open(write(name, YAML))).plan.services.length, 1);
    assert.equal((await open(write('a.conf', '0.0.0.0 80 a 1\n'))).plan.services[0]?.name, '0.0.0.0:80 to a:1');
  });

  it('is read anew when it is asked for, and what the command line says still goes before it', async () => {
    const path = write('b.yaml', YAML);
    const { file } = await open(path, { workers: 7 });
    write('b.yaml', `global: {workers: 3, drain: 1}\n${YAML}`);
    const { plan: again } = file?.reread() ?? assert.fail();
    assert.deepEqual([again.workers, again.drain], [7, 1000]);
    write('b.yaml', 'rules: 1');
    assert.throws(() => file?.reread(), /b\.yaml:1:8: rules: needs a list/);
  });

  it('is there, a file, UTF-8 and not endless', async () => {
    const fails = (path: string, message: RegExp) =>
      assert.rejects(open(path), (error) => error instanceof Failure && message.test(error.message));
    await fails(join(folder, 'none.yaml'), /none\.yaml: ENOENT$/);
    await fails('/dev/null/x.yaml', /ENOTDIR$/);
    await fails(write('c.yaml', Buffer.from([0xff])), /c\.yaml: is not UTF-8$/);
    await fails(write('d.yaml', Buffer.alloc(17 * 1024 * 1024, 0x20)), /d\.yaml: has more than 16777216 bytes$/);
  });

  it('may name a file with a password', async () => {
    const auth = write('auth', 'me:secret\n');
    const path = write(
      'e.yaml',
      `rules: [{bind: ":80", mode: http, upstreams: ["p:1", "you:x@q:1"], proxy_auth: ${auth}}]`,
    );
    assert.deepEqual(
      (await open(path)).plan.services[0]?.upstreams.map(({ credentials }) => credentials?.user),
      ['me', 'you'],
    );
    write('auth', 'secret\n');
    await assert.rejects(
      open(path),
      /e\.yaml:1:\d+: rules\[0\]\.proxy_auth: the first line of ".*auth" is not user:password$/,
    );
  });
});

describe('docs/yaml.md', () => {
  const text = readFileSync(new URL('../../../docs/yaml.md', import.meta.url), 'utf8');

  it('has files that are right, without a warning', () => {
    const blocks = [...text.matchAll(/^```yaml \S+\n(.*?)^```$/gms)].map(([, block = '']) => block);
    assert.ok(blocks.length > 10);
    for (const block of blocks) assert.deepEqual(read(block).warnings, [], block);
  });

  it('has every word', () => {
    for (const word of [...Object.keys(GLOBAL.shape), ...Object.keys(RULE.shape)]) {
      assert.match(text, new RegExp(`\\b${word}\\b`), word);
    }
  });
});
