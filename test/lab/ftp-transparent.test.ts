import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type Peer, startVsftpd } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { curlCommand, lftpCommand, WAYS } from '../support/ftp.js';
import { unless } from '../support/needs.js';
import { follow } from '../support/recipes.js';
import { Sockets, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, redirectFor, startTproxy } from '../support/tproxy.js';

const MB = 1_000_000;
const PORT = 8081;

const needs = ['vsftpd', 'curl', 'lftp', 'iptables', 'ip6tables', 'nft'].map((name) => `program ${name}` as const);

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

const plain = (ip: string): string => ip.replace('::ffff:', '');

describe('FTP, transparent', { skip: unless('root', 'ipv6', ...needs) }, () => {
  let topology: Topology;
  let vsftpd: Peer;
  let client: Sockets;
  let files: string;
  /** On the client. */
  let folder: string;
  const [originV4, originV6] = ADDRESS.internet;
  const [clientV4, clientV6] = ADDRESS.client;
  const [outV4, outV6] = ADDRESS.routerToInternet;
  const [routerV4, routerV6] = ADDRESS.routerToClient;
  const families = [
    { family: 'IPv4', origin: originV4, host: originV4, from: clientV4, out: outV4, router: routerV4, at: routerV4 },
    {
      family: 'IPv6',
      origin: originV6,
      host: `[${originV6}]`,
      from: clientV6,
      out: outV6,
      router: `[${routerV6}]`,
      at: routerV6,
    },
  ] as const;

  before(async () => {
    topology = await buildGateway();
    vsftpd = await startVsftpd(topology.lab, topology.internet);
    client = new Sockets(topology.client);
    files = join(vsftpd.folder, 'files');
    folder = topology.lab.path('client');
    mkdirSync(folder);
    writeFileSync(join(files, 'small'), randomBytes(100_000));
    writeFileSync(join(files, 'big'), randomBytes(20 * MB));
    writeFileSync(join(folder, 'mine'), randomBytes(20 * MB));
  });
  after(() => topology?.lab.close());
  beforeEach(() => {
    rmSync(join(files, 'incoming'), { recursive: true });
    mkdirSync(join(files, 'incoming'));
  });

  const nothingLeft = (): Promise<unknown> =>
    until('every listener for data to be closed', async () => {
      const { stdout } = await topology.router.run('ss', '-Hltn');
      return stdout
        .trim()
        .split('\n')
        .every((line) => line.includes(`:${PORT} `));
    });

  /** What comes from the client to the port of FTP is ours. */
  const intercept = (t: Cleanup, tool: string): Promise<void> =>
    follow(t, topology.router, ['routing', `tproxy-${tool}`], { lan0: 'to-client', 80: '21' });

  /** Answers to the clients' addresses are brought to our sockets. */
  const spoofRules = (t: Cleanup): Promise<void> =>
    follow(t, topology.router, ['routing', 'spoof-nft'], { lan0: 'to-client' });

  const start = (t: Cleanup, ...args: string[]) =>
    startTproxy(t, topology.router, '-s', String(PORT), '-r', 'nobody', '--ftp', 'both', '--log-connections', ...args);

  /** Gets a file and puts one in every way, with curl and lftp: how many control connections that takes. */
  const transfer = async (host: string): Promise<number> => {
    const got = join(folder, 'got');
    const url = `ftp://${host}`;
    let sessions = 0;
    const get = async (file: string, ...command: string[]): Promise<void> => {
      sessions++;
      await topology.client.run(...command);
      assert.equal(sha256(got), sha256(join(files, file)));
      rmSync(got);
    };
    for (const { curl, lftp, ipv4Only } of WAYS) {
      await get('small', ...curlCommand(...curl, '--output', got, `${url}/small`));
      if (ipv4Only && host.startsWith('[')) continue;
      await get('small', ...lftpCommand(url, lftp, `get small -o ${got}`));
    }
    for (const { curl } of [WAYS[0], WAYS[2]]) {
      await get('big', ...curlCommand(...curl, '--output', got, `${url}/big`));
      sessions++;
      await topology.client.run(...curlCommand(...curl, '--upload-file', join(folder, 'mine'), `${url}/incoming/`));
      assert.equal(sha256(join(files, 'incoming', 'mine')), sha256(join(folder, 'mine')));
      rmSync(join(files, 'incoming', 'mine'));
    }
    await nothingLeft();
    return sessions;
  };

  /**
   * All of it goes through the program, which logs connections: the addresses that vsftpd had control connections from.
   * It takes data connections from those only, and to those only.
   */
  const seenIn = async (running: Running, host: string): Promise<string[]> => {
    const before = vsftpd.log().length;
    const sessions = await transfer(host);
    const begun = (): number => running.stderr.split(' Connecting ').length - 1;
    await until(`${sessions} sessions and their data connections to be logged`, () => begun() >= 2 * sessions);
    const lines = vsftpd.log().slice(before);
    return [...new Set(lines.flatMap((line) => /Client "([^"]+)"/.exec(line)?.[1] ?? []).map(plain))];
  };

  const reply = (control: TestSocket): Promise<string> => control.receiveThrough('\n');

  /** A control connection by hand, logged in. */
  const login = async (to: string, port = 21): Promise<TestSocket> => {
    const control = await client.connect(to, port);
    assert.match(await reply(control), /^220 /);
    await control.send('USER anonymous\r\n');
    assert.match(await reply(control), /^230 /);
    return control;
  };

  /** What an active and a passive data connection look like at the client. */
  const dataEnds = async (control: TestSocket): Promise<{ activeFrom: string; passiveAt: string }> => {
    const own = await client.listen(0);
    const { ip } = control.local;
    await control.send(`EPRT |${ip.includes(':') ? 2 : 1}|${ip}|${own.port}|\r\nNLST\r\n`);
    assert.match(await reply(control), /^200 /);
    const active = await own.accept();
    assert.match(await reply(control), /^150 /);
    assert.match(await active.receiveAll(), /^small\r$/m);
    await active.sendFin();
    assert.match(await reply(control), /^226 /);
    await control.send(ip.includes(':') ? 'EPSV\r\n' : 'PASV\r\n');
    const told = await reply(control);
    const [, h1, h2, h3, h4, p1, p2] = /^227 .*\((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)/.exec(told) ?? [];
    const [, port] = /^229 .*\(\|\|\|(\d+)\|\)/.exec(told) ?? [];
    const at = port === undefined ? [h1, h2, h3, h4].join('.') : control.remote.ip;
    const passive = await client.connect(at, port === undefined ? Number(p1) * 256 + Number(p2) : Number(port));
    await control.send('NLST\r\n');
    assert.match(await reply(control), /^150 /);
    assert.match(await passive.receiveAll(), /^small\r$/m);
    assert.match(await reply(control), /^226 /);
    return { activeFrom: plain(active.remote.ip), passiveAt: at };
  };

  for (const tool of ['iptables', 'nft']) {
    for (const { family, origin, host, from, out } of families) {
      describe(`by TPROXY with the document's rules for ${tool}, over ${family}`, () => {
        test('everything gets through, and data connections need no rule of their own', async (t) => {
          await intercept(t, tool);
          const running = await start(t, '--intercept', 'tproxy', '-t');
          assert.deepEqual(await seenIn(running, host), [out]);
        });

        test('with --spoof the origin sees the client, and the client the origin, in data connections too', async (t) => {
          await intercept(t, tool);
          const running = await start(t, '--intercept', 'tproxy', '--spoof', '-t');
          assert.deepEqual(await seenIn(running, host), [from]);
          const control = await login(origin);
          assert.deepEqual(await dataEnds(control), { activeFrom: origin, passiveAt: origin });
        });
      });
    }
  }

  test('the ports of the client and of our spoofed connections to the same end may be the same', async (t) => {
    for (const host of [topology.client, topology.router]) {
      await host.sysctl('net.ipv4.ip_local_port_range', '40000 40001');
      t.after(() => host.sysctl('net.ipv4.ip_local_port_range', '32768 60999'));
    }
    await intercept(t, 'nft');
    await start(t, '--intercept', 'tproxy', '--spoof', '-t');
    const control = await login(originV4);
    for (let i = 0; i < 20; i++) {
      await control.send('EPSV\r\n');
      const [, port] = /^229 .*\(\|\|\|(\d+)\|\)/.exec(await reply(control)) ?? [];
      const data = await client.connect(originV4, Number(port));
      await control.send('NLST\r\n');
      assert.match(await reply(control), /^150 /);
      assert.match(await data.receiveAll(), /^small\r$/m);
      await data.sendFin();
      assert.match(await reply(control), /^226 /);
    }
  });

  for (const { family, origin, host, from, router, at } of families) {
    test(`--spoof to a fixed origin over ${family}: it sees the client`, async (t) => {
      await spoofRules(t);
      const running = await start(t, '--spoof', '-t', origin, '21');
      assert.deepEqual(await seenIn(running, `${router}:${PORT}`), [from]);
      const control = await login(at, PORT);
      assert.deepEqual(await dataEnds(control), { activeFrom: origin, passiveAt: at });
    });

    test(`--spoof behind redirects of port 21 and the data ports, over ${family}: the origin sees the client`, async (t) => {
      await spoofRules(t);
      await redirectFor(t, topology.router, 'nft', { port: 21, to: PORT });
      await redirectFor(t, topology.router, family === 'IPv4' ? 'iptables' : 'ip6tables', { port: 50_000, to: 50_000 });
      const running = await start(t, '--ftp-ports', '50000-50000', '--spoof', '-t');
      assert.deepEqual(await seenIn(running, host), [from]);
    });

    test(`--spoof behind a redirect of port 21 alone, over ${family}: what the client takes past us gets through`, async (t) => {
      await spoofRules(t);
      await redirectFor(t, topology.router, 'nft', { port: 21, to: PORT });
      await start(t, '--spoof', '-t');
      await transfer(host);
    });
  }
});
