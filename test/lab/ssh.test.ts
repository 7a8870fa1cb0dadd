import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startPeer, startSocks, startSquid } from '../../scripts/lab/peers.js';
import type { Outcome } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { buildGateway, startTproxy, TPROXY } from '../support/tproxy.js';

const SSH_PORT = 2222;
const SQUID_PORT = 3128;
const AUTH_SQUID_PORT = 3129;
const SOCKS_PORT = 1080;
const RELAY_PORT = 9022;
const BYTES = 100_000_000;

const [originV4, originV6] = ADDRESS.internet;
const [proxyV4] = ADDRESS.proxy;
const [routerV4, routerV6] = ADDRESS.routerToInternet;

/** The arguments of ProxyCommand, where ssh fills in %h and %p, and the test PASSWORD_FILE. */
const THROUGH = {
  nothing: ['-t', '%h', '%p'],
  squid: ['-p', '--upstream', `${proxyV4}:${SQUID_PORT}`, '-t', '%h', '%p'],
  'squid with a password': [
    ...['-p', '--upstream', `${proxyV4}:${AUTH_SQUID_PORT}`, '--proxy-auth', 'PASSWORD_FILE', '-t', '%h', '%p'],
  ],
  'squid without the password': ['-p', '--upstream', `${proxyV4}:${AUTH_SQUID_PORT}`, '-t', '%h', '%p'],
  'the command line of redir': ['--as', 'redir', '--inetd', '%h:%p'],
  'the command line of redir and squid': [
    ...['--as', 'redir', '-i', '-x', '%h:%p', '--proxy-auth', 'PASSWORD_FILE', `proxy.lab:${AUTH_SQUID_PORT}`],
  ],
  socks: ['-p', '--upstream', `socks5://${proxyV4}:${SOCKS_PORT}`, '-t', '%h', '%p'],
} as const;
type Through = keyof typeof THROUGH;

const needs = ['sshd', 'ssh', 'scp', 'ssh-keygen', 'squid', 'microsocks', 'openssl', 'script'] as const;

