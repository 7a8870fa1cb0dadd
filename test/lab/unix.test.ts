import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import type { Running } from '../../scripts/lab/running.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';
import { Sockets } from '../support/sockets.js';
import { buildGateway, type Cleanup, endTproxy, runTproxy, startTproxy, TPROXY } from '../support/tproxy.js';

/** A folder of the router's own. */
const DIR = '/run/sockets';
const NGINX = `${DIR}/nginx.sock`;
const HTTP_PORT = 7080;
const NOBODY = '65534';

describe('unix sockets', { skip: unless('program curl', 'program nginx', 'program socat', 'program python3') }, () => {
  let topology: Topology;
  let nginx: Peer;
  let digest: string;
  const [router] = ADDRESS.routerToClient;

  before(async () => {
    topology = await buildGateway();
    await topology.router.run('mkdir', '-m', '755', DIR);
    const server = `server {
      listen unix:${NGINX};
      location = /whoami { default_type text/plain; return 200 "$http_host $request\\n"; }
    }`;
    nginx = await startNginx(topology.lab, topology.router, [80], server);
    const big = Buffer.alloc(50_000_000, 'a line of fifty bytes, again and again and again\n');
    digest = createHash('sha256').update(big).digest('hex');
    writeFileSync(join(nginx.folder, 'files', 'big'), big);
    await new Sockets(topology.internet).serveHttp(HTTP_PORT);
  });
  after(() => topology?.lab.close());

  const onRouter = async (...command: string[]): Promise<string> => (await topology.router.run(...command)).stdout;
  const exists = async (path: string): Promise<boolean> =>
    (await topology.router.attempt('test', '-e', path)).code === 0;

  /** Starts the program with a relay from a socket to the origin. */
  const relayFrom = (t: Cleanup, path: string, ...args: string[]): Promise<Running> =>
    startTproxy(t, topology.router, '-s', `unix:${path}`, ...args, '-t', 'origin.lab', String(HTTP_PORT));

  const curl = ['curl', '-sS', '--max-time', '20'];
  const ask = (path: string, ...as: string[]): Promise<string> =>
    onRouter(...as, ...curl, '--unix-socket', path, `http://origin.lab:${HTTP_PORT}/hello`);

  test('clients of a port are served by nginx on its socket, in bulk and many at once', async (t) => {
    await startTproxy(t, topology.router, '-w', '2', '-s', '9000', '-t', `unix:${NGINX}`);
    const url = `http://${router}:9000`;
    const sum = await topology.client.run('sh', '-c', `${curl.join(' ')} ${url}/big | sha256sum`);
    assert.equal(sum.stdout.split(' ')[0], digest);
    const many = await topology.client.run(...curl, '-Z', '--parallel-max', '50', `${url}/whoami?[1-300]`);
    const answers = many.stdout.trim().split('\n');
    assert.equal(new Set(answers).size, 300);
    assert.match(answers[0] as string, /^10\.77\.1\.1:9000 GET \/whoami\?\d+ HTTP\/1\.1$/);
  });

  test('clients of a socket are served by a server elsewhere, by all workers from one queue', async (t) => {
    const path = `${DIR}/front.sock`;
    const running = await relayFrom(t, path, '-w', '3');
    await running.says(/listening on unix:\/run\/sockets\/front\.sock/);
    const noise = `http://origin.lab:${HTTP_PORT}/noise/20000000/7`;
    const sum = await onRouter('sh', '-c', `${curl.join(' ')} --unix-socket ${path} ${noise} | sha256sum`);
    assert.equal(sum.split(' ')[0], await new Sockets(topology.client).noiseDigest(20_000_000, 7));
    const many = `http://origin.lab:${HTTP_PORT}/[1-200]`;
    const answers = await onRouter(...curl, '-Z', '--parallel-max', '50', '--unix-socket', path, many);
    assert.equal(answers.split('"url"').length - 1, 200);
    const listening = (await onRouter('cat', '/proc/net/unix')).split('\n').filter((line) => line.endsWith(path));
    assert.equal(listening.length, 1);
  });

  test('abstract names on both sides are those that other programs mean', async (t) => {
    const echo = await topology.router.spawn(['socat', 'ABSTRACT-LISTEN:back,fork', 'EXEC:cat']);
    t.after(() => echo.end());
    await until('socat to listen', async () => (await onRouter('cat', '/proc/net/unix')).includes('@back\n'));
    await startTproxy(t, topology.router, '-s', 'unix:@front', '-t', 'unix:@back');
    const echoed = await onRouter('sh', '-c', 'echo hello | socat -t 10 - ABSTRACT-CONNECT:front');
    assert.equal(echoed, 'hello\n');
  });

  test('descriptors that come along are not passed on, and the bytes around them are, without a wait', async (t) => {
    await startTproxy(t, topology.router, '-s', 'unix:@rights', '-t', 'unix:@sink');
    // A recv stops behind each descriptor, and no event comes for what stands behind the last ones.
    const lines = `
import socket
sink = socket.socket(socket.AF_UNIX)
sink.bind('\\0sink')
sink.listen()
client = socket.socket(socket.AF_UNIX)
client.connect('\\0rights')
far = sink.accept()[0]
far.settimeout(10)
for i in range(20):
    for j in range(20):
        socket.send_fds(client, [b'one '], [0])
        client.send(b'two ')
    got = b''
    while len(got) < 160:
        piece, fds, flags, _ = socket.recv_fds(far, 160, 4)
        assert piece and not fds
        got += piece
    assert got == b'one two ' * 20
print('all')
`;
    assert.equal(await onRouter('/usr/bin/python3', '-c', lines), 'all\n');
  });

  test('HTTP on a socket is translated for a proxy', async (t) => {
    const squid = await startSquid(topology.lab, topology.proxy);
    const path = `${DIR}/http.sock`;
    const via = ['--forwarded-for', '--via', 'lab', 'proxy.lab', String(squid.port)];
    await startTproxy(t, topology.router, '-s', `unix:${path}`, ...via);
    const answer = JSON.parse(await ask(path)) as { rawHeaders: string[]; url: string };
    assert.equal(answer.url, '/hello');
    const field = (name: string) => answer.rawHeaders[answer.rawHeaders.findIndex((h) => h.toLowerCase() === name) + 1];
    assert.match(field('via') as string, /^1\.1 lab, /);
    assert.match(field('x-forwarded-for') as string, /^unknown, /);
    await squid.logged(`http://origin.lab:${HTTP_PORT}/hello`);
  });

  test('the file is gone when the program has ended, and one that was left behind gives way', async (t) => {
    const path = `${DIR}/end.sock`;
    const first = await relayFrom(t, path);
    await ask(path);
    await first.end('SIGKILL');
    assert.ok(await exists(path));
    const second = await relayFrom(t, path);
    await ask(path);
    await second.end('SIGTERM');
    assert.equal(await exists(path), false);
    assert.doesNotMatch(second.stderr, /unlink/);
  });

  test('a second program does not get the socket of the first, nor the path of a file', async (t) => {
    const path = `${DIR}/taken.sock`;
    await relayFrom(t, path);
    const relay = ['-t', 'origin.lab', String(HTTP_PORT)];
    const second = await runTproxy(topology.router, '-d', '-s', `unix:${path}`, ...relay);
    assert.equal(second.code, 69);
    assert.match(second.stderr, /^tproxy: bind unix:\S+taken\.sock: EADDRINUSE \(another program listens there\)\n$/);
    await ask(path);
    await onRouter('sh', '-c', `echo precious >${DIR}/file`);
    const third = await runTproxy(topology.router, '-d', '-s', `unix:${DIR}/file`, ...relay);
    assert.equal(third.code, 73);
    assert.equal(await onRouter('cat', `${DIR}/file`), 'precious\n');
  });

  test('a start that fails leaves no file', async (t) => {
    await startTproxy(t, topology.router, '-s', '9001', '-t', 'origin.lab', String(HTTP_PORT));
    const path = `${DIR}/failed.sock`;
    const both = ['-s', `unix:${path}`, '-s', '9001', '-t', 'origin.lab', String(HTTP_PORT)];
    const outcome = await runTproxy(topology.router, '-d', ...both);
    assert.match(outcome.stderr, /9001: EADDRINUSE/);
    assert.equal(await exists(path), false);
    const noProgram = ['-P', '/nonexistent/pid', '-s', `unix:${path}`, '-t', 'origin.lab', String(HTTP_PORT)];
    assert.equal((await runTproxy(topology.router, '-d', ...noProgram)).code, 73);
    assert.equal(await exists(path), false);
  });

  test('a daemon removes its file too', async (t) => {
    t.after(() => endTproxy(topology.router));
    const path = `${DIR}/daemon.sock`;
    const pidFile = `${DIR}/daemon.pid`;
    const args = ['-P', pidFile, '-s', `unix:${path}`, '-t', 'origin.lab', String(HTTP_PORT)];
    assert.equal((await runTproxy(topology.router, ...args)).code, 0);
    await ask(path);
    await onRouter('sh', '-c', `kill -TERM $(cat ${pidFile})`);
    await until('the file to go', async () => !(await exists(path)));
  });

  test('a plan that goes in circles is refused', async () => {
    const outcome = await runTproxy(topology.router, '-d', '-s', `unix:${DIR}/a`, '-t', `unix:${DIR}/a`);
    assert.equal(outcome.code, 78);
    assert.match(outcome.stderr, /a loop: unix:\/run\/sockets\/a is relayed to unix:\/run\/sockets\/a/);
    assert.equal(await exists(`${DIR}/a`), false);
  });

  test('systemd may hand a socket over', async (t) => {
    const path = `${DIR}/activated.sock`;
    const command = [...TPROXY, '-d', '-t', 'origin.lab', String(HTTP_PORT)];
    const running = await topology.router.spawn(['systemd-socket-activate', '-l', path, ...command]);
    t.after(() => running.end());
    await until('it to listen', () => exists(path));
    await ask(path);
    await running.says(/listening on unix:\/run\/sockets\/activated\.sock/);
    await ask(path);
  });

  describe('and privileges', { skip: unless('root') }, () => {
    const asNobody = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];

    test('the file is of who started the program, with the mode that it was given', async (t) => {
      const path = `${DIR}/mode.sock`;
      await relayFrom(t, path, '-r', 'nobody', '--socket-mode', '660');
      assert.equal(await onRouter('stat', '-c', '%a %u', path), '660 0\n');
      await ask(path);
      const refused = await topology.router.attempt(...asNobody, ...curl, '--unix-socket', path, 'http://origin.lab/');
      assert.equal(refused.code, 7);
      const open = `${DIR}/open.sock`;
      await relayFrom(t, open, '-r', 'nobody', '--socket-mode', '666');
      await ask(open, ...asNobody);
    });

    test('who is root no more may not remove the file: it says so, and the next start does', async (t) => {
      const path = `${DIR}/dropped.sock`;
      const first = await relayFrom(t, path, '-r', 'nobody');
      const { stdout, stderr } = await first.end('SIGTERM');
      assert.match(
        stdout + stderr,
        /warn +unlink \/run\/sockets\/dropped\.sock: EACCES: it stays behind, and the next start removes it/,
      );
      assert.ok(await exists(path));
      await relayFrom(t, path, '-r', 'nobody');
      await ask(path);
    });

    test("in a directory of the user's own the file is gone at the end", async (t) => {
      await onRouter('install', '-d', '-o', 'nobody', `${DIR}/own`);
      const path = `${DIR}/own/a.sock`;
      const running = await relayFrom(t, path, '-r', 'nobody');
      await running.end('SIGTERM');
      assert.equal(await exists(path), false);
    });

    test('targets are connected to as the user, and what is not allowed is logged by name', async (t) => {
      await onRouter('install', '-d', '-m', '700', `${DIR}/private`);
      const path = `${DIR}/private/a.sock`;
      const running = await startTproxy(t, topology.router, '-r', 'nobody', '-s', '9002', '-t', `unix:${path}`);
      await new Sockets(topology.client).expectReset(router, 9002);
      await running.says(/connect unix:\/run\/sockets\/private\/a\.sock: EACCES/);
    });
  });
});
