import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../../scripts/lab/until.js';
import { DEFAULT_SERVICE, type Plan, targetTo } from '../../src/plan.js';
import { Child, folder, freePort, server } from '../control/children.js';
import { unless } from '../support/needs.js';

const SERVE_PLAN = fileURLToPath(new URL('../support/serve-plan.js', import.meta.url));

/** Where local time is ahead of UTC by hours and a half. */
const TZ = 'Asia/Kolkata';

/** One service, what a client does with it, and the word of its last line, where rinetd's is wrong. */
interface Case {
  readonly name: string;
  readonly bind: string;
  readonly to: string;
  readonly target: 'echo' | 'hello' | 'reset' | 'nobody';
  readonly client: (socket: Socket) => void;
  readonly rules?: string;
  readonly access?: Plan['services'][number]['access'];
  /** Lines that it makes. */
  readonly lines: 1 | 2;
  readonly mended?: string;
}

const talk = (socket: Socket): void => {
  socket.write('x'.repeat(1000));
  let got = 0;
  socket.on('data', (data) => {
    got += data.length;
    if (got === 1000) socket.end();
  });
};
const listen = (socket: Socket): void => {
  socket.resume();
};
const say = (socket: Socket): void => {
  socket.write('abc');
  socket.resume();
};
const deny = (glob: string) => [{ allow: null, deny: [{ glob }] }];
const allow = (glob: string) => [{ allow: [{ glob }], deny: [] }];

const here = { bind: '127.0.0.1', to: '127.0.0.1' };
const CASES: readonly Case[] = [
  { ...here, name: 'the client ends first', target: 'echo', client: talk, lines: 2 },
  { ...here, name: 'the target ends first', target: 'hello', client: listen, lines: 2 },
  {
    ...here,
    name: 'the client resets',
    target: 'echo',
    client: (socket) => {
      socket.write('abc');
      socket.once('data', () => socket.resetAndDestroy());
    },
    lines: 2,
  },
  { ...here, name: 'the target resets', target: 'reset', client: say, lines: 2 },
  { ...here, name: 'names', bind: 'localhost', to: 'localhost', target: 'echo', client: talk, lines: 2 },
  { ...here, name: 'all addresses', bind: '0.0.0.0', target: 'echo', client: talk, lines: 2 },
  { ...here, name: 'IPv6', bind: '::1', target: 'echo', client: talk, lines: 2 },
  {
    ...here,
    name: 'the client may connect',
    target: 'echo',
    client: talk,
    rules: 'allow 127.*',
    access: allow('127.*'),
    lines: 2,
  },
  // Not the first one with patterns: of two that such a one has, rinetd takes the second, and the next one's first.
  {
    ...here,
    name: 'the client may connect, and others may not',
    target: 'echo',
    client: talk,
    rules: 'allow 127.*\ndeny 10.*',
    access: [{ allow: [{ glob: '127.*' }], deny: [{ glob: '10.*' }] }],
    lines: 2,
  },
  {
    ...here,
    name: 'the client is not among those that may',
    target: 'echo',
    client: say,
    rules: 'allow 10.*',
    access: allow('10.*'),
    lines: 1,
    mended: 'not-allowed',
  },
  {
    ...here,
    name: 'the client is among those that may not',
    target: 'echo',
    client: say,
    rules: 'deny 127.0.0.?',
    access: deny('127.0.0.?'),
    lines: 1,
    mended: 'denied',
  },
  {
    ...here,
    name: 'the target refuses the connection',
    target: 'nobody',
    client: listen,
    lines: 2,
    mended: 'local-connect-failed -',
  },
];

interface Ports {
  readonly targets: Readonly<Record<Case['target'], number>>;
  readonly binds: readonly number[];
}

const makePorts = async (t: TestContext): Promise<Ports> => ({
  targets: {
    echo: await server(t, (socket) => socket.on('error', () => {}).pipe(socket)),
    hello: await server(t, (socket) => socket.on('error', () => {}).end('hello\n')),
    reset: await server(t, (socket) => socket.once('data', () => socket.resetAndDestroy())),
    nobody: await freePort(),
  },
  binds: await Promise.all(CASES.map(freePort)),
});

