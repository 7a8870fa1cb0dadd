import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { probe, startOrigin, startRinetd, writeConf } from '../support/rinetd.js';
import type { Probe } from '../support/rinetd-clients.js';
import { Sockets } from '../support/sockets.js';
import { buildGateway, runTproxy, startTproxy, TPROXY } from '../support/tproxy.js';

const PORT = 7000;
const HTTP_PORT = 7080;
const PLAIN_PORT = 7100;
const [originV4] = ADDRESS.internet;
const [routerV4] = ADDRESS.routerToClient;
const [sourceV4] = ADDRESS.routerToInternet;
const [clientV4] = ADDRESS.client;
const OTHER = '10.77.1.21';

const tcp = (port: number, from: string = clientV4): Probe => ({ from, to: routerV4, port, by: 'tcp' });

const needs = ['curl', 'squid', 'socat', 'ss'].map((name) => `program ${name}` as const);

describe('what only our rinetd.conf has', { skip: unless('root', ...needs) }, () => {
  let topology: Topology;
  let client: Sockets;
  let internet: Sockets;
  let folders = 0;

  before(async () => {
    topology = await buildGateway();
    client = new Sockets(topology.client);
    internet = new Sockets(topology.internet);
    await topology.client.address('to-router', `${OTHER}/24`);
    await startOrigin(topology.internet, PORT);
    await internet.serveHttp(HTTP_PORT);
  });
  after(() => topology?.lab.close());

  /** Writes files into a new folder, which is FOLDER in them: the path of rinetd.conf. */
  const write = (conf: string, more: Readonly<Record<string, string>> = {}): { folder: string; conf: string } => {
    const folder = topology.lab.path(`more${folders++}`);
    const path = writeConf(folder, conf);
    for (const [name, text] of Object.entries(more)) writeFileSync(join(folder, name), text);
    return { folder, conf: path };
  };
  const onRouter = async (...command: string[]): Promise<string> => (await topology.router.run(...command)).stdout;

  test('services of every kind from one file and from those that it includes', async (t) => {
    const squid = await startSquid(topology.lab, topology.proxy);
    const plain = await internet.listen(PLAIN_PORT);
    const ftp = await internet.listen(21);
    t.after(() => plain.close());
    const echo = await topology.router.spawn(['socat', 'ABSTRACT-LISTEN:echo,fork', 'EXEC:cat']);
    t.after(() => echo.end('SIGKILL'));
    const { folder, conf } = write(
      `logfile FOLDER/log
statusfile "FOLDER/status.json"
statusinterval 1
buffersize 4096
include *.rules
0.0.0.0 8001 unix:@echo
unix:FOLDER/in.sock ${originV4} ${HTTP_PORT} [mode=0640]
unix:@front ${originV4} ${HTTP_PORT}
0.0.0.0 8002 ${originV4} ${PLAIN_PORT} [proxy-protocol=v2, name=proxied]
0.0.0.0 8003 proxy.lab 3128 [mode=http,forwarded-for]
0.0.0.0 8004 ${originV4} ${PLAIN_PORT} [max-bandwidth=8000000,wait-in-out=1]
0.0.0.0 8005 ${originV4} 21 [ftp=both]
`,
      {
        '1.rules': `0.0.0.0 8006 ${originV4} ${PORT}\nallow 10.77.1.0/24\ndeny ${OTHER}/32\n`,
        '2.rules': `0.0.0.0 8007 ${originV4} ${PLAIN_PORT} [keepalive=off]`,
      },
    );
    const running = await startRinetd(t, topology.router, 'tproxy', conf);
    assert.match(running.stderr, /rinetd\.conf:4:1: warning: buffersize has no effect/);

    const near = await client.connect(routerV4, 8001);
    await near.send('ping');
    assert.equal(await near.receive(4), 'ping');
    await near.closed();

    const mode = await onRouter('stat', '-c', '%a', join(folder, 'in.sock'));
    assert.equal(mode, '640\n');
    const curl = ['curl', '-sSf', '--max-time', '20'];
    for (const by of [
      ['--unix-socket', join(folder, 'in.sock')],
      ['--abstract-unix-socket', 'front'],
    ]) {
      assert.match(await onRouter(...curl, ...by, 'http://origin.lab/by-socket'), /"url":"\/by-socket"/);
    }

    const proxied = await client.connect(routerV4, 8002);
    await proxied.send('x');
    const header = Buffer.from(await (await plain.accept()).receive(29), 'latin1');
    const ips = [...Buffer.from(`${clientV4}.${routerV4}`.split('.').map(Number))];
    assert.equal(header.toString('hex', 0, 16), '0d0a0d0a000d0a515549540a2111000c');
    assert.deepEqual([...header.subarray(16, 24)], ips);
    assert.equal(header.readUInt16BE(26), 8002);
    assert.equal(String(header.subarray(28)), 'x');

    await topology.client.run(...curl, '-H', `Host: origin.lab:${HTTP_PORT}`, `http://${routerV4}:8003/http`);
    await squid.logged(`http://origin.lab:${HTTP_PORT}/http`);

    const slow = await client.connect(routerV4, 8004);
    const fast = await plain.accept();
    const sent = fast.sendNoise(3_000_000, 1);
    const started = performance.now();
    const got = await slow.digest(3_000_000);
    assert.deepEqual(got, { bytes: 3_000_000, sha256: await sent });
    // 3 seconds at this rate: half of that is more than any buffer on the way can give.
    assert.ok(performance.now() - started > 1500);

    const control = await client.connect(routerV4, 8005);
    const server = await ftp.accept();
    await server.send('220 ready\r\n');
    assert.equal(await control.receiveThrough('\r\n'), '220 ready\r\n');
    await control.send('PASV\r\n');
    assert.equal(await server.receiveThrough('\r\n'), 'PASV\r\n');
    await server.send(`227 Entering Passive Mode (${originV4.replaceAll('.', ',')},200,10)\r\n`);
    assert.match(await control.receiveThrough('\r\n'), /\(10,77,1,1,\d+,\d+\)/);

    assert.deepEqual(await probe(topology.client, [tcp(8006), tcp(8006, OTHER)]), [sourceV4, 'refused']);

    const silent = await client.connect(routerV4, 8007);
    const held = await plain.accept();
    const timers = (port: number) => onRouter('ss', '-Hnto', 'sport', '=', `:${port}`);
    for (const port of [8007, held.remote.port]) assert.doesNotMatch(await timers(port), /keepalive/);
    for (const port of [8004, fast.remote.port]) assert.match(await timers(port), /keepalive/);
    await held.reset();
    await silent.expectEnd();

    const status = await until('the status file to know of the rules', () => {
      const file = join(folder, 'status.json');
      const { rules } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { rules: [] };
      return rules.find(({ name, connections_total }: never) => name === 'proxied' && connections_total === 1);
    });
    assert.equal(status.denied, 0);

    running.signal('SIGTERM');
    assert.equal((await running.outcome()).code, 0);
    assert.equal(existsSync(join(folder, 'in.sock')), false);
    const log = readFileSync(join(folder, 'log'), 'latin1');
    assert.match(log, new RegExp(`\t${OTHER}\t0\\.0\\.0\\.0\t8006\t.*\tdenied\n`));
    assert.match(log, /\t\?\tunix:\S+\/in\.sock\t0\t10\.77\.2\.2\t7080\t\d+\t\d+\tdone-/);
    assert.match(log, /\t0\.0\.0\.0\t8001\tunix:@echo\t0\t4\t4\tdone-/);
  });

  test('tproxy -c takes such a file and one of YAML, and --to-yaml makes the second of the first', async (t) => {
    const { folder, conf } = write(
      `logfile FOLDER/log
0.0.0.0 8000 ${originV4} ${PORT}
deny ${OTHER}
0.0.0.0 8000/udp ${originV4} ${PORT}/udp [timeout=9]
`,
    );
    const probes: Probe[] = [tcp(8000), tcp(8000, OTHER), { ...tcp(8000), by: 'udp' }];
    const expected = [sourceV4, 'refused', sourceV4];
    const ofConf = await startTproxy(t, topology.router, '-c', conf);
    assert.deepEqual(await probe(topology.client, probes), expected);
    await ofConf.end();

    const { code, stdout, stderr } = await runTproxy(topology.router, '--to-yaml', '-c', conf);
    assert.equal(code, 0, stderr);
    const yaml = join(folder, 'rules.yaml');
    writeFileSync(yaml, stdout);
    await startTproxy(t, topology.router, '-c', yaml);
    assert.deepEqual(await probe(topology.client, probes), expected);
    const lines = readFileSync(join(folder, 'log'), 'latin1').split('\n');
    assert.equal(lines.filter((line) => line.endsWith('\tdenied')).length, 2);
  });

  test('a link named rinetd is a daemon with its pid file, and ends on SIGTERM', async () => {
    const { folder, conf } = write(`0.0.0.0 8000 ${originV4} ${PORT}\npidlogfile "FOLDER/the pid"\n`);
    const [node, main] = TPROXY as [string, string];
    const link = join(folder, 'rinetd');
    symlinkSync(main, link);
    const { code, stdout, stderr } = await topology.router.attempt(node, link, '-c', conf);
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(await probe(topology.client, [tcp(8000)]), [sourceV4]);
    const pidFile = join(folder, 'the pid');
    await topology.router.run('kill', readFileSync(pidFile, 'utf8').trim());
    await until('the pid file to go', () => !existsSync(pidFile));
    await until('the port to close', async () => (await probe(topology.client, [tcp(8000)]))[0] === 'closed port');
  });

  test('SIGINT, as Ctrl-C sends it, ends it in the foreground', async (t) => {
    const { conf } = write(`0.0.0.0 8000 ${originV4} ${PORT}\n`);
    const running = await startRinetd(t, topology.router, 'tproxy', conf);
    running.signal('SIGINT');
    const { code, signal } = await running.outcome();
    assert.ok(code === 0 || signal === 'SIGINT', `${code} ${signal}`);
  });

  test('a daemon whose file is wrong says why before the command ends', async () => {
    const { conf } = write(`0.0.0.0 8000 ${originV4}\n0.0.0.0 8001 ${originV4} ${PORT}\n`);
    const { code, stderr } = await topology.router.attempt(...TPROXY, '--as', 'rinetd', '-c', conf);
    assert.equal(stderr, `tproxy: ${conf}:1:23: CONNECTPORT is missing\n`);
    assert.equal(code, 78);
    assert.deepEqual(await probe(topology.client, [tcp(8001)]), ['closed port']);
  });
});
