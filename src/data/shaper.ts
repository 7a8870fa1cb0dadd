import type { Shaping } from '../plan.js';
import { type Runnable, SCRATCH_SIZE } from './loop.js';
import type { Timed } from './timers.js';

/** A direction that has used its bandwidth up waits until so many milliseconds of it have gathered, or one byte. */
const SLICE = 20;

/** Bandwidth that was not used is kept for so many milliseconds beyond a slice: a timer that is late loses none. */
const SLACK = 20;

/**
 * How much one direction of a connection may read, and when. Bandwidth is kept as the time that was not used yet: it
 * grows as time passes, up to SLICE + SLACK, and what is read takes from it, at `maxBandwidth` bits per second. So no
 * stretch of time passes more than its own bandwidth and that of SLICE + SLACK (40 ms, below 400 bit/s a little more).
 *
 * With `randomWait` each piece waits before its first byte, for a time that is evenly spread from 0 to twice as many
 * milliseconds, as redir has it. A piece is over when it has `bufferSize` bytes (a recv's, by default), or when the
 * sender has no more for now.
 *
 * The clock is passed in, in milliseconds. As a Timed it runs the connection when a wait is over.
 */
export class Shaper implements Timed {
  /** When the wait that allowance() found is over. */
  deadline = Number.NEGATIVE_INFINITY;
  tick = Number.POSITIVE_INFINITY;
  readonly #bytesPerMs: number;
  readonly #slice: number;
  readonly #mostUnused: number;
  readonly #randomSpan: number;
  readonly #pieceSize: number;
  /** Time before this is used. */
  #used: number;
  /** Bytes that the piece which has waited may still have. */
  #pieceLeft = 0;

  /** `random`: from 0 to below 1. */
  constructor(
    { maxBandwidth, randomWait, bufferSize }: Shaping,
    now: number,
    readonly owner: Runnable,
    readonly random: () => number = Math.random,
  ) {
    this.#bytesPerMs = maxBandwidth === null ? Number.POSITIVE_INFINITY : maxBandwidth / 8000;
    this.#slice = Math.max(SLICE, 1 / this.#bytesPerMs);
    this.#mostUnused = this.#slice + SLACK;
    this.#randomSpan = 2 * randomWait;
    this.#pieceSize = bufferSize ?? (randomWait > 0 ? SCRATCH_SIZE : Number.POSITIVE_INFINITY);
    this.#used = now - this.#mostUnused;
  }

  /** Bytes that may be read at `now`; 0: none before `deadline`. */
  allowance(now: number): number {
    if (this.deadline > now) return 0;
    this.#used = Math.max(this.#used, now - this.#mostUnused);
    const bytes = Math.floor((now - this.#used) * this.#bytesPerMs);
    if (bytes < 1) {
      this.deadline = this.#used + this.#slice;
      return 0;
    }
    if (this.#randomSpan === 0) return Math.min(bytes, this.#pieceSize);
    if (this.#pieceLeft <= 0) {
      this.#pieceLeft = this.#pieceSize;
      this.deadline = now + this.random() * this.#randomSpan;
      if (this.deadline > now) return 0;
    }
    return Math.min(bytes, this.#pieceLeft);
  }

  /** So many bytes were read. `all`: the sender has no more for now. */
  took(bytes: number, all: boolean): void {
    this.#used += bytes / this.#bytesPerMs;
    this.#pieceLeft = all ? 0 : this.#pieceLeft - bytes;
  }

  onDeadline(): void {
    this.owner.run();
  }
}
