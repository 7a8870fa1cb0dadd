import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Host } from '../../scripts/lab/host.js';
import { bounded } from '../../scripts/lab/until.js';
import type { Answer, Operations, Request } from './agent.js';

type Argument<Name extends keyof Operations> = Parameters<Operations[Name]>[0];
type Value<Name extends keyof Operations> = Awaited<ReturnType<Operations[Name]>>;
type Call = <Name extends keyof Operations>(
  name: Name,
  argument: Argument<Name>,
  within?: number,
) => Promise<Value<Name>>;

const SHORT = 10_000;
const LONG = 120_000;

/** A TCP socket of a host, worked from the test. Every wait is bounded; errors carry the errno name as `code`. */
export class TestSocket {
  readonly #call: Call;
  readonly #socket: number;
  readonly local: { readonly ip: string; readonly port: number };
  readonly remote: { readonly ip: string; readonly port: number };

  constructor(call: Call, { handle, local, remote }: Value<'connect'>) {
    this.#call = call;
    this.#socket = handle;
    this.local = local;
    this.remote = remote;
  }

  /** Text goes out as latin1. */
  async send(data: string | Uint8Array): Promise<void> {
    await this.#call('send', { socket: this.#socket, data });
  }

  /** Sends pseudo-random bytes and gives their SHA-256. */
  sendNoise(bytes: number, seed: number): Promise<string> {
    return this.#call('sendNoise', { socket: this.#socket, bytes, seed }, LONG);
  }

  /** Ends our direction. */
  async sendFin(): Promise<void> {
    await this.#call('sendFin', { socket: this.#socket });
  }

  /** Closes with SO_LINGER 0: the peer gets a RST. */
  async reset(): Promise<void> {
    await this.#call('reset', { socket: this.#socket });
  }

  /** Ends our direction and waits until the other has ended too, in whatever way. */
  async closed(): Promise<void> {
    await this.#call('closed', { socket: this.#socket });
  }

  /** Exactly so many bytes, as latin1. */
  async receive(bytes: number): Promise<string> {
    return Buffer.from(await this.#call('receive', { socket: this.#socket, bytes })).toString('latin1');
  }

  /** Up to and with `delimiter`, as latin1. */
  async receiveThrough(delimiter: string): Promise<string> {
    return Buffer.from(await this.#call('receiveThrough', { socket: this.#socket, delimiter })).toString('latin1');
  }

  /** Up to the peer's FIN, as latin1. */
  async receiveAll(): Promise<string> {
    return Buffer.from(await this.#call('receiveAll', { socket: this.#socket })).toString('latin1');
  }

  /** Waits for the peer's FIN or reset, whichever it is. */
  async expectEnd(): Promise<void> {
    try {
      await this.receiveAll();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    }
  }

  /** Counts and digests what comes, up to so many bytes or the peer's FIN. */
  digest(bytes?: number): Promise<{ bytes: number; sha256: string }> {
    return this.#call('digest', { socket: this.#socket, ...(bytes === undefined ? {} : { bytes }) }, LONG);
  }
}

export class TestListener {
  readonly #call: Call;
  readonly #listener: number;
  readonly port: number;

  constructor(call: Call, { handle, port }: Value<'listen'>) {
    this.#call = call;
    this.#listener = handle;
    this.port = port;
  }

  async accept(): Promise<TestSocket> {
    return new TestSocket(
      this.#call,
      await this.#call('accept', { listener: this.#listener, within: SHORT }, 2 * SHORT),
    );
  }

  /** How many connections nobody has accepted. */
  waiting(): Promise<number> {
    return this.#call('waiting', { listener: this.#listener });
  }

  /** Stops listening and closes every socket of the host's agent. */
  async close(): Promise<void> {
    await this.#call('stopListening', { listener: this.#listener });
  }
}

/** The sockets of one host, through an agent process there that ends with the host. */
export class Sockets {
  readonly #agent: ChildProcess;
  readonly #pending = new Map<number, (answer: Answer) => void>();
  #lastId = 0;

  constructor(readonly host: Host) {
    const program = fileURLToPath(new URL('agent.js', import.meta.url));
    this.#agent = host.child([process.execPath, program], ['ignore', 'inherit', 'inherit', 'ipc']);
    this.#agent.on('message', (answer: Answer) => {
      this.#pending.get(answer.id)?.(answer);
      this.#pending.delete(answer.id);
    });
    // The host's end is the agent's; the channel shall not keep the test running.
    this.#agent.unref();
    this.#agent.channel?.unref();
  }

  readonly #call: Call = async (name, argument, within = SHORT) => {
    const id = ++this.#lastId;
    const answered = new Promise<Answer>((resolve) => {
      this.#pending.set(id, resolve);
    });
    this.#agent.send({ id, name, argument } satisfies Request);
    const answer = await bounded(`${name} in ${this.host.name}`, answered, within);
    if ('error' in answer) {
      const { message, code } = answer.error;
      throw Object.assign(new Error(`${name} in ${this.host.name}: ${message}`), { code });
    }
    return answer.value as never;
  };

  /** Listens on all addresses, or on `host`; port 0 takes any. */
  async listen(port: number, host?: string): Promise<TestListener> {
    return new TestListener(this.#call, await this.#call('listen', { port, ...(host === undefined ? {} : { host }) }));
  }

  async connect(host: string, port: number): Promise<TestSocket> {
    return new TestSocket(this.#call, await this.#call('connect', { host, port }));
  }

  /** Connects where a reset is all the answer that there is; it may overtake the end of the connect itself. */
  async expectReset(host: string, port: number): Promise<void> {
    const answer = this.connect(host, port).then((socket) => socket.receiveAll());
    await assert.rejects(answer, { code: 'ECONNRESET' });
  }

  /** Starts an HTTP origin: see serveHttp in agent.ts. */
  async serveHttp(port: number): Promise<void> {
    await this.#call('serveHttp', { port });
  }

  /** The digest of what `sendNoise` and `/noise/BYTES/SEED` give for the same numbers. */
  noiseDigest(bytes: number, seed: number): Promise<string> {
    return this.#call('noiseDigest', { bytes, seed }, LONG);
  }
}

/** What the HTTP origin of agent.ts says about a request. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly httpVersion: string;
  readonly rawHeaders: readonly string[];
  readonly bytes: number;
  readonly sha256: string;
  /** Connections that the origin has had so far. */
  readonly connections: number;
}

/** Connects, and shows that bytes pass both ways and that an end passes on: the address that the origin saw. */
export const assertRelays = async (
  client: Sockets,
  origin: TestListener,
  address: string,
  port: number,
): Promise<string> => {
  const near = await client.connect(address, port);
  await near.send('ping');
  const far = await origin.accept();
  assert.equal(await far.receive(4), 'ping');
  await far.send('pong');
  assert.equal(await near.receive(4), 'pong');
  await near.sendFin();
  assert.equal(await far.receiveAll(), '');
  await far.sendFin();
  await near.expectEnd();
  return far.remote.ip.replace('::ffff:', '');
};
