/**
 * The main job in one minute: a client, a router and the internet in network namespaces, a real REDIRECT rule, and an
 * HTTP proxy that sees the client's requests although the client knows of none.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Host } from './lab/host.js';
import { startSquid } from './lab/peers.js';
import { redirect } from './lab/redirect.js';
import type { Running } from './lab/running.js';
import { ADDRESS, buildTopology, type Topology } from './lab/topology.js';
import { until } from './lab/until.js';

const USAGE = `\
Usage: npm run demo [-- --stay]

Builds a client, a router, an upstream proxy and an origin in network namespaces
of their own, and fetches through tproxy. Nothing outside of them is touched.
  --stay   leave it all up until Ctrl-C, and say how to play with it
`;

const TPROXY_PORT = 8081;
const PROXY_PORT = 3128;
const PATH = '/hello';
/** The one address of the upstream's name, so that its log names the same client each time. */
const UPSTREAM = 'upstream.lab';

/** The upstream: Squid, or the demo's own proxy. */
interface Upstream {
  readonly name: string;
  readonly caches: boolean;
  /** One line for each request so far: client, result and status, method, URL. */
  log(): readonly string[];
}

interface Demo extends Topology {
  readonly upstream: Upstream;
  readonly tproxy: Running;
  readonly tool: 'nft' | 'iptables';
}

const say = (text = ''): void => console.log(text);
const indented = (lines: readonly string[]): string => lines.map((line) => `     ${line}`).join('\n');
const linesOf = (text: string): string[] => text.split('\n').filter((line) => line !== '');

const script = (name: string): string[] => [
  process.execPath,
  fileURLToPath(new URL(`demo/${name}.js`, import.meta.url)),
];

const has = async (host: Host, program: string): Promise<boolean> =>
  (await host.attempt('sh', '-c', 'command -v "$1"', 'sh', program)).code === 0;

const buildHosts = async (): Promise<Topology> => {
  try {
    return await buildTopology();
  } catch (error) {
    throw new Error(
      `${(error as Error).message}\n` +
        'The demo makes network namespaces: as root, or as a user who may make user namespaces (in a container only\n' +
        'with --privileged). It needs the programs ip and nsenter (Debian packages iproute2 and util-linux).',
    );
  }
};

const setRedirect = async (router: Host): Promise<'nft' | 'iptables'> => {
  const rule = { from: 'to-client', port: 80, to: TPROXY_PORT };
  if (await has(router, 'nft')) {
    await redirect(router, 'nft', rule);
    return 'nft';
  }
  if (!(await has(router, 'iptables'))) {
    throw new Error('neither nft nor iptables is installed (Debian packages nftables and iptables; one is enough)');
  }
  await redirect(router, 'iptables', rule);
  await redirect(router, 'ip6tables', rule);
  return 'iptables';
};

const startUpstream = async ({ lab, proxy }: Topology): Promise<Upstream> => {
  lab.name(UPSTREAM, [ADDRESS.proxy[0]]);
  if (await has(proxy, 'squid')) {
    const squid = await startSquid(lab, proxy, PROXY_PORT);
    return { name: 'Squid', caches: true, log: squid.log };
  }
  const own = await proxy.spawn([...script('proxy'), String(PROXY_PORT)]);
  await proxy.listening(PROXY_PORT);
  return { name: "the demo's own proxy (Squid is not installed)", caches: false, log: () => linesOf(own.stdout) };
};

/** Its log goes to `tproxy.log` and its access log to `access.log` in the lab's folder. */
const startTproxy = async ({ lab, router }: Topology): Promise<Running> => {
  let root = fileURLToPath(new URL('../..', import.meta.url));
  const options = ['-s', String(TPROXY_PORT), '-d', '-p', '-l', lab.path('access.log')];
  if (lab.hasUsers) {
    // The user nobody may have no way into the folder that this package is in, such as root's home.
    await router.run('sh', '-c', 'mkdir /run/transproxy && mount --rbind "$1" /run/transproxy', 'sh', root);
    root = '/run/transproxy/';
    options.push('-r', 'nobody');
  }
  const command = [process.execPath, `${root}dist/src/main.js`, ...options, UPSTREAM, String(PROXY_PORT)];
  const log = lab.path('tproxy.log');
  const tproxy = await router.spawn(['sh', '-c', 'exec "$@" 2>"$0"', log, ...command]);
  const ended = tproxy.exited.then(({ code, signal }) => {
    throw new Error(`tproxy ended (${code ?? signal}): ${readFileSync(log, 'utf8')}`);
  });
  await Promise.race([router.listening(TPROXY_PORT), ended]);
  ended.catch(() => {});
  return tproxy;
};