const linesOf = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, 'latin1').split('\n').slice(0, -1) : [];

/** Has each case's client do what it does, one after the other: the log's lines, by case. */
const traffic = async (file: string, binds: readonly number[]): Promise<string[][]> => {
  const seen: string[][] = [];
  let before = 0;
  for (const [i, { name, bind, client, lines }] of CASES.entries()) {
    const socket = connect({ host: bind === '::1' ? '::1' : '127.0.0.1', port: binds[i] as number });
    socket.on('error', () => {});
    socket.once('connect', () => client(socket));
    await until(`${lines} lines for: ${name}`, () => linesOf(file).length >= before + lines);
    socket.destroy();
    const all = linesOf(file);
    seen.push(all.slice(before));
    before = all.length;
  }
  return seen;
};

const isServed = (port: number): Promise<boolean> =>
  new Promise((settle) => {
    const probe = createServer();
    probe.once('error', () => settle(true));
    probe.listen(port, '127.0.0.1', () => probe.close(() => settle(false)));
  });

const theirs = async (t: TestContext, { targets, binds }: Ports, common: boolean): Promise<string[][]> => {
  const place = folder(t);
  const log = join(place, 'rinetd.log');
  const rules = CASES.map(
    ({ bind, to, target, rules: more = '' }, i) => `${bind} ${binds[i]} ${to} ${targets[target]}\n${more}`,
  );
  const conf = [...rules, `logfile ${log}`, `pidlogfile ${join(place, 'pid')}`, common ? 'logcommon' : ''];
  writeFileSync(join(place, 'rinetd.conf'), `${conf.join('\n')}\n`);
  const rinetd = spawn('/usr/sbin/rinetd', ['-f', '-c', join(place, 'rinetd.conf')], {
    env: { ...process.env, TZ },
    stdio: 'ignore',
  });
  const ended = once(rinetd, 'exit');
  t.after(async () => {
    rinetd.kill('SIGKILL');
    await ended;
  });
  await until('rinetd to listen', () => isServed(binds[0] as number));
  const seen = await traffic(log, binds);
  rinetd.kill('SIGTERM');
  await ended;
  return seen;
};

const ours = async (t: TestContext, { targets, binds }: Ports, common: boolean): Promise<string[][]> => {
  const place = folder(t);
  const log = join(place, 'tproxy.log');
  const plan: Partial<Plan> = {
    workers: 1,
    accessLog: { path: log, format: common ? 'common' : 'tab' },
    services: CASES.map(({ name, bind, to, target, access = [] }, i) => ({
      ...DEFAULT_SERVICE,
      name,
      listen: [{ host: bind, port: binds[i] as number }],
      targets: [targetTo({ host: to, port: targets[target] })],
      access,
    })),
  };
  writeFileSync(join(place, 'plan.json'), JSON.stringify(plan));
  const child = new Child(t, [SERVE_PLAN, join(place, 'plan.json')], { env: { TZ } });
  await child.says(/ ready: /);
  return traffic(log, binds);
};

/** What became of a connection. */
const WORD = { tab: /[^\t]*$/, common: /(?<=\/)[^/]*(?= HTTP\/)/ } as const;

/** What differs between two runs: the time. */
const timeless = (line: string): string => line.replace(/\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d/, 'TIME');

describe("rinetd's log and ours, of the same traffic", { skip: unless('program rinetd', 'ipv6') }, () => {
  for (const format of ['tab', 'common'] as const) {
    test(`are the same line for line in the ${format} format, but for what docs/logs.md says`, async (t) => {
      const ports = await makePorts(t);
      const original = await theirs(t, ports, format === 'common');
      const copy = await ours(t, ports, format === 'common');
      for (const [i, { name, mended }] of CASES.entries()) {
        const expected = (original[i] ?? []).map(timeless);
        assert.ok(
          expected.every((line) => line.includes('TIME')),
          expected.join('\n'),
        );
        const last = expected.length - 1;
        if (mended !== undefined) {
          assert.ok(!expected[last]?.includes(mended), `rinetd's word is right: ${expected[last]}`);
          expected[last] = (expected[last] as string).replace(WORD[format], mended);
        }
        assert.deepEqual(copy[i]?.map(timeless), expected, name);
      }
    });
  }
});
