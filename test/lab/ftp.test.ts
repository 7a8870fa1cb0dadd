import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type Peer, startVsftpd } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { makeCertificate } from '../support/certificate.js';
import { curlCommand, lftpCommand, WAYS } from '../support/ftp.js';
import { unless } from '../support/needs.js';
import { Sockets, type TestSocket } from '../support/sockets.js';
import { buildGateway, type Cleanup, startTproxy, TPROXY } from '../support/tproxy.js';

const MB = 1_000_000;
const PORTS = { low: 50_000, high: 50_099 };
const RANGE = `${PORTS.low}-${PORTS.high}`;

const [routerV4, routerV6] = ADDRESS.routerToClient;
const [routerOutV4, routerOutV6] = ADDRESS.routerToInternet;
const [originV4, originV6] = ADDRESS.internet;
const [clientV4] = ADDRESS.client;

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

const needs = ['vsftpd', 'curl', 'lftp', 'iptables', 'ip6tables', 'nft', 'openssl', 'tcpserver'].map(
  (name) => `program ${name}` as const,
);

describe('FTP', { skip: unless('ipv6', ...needs) }, () => {
  let topology: Topology;
  let vsftpd: Peer;
  let client: Sockets;
  let files: string;
  /** On the client. */
  let folder: string;
  /** Digests of the files. */
  let right: Readonly<Record<'big' | 'small' | 'mine', string>>;

  before(async () => {
    topology = await buildGateway();
    const { lab, internet } = topology;
    const certificate = makeCertificate(lab.folder, 'DNS:origin.lab');
    vsftpd = await startVsftpd(
      lab,
      internet,
      21,
      `ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=NO
force_anon_data_ssl=NO
ssl_tlsv1=YES
rsa_cert_file=${certificate.certificate}
rsa_private_key_file=${certificate.key}`,
    );
    client = new Sockets(topology.client);
    files = join(vsftpd.folder, 'files');
    folder = lab.path('client');
    mkdirSync(folder);
    writeFileSync(join(files, 'big'), randomBytes(100 * MB));
    writeFileSync(join(files, 'small'), randomBytes(100_000));
    writeFileSync(join(folder, 'mine'), randomBytes(100 * MB));
    right = {
      big: sha256(join(files, 'big')),
      small: sha256(join(files, 'small')),
      mine: sha256(join(folder, 'mine')),
    };
  });
  after(() => topology?.lab.close());
  beforeEach(() => {
    rmSync(join(files, 'incoming'), { recursive: true });
    mkdirSync(join(files, 'incoming'));
  });

  /** TCP ports that somebody listens on, on the router. */
  const listening = async (): Promise<number[]> => {
    const { stdout } = await topology.router.run('ss', '-Hltn');
    return stdout.split('\n').flatMap((line) => {
      const [, port] = /^LISTEN\s+\d+\s+\d+\s+\S+:(\d+)\s/.exec(line) ?? [];
      return port === undefined ? [] : [Number(port)];
    });
  };

  /** Nothing but the service's own sockets, two for each worker. */
  const nothingLeft = (port: number): Promise<unknown> =>
    until('every listener for data to be closed', async () => (await listening()).every((other) => other === port));

  const fixed = (t: Cleanup, ...options: string[]): Promise<Running> =>
    startTproxy(t, topology.router, '-s', '2121', '--ftp', 'both', ...options, '-t', originV4, '21');

  const curl = (...args: string[]) => topology.client.run(...curlCommand(...args));

  const lftp = (site: string, settings: string, ...commands: string[]) =>
    topology.client.run(...lftpCommand(site, settings, ...commands));

  /** Commands with this verb that vsftpd was told by the router. */
  const asked = (verb: string): string[] =>
    vsftpd.log().filter((line) => line.includes(`FTP command: Client`) && line.includes(`"${verb}`));

  describe('to a fixed target', () => {
    for (const { way, curl: options, lftp: settings, ipv4Only } of WAYS) {
      for (const [family, router, origin] of [
        ['IPv4', routerV4, originV4],
        ['IPv6', `[${routerV6}]`, originV6],
      ] as const) {
        if (family === 'IPv6' && ipv4Only) continue;

        test(`curl lists, gets and puts 100 MB with ${way} over ${family}`, async (t) => {
          await startTproxy(t, topology.router, '-s', '2121', '--ftp', 'both', '-t', origin, '21');
          const url = `ftp://${router}:2121`;
          const before = asked(way).length;
          const { stdout } = await curl(...options, `${url}/`);
          assert.match(stdout, /100000000 .* big\n/);
          const got = join(folder, 'got');
          await curl(...options, '--output', got, `${url}/big`);
          assert.equal(sha256(got), right.big);
          await curl(...options, '--upload-file', join(folder, 'mine'), `${url}/incoming/`);
          assert.equal(sha256(join(files, 'incoming', 'mine')), right.mine);
          assert.equal(asked(way).length - before, 3);
          await nothingLeft(2121);
        });

        test(`lftp lists, gets and puts 100 MB with ${way} over ${family}`, async (t) => {
          await startTproxy(t, topology.router, '-s', '2121', '--ftp', 'both', '-t', origin, '21');
          const got = join(folder, 'got');
          const { stdout } = await lftp(
            `ftp://${router}:2121`,
            settings,
            'ls',
            `get -e big -o ${got}`,
            `put -O incoming ${join(folder, 'mine')}`,
          );
          assert.match(stdout, /100000000 .* big\n/);
          assert.equal(sha256(got), right.big);
          assert.equal(sha256(join(files, 'incoming', 'mine')), right.mine);
          await nothingLeft(2121);
        });
      }
    }

    for (const [title, router, origin] of [
      ['an IPv4 client and an IPv6 origin', routerV4, originV6],
      ['an IPv6 client and an IPv4 origin', `[${routerV6}]`, originV4],
    ] as const) {
      test(`${title} come together, active and passive`, async (t) => {
        await startTproxy(t, topology.router, '-s', '2121', '--ftp', 'both', '-t', origin, '21');
        for (const { curl: options } of WAYS) {
          const got = join(folder, 'got');
          await curl(...options, '--output', got, `ftp://${router}:2121/small`);
          assert.equal(sha256(got), right.small);
        }
        await nothingLeft(2121);
      });
    }

    for (const options of [[], ['--ftp-port', '-']]) {
      test(`50 transfers at once, ${options.length === 0 ? 'passive' : 'active'}, and nothing is left of them`, async (t) => {
        await fixed(t, '--ftp-ports', RANGE);
        const got = (i: number): string => join(folder, `got${i}`);
        await Promise.all(
          Array.from({ length: 50 }, (_, i) => curl(...options, '--output', got(i), `ftp://${routerV4}:2121/small`)),
        );
        for (let i = 0; i < 50; i++) assert.equal(sha256(got(i)), right.small);
        await nothingLeft(2121);
      });
    }

    test('data connections come to the ports that they are told to', async (t) => {
      await fixed(t, '--ftp-ports', '50007-50007');
      const control = await login();
      for (let i = 0; i < 3; i++) {
        await control.send('PASV\r\n');
        assert.match(await reply(control), /^227 .*\(10,77,1,1,195,87\)/);
      }
      assert.ok((await listening()).includes(50_007));
      await control.reset();
      await nothingLeft(2121);
    });

    /** A control connection by hand, logged in. */
    const login = async (): Promise<TestSocket> => {
      const control = await client.connect(routerV4, 2121);
      assert.match(await reply(control), /^220 /);
      await control.send('user anonymous\r\n');
      assert.match(await reply(control), /^230 /);
      return control;
    };

    const reply = (control: TestSocket): Promise<string> => control.receiveThrough('\n');

    test('a bounce is refused, and nobody is connected to', async (t) => {
      await fixed(t);
      const victim = await new Sockets(topology.proxy).listen(5000);
      const control = await login();
      const before = asked('PORT').length;
      for (const command of [
        `PORT ${ADDRESS.proxy[0].replaceAll('.', ',')},19,136`,
        `EPRT |1|${ADDRESS.proxy[0]}|5000|`,
        `PORT ${clientV4.replaceAll('.', ',')},0,25`,
        'PORT 127,0,0,1,31,64',
      ]) {
        await control.send(`${command}\r\nLIST\r\n`);
        assert.match(await reply(control), /^500 Illegal (PORT|EPRT) command/);
        assert.match(await reply(control), /^425 /);
      }
      assert.equal(asked('PORT').length, before);
      await nothingLeft(2121);
      assert.equal(await victim.waiting(), 0);
    });

    test('whoever is not the client gets no data', async (t) => {
      await fixed(t);
      const control = await login();
      await control.send('EPSV\r\n');
      const port = Number(/\|\|\|(\d+)\|/.exec(await reply(control))?.[1]);
      const thief = new Sockets(topology.proxy);
      await thief.expectReset(routerV4, port);
      const data = await client.connect(routerV4, port);
      await control.send('NLST\r\n');
      assert.match(await reply(control), /^150 /);
      assert.match(await data.receiveAll(), /^big\r$/m);
      assert.match(await reply(control), /^226 /);
      await nothingLeft(2121);
    });

    test('pipelined commands get their replies in order', async (t) => {
      await fixed(t);
      const control = await login();
      const data = await client.listen(5001);
      const address = clientV4.replaceAll('.', ',');
      await control.send(
        `NOOP\r\nPORT 10,0,0,1,19,137\r\nport ${address},19,137\nNLST\r\nSYST\r\nEPSV\r\nPORT ${address},19,137\r\nNLST\r\nQUIT\r\n`,
      );
      const far = await data.accept();
      assert.match(await far.receiveAll(), /^big\r$/m);
      await far.sendFin();
      const again = await data.accept();
      await again.receiveAll();
      await again.sendFin();
      const codes = (await control.receiveAll()).split('\r\n').map((line) => line.slice(0, 3));
      assert.deepEqual(codes, ['200', '500', '200', '150', '226', '215', '229', '200', '150', '226', '221', '']);
    });

    test('AUTH TLS and all behind it pass untouched', async (t) => {
      await fixed(t);
      const before = asked('AUTH').length;
      const { stdout } = await curl('--ssl-reqd', '--insecure', '--head', `ftp://${routerV4}:2121/small`);
      assert.match(stdout, /^Content-Length: 100000\r$/m);
      assert.equal(asked('AUTH').length - before, 1);
    });

    test('a client that aborts goes on with its session', async (t) => {
      await fixed(t);
      const control = await login();
      await control.send('EPSV\r\n');
      const port = Number(/\|\|\|(\d+)\|/.exec(await reply(control))?.[1]);
      const data = await client.connect(routerV4, port);
      await control.send('TYPE I\r\nRETR big\r\n');
      assert.match(await reply(control), /^200 /);
      assert.match(await reply(control), /^150 /);
      await data.receive(1000);
      await control.send('\xff\xf4\xff\xf2ABOR\r\n');
      await data.reset();
      assert.match(await reply(control), /^426 /);
      assert.match(await reply(control), /^22[56] /);
      await control.send('PASV\r\n');
      assert.match(await reply(control), /^227 /);
    });

    test('under inetd one process serves a session with all its data connections', async (t) => {
      const { router } = topology;
      const program = [...TPROXY, '--ftp', 'both', '-t', originV4, '21'];
      const inetd = await router.spawn(['tcpserver', '-H', '-R', '-l', '0', '0', '2121', ...program]);
      t.after(() => inetd.end());
      await router.listening(2121);
      for (const { curl: options } of WAYS) {
        const got = join(folder, 'got');
        const url = `ftp://${routerV4}:2121`;
        await curl(...options, '--output', join(folder, 'list'), `${url}/`, '--output', got, `${url}/small`);
        assert.equal(sha256(got), right.small);
      }
      await nothingLeft(2121);
    });
  });

  describe('behind a redirect of port 21', () => {
    /** The rules that docs/ftp.md gives, for each tool. */
    const RULES = {
      iptables: [
        ['iptables', 'ip6tables'].flatMap((tool) => [
          `${tool} -t nat -A PREROUTING -i to-client -p tcp --dport 21 -j REDIRECT --to-ports 8021`,
          `${tool} -t nat -A PREROUTING -i to-client -p tcp --dport 50000:50099 -j REDIRECT`,
        ]),
        ['iptables -t nat -F PREROUTING', 'ip6tables -t nat -F PREROUTING'],
      ],
      nft: [
        [
          `nft '
table inet ftp {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    iifname "to-client" tcp dport 21 redirect to :8021
    iifname "to-client" tcp dport 50000-50099 redirect
  }
}'`,
        ],
        ['nft delete table inet ftp'],
      ],
    } as const;

    const redirect = async (t: Cleanup, tool: keyof typeof RULES): Promise<void> => {
      const [begin, end] = RULES[tool];
      await topology.router.run('sh', '-ec', begin.join('\n'));
      t.after(() => topology.router.run('sh', '-ec', end.join('\n')));
    };

    for (const tool of ['iptables', 'nft'] as const) {
      test(`with the data ports redirected too (${tool}), everything gets through, over IPv4 and IPv6`, async (t) => {
        await redirect(t, tool);
        await startTproxy(t, topology.router, '-s', '8021', '--ftp', 'both', '--ftp-ports', RANGE, '-t');
        const got = join(folder, 'got');
        for (const { curl: options } of WAYS) {
          for (const origin of [originV4, `[${originV6}]`]) {
            rmSync(got, { force: true });
            await curl(...options, '--output', got, `ftp://${origin}/small`);
            assert.equal(sha256(got), right.small);
          }
        }
        for (const { lftp: settings } of WAYS) {
          rmSync(got, { force: true });
          await lftp(`ftp://${originV4}`, settings, `get small -o ${got}`);
          assert.equal(sha256(got), right.small);
        }
        await curl('--output', got, `ftp://${originV4}/big`);
        assert.equal(sha256(got), right.big);
        await curl('--upload-file', join(folder, 'mine'), `ftp://${originV4}/incoming/`);
        assert.equal(sha256(join(files, 'incoming', 'mine')), right.mine);
        await nothingLeft(8021);
        // All of it came from the router: nothing got past us.
        const clients = new Set(vsftpd.log().flatMap((line) => /Client "(?:::ffff:)?([^"]+)"/.exec(line)?.[1] ?? []));
        for (const ip of clients) assert.ok(ip === routerOutV4 || ip === routerOutV6, ip);
      });
    }

    test('with port 21 alone redirected, a client that goes where it is told gets through', async (t) => {
      const { router } = topology;
      await router.run('sh', '-ec', RULES.iptables[0][0] as string);
      t.after(() => router.run('sh', '-ec', RULES.iptables[1][0]));
      await startTproxy(t, router, '-s', '8021', '--ftp', 'both', '-t');
      const got = join(folder, 'got');
      for (const options of [
        ['--disable-epsv', '--no-ftp-skip-pasv-ip'],
        ['--ftp-port', '-'],
        ['--ftp-port', '-', '--disable-eprt'],
      ]) {
        rmSync(got, { force: true });
        await curl(...options, '--output', got, `ftp://${originV4}/small`);
        assert.equal(sha256(got), right.small);
      }
    });

    test('with port 21 alone redirected, and the client’s address masked, EPSV gets through past us', async (t) => {
      const { router } = topology;
      await router.run('sh', '-ec', RULES.iptables[0][0] as string);
      await router.run('sh', '-ec', 'iptables -t nat -A POSTROUTING -o to-internet -j MASQUERADE');
      t.after(() => router.run('sh', '-ec', 'iptables -t nat -F'));
      await startTproxy(t, router, '-s', '8021', '--ftp', 'both', '-t');
      const got = join(folder, 'got');
      rmSync(got, { force: true });
      await curl('--output', got, `ftp://${originV4}/small`);
      assert.ok(existsSync(got));
      assert.equal(sha256(got), right.small);
    });
  });
});
