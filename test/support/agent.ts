/**
 * A program that runs inside a host of the lab and works its sockets on behalf of a test: see sockets.ts.
 * One request is one message of the channel to the parent process.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer, connect as netConnect, type Server, type Socket } from 'node:net';

/** Reads a socket only when asked to, so that a test decides when a reader is slow. */
class Inbox {
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;
  #error: Error | null = null;
  #wake: () => void = () => {};

  constructor(readonly socket: Socket) {
    socket.on('readable', () => this.#wake());
    socket.on('end', () => {
      this.#ended = true;
      this.#wake();
    });
    socket.on('error', (error) => {
      this.#error = error;
      this.#wake();
    });
  }

  /** The next bytes, or null after the peer's FIN. */
  async next(): Promise<Buffer | null> {
    if (this.#rest.length > 0) {
      const rest = this.#rest;
      this.#rest = Buffer.alloc(0);
      return rest;
    }
    for (;;) {
      const piece = this.socket.read() as Buffer | null;
      if (piece) return piece;
      if (this.#error) throw this.#error;
      if (this.#ended) return null;
      if (this.socket.destroyed) throw new Error('the socket was closed on this side');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Bytes up to where `measure` says that they are enough; the rest stays for the next reader. */
  async take(measure: (soFar: Buffer) => number | null): Promise<Buffer> {
    let soFar: Buffer = Buffer.alloc(0);
    for (;;) {
      const enough = measure(soFar);
      if (enough !== null) {
        this.#rest = soFar.subarray(enough);
        return soFar.subarray(0, enough);
      }
      const piece = await this.next();
      if (piece === null) throw new Error(`the stream ended after ${soFar.length} bytes: ${soFar.toString('latin1')}`);
      soFar = Buffer.concat([soFar, piece]);
    }
  }
}

/** Bytes that look random and are the same for the same seed, in pieces of 64 KiB. */
function* noise(bytes: number, seed: number): Generator<Buffer> {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  const zeros = Buffer.alloc(64 * 1024);
  for (let left = bytes; left > 0; left -= zeros.length)
    yield cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
}

const sockets = new Map<number, Inbox>();

interface Listening {
  readonly server: Server;
  /** Connections that nobody has accepted. */
  readonly waiting: Socket[];
  /** Those who want the next ones. */
  readonly takers: ((socket: Socket) => void)[];
}
const servers = new Map<number, Listening>();
let lastHandle = 0;

const inbox = (handle: number): Inbox => {
  const found = sockets.get(handle);
  if (!found) throw new Error(`no socket ${handle}`);
  return found;
};

const register = (socket: Socket) => {
  sockets.set(++lastHandle, new Inbox(socket));
  return {
    handle: lastHandle,
    local: { ip: socket.localAddress ?? '', port: socket.localPort ?? 0 },
    remote: { ip: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 },
  };
};

const write = (socket: Socket, data: Uint8Array | string): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.write(typeof data === 'string' ? Buffer.from(data, 'latin1') : data, (error) =>
      error ? reject(error) : resolve(),
    );
  });

const operations = {
  async listen({ port, host = '::' }: { port: number; host?: string }) {
    const waiting: Socket[] = [];
    const takers: ((socket: Socket) => void)[] = [];
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      // Until somebody accepts it, a reset must not bring the agent down.
      socket.on('error', () => {});
      const take = takers.shift();
      if (take) take(socket);
      else waiting.push(socket);
    });
    server.listen({ port, host });
    await once(server, 'listening');
    servers.set(++lastHandle, { server, waiting, takers });
    return { handle: lastHandle, port: (server.address() as AddressInfo).port };
  },

  /** A connection that comes too late stays for the next who asks. */
  async accept({ listener, within }: { listener: number; within: number }) {
    const { waiting, takers } = servers.get(listener) as Listening;
    const first = waiting.shift();
    if (first) return register(first);
    const socket = await new Promise<Socket | null>((resolve) => {
      takers.push(resolve);
      setTimeout(() => {
        const i = takers.indexOf(resolve);
        if (i !== -1) takers.splice(i, 1);
        resolve(null);
      }, within);
    });
    if (socket === null) throw new Error(`no connection came within ${within} ms`);
    return register(socket);
  },

  async waiting({ listener }: { listener: number }) {
    return servers.get(listener)?.waiting.length ?? 0;
  },

  async stopListening({ listener }: { listener: number }) {
    const found = servers.get(listener);
    servers.delete(listener);
    for (const socket of found?.waiting ?? []) socket.destroy();
    await new Promise((resolve) => {
      found?.server.close(resolve);
      for (const { socket } of sockets.values()) socket.destroy();
    });
  },

  async connect({ host, port }: { host: string; port: number }) {
    const socket = netConnect({ host, port, allowHalfOpen: true, noDelay: true });
    await once(socket, 'connect');
    return register(socket);
  },

  async send({ socket, data }: { socket: number; data: Uint8Array | string }) {
    await write(inbox(socket).socket, data);
  },

  /** Sends so many pseudo-random bytes; their SHA-256. */
  async sendNoise({ socket, bytes, seed }: { socket: number; bytes: number; seed: number }) {
    const hash = createHash('sha256');
    for (const piece of noise(bytes, seed)) {
      hash.update(piece);
      await write(inbox(socket).socket, piece);
    }
    return hash.digest('hex');
  },

  async sendFin({ socket }: { socket: number }) {
    inbox(socket).socket.end();
  },

  async reset({ socket }: { socket: number }) {
    inbox(socket).socket.resetAndDestroy();
  },

  /** Ends our direction and reads the other to its end, whichever that is. */
  async closed({ socket }: { socket: number }) {
    const box = inbox(socket);
    box.socket.end();
    try {
      while ((await box.next()) !== null);
    } catch {
      // A reset is an end, too.
    }
  },

  async receive({ socket, bytes }: { socket: number; bytes: number }) {
    return inbox(socket).take((soFar) => (soFar.length >= bytes ? bytes : null));
  },

  /** Bytes up to and with the delimiter. */
  async receiveThrough({ socket, delimiter }: { socket: number; delimiter: string }) {
    return inbox(socket).take((soFar) => {
      const at = soFar.indexOf(delimiter, 0, 'latin1');
      return at === -1 ? null : at + delimiter.length;
    });
  },

  /** Everything up to the peer's FIN. */
  async receiveAll({ socket }: { socket: number }) {
    const pieces: Buffer[] = [];
    for (;;) {
      const piece = await inbox(socket).next();
      if (piece === null) return Buffer.concat(pieces);
      pieces.push(piece);
    }
  },

  /** Reads so many bytes, or up to the peer's FIN. */
  async digest({ socket, bytes = Number.POSITIVE_INFINITY }: { socket: number; bytes?: number }) {
    const hash = createHash('sha256');
    let count = 0;
    while (count < bytes) {
      const piece = await inbox(socket).next();
      if (piece === null) break;
      count += piece.length;
      hash.update(piece);
    }
    return { bytes: count, sha256: hash.digest('hex') };
  },

  /** An HTTP origin that answers every request with what it saw of it; `/noise/BYTES/SEED` with so much noise. */
  async serveHttp({ port }: { port: number }) {
    let connections = 0;
    const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const hash = createHash('sha256');
      let bytes = 0;
      for await (const piece of request) {
        bytes += piece.length;
        hash.update(piece);
      }
      const [, size, seed] = /^\/noise\/(\d+)\/(\d+)$/.exec(request.url ?? '') ?? [];
      response.setHeader('Cache-Control', 'no-store');
      if (size !== undefined) {
        response.setHeader('Content-Length', size);
        for (const piece of noise(Number(size), Number(seed))) {
          if (!response.write(piece)) await once(response, 'drain');
        }
        response.end();
        return;
      }
      const { method, url, rawHeaders, httpVersion } = request;
      const sha256 = hash.digest('hex');
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ method, url, httpVersion, rawHeaders, bytes, sha256, connections }));
    };
    const server = createHttpServer((request, response) => {
      // A client that leaves in the middle is for its test to notice, and no end for the agent.
      answer(request, response).catch(() => response.destroy());
    });
    server.on('connection', () => {
      connections += 1;
    });
    server.keepAliveTimeout = 60_000;
    server.listen({ port, host: '::' });
    await once(server, 'listening');
  },

  /** The SHA-256 of what `noise` makes. */
  async noiseDigest({ bytes, seed }: { bytes: number; seed: number }) {
    const hash = createHash('sha256');
    for (const piece of noise(bytes, seed)) hash.update(piece);
    return hash.digest('hex');
  },
};

export type Operations = typeof operations;

export interface Request {
  readonly id: number;
  readonly name: keyof Operations;
  readonly argument: unknown;
}

export type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly message: string; readonly code: string | undefined } };

const send = (answer: Answer): void => {
  process.send?.(answer);
};

process.on('message', async ({ id, name, argument }: Request) => {
  try {
    const operation = operations[name] as (argument: unknown) => Promise<unknown>;
    send({ id, value: await operation(argument) });
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    send({ id, error: { message, code } });
  }
});
process.on('disconnect', () => process.exit());
