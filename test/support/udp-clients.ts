/**
 * Clients of a name server in a host of the lab: `node udp-clients.js HOST PORT COUNT HELD`. Each of COUNT asks with a
 * socket of its own, and so from a port of its own, for the address of a name of its own; HELD of them wait at once.
 * Prints what came of it as JSON: see ClientsOutcome.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';

export interface ClientsOutcome {
  /** Who got the address of the name that it had asked for. */
  readonly right: number;
  /** What else came. */
  readonly wrong: readonly string[];
  /** Who got no answer, though it asked again and again. */
  readonly silent: readonly number[];
}

/** The address that the name server has for the name `n${i}.lab`. */
export const addressOf = (i: number): string => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;

/** Questions are datagrams, and may be lost: asked so often, so many milliseconds apart. */
const TRIES = 5;
const PATIENCE = 2000;

/** A question for the A record of `n${i}.lab` (RFC 1035 section 4). */
const question = (i: number): Buffer => {
  const label = `n${i}`;
  const head = Buffer.alloc(12);
  head.writeUInt16BE(i & 0xffff, 0);
  // Recursion is desired; one question.
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  return Buffer.concat([
    head,
    Buffer.from([label.length]),
    Buffer.from(label),
    Buffer.from([3]),
    Buffer.from('lab'),
    Buffer.from([0, 0, 1, 0, 1]),
  ]);
};

/** The address at the end of an answer that repeats `asked`, or what it is instead. */
const readAnswer = (asked: Buffer, answer: Buffer): string => {
  const same = answer.readUInt16BE(0) === asked.readUInt16BE(0) && answer.includes(asked.subarray(12));
  return same && answer.readUInt16BE(6) === 1 ? answer.subarray(-4).join('.') : answer.toString('hex');
};

const ask = async (host: string, port: number, i: number, sockets: Socket[]): Promise<string | null> => {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  sockets.push(socket);
  socket.connect(port, host);
  await once(socket, 'connect');
  const asked = question(i);
  for (let attempt = 0; attempt < TRIES; attempt++) {
    socket.send(asked);
    const answered = once(socket, 'message') as Promise<[Buffer]>;
    const answer = await Promise.race([answered, new Promise<null>((resolve) => setTimeout(resolve, PATIENCE, null))]);
    if (answer !== null) return readAnswer(asked, answer[0]);
  }
  return null;
};

const main = async ([host = '', port, count, held]: readonly string[]): Promise<void> => {
  const wrong: string[] = [];
  const silent: number[] = [];
  // All stay open to the end, so that no port comes twice.
  const sockets: Socket[] = [];
  let right = 0;
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < Number(count); i = next++) {
      const answer = await ask(host, Number(port), i, sockets);
      if (answer === addressOf(i)) right++;
      else if (answer === null) silent.push(i);
      else wrong.push(`${i}: ${answer}`);
    }
  };
  await Promise.all(Array.from({ length: Number(held) }, work));
  console.log(JSON.stringify({ right, wrong, silent } satisfies ClientsOutcome));
  process.exit();
};

// The test takes addressOf from here, too.
if (process.argv[1]?.endsWith('udp-clients.js')) await main(process.argv.slice(2));
