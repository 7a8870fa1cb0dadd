/** What rig.ts has for connections, for flows: see there. */
import type { SocketAddress } from '../../src/address.js';
import { type Inlet, serveUdp } from '../../src/data/udp.js';
import { Flows } from '../../src/data/udp-flows.js';
import { allocateOwnSockets, OwnSockets } from '../../src/own-sockets.js';
import { clientOf, Datagrams, KEY_WORDS } from '../../src/sys/datagram.js';
import { E, errnoName } from '../../src/sys/errno.js';
import { closeFd } from '../../src/sys/process.js';
import { localAddress, receive, transmit } from '../../src/sys/socket.js';
import { boundUdpSocket, connectUdp, udpSocket } from '../../src/sys/udp-socket.js';
import { type Script, type Settings, Stage, until } from './rig.js';

const scratch = Buffer.alloc(64 * 1024);

/** A client: a socket that is connected, and so takes answers from there alone. */
export class UdpClient {
  readonly fd: number;
  readonly got: string[] = [];

  constructor(readonly to: SocketAddress) {
    this.fd = udpSocket(to.ip.includes(':'));
    connectUdp(this.fd, to);
  }

  get address(): SocketAddress {
    return localAddress(this.fd) as SocketAddress;
  }

  send(...texts: (string | Buffer)[]): void {
    for (const text of texts) {
      const bytes = Buffer.from(text as string, 'latin1');
      const sent = transmit(this.fd, bytes, 0, bytes.length);
      if (sent !== bytes.length) throw new Error(`send: ${errnoName(-sent)}`);
    }
  }

  read(): readonly string[] {
    for (;;) {
      const count = receive(this.fd, scratch, scratch.length);
      if (count < 0) return this.got;
      this.got.push(scratch.toString('latin1', 0, count));
    }
  }

  *expect(...texts: string[]): Script {
    yield* until(`${texts.length} datagrams for a client`, () => this.read().length >= texts.length);
    if (this.got.join() !== texts.join()) throw new Error(`expected ${texts.join()}, got ${this.got.join()}`);
    this.got.length = 0;
  }
}

// Not the thread's own: its slots are in use while a test's script looks on.
const batch = new Datagrams(32);

/** A target that says back what it is told. */
export class UdpTarget {
  readonly fd: number;
  readonly address: SocketAddress;
  readonly got: { readonly text: string; readonly from: SocketAddress }[] = [];

  constructor(at: SocketAddress = { ip: '127.0.0.1', port: 0 }) {
    this.fd = boundUdpSocket(at, false, false);
    this.address = localAddress(this.fd) as SocketAddress;
  }

  /** Takes what waits and answers, unless it is `silent`. */
  take(silent = false): number {
    const count = batch.receive(this.fd);
    if (count === -E.AGAIN) return 0;
    if (count < 0) throw new Error(`recvmmsg: ${errnoName(-count)}`);
    for (let slot = 0; slot < count; slot++) {
      const key = new Int32Array(KEY_WORDS);
      batch.readKey(slot, 'none', key);
      this.got.push({ text: batch.payload(slot).toString('latin1'), from: clientOf(key) });
      batch.addressToClient(slot, slot + 1, key, false);
      if (!silent) batch.send(this.fd, slot, slot + 1);
    }
    return count;
  }

  /** Says something that nobody has asked for, once: from then on it hears this client alone. */
  tell(client: SocketAddress | undefined, text: string): void {
    connectUdp(this.fd, client as SocketAddress);
    transmit(this.fd, Buffer.from(text), 0, text.length);
  }

  /** Takes until so many have come since the last time. */
  *expect(count: number, silent = false): Script {
    this.got.length = 0;
    yield* until(`${count} datagrams for the target`, () => {
      this.take(silent);
      return this.got.length >= count;
    });
  }
}

/** A stage whose service has flows, by sockets on `at`. */
export class UdpStage extends Stage {
  readonly target = new UdpTarget();
  readonly flows: Flows;
  readonly #fds: number[] = [];
  readonly inlets: readonly Inlet[];

  constructor(
    settings: Settings = {},
    at: readonly SocketAddress[] = [{ ip: '127.0.0.1', port: 0 }],
    addresses?: readonly (readonly SocketAddress[])[],
    mostConnections = 1000,
  ) {
    const own: SocketAddress[] = [];
    super({ protocol: 'udp', ...settings }, addresses ?? [own]);
    own.push(this.target.address);
    if (addresses === undefined && this.site.targets !== null) this.site.setAddresses(0, own);
    this.thread.mostConnections = mostConnections;
    this.flows = new Flows(this.site, new OwnSockets(allocateOwnSockets(), 'udp'));
    this.inlets = at.map((address) => {
      const fd = boundUdpSocket(address, false, false);
      this.#fds.push(fd);
      return serveUdp(this.flows, fd);
    });
  }

  get address(): SocketAddress {
    return this.inlets[0]?.address as SocketAddress;
  }

  override play(script: Script): void {
    const { flows, target } = this;
    const fds = this.#fds;
    super.play(
      (function* () {
        yield* script;
        flows.close('the test is over');
        for (const fd of fds) closeFd(fd);
        closeFd(target.fd);
        yield;
      })(),
    );
  }
}
