/**
 * Where the rules of a rinetd.conf lead, in a host of the lab: `node rinetd-origin.js PORT`, TCP and UDP of both families.
 * It answers what it is asked with who asks: see Asked. What came with the end of a connection has its own answer.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';

/** What an answer is: the address and port that the question came from, and what it was. */
export interface Asked {
  readonly ip: string;
  readonly port: number;
  readonly text: string;
}

/** A question that is answered when the client has ended its direction. */
export const AT_END = 'at the end';

const answer = (ip: string, port: number, text: string): string =>
  JSON.stringify({ ip: ip.replace('::ffff:', ''), port, text } satisfies Asked);

const serve = (socket: Socket): void => {
  // Which also end it.
  const { remoteAddress = '', remotePort = 0 } = socket;
  let text = '';
  const say = (): void => {
    // As long as it may be with any port, so that two logs have the same numbers of bytes in them.
    socket.end(answer(remoteAddress, remotePort, text).padEnd(200));
  };
  socket.setEncoding('latin1');
  socket.on('data', (piece) => {
    text += piece;
    if (text.endsWith('\n') && !text.includes(AT_END)) say();
  });
  socket.on('end', () => {
    if (!socket.writableEnded) say();
  });
  socket.on('error', () => {});
};

const main = async (port: number): Promise<void> => {
  const tcp = createServer({ allowHalfOpen: true }, serve);
  tcp.listen(port, '::');
  await once(tcp, 'listening');
  const udp = createSocket('udp6');
  udp.on('message', (data, { address, port: from }) => {
    udp.send(answer(address, from, data.toString('latin1')).padEnd(200), from, address);
  });
  udp.bind(port);
  await once(udp, 'listening');
  console.log('ready');
};

// Tests take AT_END from here, too.
if (process.argv[1]?.endsWith('rinetd-origin.js')) await main(Number(process.argv[2]));
