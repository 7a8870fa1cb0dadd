/**
 * The far ends of a daemon that is thrown at: HTTP upstreams, a SOCKS upstream and origins, which answer well, badly,
 * with what was mutated, or not at all. What they answer depends on the seed, on the first bytes that they get, and on
 * how many came before.
 * Arguments: seed, then `http`, `socks` or `origin` and an address and a port for each.
 */
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { GOOD, GOOD_ADDRESS, goodAnswer } from './good.js';
import { mutated } from './mutate.js';
import { cut, Random } from './random.js';
import { CHUNK_STREAMS, CONNECT_REPLIES, OTHERS, RESPONSES, SOCKS_REPLIES } from './seeds.js';

type Kind = 'http' | 'socks' | 'origin';

const [, , seed = '', ...places] = process.argv;

const hash = (bytes: Buffer): number => bytes.reduce((h, c) => Math.imul(h ^ c, 0x01000193) >>> 0, 0x811c9dc5);

const BULK = Buffer.alloc(700_000, 'b');

const answerOf = (random: Random, kind: Kind, text: string): Buffer => {
  const well = random.oneIn(3);
  if (kind === 'origin') return random.pick([...OTHERS, ...RESPONSES]);
  if (kind === 'socks') return well ? random.pick(SOCKS_REPLIES) : mutated(random, SOCKS_REPLIES);
  if (text.includes('CONNECT ')) return well ? (CONNECT_REPLIES[0] as Buffer) : mutated(random, CONNECT_REPLIES);
  if (random.oneIn(30))
    return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${BULK.length}\r\n\r\n`), BULK]);
  if (random.oneIn(10)) {
    return Buffer.concat([
      Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'),
      mutated(random, CHUNK_STREAMS),
    ]);
  }
  return well ? random.pick(RESPONSES) : mutated(random, RESPONSES);
};

const write = async (random: Random, socket: Socket, bytes: Buffer): Promise<void> => {
  const pieces = random.oneIn(2) ? [bytes] : cut(random, bytes);
  for (const piece of pieces) {
    if (socket.destroyed) return;
    socket.write(piece);
    await sleep(random.below(4));
  }
};

/** So that not every CONNECT to one origin gets the same. */
let served = 0;

const serve = async (socket: Socket, kind: Kind, first: Buffer): Promise<void> => {
  const random = new Random(Number(seed), hash(first) + served++);
  const isTunnel = kind === 'socks' || first.includes('CONNECT ');
  // A relay waits for half a minute for what is said before a tunnel stands, and has no option for that.
  if (isTunnel) setTimeout(() => socket.destroy(), 1500);
  if (random.oneIn(20)) return;
  if (random.oneIn(20)) {
    socket.resetAndDestroy();
    return;
  }
  // Sometimes before all of the request is here, sometimes behind it.
  await sleep(random.below(15));
  for (let turns = 1 + random.below(3); turns > 0; turns--) {
    await write(random, socket, answerOf(random, kind, first.toString('latin1')));
    await sleep(random.below(10));
  }
  if (random.oneIn(4)) socket.end();
  else if (random.oneIn(12)) socket.resetAndDestroy();
};

/** haproxy.org, doc/proxy-protocol.txt, sections 2.1 and 2.2 */
const prefaceSize = (bytes: Buffer): number => {
  if (bytes.toString('latin1', 0, 6) === 'PROXY ') return bytes.indexOf('\n') + 1;
  return bytes.toString('latin1', 0, 12) === '\r\n\r\n\0\r\nQUIT\n' ? 16 + bytes.readUInt16BE(14) : 0;
};

const accept = (socket: Socket, kind: Kind): void => {
  socket.on('error', () => {});
  socket.on('end', () => socket.end());
  let begun = false;
  // Before the first bytes, by itself, the header of the PROXY protocol may come: it is skipped.
  let preface = kind !== 'origin';
  if (kind === 'origin' && (socket.remotePort as number) % 3 === 0) {
    begun = true;
    socket.write('220 origin.lab speaks first\r\n');
  }
  socket.on('data', (data) => {
    const bytes = preface ? data.subarray(prefaceSize(data)) : data;
    if (bytes.length === 0) return;
    preface = false;
    const good = GOOD.exec(bytes.toString('latin1'));
    if (good !== null) socket.write(goodAnswer(good[1] as string));
    else if (bytes.includes(`CONNECT ${GOOD_ADDRESS}:`)) socket.write(CONNECT_REPLIES[0] as Buffer);
    else if (!begun) void serve(socket, kind, bytes);
    begun = true;
  });
};

for (let i = 0; i < places.length; i += 3) {
  const kind = places[i] as Kind;
  const server = createServer({ allowHalfOpen: true }, (socket) => accept(socket, kind));
  server.listen({ host: places[i + 1] as string, port: Number(places[i + 2]), backlog: 4096 });
}
