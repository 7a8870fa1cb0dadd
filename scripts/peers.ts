/** Asks several intercepting proxies the same questions behind a real redirect, and writes docs/peers.md of it. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Host } from './lab/host.js';
import { startPeer } from './lab/peers.js';
import { redirect } from './lab/redirect.js';
import { ADDRESS, buildTopology, type Topology } from './lab/topology.js';
import { bounded } from './lab/until.js';
import type { Heard, Talk } from './peers/client.js';
import type { Seen } from './peers/far-end.js';
import { CONTESTANTS, type Contestant, PORT, UPSTREAM_PORT } from './peers/recipes.js';
import { type Field, ROWS } from './peers/rows.js';

const USAGE = `\
Usage: npm run peers [-- --only NAME] [-- --print]

Runs tproxy and ${CONTESTANTS.length - 1} other programs behind a redirect in network namespaces of their
own, and writes what each does with the same input to docs/peers.md.
  --only NAME   one of ${CONTESTANTS.map(({ name }) => name).join(', ')}; prints, and writes nothing
  --print       print, and write nothing
Needs root, and the programs: scripts/install-lab.sh installs them.
`;

const ORIGIN_PORTS = [80, 8080];
const PATIENCE = 5000;
const DOCUMENT = fileURLToPath(new URL('../../docs/peers.md', import.meta.url));

const script = (name: string): string[] => [
  process.execPath,
  fileURLToPath(new URL(`peers/${name}.js`, import.meta.url)),
];

const agent = (host: Host, ...command: readonly string[]): ChildProcess =>
  host.child(command, ['ignore', 'inherit', 'inherit', 'ipc']);

const versionOf = ({ debianPackage }: Contestant): string => {
  if (debianPackage === null) {
    const manifest = fileURLToPath(new URL('../../package.json', import.meta.url));
    return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
  }
  const { stdout, status } = spawnSync('dpkg-query', ['--show', debianPackage], { encoding: 'utf8' });
  if (status !== 0)
    throw new Error(`the Debian package ${debianPackage} is not installed (scripts/install-lab.sh does that)`);
  // A tab is between name and version; an epoch is nothing that a program knows of itself.
  return (stdout.trim().split('\t')[1] as string).replace(/^\d+:/, '');
};

/** The cells of one contestant, in the order of ROWS. */
const ask = async (contestant: Contestant): Promise<string[]> => {
  const topology: Topology = await buildTopology();
  const { lab, client, router, internet, proxy } = topology;
  try {
    for (const port of ORIGIN_PORTS) await redirect(router, 'nft', { from: 'to-client', port, to: PORT });
    let seen: Seen[] = [];
    const keep = (one: Seen): void => {
      seen.push(one);
    };
    agent(internet, ...script('far-end'), 'origin', ...ORIGIN_PORTS.map(String)).on('message', keep);
    agent(proxy, ...script('far-end'), 'upstream', String(UPSTREAM_PORT)).on('message', keep);
    await Promise.all([internet.listening(80), proxy.listening(UPSTREAM_PORT)]);
    const talker = agent(client, ...script('client'));
    const field: Field = {
      talk: async (to, steps, patience = PATIENCE) => {
        seen = [];
        talker.send({ ...to, steps, patience } satisfies Talk);
        const [heard] = (await bounded('the client', once(talker, 'message'), 120_000)) as [Heard];
        return heard;
      },
      seen: () => seen,
    };
    const cells: string[] = [];
    for (const row of ROWS) {
      // One for each row, so that what a row does to it is seen in that row alone.
      const { running } = await startPeer(lab, router, {
        ...contestant,
        name: contestant.name.toLowerCase(),
        port: PORT,
      });
      const cell = await row.run(field);
      cells.push(running.alive ? cell : `${cell}; the program ended`);
      console.log(`${contestant.name}: ${row.title}: ${cells.at(-1)}`);
      await running.end();
    }
    return cells;
  } finally {
    await lab.close();
  }
};

const tableRow = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

const write = (contestants: readonly Contestant[], columns: readonly (readonly string[])[]): string => {
  const table = [
    tableRow(['', ...contestants.map(({ name }) => name)]),
    tableRow(['---', ...contestants.map(() => '---')]),
    ...ROWS.map(({ title }, i) => tableRow([title, ...columns.map((cells) => cells[i] as string)])),
  ];
  return `# What intercepting proxies do with the same input

A client's connections to ports ${ORIGIN_PORTS.join(' and ')} of an origin are redirected to one program on a router, which has an HTTP
proxy for its upstream. Every cell is what \`npm run peers\` saw; it runs the programs, asks, and writes this file:

    scripts/install-lab.sh && npm run build && npm run peers

${table.join('\n')}

## What is asked

${ROWS.map(({ title, about }) => `- **${title}**: ${about}`).join('\n')}

## The programs

Each has one listening port, and its settings as its documentation has them for this use where it says something of it.

${contestants.map((one) => `- **${one.name} ${versionOf(one)}**: ${one.setUp}`).join('\n')}

The client is ${ADDRESS.client[0]}, the origin \`origin.lab\` ${ADDRESS.internet.join(' and ')}, the upstream ${ADDRESS.proxy[0]}. Upstream and origin
are programs of the measurement, so that what reaches them is seen byte for byte: the upstream takes absolute-form, CONNECT
and Upgrade, and answers all of it itself.
`;
};

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, print: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const { only } = values;
  const chosen = CONTESTANTS.filter(({ name }) => only === undefined || name.toLowerCase() === only.toLowerCase());
  if (chosen.length === 0) throw new Error(`--only ${only}: there is no such program\n${USAGE}`);
  for (const contestant of chosen) versionOf(contestant);
  const columns: string[][] = [];
  for (const contestant of chosen) columns.push(await ask(contestant));
  const text = write(chosen, columns);
  if (values.print || only !== undefined) process.stdout.write(text);
  else writeFileSync(DOCUMENT, text);
};

main().then(
  () => process.exit(0),
  (error: Error) => {
    console.error(`peers: ${error.message}`);
    process.exit(1);
  },
);
