import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Host } from '../../scripts/lab/host.js';
import { startUnbound } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import type { GivenPlan, GivenService } from '../support/serve-plan.js';
import { buildGateway, type Cleanup, TPROXY } from '../support/tproxy.js';
import { addressOf, type ClientsOutcome } from '../support/udp-clients.js';

const program = (name: string): string => fileURLToPath(new URL(`../support/${name}`, import.meta.url));
/** Where nobody can read it, too: see buildGateway. */
const SERVE = [TPROXY[0] as string, '/run/tproxy/package/dist/test/support/serve-plan.js'];
const CLIENTS = [process.execPath, program('udp-clients.js')];
const DOCUMENT = new URL('../../../docs/udp.md', import.meta.url);

const NAMES = 10_000;
const PROXIED_PORT = 5454;
/** Where nothing listens, until a test has something listen there. */
const LATE_PORT = 5555;

const [originV4, originV6] = ADDRESS.internet;
const [clientV4, clientV6] = ADDRESS.client;
const [routerV4, routerV6] = ADDRESS.routerToClient;

/** Every name has an address of its own, `who` tells whether the server knows the client, and `big` takes fragments. */
const zone = (): string => {
  const lines = Array.from({ length: NAMES }, (_, i) => `  local-data: "n${i}.lab. 60 A ${addressOf(i)}"`);
  const long = Array.from({ length: 12 }, () => `\\"${'x'.repeat(250)}\\"`).join(' ');
  return `
  max-udp-size: 4096
  edns-buffer-size: 4096
  local-zone: "lab." static
  access-control-view: ${clientV4}/32 known
  access-control-view: ${clientV6}/128 known
  local-data: 'who.lab. 60 TXT "a stranger"'
  local-data: 'big.lab. 60 TXT ${long.replaceAll('\\"', '"')}'
${lines.join('\n')}`;
};

const VIEW = `
view:
  name: "known"
  view-first: yes
  local-zone: "who.lab." static
  local-data: 'who.lab. 60 TXT "the client"'`;

const to = (host: string, port: number): NonNullable<GivenService['targets']> => [
  { to: { host, port }, weight: 1, source: null },
];

const udp = (more: Partial<GivenService>): GivenService => ({
  name: 'names',
  protocol: 'udp',
  listen: [{ host: null, port: 53 }],
  targets: to('origin.lab', 53),
  ...more,
});

/** Sockets that have this port, in the process's namespace. */
const socketsAt = (pid: number, port: number): number => {
  const tables = ['udp', 'udp6'].map((name) => readFileSync(`/proc/${pid}/net/${name}`, 'latin1'));
  const local = new RegExp(`^ *\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')} `, 'gm');
  return tables.join('').match(local)?.length ?? 0;
};

const needs = ['unbound', 'dig', 'nft', 'iptables', 'ip6tables'].map((name) => `program ${name}` as const);

