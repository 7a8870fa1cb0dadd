import { E, SystemError } from '../sys/errno.js';
import { type Pipe, splice } from '../sys/pipe.js';
import { receive, transmit } from '../sys/socket.js';
import type { Endpoint } from './endpoint.js';
import { type Loop, SCRATCH_SIZE } from './loop.js';
import type { Shaper } from './shaper.js';

/** Looks at the bytes of a direction that may not pass unseen. */
export interface Filter {
  /**
   * Bytes came in: the first `count` of `bytes`, valid during this call only. It calls Pump.put with what shall go
   * out, keeps what it can't judge yet, and says in Pump.unseen how much may pass next without being looked at.
   */
  onBytes(bytes: Buffer, count: number): void;
  /** `count` of the bytes that it lets pass unseen came in; Pump.unseen is less by them. */
  onPassed(count: number): void;
  /** The sender ended its direction. */
  onEnd(): void;
}

/** What a run of a pump came to. */
const BLOCKED = 0;
/** Its share of the turn is used up: it wants another one. */
export const MORE = 1;
/** All that came in went out, and no more will come. Ending the receiver's side is the connection's business. */
export const ENDED = 2;
/** `error` says what happened, `broken` to whom. */
export const FAILED = 3;
export type Progress = typeof BLOCKED | typeof MORE | typeof ENDED | typeof FAILED;

/** Bytes of one run: a connection that could go on for ever lets the others have their turn. */
const SHARE = 1024 * 1024;

/** A splice asks for this much; the pipe's slots are what bounds it. */
const SPLICE_SIZE = 1024 * 1024;

/** Splices shorter than this are no bulk any more: recv and send cost the same, and need no pipe. */
const SMALL = 4096;

/**
 * One direction of one connection.
 *
 * Small transfers go through the loop's scratch buffer; a recv that fills it turns to splice through a pipe of the
 * loop's, until splices get small. What the receiver does not take at once waits here, or in the pipe, and nothing
 * more is read meanwhile: that holds the sender back, and bounds the memory by one scratch buffer.
 */
export class Pump {
  /** Bytes that have gone out. */
  moved = 0;
  /** Bytes that may pass without the filter; Infinity where there is none. */
  unseen = Number.POSITIVE_INFINITY;
  filter: Filter | null = null;
  /** Says how much is read, and when; null: as much as there is, at once. */
  shaper: Shaper | null = null;
  /** Reads nothing while set; what waits to go out goes out. */
  paused = false;
  error: SystemError | null = null;
  broken: Endpoint | null = null;

  readonly #loop: Loop;
  #pending: Buffer | null = null;
  #pendingAt = 0;
  #pipe: Pipe | null = null;
  #inPipe = 0;
  #bulk = false;
  #end = false;

  constructor(
    loop: Loop,
    public from: Endpoint | null,
    public to: Endpoint | null,
  ) {
    this.#loop = loop;
  }

  /** Nothing waits to go out. */
  get drained(): boolean {
    return this.#pending === null && this.#inPipe === 0;
  }

  /** run() would read. */
  get ready(): boolean {
    return (
      !this.paused && this.from?.readable === true && !this.#end && this.drained && this.heldUntil <= this.#loop.now
    );
  }

  /** The time until which the shaper holds back what could be read; one that has passed where nothing is held. */
  get heldUntil(): number {
    return this.shaper === null ? Number.NEGATIVE_INFINITY : this.shaper.deadline;
  }

  /** The sender's end of stream was read. */
  get ended(): boolean {
    return this.#end;
  }

  /** Sends bytes `start` to `end` of `bytes`, or keeps a copy of what can't go now. They follow what already waits. */
  put(bytes: Buffer, start: number, end: number): Progress {
    if (this.#pending === null && this.#inPipe === 0) {
      const sent = this.#send(bytes, start, end);
      if (sent < 0) return FAILED;
      start += sent;
      if (start === end) return BLOCKED;
    }
    const rest = bytes.subarray(start, end);
    this.#pending =
      this.#pending === null ? Buffer.from(rest) : Buffer.concat([this.#pending.subarray(this.#pendingAt), rest]);
    this.#pendingAt = 0;
    return BLOCKED;
  }

