import { formatAddress, sameAddress, type UpstreamAddress } from '../address.js';
import type { AffinityTable } from '../affinity-table.js';
import type { Balance, Health, HostPort, UnixAddress, Upstream } from '../plan.js';
import { fits, type Source } from './source.js';
import { Spares } from './spares.js';

/** How long a member that could not be connected to is passed over, in ms: the first time, and at most. */
const BACK_OFF = 1000;
const LONGEST_BACK_OFF = 30_000;

/** Turns that a thread begins ahead of another, at most. */
const MOST_AHEAD = 1000;

const NONE: readonly Member[] = [];

/** An upstream or a target of a service: what its addresses have in common. */
export interface Host {
  readonly to: HostPort | UnixAddress;
  /** What logs call it. */
  readonly name: string;
  /** null: it is a relay's target. */
  readonly upstream: Upstream | null;
  /** The value of Proxy-Authorization, if it takes one. */
  readonly authorization: string | null;
  /** Of each of its addresses. */
  readonly weight: number;
  /** What connections to it come from, if that is the same for all clients; null: as the route has it. */
  readonly source: Source | null;
}

/** 32 bits of `text`, well mixed: FNV-1a and the last steps of MurmurHash3, so that one letter changes every bit. */
const hash = (text: string, begun = 0x811c9dc5): number => {
  let h = begun;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

/** One address of a host as one thread knows it: what connections are shared out to. */
export class Member {
  readonly spares = new Spares();
  /** The one address, as a Dial takes it. */
  readonly addresses: readonly [UpstreamAddress];
  /** Of the address: the same in all threads. */
  readonly hash: number;
  /** Connections of this thread. */
  connections = 0;
  /** How far its turn has come; see Pool.#takeTurns. */
  turn = 0;
  /** What the last probe found; a thread's own failures count beside it. */
  probedUp = true;
  readonly #health: Health;
  #failures = 0;
  #downUntil = 0;

  constructor(
    readonly host: Host,
    readonly address: UpstreamAddress,
    health: Health,
  ) {
    this.addresses = [address];
    this.hash = hash(formatAddress(address));
    this.#health = health;
  }

  isUp(now: number): boolean {
    return this.probedUp && this.#downUntil <= now;
  }

  /**
   * It could not be connected to at all. A refusal of one request is no failure, nor is what was under way when it went
   * down one more. False: that it can't be connected to is nothing new.
   */
  failed(now: number): boolean {
    if (this.#downUntil > now) return false;
    const { threshold, recovery } = this.#health;
    const beyond = ++this.#failures - threshold;
    if (beyond >= 0) this.#downUntil = now + (recovery ?? Math.min(LONGEST_BACK_OFF, BACK_OFF * 2 ** beyond));
    return beyond <= 0;
  }

  /** It was connected to. True: it had been down. */
  succeeded(): boolean {
    const wasDown = this.#downUntil > 0;
    this.#failures = 0;
    this.#downUntil = 0;
    return wasDown;
  }
}

export interface PoolSettings {
  readonly balance: Balance;
  readonly health: Health;
  /** There is no way past the members: when all are down, they are tried all the same. */
  readonly last: boolean;
  readonly affinity: AffinityTable | null;
}

/** The members of some of a service's hosts, as one thread knows them: in which order a connection tries them. */
export class Pool {
  readonly #hosts: readonly Host[];
  readonly #settings: PoolSettings;
  readonly #random: () => number;
  readonly #byHost: Member[][];
  #members: readonly Member[] = [];
  /** Those that take HTTP requests. */
  #http: readonly Member[] = [];

  /**
   * `addresses` by host. `seed`: which member comes first; threads that begin with different ones share the load.
   * `random` gives numbers from 0 to 1.
   */
  constructor(
    hosts: readonly Host[],
    addresses: readonly (readonly UpstreamAddress[])[],
    settings: PoolSettings,
    seed: number,
    random: () => number = Math.random,
  ) {
    this.#hosts = hosts;
    this.#settings = settings;
    this.#random = random;
    this.#byHost = hosts.map(() => []);
    for (const i of hosts.keys()) this.setAddresses(i, addresses[i] ?? []);
    const round = this.#members.reduce((sum, { host }) => sum + host.weight, 0);
    for (let i = seed % Math.min(MOST_AHEAD, round); i > 0; i--) this.#takeTurns(this.#members);
  }

  /** All of them, by host. */
  get members(): readonly Member[] {
    return this.#members;
  }

  /** Those that take HTTP requests. */
  get httpMembers(): readonly Member[] {
    return this.#http;
  }

  /** Which member a request goes to depends on its URL. */
  get byUrl(): boolean {
    const { balance, affinity } = this.#settings;
    return balance === 'url-hash' && affinity === null && this.#members.length > 1;
  }

  /** Gives a host other addresses; those of its source's family count. Members whose address stays go on as they are. */
  setAddresses(host: number, addresses: readonly UpstreamAddress[]): void {
    const of = this.#hosts[host];
    const before = this.#byHost[host];
    if (of === undefined || before === undefined) return;
    const { source } = of;
    const fit = source === null ? addresses : addresses.filter((address) => fits(source, address));
    // With none that fit, a connect says what is wrong.
    const after = (fit.length > 0 ? fit : addresses).map(
      (address) =>
        before.find((member) => sameAddress(member.address, address)) ?? new Member(of, address, this.#settings.health),
    );
    for (const member of before) if (!after.includes(member)) member.spares.end();
    this.#byHost[host] = after;
    this.#members = this.#byHost.flat();
    this.#http = this.#members.filter((member) => member.host.upstream?.scheme === 'http');
  }

  /** The members with this address. */
  membersAt(host: number, address: UpstreamAddress): readonly Member[] {
    return (this.#byHost[host] ?? []).filter((member) => sameAddress(member.address, address));
  }

  /**
   * The members in the order in which a connection shall try them, those that are down left out. When all are down it is
   * none, and the way past them is open; where there is no such way, all of them.
   * `url`: of a request, or what an upstream shall connect to. `onlyHttp`: those that take requests.
   */
  order(now: number, clientIp: string, url = '', onlyHttp = false): readonly Member[] {
    const fit = onlyHttp ? this.#http : this.#members;
    const { last, affinity } = this.#settings;
    const first = fit[0];
    // The ordinary relay: a connection to its only target costs nothing here.
    if (fit.length === 1 && first !== undefined) return last || first.isUp(now) ? fit : NONE;
    const up = fit.filter((member) => member.isUp(now));
    const candidates = up.length === 0 && last ? fit : up;
    if (affinity === null || clientIp === '') return this.#balanced(candidates, clientIp, url);
    const client = hash(clientIp);
    const known = affinity.find(client, now);
    const kept = known === null ? -1 : candidates.findIndex((member) => member.hash === known);
    const order = kept < 0 ? this.#balanced(candidates, clientIp, url) : startingAt(candidates, kept);
    const [chosen] = order;
    if (chosen !== undefined) affinity.keep(client, chosen.hash, now);
    return order;
  }

  #balanced(candidates: readonly Member[], clientIp: string, url: string): readonly Member[] {
    if (candidates.length < 2) return candidates;
    switch (this.#settings.balance) {
      case 'round-robin':
        return startingAt(candidates, candidates.indexOf(this.#takeTurns(candidates)));
      case 'least-conn':
        return this.#byLoad(candidates);
      case 'random':
        return byDraw(candidates, this.#random);
      case 'source-hash':
        return byDraw(candidates, (member) => drawFor(member, clientIp));
      case 'url-hash':
        return byDraw(candidates, (member) => drawFor(member, url));
    }
  }

  /** Those that have least to do for their weight take turns. */
  #byLoad(candidates: readonly Member[]): readonly Member[] {
    const order = [...candidates].sort((a, b) => loadOf(a) - loadOf(b));
    const least = loadOf(order[0] as Member);
    const first = this.#takeTurns(order.filter((member) => loadOf(member) === least));
    order.splice(order.indexOf(first), 1);
    return [first, ...order];
  }

  /**
   * Whose turn it is: each comes nearer by its weight, and who has come furthest goes back by all the weights. So turns
   * of a heavy member lie between those of the others, not in a row.
   */
  #takeTurns(candidates: readonly Member[]): Member {
    let furthest = candidates[0] as Member;
    let round = 0;
    for (const member of candidates) {
      const { weight } = member.host;
      member.turn += weight;
      round += weight;
      if (member.turn > furthest.turn) furthest = member;
    }
    furthest.turn -= round;
    return furthest;
  }
}

const loadOf = ({ connections, host }: Member): number => connections / host.weight;

const startingAt = (members: readonly Member[], first: number): readonly Member[] =>
  first === 0 ? members : [...members.slice(first), ...members.slice(0, first)];

/** What a member draws for a key: between 0 and 1, the same each time. */
const drawFor = (member: Member, key: string): number => (hash(key, member.hash) + 0.5) / 2 ** 32;

/**
 * By what each draws, evenly from 0 to 1: -ln(draw) is how long one waits for an event that comes once in a while, so with
 * w times as many events, and the wait divided by w, each is first as often as its weight says. With draws by hash this
 * is weighted rendezvous hashing: a member that goes away leaves all other keys where they are.
 */
const byDraw = (members: readonly Member[], draw: (member: Member) => number): readonly Member[] =>
  members
    .map((member) => ({ member, wait: -Math.log(draw(member)) / member.host.weight }))
    .sort((a, b) => a.wait - b.wait)
    .map(({ member }) => member);
