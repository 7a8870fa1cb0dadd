import type { SocketAddress } from '../address.js';
import * as libc from './libc.js';
import { AF_INET, AF_INET6, readSockaddr, SOCKADDR_SIZE, writeSockaddr } from './sockaddr.js';
import { result, SOL_IP, SOL_IPV6 } from './socket.js';
import { IP_ORIGDSTADDR, IP_PKTINFO, IPV6_ORIGDSTADDR, IPV6_PKTINFO } from './udp-socket.js';

/**
 * Datagrams by the batch: recvmmsg(2) and sendmmsg(2) over structs that are laid out once for each thread, so that a
 * datagram costs a few stores and no memory.
 *
 * The structs are those of every 64-bit Linux, in bytes (x64 and arm64 alike; musl's have padding in the places of the
 * kernel's upper halves): struct mmsghdr 64 = { name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48,
 * len 56 }, struct iovec 16 = { base 0, len 8 }, struct cmsghdr 16 = { len 0, level 8, type 12 } and its data behind it
 * (include/linux/socket.h). Lengths are far below 2^32, so that a store of their lower half is enough.
 */

const HEADER = 64;
const NAME_LENGTH = 8;
const IOV = 16;
const IOV_COUNT = 24;
const CONTROL = 32;
const CONTROL_LENGTH = 40;
const FLAGS = 48;
const LENGTH = 56;
const VECTOR = 16;
const VECTOR_LENGTH = 8;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;

/** Room for a sockaddr_in6, in whole words of 8 bytes. */
const NAME_ROOM = 32;
/** The longest is a sockaddr_in6 behind its cmsghdr. */
const CONTROL_ROOM = 64;
/** A header of the PROXY protocol has 52 bytes at most without extensions. */
const PREFACE_ROOM = 64;

const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;

/**
 * Whose a datagram is, in words of 32 bits with the bytes as the kernel has them: the client's family and port, its
 * address in four, its interface; the port that it asked, the address in four, and the interface of that. Words that
 * an address has no use for are 0, so that keys can be compared word by word.
 */
export const KEY_WORDS = 12;
const CLIENT_IP = 1;
const CLIENT_SCOPE = 5;
const ASKED_PORT = 6;
const ASKED_IP = 7;
const ASKED_SCOPE = 11;
/** Where the port stands in the first word of a sockaddr, beside the family. */
const PORT = 0xffff_0000;

/** How the kernel tells which address of ours a datagram was for: not at all, its address, or as TPROXY keeps it. */
export type Asking = 'none' | 'local' | 'original';

/** How many are received with one call: a socket's turn. */
const SLOTS = 64;
/** No datagram of UDP is longer: its length has 16 bits (RFC 768). */
const MOST_BYTES = 64 * 1024;

const LINK_LOCAL = 0x80fe;
/** fe80::/10 in the first two bytes of an address, read as the little-endian word that they are part of. */
const isLinkLocal = (word: number): boolean => (word & 0xc0ff) === LINK_LOCAL;

const sockaddr = Buffer.alloc(SOCKADDR_SIZE);

const readAddress = (key: Int32Array, familyAndPort: number, ip: number, scope: number): SocketAddress => {
  sockaddr.fill(0);
  sockaddr.writeInt32LE(familyAndPort, 0);
  if ((familyAndPort & 0xffff) === AF_INET) sockaddr.writeInt32LE(key[ip] as number, 4);
  else {
    for (let i = 0; i < 4; i++) sockaddr.writeInt32LE(key[ip + i] as number, 8 + 4 * i);
    sockaddr.writeInt32LE(key[scope] as number, 24);
  }
  return readSockaddr(sockaddr) as SocketAddress;
};

/** The client of a key. */
export const clientOf = (key: Int32Array): SocketAddress => readAddress(key, key[0] as number, CLIENT_IP, CLIENT_SCOPE);

/** The address and port that the client of a key asked. */
export const askedOf = (key: Int32Array): SocketAddress =>
  readAddress(key, ((key[0] as number) & 0xffff) | (key[ASKED_PORT] as number), ASKED_IP, ASKED_SCOPE);

/** Writes the address and port that were asked into a key. */
export const writeAsked = (address: SocketAddress, key: Int32Array): void => {
  writeSockaddr(address, sockaddr);
  const ipv6 = address.ip.includes(':');
  key.fill(0, ASKED_PORT);
  key[ASKED_PORT] = sockaddr.readInt32LE(0) & PORT;
  for (let i = 0; i < (ipv6 ? 4 : 1); i++) key[ASKED_IP + i] = sockaddr.readInt32LE((ipv6 ? 8 : 4) + 4 * i);
  if (ipv6) key[ASKED_SCOPE] = sockaddr.readInt32LE(24);
};

/** Memory for one batch of datagrams at a time: what was received stays until the next receive(). */
export class Datagrams {
  readonly #slots: number;
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #size: number;
  /** Views that begin at a slot's header: a pointer to it, as koffi takes them. */
  readonly #sending: readonly Uint8Array[];
  readonly #receiving: Uint8Array;
  readonly #receiveHeaders = 0;
  readonly #sendHeaders: number;
  readonly #vectors: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #answerName: number;
  readonly #answerControl: number;
  readonly #preface: number;
  readonly #payloads: number;
  #dirty: number;

