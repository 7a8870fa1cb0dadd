/**
 * What is at the far end of an intercepting proxy: an upstream HTTP proxy or an origin, as its first argument says; the
 * others are its ports. It tells its parent of everything that reaches it, and does what a request's path asks for.
 */
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LONG_FIELD, LONG_FIELDS, ODD_FIELDS, WEB_SOCKET_ACCEPT } from './answers.js';

/** A request head, or the first bytes that are none, that got here; each character is one byte. */
export interface Seen {
  readonly at: 'upstream' | 'origin';
  /** The upstream was asked by CONNECT to tunnel it there. */
  readonly tunnel: string | null;
  readonly port: number;
  readonly text: string;
}

const [, , role = 'origin', ...ports] = process.argv;

const answer = (body: string, ...fields: readonly string[]): string =>
  ['HTTP/1.1 200 OK', `Content-Length: ${body.length}`, ...fields, '', body].join('\r\n');

/** Bytes of one connection as they are asked for. */
class Reader {
  #bytes: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    socket.on('data', (bytes) => {
      this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
      this.#wake();
    });
    socket.on('close', () => this.#end());
    socket.on('end', () => this.#end());
  }

  #end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The next bytes, at most `most`; null at the end. */
  async some(most = Number.POSITIVE_INFINITY): Promise<Buffer | null> {
    while (this.#bytes.length === 0) {
      if (this.#ended) return null;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    const bytes = this.#bytes.subarray(0, most);
    this.#bytes = this.#bytes.subarray(bytes.length);
    return bytes;
  }

  /** Through `delimiter`, or what there is when it can't come any more, or when the first bytes are no request. */
  async through(delimiter: string): Promise<string | null> {
    let text = '';
    for (;;) {
      const bytes = await this.some();
      if (bytes === null) return text === '' ? null : text;
      text += bytes.toString('latin1');
      const at = text.indexOf(delimiter);
      if (at >= 0) {
        this.#bytes = Buffer.concat([Buffer.from(text.slice(at + delimiter.length), 'latin1'), this.#bytes]);
        return text.slice(0, at + delimiter.length);
      }
      if (!/^[A-Z]+ /.test(text)) return text;
    }
  }

  async digest(length: number): Promise<string> {
    const hash = createHash('sha256');
    for (let left = length; left > 0; ) {
      const bytes = await this.some(left);
      if (bytes === null) break;
      hash.update(bytes);
      left -= bytes.length;
    }
    return hash.digest('hex');
  }
}

const fieldOf = (head: string, name: string): string | null =>
  new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*\\r$`, 'im').exec(head)?.[1] ?? null;

/** Answers one request. False: the connection ends. */
const answerTo = async (head: string, socket: Socket, reader: Reader): Promise<boolean> => {
  const path = /\/wish-([a-z-]+)/.exec(head)?.[1];
  const length = Number(fieldOf(head, 'content-length') ?? 0);
  switch (path) {
    case 'slow':
      await sleep(700);
      socket.write(answer('slow'));
      return true;
    case 'hints':
      socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n');
      await sleep(300);
      socket.write(answer('hinted'));
      return true;
    case 'websocket':
      if (!/websocket/i.test(fieldOf(head, 'upgrade') ?? '')) {
        socket.write(answer('no upgrade was asked for'));
        return true;
      }
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
          `Sec-WebSocket-Accept: ${WEB_SOCKET_ACCEPT}\r\n\r\n`,
      );
      for (let bytes = await reader.some(); bytes !== null; bytes = await reader.some()) socket.write(bytes);
      return false;
    case 'expected':
      if (fieldOf(head, 'expect') !== null) socket.write('HTTP/1.1 100 Continue\r\nX-From: far-end\r\n\r\n');
      await reader.digest(length);
      socket.write(answer('expected'));
      return true;
    case 'unexpected':
      socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return false;
    case 'long-head':
      socket.write(
        answer('long', ...Array.from({ length: LONG_FIELDS }, (_, i) => `X-Long-${i}: ${'l'.repeat(LONG_FIELD)}`)),
      );
      return true;
    case 'odd-answer':
      socket.write(Buffer.from(answer('odd', ...ODD_FIELDS), 'latin1'));
      return true;
    default:
      socket.write(answer(`sha256 ${await reader.digest(length)}`));
      return true;
  }
};

const accept = async (socket: Socket): Promise<void> => {
  socket.on('error', () => {});
  socket.setNoDelay();
  const reader = new Reader(socket);
  let tunnel: string | null = null;
  // A server that speaks first does so when it is not spoken to. An upstream does that behind a CONNECT.
  let speaks: NodeJS.Timeout | undefined;
  const listenFirst = (): void => {
    speaks = setTimeout(() => socket.write('220 origin.lab\r\n'), 400);
  };
  if (role === 'origin') listenFirst();
  for (;;) {
    const text = await reader.through('\r\n\r\n');
    clearTimeout(speaks);
    if (text === null) break;
    process.send?.({ at: role, tunnel, port: socket.localPort as number, text } as Seen);
    if (role === 'upstream' && tunnel === null && text.startsWith('CONNECT ')) {
      tunnel = text.split(' ')[1] as string;
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      listenFirst();
    } else if (!/ HTTP\/1\.[01]\r\n/.test(text)) {
      socket.write(`you said ${text}`);
    } else if (!(await answerTo(text, socket, reader))) break;
  }
  socket.end();
};

for (const port of ports) createServer({ allowHalfOpen: true }, accept).listen({ host: '::', port: Number(port) });
