/**
 * Clients of a rinetd in a host of the lab: `node rinetd-clients.js PROBES`, with probes as JSON. They ask one after the
 * other, and what came of each is printed as a list in JSON.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Asked, AT_END } from './rinetd-origin.js';

/** A client's address, and what it asks: the origin behind rinetd is rinetd-origin.ts. */
export interface Probe {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  /** `half`: by TCP, and ends its direction before it is answered. `udp` with `pause`: asks twice. */
  readonly by: 'tcp' | 'half' | 'udp';
  /** Milliseconds between two questions. */
  readonly pause?: number;
}

/**
 * `closed port`: nobody listens; `refused`: no answer, and with TCP the end of the connection; else who asked, as the
 * origin knows it.
 */
export type Answer = string;

/** How long a datagram may take before it counts as refused; nothing tells a client that. */
const SILENCE = 2500;

const asked = (text: string): Asked => JSON.parse(text) as Asked;

const overTcp = async ({ from, to, port, by }: Probe): Promise<Answer> => {
  const socket = connect({ host: to, port, localAddress: from, allowHalfOpen: true });
  let text = '';
  let failure = '';
  socket.setEncoding('latin1');
  socket.on('connect', () => {
    socket.write(by === 'half' ? `${AT_END}\n` : 'ping\n');
    if (by === 'half') socket.end();
  });
  socket.on('data', (piece) => {
    text += piece;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code ?? error.message;
  });
  socket.on('end', () => socket.end());
  // Not once(), which an error would end.
  await new Promise((resolve) => socket.on('close', resolve));
  if (text !== '') return asked(text).ip;
  if (failure === 'ECONNREFUSED') return 'closed port';
  if (failure === '' || failure === 'ECONNRESET' || failure === 'EPIPE') return 'refused';
  return failure;
};

const overUdp = async ({ from, to, port, pause }: Probe): Promise<Answer> => {
  const socket = createSocket(isIPv6(to) ? 'udp6' : 'udp4');
  const ask = async (): Promise<Asked | string> => {
    const failed = new AbortController();
    const answered = once(socket, 'message', { signal: failed.signal }).then(([data]) => asked(String(data)));
    const silent = sleep(SILENCE, 'refused', { signal: failed.signal });
    silent.catch(() => {});
    socket.send('ping');
    try {
      return await Promise.race([answered, silent]);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ECONNREFUSED' ? 'closed port' : String(code);
    } finally {
      answered.catch(() => {});
      failed.abort();
    }
  };
  socket.bind(0, from);
  await once(socket, 'listening');
  socket.connect(port, to);
  await once(socket, 'connect');
  const first = await ask();
  let answer = typeof first === 'string' ? first : first.ip;
  if (pause !== undefined) {
    await sleep(pause);
    const second = await ask();
    const same = typeof first !== 'string' && typeof second !== 'string' && first.port === second.port;
    answer = `${answer}, then ${typeof second === 'string' ? second : `${second.ip} by ${same ? 'the same' : 'a new'} flow`}`;
  }
  socket.close();
  return answer;
};

const main = async (probes: readonly Probe[]): Promise<void> => {
  const answers: Answer[] = [];
  for (const probe of probes) answers.push(await (probe.by === 'udp' ? overUdp : overTcp)(probe));
  console.log(JSON.stringify(answers));
};

await main(JSON.parse(process.argv[2] ?? '[]') as Probe[]);