  /** `size`: bytes of a datagram that there is room for. */
  constructor(slots = SLOTS, size = MOST_BYTES) {
    this.#slots = slots;
    this.#size = size;
    let at = slots * HEADER;
    const place = (room: number): number => {
      const placed = at;
      at += room;
      return placed;
    };
    this.#sendHeaders = place(slots * HEADER);
    // Three for each: that of receiving, and two of sending, for a preface and what was received.
    this.#vectors = place(slots * 3 * VECTOR);
    this.#names = place(slots * NAME_ROOM);
    this.#controls = place(slots * CONTROL_ROOM);
    this.#answerName = place(NAME_ROOM);
    this.#answerControl = place(CONTROL_ROOM);
    this.#preface = place(PREFACE_ROOM);
    this.#payloads = at;
    // Pages of payloads that no datagram has come to yet cost nothing.
    const { memory, address } = libc.allocate(at + slots * size);
    this.#bytes = Buffer.from(memory);
    this.#words = new Int32Array(memory, 0, at / 4);
    this.#words.fill(0);
    this.#receiving = new Uint8Array(memory);
    this.#sending = Array.from({ length: slots }, (_, i) => new Uint8Array(memory, this.#sendHeaders + i * HEADER));
    this.#dirty = slots;
    this.#layOut((offset, to) => {
      this.#bytes.writeBigUInt64LE(address + BigInt(to), offset);
    });
  }

  #layOut(point: (offset: number, to: number) => void): void {
    for (let i = 0; i < this.#slots; i++) {
      const vector = this.#vectors + i * 3 * VECTOR;
      const payload = this.#payloads + i * this.#size;
      point(vector, payload);
      this.#store(vector + VECTOR_LENGTH, this.#size);
      point(vector + VECTOR, this.#preface);
      point(vector + 2 * VECTOR, payload);

      const receive = this.#receiveHeaders + i * HEADER;
      point(receive, this.#names + i * NAME_ROOM);
      point(receive + IOV, vector);
      this.#store(receive + IOV_COUNT, 1);
      point(receive + CONTROL, this.#controls + i * CONTROL_ROOM);

      const send = this.#sendHeaders + i * HEADER;
      point(send, this.#answerName);
      point(send + IOV, vector + VECTOR);
      this.#store(send + IOV_COUNT, 2);
      point(send + CONTROL, this.#answerControl);
    }
  }

  #store(offset: number, value: number): void {
    this.#words[offset >> 2] = value;
  }

  #load(offset: number): number {
    return this.#words[offset >> 2] as number;
  }

  /** Receives what waits, up to a batch: how many datagrams, or an errno negated, EAGAIN when there is none. */
  receive(fd: number): number {
    // The kernel puts down how much it wrote where we say how much room there is.
    for (let i = 0; i < this.#dirty; i++) {
      const header = this.#receiveHeaders + i * HEADER;
      this.#store(header + NAME_LENGTH, SOCKADDR_SIZE);
      this.#store(header + CONTROL_LENGTH, CONTROL_ROOM);
    }
    const count = result(libc.recvmmsg(fd, this.#receiving, this.#slots, 0, null));
    this.#dirty = Math.max(0, count);
    return count;
  }

  /** Bytes of the datagram in a slot. */
  length(slot: number): number {
    return this.#load(this.#receiveHeaders + slot * HEADER + LENGTH);
  }

  /** The datagram in a slot was longer than its room. */
  isTruncated(slot: number): boolean {
    return (this.#load(this.#receiveHeaders + slot * HEADER + FLAGS) & MSG_TRUNC) !== 0;
  }

  /** The datagram in a slot, as long as it stays there. */
  payload(slot: number): Buffer {
    const from = this.#payloads + slot * this.#size;
    return this.#bytes.subarray(from, from + this.length(slot));
  }

  /**
   * Writes whose the datagram in a slot is into `key`. Of what was asked, `asking` none leaves the words as they are, and
   * local leaves the port.
   */
  readKey(slot: number, asking: Asking, key: Int32Array): void {
    const name = this.#names + slot * NAME_ROOM;
    const familyAndPort = this.#load(name);
    const ipv6 = (familyAndPort & 0xffff) === AF_INET6;
    key[0] = familyAndPort;
    if (ipv6) {
      this.#copy(name + 8, key, CLIENT_IP, 4);
      key[CLIENT_SCOPE] = this.#load(name + 24);
    } else {
      key[CLIENT_IP] = this.#load(name + 4);
      key.fill(0, CLIENT_IP + 1, CLIENT_SCOPE + 1);
    }
    if (asking === 'none' || this.#readAsked(slot, ipv6, asking, key)) return;
    key.fill(0, ASKED_IP);
  }

  #readAsked(slot: number, ipv6: boolean, asking: Asking, key: Int32Array): boolean {
    const header = this.#receiveHeaders + slot * HEADER;
    if (this.#load(header + CONTROL_LENGTH) < CMSG_DATA) return false;
    const message = this.#controls + slot * CONTROL_ROOM;
    const level = this.#load(message + CMSG_LEVEL);
    const type = this.#load(message + CMSG_TYPE);
    const data = message + CMSG_DATA;
    if (level !== (ipv6 ? SOL_IPV6 : SOL_IP)) return false;
    if (asking === 'original') {
      if (type !== (ipv6 ? IPV6_ORIGDSTADDR : IP_ORIGDSTADDR)) return false;
      // A sockaddr, whose first two bytes are the family.
      key[ASKED_PORT] = this.#load(data) & PORT;
      this.#readAskedIp(data + (ipv6 ? 8 : 4), ipv6, data + 24, key);
    } else {
      if (type !== (ipv6 ? IPV6_PKTINFO : IP_PKTINFO)) return false;
      // struct in6_pktinfo { address, interface }; struct in_pktinfo { interface, our address, the packet's } (ip(7)).
      this.#readAskedIp(data + (ipv6 ? 0 : 4), ipv6, data + 16, key);
    }
    return true;
  }

  #readAskedIp(from: number, ipv6: boolean, scope: number, key: Int32Array): void {
    if (ipv6) {
      this.#copy(from, key, ASKED_IP, 4);
      // Elsewhere the interface says nothing about whose the datagram is, and may change.
      key[ASKED_SCOPE] = isLinkLocal(key[ASKED_IP] as number) ? this.#load(scope) : 0;
    } else {
      key[ASKED_IP] = this.#load(from);
      key.fill(0, ASKED_IP + 1, ASKED_SCOPE + 1);
    }
  }

  #copy(from: number, to: Int32Array, at: number, count: number): void {
    for (let i = 0; i < count; i++) to[at + i] = this.#load(from + 4 * i);
  }

  /** Readies the slots from `first` to before `end` for send() on a connected socket, each behind `preface`. */
  addressToTarget(first: number, end: number, preface: Buffer | null): void {
    preface?.copy(this.#bytes, this.#preface);
    this.#ready(first, end, preface?.length ?? 0, 0, 0);
  }

  /** Readies them for the client of `key`; `from`: they leave from the address that it asked. */
  addressToClient(first: number, end: number, key: Int32Array, from: boolean): void {
    const name = this.#answerName;
    const ipv6 = ((key[0] as number) & 0xffff) === AF_INET6;
    this.#store(name, key[0] as number);
    if (ipv6) {
      this.#store(name + 4, 0);
      for (let i = 0; i < 4; i++) this.#store(name + 8 + 4 * i, key[CLIENT_IP + i] as number);
      this.#store(name + 24, key[CLIENT_SCOPE] as number);
    } else {
      this.#store(name + 4, key[CLIENT_IP] as number);
      this.#store(name + 8, 0);
      this.#store(name + 12, 0);
    }
    this.#ready(first, end, 0, ipv6 ? SOCKADDR_SIZE : 16, from ? this.#writeFrom(key, ipv6) : 0);
  }

  /** The bytes of the control message that has an answer leave from the address that was asked. */
  #writeFrom(key: Int32Array, ipv6: boolean): number {
    const message = this.#answerControl;
    const data = message + CMSG_DATA;
    this.#store(message, CMSG_DATA + (ipv6 ? 20 : 12));
    this.#store(message + CMSG_LEVEL, ipv6 ? SOL_IPV6 : SOL_IP);
    this.#store(message + CMSG_TYPE, ipv6 ? IPV6_PKTINFO : IP_PKTINFO);
    if (ipv6) {
      // A group can't be answered from.
      if (((key[ASKED_IP] as number) & 0xff) === 0xff) return 0;
      for (let i = 0; i < 4; i++) this.#store(data + 4 * i, key[ASKED_IP + i] as number);
      this.#store(data + 16, key[ASKED_SCOPE] as number);
      return CMSG_DATA + 24;
    }
    this.#store(data, 0);
    this.#store(data + 4, key[ASKED_IP] as number);
    this.#store(data + 8, 0);
    return CMSG_DATA + 16;
  }

  #ready(first: number, end: number, preface: number, name: number, control: number): void {
    for (let i = first; i < end; i++) {
      const vector = this.#vectors + i * 3 * VECTOR;
      this.#store(vector + VECTOR + VECTOR_LENGTH, preface);
      this.#store(vector + 2 * VECTOR + VECTOR_LENGTH, this.length(i));
      const header = this.#sendHeaders + i * HEADER;
      this.#store(header + NAME_LENGTH, name);
      this.#store(header + CONTROL_LENGTH, control);
    }
  }

  /**
   * Sends slots that were readied, from `first` to before `end`: how many the kernel took, or for the first of them an
   * errno negated.
   */
  send(fd: number, first: number, end: number): number {
    return result(libc.sendmmsg(fd, this.#sending[first] as Uint8Array, end - first, MSG_NOSIGNAL));
  }
}

let own: Datagrams | null = null;

/** This thread's. Every use is over before another begins, as with the arguments of sys/socket.ts. */
export const datagrams = (): Datagrams => {
  own ??= new Datagrams();
  return own;
};
