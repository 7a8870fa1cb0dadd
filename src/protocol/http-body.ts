import type { Body, Refused } from './http.js';
import { ChunkedBody } from './http-chunked.js';

/** The body of a message as its bytes pass by: which of them belong to it, and which need not be looked at. */
export class BodyFollower {
  readonly #chunks: ChunkedBody;
  #chunked = false;
  #left = 0;

  /** `status` is that of a refusal: 400 for what a client sent, 502 for what an upstream did. */
  constructor(status: 400 | 502) {
    this.#chunks = new ChunkedBody(status);
  }

  begin(body: Body): void {
    this.#chunked = body.kind === 'chunked';
    this.#chunks.reset();
    this.#left = body.kind === 'length' ? body.length : body.kind === 'until-close' ? Number.POSITIVE_INFINITY : 0;
  }

  get done(): boolean {
    return this.#chunked ? this.#chunks.done : this.#left === 0;
  }

  get refused(): Refused | null {
    return this.#chunked ? this.#chunks.refused : null;
  }

  /** How many of the next bytes may pass without follow(). */
  get unseen(): number {
    return this.#chunked ? this.#chunks.unseen : this.#left;
  }

  passed(count: number): void {
    if (this.#chunked) this.#chunks.passed(count);
    else this.#left -= count;
  }

  /** The offset behind the last byte of `start` to `end` that belongs to the body. */
  follow(bytes: Buffer, start: number, end: number): number {
    if (this.#chunked) return start + this.#chunks.scan(bytes, start, end);
    const count = Math.min(this.#left, end - start);
    this.#left -= count;
    return start + count;
  }
}
