/** The client of a daemon that is thrown at: a process that gets Orders from its parent and answers each with Done. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { goodRequest, isGoodAnswer } from './good.js';
import { mutated } from './mutate.js';
import { cut, Random } from './random.js';
import { CHUNK_STREAMS, HELLOS, OTHERS, REQUESTS } from './seeds.js';

export interface Place {
  readonly host: string;
  readonly port: number;
}

export type Order =
  | {
      readonly kind: 'throw';
      readonly seed: number;
      readonly first: number;
      readonly count: number;
      readonly at: readonly Place[];
    }
  | { readonly kind: 'good'; readonly number: number; readonly at: Place };

/** What is wrong, or null. */
export interface Done {
  readonly wrong: string | null;
}

const AT_ONCE = 48;
const CHUNKED = Buffer.from('POST /chunks HTTP/1.1\r\nHost: origin.lab\r\nTransfer-Encoding: chunked\r\n\r\n');
const BULK = Buffer.concat([
  Buffer.from('POST /bulk HTTP/1.1\r\nHost: origin.lab\r\nContent-Length: 1500000\r\n\r\n'),
  Buffer.alloc(1_500_000, 'b'),
]);

const inputOf = (random: Random): Buffer => {
  switch (random.below(10)) {
    case 0:
      return mutated(random, OTHERS);
    case 1:
    case 2:
      return mutated(random, HELLOS);
    case 3:
      return Buffer.concat([CHUNKED, mutated(random, CHUNK_STREAMS)]);
    case 4:
      return Buffer.concat([random.pick(REQUESTS), mutated(random, REQUESTS)]);
    default:
      return random.oneIn(60) ? BULK : mutated(random, REQUESTS);
  }
};

const closed = (socket: Socket): Promise<void> =>
  new Promise((done) => {
    if (socket.closed) done();
    else socket.once('close', () => done());
  });

/** One connection, from connect to close; it is over within two seconds, whatever happens. */
const throwOne = async (seed: number, index: number, places: readonly Place[]): Promise<void> => {
  const random = new Random(seed, index);
  const socket = connect({ ...random.pick(places), allowHalfOpen: true, noDelay: true });
  socket.on('error', () => {});
  if (random.oneIn(8)) socket.pause();
  else socket.resume();
  const over = closed(socket);
  const input = inputOf(random);
  for (const piece of random.oneIn(2) ? [input] : cut(random, input)) {
    if (socket.destroyed) break;
    socket.write(piece);
    if (random.oneIn(2)) await sleep(random.below(12));
  }
  if (random.oneIn(10)) {
    await sleep(random.below(20));
    socket.resetAndDestroy();
  } else if (random.oneIn(3)) {
    socket.end();
  }
  await Promise.race([over, sleep(random.oneIn(15) ? 2000 : 40 + random.below(150))]);
  socket.destroy();
  await over;
};

const throwAll = async ({ seed, first, count, at }: Extract<Order, { kind: 'throw' }>): Promise<string | null> => {
  let next = first;
  const worker = async (): Promise<void> => {
    while (next < first + count) await throwOne(seed, next++, at);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return null;
};

const askGood = async ({ number, at }: Extract<Order, { kind: 'good' }>): Promise<string | null> => {
  const socket = connect({ ...at });
  let text = '';
  let error = '';
  socket.setTimeout(10_000, () => socket.destroy());
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  socket.on('error', ({ message }) => {
    error = message;
  });
  socket.write(goodRequest(number));
  await closed(socket);
  return isGoodAnswer(text, number) ? null : `a good request got ${JSON.stringify(text.slice(0, 500))} ${error}`;
};

process.on('message', async (order: Order) => {
  let wrong: string | null;
  try {
    wrong = await (order.kind === 'throw' ? throwAll(order) : askGood(order));
  } catch (error) {
    wrong = String(error);
  }
  process.send?.({ wrong } satisfies Done);
});
process.on('disconnect', () => process.exit());
