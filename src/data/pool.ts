import type { UpstreamAddress } from '../address.js';
import type { Balance, Service, Upstream } from '../plan.js';
import { Spares } from './spares.js';

/** How long an upstream that could not be connected to is passed over, in ms: the first time, and at most. */
const BACK_OFF = 1000;
const LONGEST_BACK_OFF = 30_000;

/** A host with its addresses, which connections begin with in turn. */
export class Host {
  #rotations: (readonly UpstreamAddress[])[] = [];
  #turn: number;

  /** `seed`: which address comes first; threads that begin with different ones share the load. */
  constructor(addresses: readonly UpstreamAddress[], seed: number) {
    this.#turn = seed;
    this.setAddresses(addresses);
  }

  setAddresses(addresses: readonly UpstreamAddress[]): void {
    this.#rotations = addresses.map((_, i) => [...addresses.slice(i), ...addresses.slice(0, i)]);
  }

  /** All addresses, in the order in which the next connection shall try them. */
  next(): readonly UpstreamAddress[] {
    return this.#rotations[this.#turn++ % this.#rotations.length] ?? [];
  }
}

/** An upstream as one thread knows it. */
export class Member {
  readonly host: Host;
  readonly spares = new Spares();
  /** Connections of this thread. */
  connections = 0;
  #failures = 0;
  #downUntil = 0;
  /** What the last probe found; a thread's own failures count beside it. */
  probedUp = true;

  /** `authorization`: the value of Proxy-Authorization, if it takes one. */
  constructor(
    readonly upstream: Upstream,
    readonly authorization: string | null,
    addresses: readonly UpstreamAddress[],
    seed: number,
  ) {
    this.host = new Host(addresses, seed);
  }

  setAddresses(addresses: readonly UpstreamAddress[]): void {
    this.host.setAddresses(addresses);
    this.spares.keep(addresses);
  }

  isUp(now: number): boolean {
    return this.probedUp && this.#downUntil <= now;
  }

  /**
   * It could not be connected to at all. A refusal of one request is no failure, nor is what was under way when it went
   * down one more.
   */
  failed(now: number): void {
    if (this.#downUntil > now) return;
    this.#downUntil = now + Math.min(LONGEST_BACK_OFF, BACK_OFF * 2 ** this.#failures);
    this.#failures++;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#downUntil = 0;
  }
}

/** 32 bits of `text`, well mixed: FNV-1a and the last steps of MurmurHash3, so that one letter changes every bit. */
const hash = (text: string): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

/** The upstreams of one service, as one thread knows them. */
export class Pool {
  readonly members: readonly Member[];
  readonly #balance: Balance;
  readonly #proxyOnly: boolean;
  #turn: number;

  constructor(service: Service, members: readonly Member[], seed: number) {
    this.members = members;
    this.#balance = service.balance;
    this.#proxyOnly = service.proxyOnly;
    this.#turn = seed;
  }

  /** Which upstream a request goes to depends on its URL. */
  get byUrl(): boolean {
    return this.#balance === 'url-hash' && this.members.length > 1;
  }

  /**
   * The upstreams in the order in which a connection shall try them, those that are down left out. When all are down it
   * is none, and the way past them is open; where there is no such way, all of them.
   * `onlyHttp`: those that take requests.
   */
  order(now: number, onlyHttp: boolean, clientIp: string, url: string): readonly Member[] {
    const fit = this.members.filter(({ upstream }) => !onlyHttp || upstream.scheme === 'http');
    const up = fit.filter((member) => member.isUp(now));
    const candidates = up.length === 0 && this.#proxyOnly ? fit : up;
    if (candidates.length < 2) return candidates;
    switch (this.#balance) {
      case 'round-robin':
      case 'random':
        return this.#rotated(candidates);
      case 'least-conn':
        // The sort is stable: those with as few as each other take turns.
        return this.#rotated(candidates).sort((a, b) => a.connections - b.connections);
      case 'source-hash':
        return byRendezvous(candidates, clientIp);
      case 'url-hash':
        return byRendezvous(candidates, url);
    }
  }

  #rotated(members: readonly Member[]): Member[] {
    const first = this.#turn++ % members.length;
    return [...members.slice(first), ...members.slice(0, first)];
  }
}

/**
 * Rendezvous hashing: each member draws a number for the key, and the highest wins. A member that goes away leaves all
 * other keys where they are.
 */
const byRendezvous = (members: readonly Member[], key: string): readonly Member[] =>
  members
    .map((member) => ({ member, score: hash(`${member.upstream.host}:${member.upstream.port} ${key}`) }))
    .sort((a, b) => b.score - a.score)
    .map(({ member }) => member);
