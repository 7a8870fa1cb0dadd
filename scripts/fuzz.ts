/**
 * Throws bytes that went wrong at the readers of protocols, and at running daemons. What is thrown depends on the seed
 * and the number of each input alone, so that what is found can be seen again.
 */
import { parseArgs } from 'node:util';
import { type Result, RIG_NAMES, throwAtDaemons } from './fuzz/daemon.js';
import { type Finding, throwAtParsers } from './fuzz/throw.js';

const USAGE = `\
Usage: npm run fuzz -- [options]

Mutates requests, ClientHellos, chunked bodies, and what upstreams answer: for
the readers of each, and for running daemons with upstreams that misbehave, in
network namespaces of their own (as root, or where user namespaces are allowed).
  --inputs N     for the readers (default: 1000000; 0: none)
  --seconds S    for the daemons (default: 60; 0: none)
  --seed N       (default: another one each time)
  --first N      number of the first input (default: 0)
  --rig NAME     only the daemon that runs this way: ${RIG_NAMES.join(', ')}
`;

class UsageError extends Error {}

const whole = (name: string, text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--${name} ${text}: not a whole number`);
  return Number(text);
};

const say = (text: string): void => console.log(text);

const tellFinding = (seed: number, { check, index, message, least }: Finding): void => {
  say(`\n${check}: ${message.slice(0, 4000)}`);
  say(`least input (${least.length} bytes, latin1): ${JSON.stringify(least.toString('latin1').slice(0, 4000))}`);
  say(`again: npm run fuzz -- --seed ${seed} --seconds 0 --first ${index} --inputs 1`);
};

const tellResult = ({ rig, inputs, resident, sockets, wrong }: Result): void => {
  say(
    `${rig}: ${inputs} connections, memory ${resident.join(' to ')} MiB, sockets ${sockets.join(' to ')}: ` +
      `${wrong ?? 'still serving'}`,
  );
};

/** Whether nothing was found. */
const fuzz = async (args: readonly string[]): Promise<boolean> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      inputs: { type: 'string', default: '1000000' },
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
      first: { type: 'string', default: '0' },
      rig: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return true;
  }
  const seed = whole('seed', values.seed);
  const first = whole('first', values.first);
  const inputs = whole('inputs', values.inputs);
  const seconds = whole('seconds', values.seconds);
  const { rig } = values;
  if (rig !== undefined && !RIG_NAMES.includes(rig)) throw new UsageError(`--rig ${rig}: there is no such daemon`);

  say(`seed ${seed}`);
  const findings = throwAtParsers(seed, first, inputs);
  for (const finding of findings) tellFinding(seed, finding);
  say(`${inputs} inputs to the readers: ${findings.length === 0 ? 'all hold' : `${findings.length} findings`}`);
  if (seconds === 0) return findings.length === 0;

  const results = await throwAtDaemons(seed, seconds, rig === undefined ? RIG_NAMES : [rig], first, tellResult);
  const good = findings.length === 0 && results.every(({ wrong }) => wrong === null);
  if (!good) say(`seed ${seed}`);
  return good;
};

fuzz(process.argv.slice(2)).then(
  (good) => process.exit(good ? 0 : 1),
  (error: Error) => {
    const usage = error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS');
    process.stderr.write(`fuzz: ${usage ? `${error.message}\n${USAGE}` : error.stack}\n`);
    process.exit(usage ? 64 : 1);
  },
);