const build = async (topology: Topology): Promise<Demo> => {
  const { lab, router, internet } = topology;
  const tool = await setRedirect(router);
  const upstream = await startUpstream(topology);
  await internet.spawn([...script('origin'), '80']);
  await internet.listening(80);
  const tproxy = await startTproxy(topology);
  say(`client ${ADDRESS.client[0]} -- router ${ADDRESS.routerToClient[0]} -- origin.lab ${ADDRESS.internet[0]}`);
  say(`                         \\-- ${UPSTREAM} ${ADDRESS.proxy[0]}: ${upstream.name}`);
  say(`router: ${tool} redirects the client's connections to port 80, wherever they go, to port ${TPROXY_PORT}`);
  say(`router: tproxy -s ${TPROXY_PORT} -p ${lab.hasUsers ? '-r nobody ' : ''}${UPSTREAM} ${PROXY_PORT}`);
  return { ...topology, upstream, tproxy, tool };
};

/** One fetch of the client, and whether what it got and what the upstream logged is what it should be. */
const fetchOnce = async ({ client, upstream }: Demo, address: string): Promise<{ wire: string[]; logged: string }> => {
  const before = upstream.log().length;
  const { stdout } = await client.run(...script('client'), address, '80', PATH);
  if (!/^< HTTP\/1\.1 200 /m.test(stdout) || !stdout.includes('Hello from the origin')) {
    throw new Error(`the client did not get the origin's page:\n${stdout}`);
  }
  const logged = await until(`a line in the log of ${upstream.name}`, () => upstream.log()[before]);
  if (!logged.includes(` GET http://origin.lab${PATH}`)) throw new Error(`the upstream got something else: ${logged}`);
  return { wire: linesOf(stdout), logged };
};

const show = async (demo: Demo): Promise<void> => {
  const { lab, upstream } = demo;
  const [ipv4, ipv6] = ADDRESS.internet;

  const first = await fetchOnce(demo, ipv4);
  say(`\n1. What the client sent to ${ipv4} port 80; it knows of no proxy:`);
  say(indented(first.wire.filter((line) => line.startsWith('>'))));
  say('\n2. What the upstream received, from its log (client, result, method, URL):');
  say(indented([first.logged]));
  say('\n3. What came back:');
  say(indented(first.wire.filter((line) => line.startsWith('<'))));

  const second = await fetchOnce(demo, ipv6);
  say(`\n4. Again, to ${ipv6}${upstream.caches ? ": the answer is in the upstream's cache by now" : ''}:`);
  say(indented([second.logged]));
  if (upstream.caches && !second.logged.includes('HIT')) throw new Error(`not from the cache: ${second.logged}`);

  say("\n5. tproxy's own access log:");
  const entries = await until('two lines of the access log', () => {
    const lines = linesOf(readFileSync(lab.path('access.log'), 'latin1'));
    return lines.length >= 2 ? lines : null;
  });
  say(indented(entries));
};

const explain = async ({ lab, client, router, tproxy, tool }: Demo): Promise<void> => {
  const ask = (await has(client, 'curl'))
    ? ['curl', '-v', 'http://origin.lab/']
    : [...script('client'), 'origin.lab', '80', '/'];
  const rules = tool === 'nft' ? 'nft list ruleset' : 'iptables -t nat -L -v';
  say(`
It stays up until Ctrl-C. Try in another terminal, as the same user:
  ${[...client.enter, ...ask].join(' ')}
  ${router.enter.join(' ')} ${rules}
  tail -f ${lab.path('access.log')}
  kill -USR2 ${tproxy.pid}; tail ${lab.path('tproxy.log')}     # all open connections`);
};

const play = async (topology: Topology, stay: boolean): Promise<void> => {
  const demo = await build(topology);
  await show(demo);
  if (stay) await explain(demo);
  else say('\nIt works. To play with it: npm run demo -- --stay');
};

/** The exit code. */
const main = async (): Promise<number> => {
  const { values } = parseArgs({ options: { stay: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  let interrupted = false;
  const interruption = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        interrupted = true;
        resolve();
      });
    }
  });
  let topology: Topology | null = null;
  try {
    topology = await buildHosts();
    await Promise.race([play(topology, values.stay === true), interruption]);
    if (interrupted) return 130;
    if (values.stay) await interruption;
    return 0;
  } catch (error) {
    // Ctrl-C reaches the hosts too: what fails then is not worth a word.
    if (interrupted) return 130;
    throw error;
  } finally {
    await topology?.lab.close();
  }
};

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(`\ndemo: ${error.message}`);
    process.exit(1);
  },
);
