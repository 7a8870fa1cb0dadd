import { type ClientAddress, formatAddress, formatEnd, type SocketAddress } from '../address.js';
import type { OwnSockets } from '../own-sockets.js';
import type { HostPort, UnixAddress } from '../plan.js';
import { askedOf, clientOf } from '../sys/datagram.js';
import { SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { answeringSocket } from '../sys/udp-socket.js';
import type { AccessEvent } from './access-entries.js';
import { FlowTable } from './flow-table.js';
import type { Parts } from './parts.js';
import { type Site, socketsOf } from './site.js';
import type { Timed } from './timers.js';
import { Inlet } from './udp.js';
import { type Dialed, dialUdp, type FlowEnd } from './udp-dial.js';
import { Flow, isOwnFlow } from './udp-flow.js';

/** Why a flow ends whose thread ends, and one whose client has nowhere to send to any more. */
export const STOPPED = 'the program ends';
const LEFT = 'its address is not listened on any more';

/** What is wrong with datagrams is said in so many lines a second, at most: sending them costs nobody anything. */
const LINES_A_SECOND = 10;

/**
 * All flows of one service in one thread, in the order of their last activity, which is that of their ends too: one
 * deadline will do for them all.
 */
export class Flows implements Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  /** What clients' datagrams come in by, but for what stands for original destinations. */
  readonly inlets = new Set<Inlet>();
  readonly #table = new FlowTable<Flow>();
  /** Flows of services that had an inlet before. They end in their time, and none begins there. */
  readonly #before = new Set<Flows>();
  /** Whose `before` these are. */
  readonly #after = new Set<Flows>();
  /** Inlets that stand for original destinations, by those. */
  readonly #foreign = new Map<string, Inlet>();
  #saidFull = false;
  #second = 0;
  #lines = 0;

  constructor(
    readonly site: Site,
    readonly ownFlows: OwnSockets,
  ) {}

  get size(): number {
    return this.#table.size;
  }

  find(key: Int32Array): Flow | null {
    return this.#table.find(key) ?? (this.#before.size === 0 ? null : this.#findBefore(key));
  }

  #findBefore(key: Int32Array): Flow | null {
    for (const flows of this.#before) {
      const flow = flows.#table.find(key);
      if (flow !== null) return flow;
    }
    return null;
  }

  /** Has an inlet that was another's. */
  follow(before: Flows, inlet: Inlet): void {
    before.inlets.delete(inlet);
    this.inlets.add(inlet);
    for (const flows of [before, ...before.#before]) {
      if (flows.size === 0) continue;
      this.#before.add(flows);
      flows.#after.add(this);
    }
    if (before.inlets.size > 0) return;
    // Who comes anew to one of the original destinations is for us too.
    for (const foreign of before.#foreign.values()) foreign.serve(this, 'none', null);
  }

  /** An inlet is there no more, and with the last one no client has any. */
  lose(inlet: Inlet): void {
    this.inlets.delete(inlet);
    for (const flows of [this, ...this.#before]) {
      for (const flow of [...flows.#table]) if (flow.inlet === inlet) flows.#end(flow, LEFT);
    }
    if (this.inlets.size > 0 || this.#after.size > 0) return;
    for (const flows of [...this.#before]) {
      flows.#after.delete(this);
      if (flows.inlets.size === 0 && flows.#after.size === 0) flows.close(LEFT);
    }
    this.close(LEFT);
  }

  touch(flow: Flow): void {
    flow.lastActive = this.site.loop.now;
    this.#table.touch(flow);
  }

  /** Begins the flow of a key; null when there is to be none, and its datagrams are dropped. */
  begin(inlet: Inlet, key: Int32Array): Flow | null {
    const { site } = this;
    const client = clientOf(key);
    const asked = askedOf(key);
    const from = formatAddress(client);
    const refusal = site.acl?.refusal(client.ip) ?? null;
    if (refusal !== null)
      return this.#refuse(`ACL refused from ${from}: ${refusal}`, { inlet, client, event: refusal });
    if (isOwnFlow(this.ownFlows, client)) {
      return this.#refuse(`client ${from}: loop: the datagram is our own; a rule or a target brings it back here`);
    }
    const original = inlet.intercepts(asked) ? asked : null;
    const ends = this.#endsFor(client, original);
    if (ends === null) {
      return this.#refuse(`client ${from}: no original destination: the datagram was not intercepted`);
    }
    if (!this.#makeRoom()) return this.#refuse(`client ${from}: there is no room for a flow`);
    const dialed = dialUdp(site.service, client, ends);
    if ('message' in dialed) {
      if (dialed.unreachable) site.reporter.unreachable(site.id);
      return this.#refuse(`client ${from}: ${dialed.message}`);
    }
    return this.#open(inlet, key.slice(), original, dialed);
  }

  /** Every flow ends. */
  close(reason: string): void {
    for (let flow = this.#table.oldest; flow !== null; flow = this.#table.oldest) this.#end(flow, reason);
  }

  /** Ends those that were silent for too long. */
  onDeadline(): void {
    const { loop, service } = this.site;
    const last = loop.now - service.limits.idle;
    for (let flow = this.#table.oldest; flow !== null && flow.lastActive <= last; flow = this.#table.oldest) {
      this.#saidFull = false;
      this.#end(flow, `idle for ${Math.round((loop.now - flow.lastActive) / 1000)} s`);
    }
    this.#watch();
  }

  /** One line for each flow. */
  describe(): string[] {
    return [...this.#table].map((flow) => flow.describe());
  }

  #watch(): void {
    const { loop, service } = this.site;
    const { oldest } = this.#table;
    this.deadline = oldest === null ? Number.POSITIVE_INFINITY : oldest.lastActive + service.limits.idle;
    loop.timers.watch(this);
  }

  /** What to try for one more flow; null where there is no place to go. */
  #endsFor(client: ClientAddress, original: SocketAddress | null): readonly FlowEnd[] | null {
    const { targets, loop } = this.site;
    if (targets !== null) {
      // None of a unix socket: see unfitForUdp.
      return targets.order(loop.now, client.ip).map((member) => ({ address: member.address as SocketAddress, member }));
    }
    return original === null ? null : [{ address: original, member: null }];
  }

  /** Lets flows go for a new one, those first that were silent longest. False: there is no room to be had. */
  #makeRoom(): boolean {
    const { thread, service, reporter } = this.site;
    const isFull = (): boolean =>
      this.#table.size >= service.limits.flows || socketsOf(thread) >= 2 * thread.mostConnections;
    while (isFull()) {
      const { oldest } = this.#table;
      if (oldest === null) return false;
      if (!this.#saidFull) {
        const full = `${this.#table.size} flows are open: those that were silent longest are let go for new ones`;
        reporter.log('warn', `${service.name}: ${full}`);
      }
      this.#saidFull = true;
      this.#end(oldest, 'let go for a new flow');
    }
    return true;
  }

  #open(inlet: Inlet, key: Int32Array, original: SocketAddress | null, { fd, address, member }: Dialed): Flow | null {
    const { site } = this;
    const client = clientOf(key);
    let answering = inlet;
    let flow: Flow;
    try {
      if (original !== null) answering = this.#inletOf(original);
      const preface = this.#preface(client, askedOf(key));
      flow = new Flow(this, { key, fd, target: address, member, original, preface, inlet: answering });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      closeFd(fd);
      if (answering !== inlet) this.#release(answering);
      return this.#refuse(`client ${formatAddress(client)}: ${error.message}`);
    }
    answering.flows++;
    if (member !== null) member.connections++;
    this.#table.add(flow);
    site.thread.flowSockets++;
    if (this.deadline === Number.POSITIVE_INFINITY) this.#watch();
    this.#onOpened(flow);
    return flow;
  }

  #preface(client: ClientAddress, asked: SocketAddress): Buffer | null {
    const { service, parts } = this.site;
    // As for connections: an origin never asked for that.
    if (service.proxyProtocol === null || service.targets.length === 0) return null;
    return (parts as Parts).datagramPreface(client, asked);
  }

  /**
   * The inlet that stands for an original destination: answers have to come from there, and only a socket's own port can
   * be the port of what it sends. It is shared by all clients who asked there.
   * @throws SystemError
   */
  #inletOf(original: SocketAddress): Inlet {
    const name = formatAddress(original);
    const known = this.#foreign.get(name);
    if (known !== undefined) return known;
    const fd = answeringSocket(original);
    if (fd < 0) throw new SystemError('bind', -fd, `${name}, to answer from it`);
    try {
      const inlet = new Inlet(this, fd, 'none', original, true);
      this.#foreign.set(name, inlet);
      this.site.thread.flowSockets++;
      return inlet;
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** An inlet that stands for an original destination goes with the last flow that needs it. */
  #release(inlet: Inlet): void {
    if (!inlet.isForeign || inlet.flows > 0) return;
    this.#foreign.delete(formatAddress(inlet.address));
    this.site.thread.flowSockets--;
    inlet.close();
  }

  #end(flow: Flow, reason: string): void {
    const { thread } = this.site;
    this.#table.remove(flow);
    flow.close(reason);
    thread.flowSockets--;
    flow.inlet.flows--;
    this.#release(flow.inlet);
    if (flow.member !== null) flow.member.connections--;
    this.site.counters.add('open', -1);
    this.#event(reason === STOPPED || reason === LEFT ? 'done-stopped' : 'done-timed-out', flow);
    if (this.#table.size === 0) this.#leaveToOthers();
    thread.onClosed(null);
  }

  /** Nobody need ask here any more. */
  #leaveToOthers(): void {
    for (const flows of this.#after) flows.#before.delete(this);
    this.#after.clear();
  }

  #onOpened(flow: Flow): void {
    const { counters, reporter } = this.site;
    counters.add('accepted', 1);
    counters.add('open', 1);
    const end = endOf(flow);
    reporter.access?.passed('Transparent', 1, flow.client.ip, formatEnd(end));
    this.#event('opened', flow);
  }

  #event(event: AccessEvent, flow: Flow): void {
    const { access } = this.site.reporter;
    if (!access?.tellsEvents) return;
    const { client, inlet, fromClient, toClient } = flow;
    access.event(event, { client: client.ip, entrance: inlet.entrance, target: endOf(flow), fromClient, toClient });
  }

  /** What a flow sent to its target did not arrive. */
  onUnreachable(why: string): void {
    this.#warn(why, () => this.site.reporter.unreachable(this.site.id));
  }

  /** Counts a datagram that begins no flow. `acl`: it is the access lists that refuse it. */
  #refuse(why: string, acl?: { inlet: Inlet; client: ClientAddress; event: AccessEvent }): null {
    const { reporter, counters, service } = this.site;
    counters.add('refused', 1);
    this.#warn(why, () => {
      if (acl === undefined) return;
      const target = service.targets[0]?.to ?? null;
      const visit = { client: acl.client.ip, entrance: acl.inlet.entrance, target, fromClient: 0, toClient: 0 };
      reporter.access?.refused('ACL', acl.event, visit);
    });
    return null;
  }

  /** Says something, and does what goes with it, if there is room for a line in this second. */
  #warn(what: string, also: () => void): void {
    const { loop, reporter, service } = this.site;
    const second = Math.floor(loop.now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
    }
    this.#lines++;
    if (this.#lines > LINES_A_SECOND) return;
    const more = this.#lines === LINES_A_SECOND ? '; of others in this second nothing is said' : '';
    reporter.log('warn', `${service.name}: ${what}${more}`);
    also();
  }
}

/** Where a flow goes, as the plan has it, or the original destination. */
const endOf = ({ member, original, target }: Flow): HostPort | UnixAddress =>
  member?.host.to ?? { host: (original ?? target).ip, port: (original ?? target).port };
