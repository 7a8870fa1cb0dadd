/**
 * A load of GET requests in a host of the lab: `node load.js URL CONNECTIONS`. As many clients as CONNECTIONS, each with
 * one kept-alive connection at a time, ask again and again, with a number behind URL, until standard input ends.
 * Prints what came of it as JSON: see LoadOutcome.
 */
import { Agent, get } from 'node:http';

export interface LoadOutcome {
  readonly answered: number;
  /** Errors, and answers other than 200, by client. */
  readonly lost: readonly { readonly client: number; readonly why: string }[];
  /** Answers of each client behind its last loss. */
  readonly sinceLoss: readonly number[];
}

const [base = '', connections = '1'] = process.argv.slice(2);
let running = true;
let number = 0;
let answered = 0;
const lost: { client: number; why: string }[] = [];
const sinceLoss: number[] = [];

const ask = (agent: Agent): Promise<string> =>
  new Promise((resolve) => {
    get(`${base}${++number}`, { agent, family: 4 }, (response) => {
      response.on('error', (error) => resolve(error.message));
      response.on('end', () => resolve(String(response.statusCode)));
      response.resume();
    }).on('error', (error) => resolve(error.message));
  });

const client = async (index: number): Promise<void> => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  sinceLoss[index] = 0;
  while (running) {
    const outcome = await ask(agent);
    if (outcome === '200') {
      answered += 1;
      sinceLoss[index] += 1;
    } else {
      lost.push({ client: index, why: outcome });
      sinceLoss[index] = 0;
    }
  }
  agent.destroy();
};

process.stdin.on('end', () => {
  running = false;
});
process.stdin.resume();
console.log('begun');
await Promise.all(Array.from({ length: Number(connections) }, (_, index) => client(index)));
console.log(JSON.stringify({ answered, lost, sinceLoss } satisfies LoadOutcome));
process.exit();