describe('ssh', { skip: unless('root', 'ipv6', ...needs.map((name) => `program ${name}` as const)) }, () => {
  let topology: Topology;
  let squid: Peer;
  let authSquid: Peer;
  /** For ssh and scp: our key, the server's, and nothing of this machine's own. */
  let options: readonly string[];

  before(async () => {
    topology = await buildGateway();
    const { lab, internet, proxy } = topology;
    for (const key of ['host_key', 'user_key']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', lab.path(key)]);
    }
    writeFileSync(lab.path('known_hosts'), `* ${readFileSync(lab.path('host_key.pub'), 'latin1')}`);
    options = ['-F', 'none', '-i', lab.path('user_key')].concat(
      [
        `UserKnownHostsFile=${lab.path('known_hosts')}`,
        'StrictHostKeyChecking=yes',
        'BatchMode=yes',
        'IdentitiesOnly=yes',
        'LogLevel=ERROR',
        'User=root',
      ].flatMap((option) => ['-o', option]),
    );
    await internet.run('mkdir', '-p', '/run/sshd');
    await startPeer(lab, internet, {
      name: 'sshd',
      port: SSH_PORT,
      configuration: () => `
Port ${SSH_PORT}
HostKey ${lab.path('host_key')}
AuthorizedKeysFile ${lab.path('user_key.pub')}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
`,
      // It starts itself anew for each connection, by the name that it was started by.
      command: (file) => ['/usr/sbin/sshd', '-D', '-e', '-f', file],
    });
    squid = await startSquid(lab, proxy, SQUID_PORT, {
      rules: `acl tunnels port ${SSH_PORT}\nhttp_access deny CONNECT !tunnels`,
    });
    const users = lab.path('users');
    writeFileSync(users, `lab:${execFileSync('openssl', ['passwd', '-apr1', 'secret'], { encoding: 'latin1' })}`);
    authSquid = await startSquid(lab, proxy, AUTH_SQUID_PORT, {
      rules: `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${users}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all`,
    });
    writeFileSync(lab.path('password'), 'lab:secret\n');
    await startSocks(lab, proxy, SOCKS_PORT);
    writeFileSync(lab.path('big'), randomBytes(BYTES));
  });
  after(() => topology?.lab.close());

  const proxyCommand = (through: Through, port = SSH_PORT): string[] => [
    ...['-o', `Port=${port}`],
    '-o',
    `ProxyCommand=${[...TPROXY, ...THROUGH[through]].join(' ').replace('PASSWORD_FILE', topology.lab.path('password'))}`,
  ];

  const ssh = (through: Through, host: string, command: string, port?: number): Promise<Outcome> =>
    topology.router.attempt('ssh', ...options, ...proxyCommand(through, port), host, command);

  const sha256 = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(topology.lab.path(name)))
      .digest('hex');

  for (const [through, host, client] of [
    ['nothing', 'origin.lab', `${routerV4}|${routerV6}`],
    ['nothing', originV4, routerV4],
    ['nothing', originV6, routerV6],
    ['squid', 'origin.lab', '.*'],
    ['squid', originV4, proxyV4],
    ['squid with a password', 'origin.lab', '.*'],
    ['the command line of redir', 'origin.lab', `${routerV4}|${routerV6}`],
    ['the command line of redir', originV4, routerV4],
    ['the command line of redir and squid', 'origin.lab', '.*'],
    ['socks', originV4, proxyV4],
  ] as const) {
    test(`has a session on ${host} through ${through}, with its input, output, errors and exit code`, async () => {
      const { code, stdout, stderr } = await ssh(through, host, 'echo $SSH_CLIENT; echo trouble >&2; exit 7');
      assert.equal(stderr, 'trouble\n');
      assert.match(stdout, new RegExp(`^(${client}) `));
      assert.equal(code, 7);
    });
  }

  test('went through Squid by CONNECT, with its user', async () => {
    assert.ok((await squid.logged(`CONNECT origin.lab:${SSH_PORT}`)).every((line) => line.includes('/200 ')));
    assert.ok((await authSquid.logged(`CONNECT origin.lab:${SSH_PORT}`)).every((line) => line.includes('/200 ')));
  });

  test('shows why there is no way', async () => {
    const refused = await ssh('squid without the password', 'origin.lab', 'true');
    assert.equal(refused.code, 255);
    assert.match(refused.stderr, /warn .*answered CONNECT with status 407: it wants a user and a password/);
    const { code, stderr } = await ssh('nothing', 'origin.lab', 'true', 1);
    assert.equal(code, 255);
    for (const address of [originV4, `\\[${originV6}\\]`]) {
      assert.match(stderr, new RegExp(`warn .*connect ${address}:1: ECONNREFUSED`));
    }
  });

  test('leaves no process behind when it is over', async () => {
    await ssh('squid', 'origin.lab', 'true');
    const left = (await topology.router.processes()).filter(({ command }) => command.startsWith(TPROXY.join(' ')));
    assert.deepEqual(left, []);
  });

  for (const through of ['nothing', 'squid', 'the command line of redir'] as const) {
    test(`copies 100 MB each way through ${through}`, async () => {
      const { lab, router } = topology;
      const remote = (name: string): string => `origin.lab:${lab.path(name)}`;
      const copy = (...paths: string[]) => router.run('scp', '-q', ...options, ...proxyCommand(through), ...paths);
      await copy(lab.path('big'), remote('up'));
      assert.equal(sha256('up'), sha256('big'));
      await copy(remote('up'), lab.path('down'));
      assert.equal(sha256('down'), sha256('big'));
    });
  }

  test('goes through a plain relay too', async (t) => {
    const { router, client, lab } = topology;
    await startTproxy(t, router, '-s', String(RELAY_PORT), '-t', 'origin.lab', String(SSH_PORT));
    const [relayV4] = ADDRESS.routerToClient;
    const { stdout } = await client.run('ssh', ...options, '-p', String(RELAY_PORT), relayV4, 'echo through');
    assert.equal(stdout, 'through\n');
    await client.run(
      'scp',
      '-q',
      ...options,
      '-P',
      String(RELAY_PORT),
      lab.path('big'),
      `${relayV4}:${lab.path('by')}`,
    );
    assert.equal(sha256('by'), sha256('big'));
  });

  test('on a terminal the program is talked to as nc is, and Ctrl-C ends it', async () => {
    const { router } = topology;
    // script(1) gives it a terminal, and 130 is how a shell tells of SIGINT, which it has to outlive itself.
    const command = `trap : INT; ${[...TPROXY, '-t', originV4, SSH_PORT].join(' ')}; echo code $?`;
    const terminal = await router.spawn(['script', '-qc', command, '/dev/null'], { stdin: 'pipe' });
    await terminal.says(/SSH-2\.0-OpenSSH/);
    terminal.stdin?.write('nonsense\n');
    await terminal.says(/Invalid SSH identification string/);
    terminal.stdin?.write('\x03');
    await terminal.says(/code 130/);
    terminal.stdin?.end();
    await terminal.end();
  });
});