describe('udp', { skip: unless('root', 'ipv6', ...needs) }, () => {
  let topology: Topology;
  let router: Host;
  let plans = 0;

  before(async () => {
    topology = await buildGateway();
    router = topology.router;
    await startUnbound(topology.lab, topology.internet, 53, { server: zone(), sections: VIEW });
    await startUnbound(topology.lab, topology.internet, PROXIED_PORT, {
      server: zone(),
      sections: VIEW,
      proxied: true,
    });
  });
  after(() => topology?.lab.close());

  const start = async (t: Cleanup, plan: GivenPlan): Promise<Running> => {
    const file = topology.lab.path(`plan-${++plans}.json`);
    writeFileSync(file, JSON.stringify(plan));
    const running = await router.spawn([...SERVE, file]);
    t.after(() => running.end());
    await running.says(/ready/);
    return running;
  };

  const dig = async (server: string, ...more: string[]): Promise<string> => {
    const { stdout } = await topology.client.attempt('dig', '+short', '+notcp', `@${server}`, ...more);
    return stdout.trim();
  };

  const clients = async (server: string, count: number, held: number): Promise<ClientsOutcome> => {
    const running = await topology.client.spawn([...CLIENTS, server, '53', String(count), String(held)]);
    const { stdout, stderr } = await running.outcome(120_000);
    assert.equal(stderr, '');
    return JSON.parse(stdout) as ClientsOutcome;
  };

  const ALL_RIGHT = (right: number): ClientsOutcome => ({ right, wrong: [], silent: [] });

  /** What the program counts, by its answer to SIGUSR2. */
  const counts = async (running: Running): Promise<{ open: number; accepted: number }> => {
    const before = running.stderr.length;
    running.signal('SIGUSR2');
    const [, open, accepted] = await until('counters', () =>
      /SIGUSR2: (\d+) connections open, (\d+) accepted/.exec(running.stderr.slice(before)),
    );
    return { open: Number(open), accepted: Number(accepted) };
  };

  test('dig gets its answers over IPv4 and IPv6, small and in fragments', async (t) => {
    await start(t, { workers: 2, services: [udp({})] });
    for (const server of [routerV4, routerV6]) {
      assert.equal(await dig(server, 'n7.lab'), addressOf(7));
      const big = await dig(server, '+bufsize=4096', 'TXT', 'big.lab');
      assert.equal(big.replaceAll(/[" ]/g, '').length, 12 * 250);
    }
  });

  test('answers come from the address that was asked, of whichever of the host it is', async (t) => {
    await start(t, { workers: 1, services: [udp({})] });
    // dig takes an answer from nowhere else. These are not the addresses that the route back has.
    for (const server of [...ADDRESS.routerToInternet, ...ADDRESS.routerToProxy]) {
      assert.equal(await dig(server, '+tries=1', 'n1.lab'), addressOf(1));
    }
  });

  for (const workers of [1, 2]) {
    test(`10,000 clients at ${workers} workers each get the answer to their own question`, async (t) => {
      const limits = { flows: NAMES, idle: 300_000 };
      const running = await start(t, { workers, services: [udp({ targets: to(originV4, 53), limits })] });
      // The room for descriptors may be smaller than that for flows, and then flows are let go.
      const { right, wrong, silent } = await clients(workers === 1 ? routerV4 : routerV6, NAMES, 100);
      assert.deepEqual({ right, wrong, silent }, ALL_RIGHT(NAMES));
      const { open, accepted } = await counts(running);
      assert.ok(accepted >= NAMES, `${accepted} accepted`);
      assert.ok(open > NAMES / 2 && open <= NAMES, `${open} open`);
    });
  }

  test('no more flows than the limit are open, and everybody still gets an answer', async (t) => {
    const running = await start(t, { workers: 1, services: [udp({ limits: { flows: 50 } })] });
    assert.deepEqual(await clients(routerV4, 500, 10), ALL_RIGHT(500));
    const { open, accepted } = await counts(running);
    assert.equal(open, 50);
    assert.ok(accepted >= 500);
    assert.equal(running.stderr.match(/let go for new ones/g)?.length, 1);
  });

  test('a flow ends when its time is over', async (t) => {
    const running = await start(t, { workers: 2, services: [udp({ limits: { idle: 500 } })] });
    assert.deepEqual(await clients(routerV4, 20, 20), ALL_RIGHT(20));
    await until('all flows to end', async () => (await counts(running)).open === 0);
    assert.equal(await dig(routerV4, 'n2.lab'), addressOf(2));
  });

  test('a port that is unreachable is no end of a flow', async (t) => {
    const services = [udp({ targets: to(originV4, LATE_PORT) })];
    const running = await start(t, { workers: 1, services });
    const from = ['-b', `${clientV4}#40001`, '+tries=1', '+timeout=1'];
    await dig(routerV4, ...from, 'n3.lab');
    await running.says(/ECONNREFUSED/);
    const late = await startUnbound(topology.lab, topology.internet, LATE_PORT, { server: zone(), sections: VIEW });
    t.after(() => late.running.end());
    assert.equal(await dig(routerV4, ...from, 'n3.lab'), addressOf(3));
    assert.deepEqual(await counts(running), { open: 1, accepted: 1 });
  });

  test('a reload has another target for new clients, and closes what is gone', async (t) => {
    const file = topology.lab.path('reload.json');
    const write = (...services: readonly GivenService[]): void =>
      writeFileSync(file, JSON.stringify({ user: 'nobody', workers: 2, services }));
    const more = udp({ name: 'more', listen: [{ host: null, port: 54 }] });
    // Nobody answers there.
    write(udp({ targets: to(originV4, LATE_PORT) }));
    const running = await router.spawn([...SERVE, file]);
    t.after(() => running.end());
    await running.says(/ready/);
    const reload = async (changed: RegExp): Promise<void> => {
      running.signal('SIGHUP');
      await running.says(changed);
    };
    assert.match(await dig(routerV4, '+tries=1', '+time=1', 'n1.lab'), /no servers could be reached/);
    write(udp({}));
    await reload(/reloaded: 1 services, 1 new/);
    assert.equal(await dig(routerV4, 'n1.lab'), addressOf(1));
    write(udp({}), more);
    await reload(/reloaded: 2 services, 1 new or changed, 0 gone/);
    assert.equal(await dig(routerV6, '-p', '54', 'n2.lab'), addressOf(2));
    assert.equal(socketsAt(running.pid, 54), 4);
    write(udp({}));
    await reload(/reloaded: 1 services, 0 new or changed, 1 gone/);
    await until('the sockets to be closed', () => socketsAt(running.pid, 54) === 0);
    assert.match(await dig(routerV6, '-p', '54', '+tries=1', '+time=1', 'n2.lab'), /no servers could be reached/);
    assert.equal(await dig(routerV6, 'n3.lab'), addressOf(3));
    // The first client's flow goes on with what it began with.
    await until('its flow to be closed', async () => (await counts(running)).open === 3);
  });

  test('a target that takes PROXY version 2 knows the client', async (t) => {
    const services = [udp({ targets: to('origin.lab', PROXIED_PORT), proxyProtocol: 'v2' })];
    await start(t, { workers: 2, services });
    for (const server of [routerV4, routerV6]) {
      assert.equal(await dig(server, 'TXT', 'who.lab'), '"the client"');
      assert.equal(await dig(server, 'n4.lab'), addressOf(4));
    }
  });

  test('without it the target sees us', async (t) => {
    await start(t, { workers: 1, services: [udp({})] });
    assert.equal(await dig(routerV4, 'TXT', 'who.lab'), '"a stranger"');
  });

  test('clients that may not ask get no answer, and no lines without end', async (t) => {
    const access = [{ allow: [{ ip: clientV4, prefix: 32 }], deny: [] }];
    const running = await start(t, { workers: 1, services: [udp({ access })] });
    assert.equal(await dig(routerV4, 'n5.lab'), addressOf(5));
    assert.match(await dig(routerV6, '+tries=1', '+timeout=1', 'n5.lab'), /timed out|no servers/);
    await running.says(/names: ACL refused from \[fd77:1::2\]:\d+/);
  });

  test('a port that another program has is an error', async (t) => {
    await start(t, { workers: 2, services: [udp({})] });
    const file = topology.lab.path('second.json');
    writeFileSync(file, JSON.stringify({ workers: 2, services: [udp({})] }));
    const { code, stderr } = await router.attempt(...SERVE, file);
    assert.notEqual(code, 0);
    assert.match(stderr, /bind \[::\]:53: EADDRINUSE \(another program listens there\)/);
  });

  for (const tool of ['nft', 'iptables'] as const) {
    describe(`by TPROXY with the document's rules for ${tool}`, () => {
      const intercept = async (t: TestContext): Promise<void> => {
        t.after(() => undo(router));
        for (const name of ['routing', `tproxy-${tool}`]) await follow(router, name);
      };
      const service = (more: Partial<GivenService> = {}): GivenService =>
        udp({ listen: [{ host: null, port: 5300 }], targets: [], intercept: 'tproxy', ...more });

      test('as nobody: the original destination is asked, and answers', async (t) => {
        await intercept(t);
        const running = await start(t, { workers: 2, user: 'nobody', services: [service()] });
        for (const server of [originV4, originV6]) {
          assert.equal(await dig(server, 'n8.lab'), addressOf(8));
          assert.equal(await dig(server, 'TXT', 'who.lab'), '"a stranger"');
        }
        assert.deepEqual(await clients(originV4, 300, 30), ALL_RIGHT(300));
        // dig may have had the port of one of them before.
        const { accepted } = await counts(running);
        assert.ok(accepted >= 300 && accepted <= 304, `${accepted} accepted`);
      });

      test('a target answers in the name of a server that there may not be', async (t) => {
        await intercept(t);
        await start(t, { workers: 2, services: [service({ targets: to('origin.lab', 53) })] });
        for (const server of ['198.51.100.1', '2001:db8::53']) {
          assert.equal(await dig(server, 'n9.lab'), addressOf(9));
        }
      });

      test('as nobody with spoof: the server sees the client', async (t) => {
        await intercept(t);
        await start(t, { workers: 2, user: 'nobody', services: [service({ spoof: true })] });
        for (const server of [originV4, originV6]) {
          assert.equal(await dig(server, 'TXT', 'who.lab'), '"the client"');
        }
      });

      test('who asks us ourselves has no original destination', async (t) => {
        await intercept(t);
        const running = await start(t, { workers: 1, services: [service()] });
        await dig(routerV4, '-p', '5300', '+tries=1', '+timeout=1', 'n1.lab');
        await running.says(/no original destination: the datagram was not intercepted/);
      });
    });
  }

  test('by TPROXY to the port that clients ask, the socket that answers has it beside the one that listens', async (t) => {
    t.after(() => undo(router));
    await follow(router, 'routing');
    await follow(router, 'tproxy-nft', { 5300: '53' });
    const services = [udp({ targets: [], intercept: 'tproxy' })];
    await start(t, { workers: 2, services });
    for (const server of [originV4, originV6]) assert.equal(await dig(server, 'n6.lab'), addressOf(6));
  });

  test('what a rule for all transparent sockets sends to the socket that answers is of the same flow', async (t) => {
    t.after(() => undo(router));
    await follow(router, 'routing');
    await follow(router, 'tproxy-nft');
    const rule = 'meta l4proto udp socket transparent 1 meta mark set 1 accept';
    await router.run('nft', `insert rule inet datagrams prerouting ${rule}`);
    const services = [udp({ listen: [{ host: null, port: 5300 }], targets: [], intercept: 'tproxy' })];
    const running = await start(t, { workers: 1, services });
    for (const [server, client] of [
      [originV4, clientV4],
      [originV6, clientV6],
    ] as const) {
      for (const i of [1, 2, 3]) assert.equal(await dig(server, '-b', `${client}#40002`, `n${i}.lab`), addressOf(i));
    }
    assert.equal((await counts(running)).accepted, 2);
  });
});

/** Runs a block of the document, with words put in the place of others. */
const follow = async (host: Host, name: string, words: Readonly<Record<string, string>> = {}): Promise<void> => {
  const block = new RegExp(`^\`\`\`(\\w+) ${name}\\n([^]*?)^\`\`\`$`, 'm').exec(readFileSync(DOCUMENT, 'utf8'));
  const [, language, written] = block ?? [];
  if (written === undefined) throw new Error(`${DOCUMENT} has no block ${name}`);
  let text = written;
  for (const [word, put] of Object.entries({ lan0: 'to-client', ...words })) text = text.replaceAll(word, put);
  if (language === 'nft') await host.run('nft', text);
  else await host.run('sh', '-ec', text);
};

const undo = async (host: Host): Promise<void> => {
  await host.attempt('nft', 'delete table inet datagrams');
  for (const tool of ['iptables', 'ip6tables']) await host.attempt(tool, '-t', 'mangle', '-F');
  for (const family of ['-4', '-6']) {
    await host.attempt('ip', family, 'rule', 'del', 'fwmark', '1', 'lookup', '100');
    await host.attempt('ip', family, 'route', 'flush', 'table', '100');
  }
};
