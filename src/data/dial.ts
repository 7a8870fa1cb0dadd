import type { SocketAddress } from '../address.js';
import { E, SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { connectTo, pendingError, tcpSocket } from '../sys/socket.js';
import { Endpoint } from './endpoint.js';
import type { Loop, Runnable } from './loop.js';
import { connectError, explain, fits, misfit, type Source, takeSource } from './source.js';
import type { Timed } from './timers.js';

/** Who waits for a connect. Exactly one of the two is called, once, never from within the constructor. */
export interface Dialer {
  /** The endpoint is the dialer's from here on. */
  onConnected(endpoint: Endpoint, address: SocketAddress): void;
  /** Every address has been tried; `error` is of the last one, `message` tells of all. */
  onUnreachable(error: SystemError, message: string): void;
}

/**
 * A connect to the first of some addresses that takes it. They are tried in turn, and share one deadline: an address
 * that does not answer has its part of what is left of it.
 */
export class Dial implements Runnable, Timed {
  deadline = Number.POSITIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #loop: Loop;
  readonly #addresses: readonly SocketAddress[];
  readonly #end: number;
  readonly #dialer: Dialer;
  readonly #source: Source | null;
  #next = 0;
  #endpoint: Endpoint | null = null;
  #error: SystemError | null = null;
  #message = '';

  /**
   * `timeout` in milliseconds, for all addresses together. With a `source` those of its family are tried; the error is
   * EAFNOSUPPORT when there are none.
   */
  constructor(
    loop: Loop,
    addresses: readonly SocketAddress[],
    timeout: number,
    dialer: Dialer,
    source: Source | null = null,
  ) {
    this.#loop = loop;
    this.#addresses = source === null ? addresses : addresses.filter((address) => fits(source, address));
    this.#end = loop.now + timeout;
    this.#dialer = dialer;
    this.#source = source;
    const [other] = addresses;
    if (source !== null && other !== undefined && this.#addresses.length === 0) this.#note(misfit(source, other));
    this.#tryNext();
  }

  /** The address that is being tried. */
  get address(): SocketAddress {
    return this.#addresses[Math.max(0, this.#next - 1)] as SocketAddress;
  }

  /** Gives up; the dialer hears nothing more. */
  cancel(): void {
    this.#loop.timers.forget(this);
    this.#endpoint?.close();
    this.#endpoint = null;
    this.#next = Number.POSITIVE_INFINITY;
  }

  run(): void {
    if (this.#next === Number.POSITIVE_INFINITY) return;
    const endpoint = this.#endpoint;
    if (endpoint === null) {
      this.#settle();
      return;
    }
    if (endpoint.failed) {
      this.#fail(pendingError(endpoint.fd) || E.TIMEDOUT);
      return;
    }
    if (!endpoint.writable) return;
    const address = this.address;
    this.#endpoint = null;
    this.cancel();
    this.#dialer.onConnected(endpoint, address);
  }

  onDeadline(): void {
    if (this.#endpoint !== null) this.#fail(E.TIMEDOUT);
  }

  #fail(errno: number): void {
    this.#endpoint?.close();
    this.#endpoint = null;
    this.#note(connectError(errno, this.address, this.#source));
    this.#tryNext();
  }

  #note(error: SystemError): void {
    this.#message += `${this.#error === null ? '' : '; '}${explain(error, this.#source)}`;
    this.#error = error;
  }

  #tryNext(): void {
    while (this.#next < this.#addresses.length) {
      const address = this.#addresses[this.#next++] as SocketAddress;
      const fd = tcpSocket(address.ip.includes(':'));
      if (fd < 0) {
        this.#note(new SystemError('socket', -fd, address));
        continue;
      }
      const failure = this.#source === null ? null : takeSource(fd, this.#source, address);
      if (failure !== null) {
        closeFd(fd);
        this.#note(failure);
        continue;
      }
      const outcome = connectTo(fd, address);
      if (outcome < 0 && outcome !== -E.INPROGRESS) {
        closeFd(fd);
        this.#note(connectError(-outcome, address, this.#source));
        continue;
      }
      try {
        this.#endpoint = new Endpoint(this.#loop, fd, this, false);
        if (this.#source?.unlisted !== true) this.#endpoint.connectsTo(address);
      } catch (error) {
        closeFd(fd);
        if (!(error instanceof SystemError)) throw error;
        this.#note(error);
        continue;
      }
      const left = this.#end - this.#loop.now;
      this.deadline = this.#loop.now + left / (this.#addresses.length - this.#next + 1);
      this.#loop.timers.watch(this);
      return;
    }
    // Never from within the constructor: whoever made this dial does not hold it yet.
    this.#loop.again(this);
  }

  #settle(): void {
    this.cancel();
    const error = this.#error ?? new SystemError('lookup', E.NOENT);
    this.#dialer.onUnreachable(error, this.#message || error.message);
  }
}
