/**
 * Real sockets for tests of the data plane, all in one thread: Loop.run() blocks it, so a test's own part is a script
 * that the loop runs one step of a turn, with raw descriptors that never wait.
 */
import { readdirSync } from 'node:fs';
import { isUnix, type SocketAddress, type UnixAddress, type UpstreamAddress } from '../../src/address.js';
import { allocateCounters, CounterRow } from '../../src/counters.js';
import { AccessEntries } from '../../src/data/access-entries.js';
import { Admissions } from '../../src/data/admissions.js';
import { admit } from '../../src/data/admit.js';
import { Connection } from '../../src/data/connection.js';
import { Loop } from '../../src/data/loop.js';
import { Names } from '../../src/data/names.js';
import { parts } from '../../src/data/parts.js';
import { Site, type Thread } from '../../src/data/site.js';
import {
  type AccessLogSettings,
  DEFAULT_LIMITS,
  DEFAULT_SERVICE,
  type HttpSettings,
  hostsOf,
  isPlainRelay,
  type Limits,
  type LogLevel,
  type Service,
  targetTo,
  type Upstream,
} from '../../src/plan.js';
import { E, errnoName } from '../../src/sys/errno.js';
import { listen } from '../../src/sys/libc.js';
import { closeFd } from '../../src/sys/process.js';
import {
  accept,
  boundSocket,
  boundUnixSocket,
  connectTo,
  localAddress,
  peerAddress,
  receive,
  resetOnClose,
  shutdownSend,
  startListening,
  tcpSocket,
  transmit,
  unixSocket,
} from '../../src/sys/socket.js';

/** What a test does: it goes on by one `yield` each turn of the loop. */
export type Script = Generator<void, void, void>;

/** Runs `script` beside whatever else the loop has; stops the loop when it has ended. */
export const play = (loop: Loop, script: Script): void => {
  const step = {
    run: (): void => {
      if (script.next().done === true) loop.stop();
      else loop.again(step);
    },
  };
  loop.again(step);
  loop.run();
};

/** Far more turns than anything that happens on loopback takes. */
const MOST_TURNS = 20_000;

/** Goes on when `condition` holds. */
export function* until(what: string, condition: () => boolean): Script {
  for (let i = 0; i < MOST_TURNS; i++) {
    if (condition()) return;
    yield;
  }
  throw new Error(`it never came to this: ${what}`);
}

/** Lets whatever is under way happen. */
export function* turns(count = 60): Script {
  for (let i = 0; i < count; i++) yield;
}

const scratch = Buffer.alloc(256 * 1024);

/** A raw socket at the far end of something. */
export class Peer {
  readonly #pieces: Buffer[] = [];
  #unsent: Buffer = Buffer.alloc(0);
  /** How reading stands: `open`, `end` after the end of stream, or an errno's name. */
  state = 'open';
  /** Why sending failed. */
  sendError: string | null = null;
  bytes = 0;

  constructor(readonly fd: number) {}

  /** Sends what fits; the rest goes with the next flush(). */
  send(bytes: Buffer | string): void {
    const more = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    this.#unsent = this.#unsent.length === 0 ? more : Buffer.concat([this.#unsent, more]);
    this.flush();
  }

