/**
 * A load on relays to an echo, in a host of the lab: `node steady-load.js HOST PORT,PORT… RATE LONG`. RATE short
 * connections a second go to the ports in turn, each with a few bytes there and back; LONG others move bytes all the time.
 * Ends when standard input does, and prints what came of it as JSON: see SteadyOutcome.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SteadyOutcome {
  /** Short connections that had all their bytes back, and an end in order. */
  readonly whole: number;
  /** What was wrong with the others. */
  readonly lost: readonly string[];
  /** Long ones that had all their bytes back. */
  readonly moved: number;
  readonly cut: readonly string[];
}

const [host = '', ports = '', rate = '1', long = '0'] = process.argv.slice(2);
const PORTS = ports.split(',').map(Number);
const PIECE = Buffer.alloc(4096, 'transproxy');
const PAUSE = 20;

let running = true;
let whole = 0;
let moved = 0;
const lost: string[] = [];
const cut: string[] = [];

/** Sends what `pieces` gives and settles with null when all of it has come back, followed by an end. */
const exchange = async (port: number, pieces: AsyncIterable<Buffer>): Promise<string | null> => {
  const socket: Socket = connect({ host, port, allowHalfOpen: true });
  let sent = 0;
  let received = 0;
  const over = new Promise<string | null>((settle) => {
    socket.on('data', (data) => {
      received += data.length;
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      settle(`${new Date().toISOString()} port ${port}: ${error.code ?? error.message}`),
    );
    socket.on('end', () => settle(received === sent ? null : `port ${port}: ${received} of ${sent} bytes`));
  });
  const sending = (async () => {
    for await (const piece of pieces) {
      if (socket.destroyed) return;
      sent += piece.length;
      socket.write(piece);
    }
    socket.end();
  })();
  const why = await over;
  socket.destroy();
  await sending;
  return why;
};

async function* one(): AsyncGenerator<Buffer> {
  yield Buffer.from('ping');
}

async function* many(): AsyncGenerator<Buffer> {
  while (running) {
    yield PIECE;
    await sleep(PAUSE);
  }
}

const short = async (port: number): Promise<void> => {
  const why = await exchange(port, one());
  if (why === null) whole++;
  else lost.push(why);
};

const lasting = async (port: number): Promise<void> => {
  const why = await exchange(port, many());
  if (why === null) moved++;
  else cut.push(why);
};

process.stdin.on('end', () => {
  running = false;
});
process.stdin.resume();
const all: Promise<void>[] = Array.from({ length: Number(long) }, (_, i) => lasting(PORTS[i % PORTS.length] as number));
console.log('begun');
const begin = Date.now();
for (let count = 0; running; ) {
  for (const due = ((Date.now() - begin) * Number(rate)) / 1000; count < due; count++) {
    all.push(short(PORTS[count % PORTS.length] as number));
  }
  await sleep(5);
}
await Promise.all(all);
console.log(JSON.stringify({ whole, lost, moved, cut } satisfies SteadyOutcome));
process.exit();