  /** Moves what can be moved. */
  run(): Progress {
    if (this.error !== null) return FAILED;
    let share = SHARE;
    for (;;) {
      const flushed = this.flush();
      if (flushed !== ENDED) return flushed;
      if (this.#end) return ENDED;
      if (this.paused || !this.from?.readable || (this.to === null && this.filter === null)) return BLOCKED;
      if (share <= 0) return MORE;
      const { shaper } = this;
      const most = shaper === null ? Number.POSITIVE_INFINITY : shaper.allowance(this.#loop.now);
      if (most === 0) {
        this.#loop.fine.watch(shaper as Shaper);
        return BLOCKED;
      }
      // A splice stops for good at urgent data, which a recv skips.
      const bulk = this.#bulk && Math.min(this.unseen, most) >= SCRATCH_SIZE && !this.from.urgent;
      const count = bulk ? this.#splice(most) : this.#copy(most);
      if (count < 0) return FAILED;
      // What the bytes led to may have taken the sender away.
      shaper?.took(count, this.from?.readable !== true);
      share -= count;
    }
  }

  /** Begins anew between other sockets. What waits to go out was for `to`, and goes only where that stays. */
  attach(from: Endpoint | null, to: Endpoint | null): void {
    if (to !== this.to) this.#discard();
    // An end that was read is not read a second time.
    if (from !== this.from) this.#end = false;
    this.from = from;
    this.to = to;
    this.error = null;
    this.broken = null;
    this.#bulk = false;
  }

  /** Holds nothing back any more. */
  unshape(): void {
    if (this.shaper !== null) this.#loop.fine.forget(this.shaper);
    this.shaper = null;
  }

  /** Gives the pipe back. To be called when the connection ends. */
  close(): void {
    this.#discard();
    this.unshape();
  }

  /** Sends what waits to go out, and reads nothing. ENDED when nothing waits any more. */
  flush(): Progress {
    const to = this.to as Endpoint;
    // The pipe first: bytes are spliced only when nothing else waits, so what waits beside them was put later.
    while (this.#inPipe > 0) {
      if (!to.writable) return BLOCKED;
      const count = splice((this.#pipe as Pipe).readEnd, to.fd, this.#inPipe);
      if (count === -E.AGAIN) {
        to.writable = false;
        return BLOCKED;
      }
      if (count < 0) return this.#fail(to, 'splice', count);
      this.#inPipe -= count;
      this.moved += count;
    }
    if (this.#pipe !== null) {
      this.#loop.releasePipe(this.#pipe, true);
      this.#pipe = null;
    }
    if (this.#pending !== null) {
      if (!to.writable) return BLOCKED;
      const sent = this.#send(this.#pending, this.#pendingAt, this.#pending.length);
      if (sent < 0) return FAILED;
      this.#pendingAt += sent;
      if (this.#pendingAt < this.#pending.length) return BLOCKED;
      this.#pending = null;
    }
    return ENDED;
  }

  #discard(): void {
    if (this.#pipe !== null) this.#loop.releasePipe(this.#pipe, this.#inPipe === 0);
    this.#pipe = null;
    this.#inPipe = 0;
    this.#pending = null;
  }

  /** What the receiver took, 0 for nothing; negative after #fail. */
  #send(bytes: Buffer, start: number, end: number): number {
    const to = this.to as Endpoint;
    if (!to.writable) return 0;
    const sent = transmit(to.fd, bytes, start, end);
    if (sent === -E.AGAIN) {
      to.writable = false;
      return 0;
    }
    if (sent < 0) {
      this.#fail(to, 'send', sent);
      return sent;
    }
    // Less than asked for: the socket's buffer is full, and an event comes when it has room.
    if (sent < end - start) to.writable = false;
    this.moved += sent;
    return sent;
  }

  /** One recv of up to `most` bytes and what it leads to: the bytes read, negative after #fail. */
  #copy(most: number): number {
    const from = this.from as Endpoint;
    const { scratch } = this.#loop;
    const seen = this.unseen === 0;
    const want = Math.min(SCRATCH_SIZE, most, seen ? SCRATCH_SIZE : this.unseen);
    const count = receive(from.fd, scratch, want);
    if (count === -E.AGAIN) {
      from.readable = false;
      return 0;
    }
    if (count < 0) {
      this.#fail(from, 'recv', count);
      return count;
    }
    if (count === 0) {
      this.#endOfStream();
      return 0;
    }
    // A short read emptied the socket's queue, unless its end stands behind the bytes: that raises no event of its own
    // when both came at once.
    if (count < want && !from.ended && !from.urgent) from.readable = false;
    this.#bulk = count === SCRATCH_SIZE;
    if (seen) (this.filter as Filter).onBytes(scratch, count);
    else {
      this.put(scratch, 0, count);
      this.#passed(count);
    }
    return this.error === null ? count : -this.error.errno;
  }

  /** One splice of up to `most` bytes into the pipe; #flush takes it from there. */
  #splice(most: number): number {
    const from = this.from as Endpoint;
    const pipe = this.#loop.takePipe();
    if (pipe === null) return this.#copy(most);
    this.#pipe = pipe;
    const count = splice(from.fd, pipe.writeEnd, Math.min(SPLICE_SIZE, this.unseen, most));
    // EAGAIN may mean a full pipe too (splice(2)), but this one is empty.
    if (count === -E.AGAIN) {
      from.readable = false;
      return 0;
    }
    if (count < 0) {
      this.#fail(from, 'splice', count);
      return count;
    }
    if (count === 0) {
      this.#endOfStream();
      return 0;
    }
    this.#inPipe = count;
    if (count < SMALL) this.#bulk = false;
    this.#passed(count);
    return count;
  }

  #passed(count: number): void {
    this.unseen -= count;
    this.filter?.onPassed(count);
  }

  #endOfStream(): void {
    this.#end = true;
    (this.from as Endpoint).readable = false;
    this.filter?.onEnd();
  }

  #fail(endpoint: Endpoint, syscall: string, result: number): typeof FAILED {
    this.error = new SystemError(syscall, -result);
    this.broken = endpoint;
    return FAILED;
  }
}
