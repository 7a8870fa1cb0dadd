/**
 * Clients of named-origin.ts: `node named-load.js HOST PORT COUNT [FROM...]`. COUNT clients, each from the next of the
 * local addresses FROM, connect again and again, see who the origin is, send something a few times and get it back, until
 * standard input ends. Prints what came of it as JSON: see NamedLoadOutcome.
 */
import { connect } from 'node:net';

export interface NamedLoadOutcome {
  /** Connections that went as they should, by origin. */
  readonly done: Readonly<Record<string, number>>;
  /** The origins of those that broke off; null for one that never heard who it was. */
  readonly lost: readonly (string | null)[];
  /** The origins that the clients of each local address had. */
  readonly origins: Readonly<Record<string, readonly string[]>>;
}

const ROUNDS = 10;

const [host = '', port = '0', count = '1', ...from] = process.argv.slice(2);
let running = true;
const done: Record<string, number> = {};
const lost: (string | null)[] = [];
const origins = new Map<string, Set<string>>();

const turn = async (localAddress: string | undefined): Promise<void> => {
  const socket = connect({ host, port: Number(port), ...(localAddress === undefined ? {} : { localAddress }) });
  let said = '';
  let over = false;
  let heard = (): void => {};
  socket.setEncoding('latin1');
  socket.on('data', (piece) => {
    said += piece;
    heard();
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    over = true;
    heard();
  });
  const lines = async (number: number): Promise<boolean> => {
    while (!over && said.split('\n').length <= number) {
      await new Promise<void>((resolve) => {
        heard = resolve;
      });
    }
    return said.split('\n').length > number;
  };
  let isWhole = await lines(1);
  const name = isWhole ? (said.split('\n')[0] ?? null) : null;
  for (let i = 0; isWhole && i < ROUNDS; i++) {
    socket.write(`${i}\n`);
    isWhole = await lines(2 + i);
  }
  socket.destroy();
  if (name === null || !isWhole) {
    lost.push(name);
    return;
  }
  done[name] = (done[name] ?? 0) + 1;
  const seen = origins.get(localAddress ?? '') ?? new Set();
  origins.set(localAddress ?? '', seen.add(name));
};

const client = async (index: number): Promise<void> => {
  while (running) await turn(from[index % from.length]);
};

process.stdin.on('end', () => {
  running = false;
});
process.stdin.resume();
console.log('begun');
await Promise.all(Array.from({ length: Number(count) }, (_, index) => client(index)));
const ofEach = Object.fromEntries([...origins].map(([address, names]) => [address, [...names]]));
console.log(JSON.stringify({ done, lost, origins: ofEach } satisfies NamedLoadOutcome));
process.exit();