  /** True when everything is with the kernel. */
  flush(): boolean {
    while (this.#unsent.length > 0) {
      const sent = transmit(this.fd, this.#unsent, 0, this.#unsent.length);
      if (sent === -E.AGAIN) return false;
      if (sent < 0) {
        this.sendError = errnoName(-sent);
        return true;
      }
      this.#unsent = this.#unsent.subarray(sent);
    }
    return true;
  }

  /** Reads what there is, up to about `most` bytes. */
  read(most = Number.POSITIVE_INFINITY): void {
    for (let left = most; left > 0 && this.state === 'open'; ) {
      const count = receive(this.fd, scratch, Math.min(left, scratch.length));
      if (count === -E.AGAIN) return;
      if (count <= 0) this.state = count === 0 ? 'end' : errnoName(-count);
      else {
        this.#pieces.push(Buffer.from(scratch.subarray(0, count)));
        this.bytes += count;
        left -= count;
      }
    }
  }

  /** All that was read so far. */
  get got(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  get text(): string {
    return this.got.toString('latin1');
  }

  /** Reads until `text` is all that came, from the beginning on. */
  *expect(text: string): Script {
    yield* until(`read ${JSON.stringify(text)}, have ${JSON.stringify(this.text.slice(0, 400))}`, () => {
      this.read();
      return this.text.length >= text.length || this.state !== 'open';
    });
    if (this.text !== text) {
      throw new Error(`expected ${JSON.stringify(text)}, read ${JSON.stringify(this.text)}, then ${this.state}`);
    }
  }

  /** Reads until the stream is over one way or the other. */
  *over(): Script {
    yield* until(`the end of the stream behind ${this.bytes} bytes`, () => {
      this.read();
      return this.state !== 'open';
    });
  }

  shutdown(): void {
    shutdownSend(this.fd);
  }

  close(): void {
    closeFd(this.fd);
  }

  reset(): void {
    resetOnClose(this.fd);
    closeFd(this.fd);
  }
}

/** A listening socket. */
class Listening<A extends SocketAddress | UnixAddress> {
  constructor(
    readonly fd: number,
    readonly address: A,
    backlog?: number,
  ) {
    startListening(fd, address, backlog);
  }

  /** A connection to this door, begun. */
  connect(): Peer {
    const { address } = this;
    const fd = isUnix(address) ? unixSocket() : tcpSocket(address.ip.includes(':'));
    const outcome = connectTo(fd, address);
    if (outcome < 0 && outcome !== -E.INPROGRESS) throw new Error(`connect: ${errnoName(-outcome)}`);
    return new Peer(fd);
  }

  tryAccept(): Peer | null {
    const fd = accept(this.fd);
    return fd < 0 ? null : new Peer(fd);
  }

  /** The next connection, for use outside a loop: on loopback it is there at once. */
  acceptNow(): Peer {
    for (let i = 0; i < 100_000; i++) {
      const peer = this.tryAccept();
      if (peer !== null) return peer;
    }
    throw new Error('nobody connected');
  }

  *accepted(into: (peer: Peer) => void): Script {
    yield* until('a connection comes', () => {
      const peer = this.tryAccept();
      if (peer !== null) into(peer);
      return peer !== null;
    });
  }

  close(): void {
    closeFd(this.fd);
  }
}

/** One on loopback. */
export class Door extends Listening<SocketAddress> {
  constructor(ip = '127.0.0.1') {
    const fd = boundSocket({ ip, port: 0 }, false);
    super(fd, localAddress(fd) as SocketAddress);
  }
}

let unixDoors = 0;

/** One with an abstract name. */
export class UnixDoor extends Listening<UnixAddress> {
  constructor(backlog?: number) {
    const address = { path: `@tproxy-test-${process.pid}-${unixDoors++}` };
    super(boundUnixSocket(address), address, backlog);
  }
}

/** Two ends of one TCP connection. */
export const pair = (): [Peer, Peer] => {
  const door = new Door();
  const near = door.connect();
  const far = door.acceptNow();
  door.close();
  return [near, far];
};

/** An address on loopback that refuses connections. */
export const refusing = (): SocketAddress => {
  const door = new Door();
  door.close();
  return door.address;
};

/** A listening socket whose queue is full: a connect to it is never answered. */
export class Silent {
  readonly #door = new Door();
  readonly #callers: Peer[];
  readonly address = this.#door.address;

  constructor() {
    // A backlog of 0 lets one connection wait.
    const outcome = listen(this.#door.fd, 0);
    if (outcome !== 0) throw new Error(`listen: ${outcome}`);
    this.#callers = Array.from({ length: 4 }, () => this.#door.connect());
  }

  close(): void {
    for (const caller of this.#callers) caller.close();
    this.#door.close();
  }
}

/** How many descriptors this process has open. */
export const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

/** Pseudo-random bytes that tell an offset: no two places of 8 bytes are alike. */
export const pattern = (length: number): Buffer => {
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(Math.imul(i + 1, 0x9e3779b1) >>> 0, i);
  return bytes.subarray(0, length);
};

/** A loop that counts its pipes. */
export class CountingLoop extends Loop {
  pipesTaken = 0;
  pipesGiven = 0;

  override takePipe(): ReturnType<Loop['takePipe']> {
    const pipe = super.takePipe();
    if (pipe !== null) this.pipesTaken++;
    return pipe;
  }

  override releasePipe(...given: Parameters<Loop['releasePipe']>): void {
    this.pipesGiven++;
    super.releasePipe(...given);
  }
}

/** An upstream whose address a stage is told beside it. */
export const upstreamOf = (more: Partial<Upstream> = {}): Upstream => ({
  scheme: 'http',
  host: 'upstream',
  port: 1,
  credentials: null,
  ...more,
});

/** The settings of a service that a test cares for. */
export type Settings = Partial<Omit<Service, 'limits' | 'http'>> & {
  readonly limits?: Partial<Limits>;
  readonly http?: Partial<HttpSettings>;
};

/** A relay to one target, or with mode `http` a service with one HTTP upstream. */
export const serviceOf = (settings: Settings = {}): Service => {
  const mode = settings.mode ?? 'relay';
  return {
    ...DEFAULT_SERVICE,
    name: 'test',
    listen: [],
    mode,
    targets: mode === 'http' ? [] : [targetTo({ host: 'target', port: 1 })],
    upstreams: mode === 'http' ? [upstreamOf()] : [],
    ...settings,
    http: { ...DEFAULT_SERVICE.http, ...settings.http },
    limits: { ...DEFAULT_LIMITS, ...settings.limits },
  };
};

/** The parts of a thread that a connection needs, with one service, whose hosts are doors of the test's. */
export class Stage {
  readonly loop = new CountingLoop(64);
  readonly connections = new Set<Connection>();
  readonly logs: [LogLevel, string][] = [];
  readonly #entries: string[] = [];
  readonly #access: AccessEntries;
  /** Names whose addresses were asked for. */
  readonly asked: string[] = [];
  /** What TCP wrappers were asked. */
  readonly questions: Parameters<ConstructorParameters<typeof Admissions>[1]>[] = [];
  unreachable = 0;
  readonly counters = new CounterRow(allocateCounters(1), 0);
  readonly upstream = new Door();
  readonly front = new Door();
  readonly thread: Thread & { mostConnections: number };
  readonly site: Site;

  /** `addresses` by host of the service; `upstream` is the address of the first, and of every other host, by default. */
  constructor(
    settings: Settings = {},
    addresses?: readonly (readonly UpstreamAddress[])[],
    verbose = true,
    format: AccessLogSettings['format'] = 'transproxy',
  ) {
    const service = serviceOf(settings);
    this.#access = new AccessEntries(format, (lines) => this.#entries.push(...lines.split('\n').slice(0, -1)));
    this.thread = {
      loop: this.loop,
      reporter: {
        verbose,
        log: (level, message) => this.logs.push([level, message]),
        access: this.#access,
        unreachable: () => this.unreachable++,
      },
      countersOf: () => this.counters,
      several: false,
      connections: this.connections,
      flowSockets: 0,
      mostConnections: 1000,
      waiting: new Set(),
      names: new Names((name) => this.asked.push(name)),
      admissions: new Admissions(this.loop, (...question) => this.questions.push(question)),
      onClosed: () => {},
    };
    const all = addresses ?? hostsOf(service).map(() => [this.upstream.address]);
    this.site = new Site(0, service, this.thread, isPlainRelay(service) ? null : parts, all, 0);
  }

  /** A client whose connection was admitted. Call it from a script, or before the loop runs. */
  client(): Peer {
    const client = this.front.connect();
    const { fd } = this.front.acceptNow();
    admit(this.site, fd, peerAddress(fd));
    return client;
  }

  /** The same for a client of a unix socket. */
  unixClient(): Peer {
    const door = new UnixDoor();
    const client = door.connect();
    admit(this.site, door.acceptNow().fd, null, { host: door.address.path, port: null });
    door.close();
    return client;
  }

  /** The same as if a redirect rule had caught a connection to `original`. */
  redirected(original: SocketAddress): Peer {
    const client = this.front.connect();
    const { fd } = this.front.acceptNow();
    const connection = new Connection(this.site, fd, peerAddress(fd));
    Object.defineProperty(connection, 'original', { value: original });
    connection.start();
    return client;
  }

  /** The access log's lines in transproxy's or the tab format, without their time. */
  get entries(): string[] {
    this.#access.flush();
    return this.#entries.map((line) => line.replace(/^[\d/]{10} [\d:]{8} {2}|^\d\d\/\w{3}\/\d{4}:[\d:]{8} \t/, ''));
  }

  /** The one connection that is open. */
  get connection(): Connection {
    const [connection] = this.connections;
    if (connection === undefined) throw new Error('no connection is open');
    return connection;
  }

  *upstreamPeer(into: (peer: Peer) => void): Script {
    yield* this.upstream.accepted(into);
  }

  *gone(): Script {
    yield* until('the connections end', () => this.connections.size === 0);
  }

  said(part: string): boolean {
    return this.logs.some(([, line]) => line.includes(part));
  }

  play(script: Script): void {
    play(this.loop, script);
    this.upstream.close();
    this.front.close();
  }
}
