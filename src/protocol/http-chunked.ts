import { type Refused, refuse } from './http.js';
import { CLASS, COLON, CR, HTAB, LF, SEMICOLON, SP, TOKEN, VALUE } from './http-octets.js';

/** Of one chunk's extensions and of the whole trailer section, in bytes. */
const MAX_EXTENSIONS = 4096;
const MAX_TRAILERS = 16 * 1024;

/** Leading zeros included: a reader that counts in 64 bits must come to the same number. */
const MAX_DIGITS = 16;

/** Fields that say where a message ends or goes: a reader that takes trailers for fields of the head would be misled. */
const NOT_IN_TRAILERS = new Set(['content-length', 'host', 'transfer-encoding']);

/** What the next byte is a part of. */
const FIRST_DIGIT = 0;
const DIGIT = 1;
const SPACE_AFTER_SIZE = 2;
const EXTENSION = 3;
const SIZE_LF = 4;
const DATA_CR = 5;
const DATA_LF = 6;
const TRAILER = 7;
const TRAILER_NAME = 8;
const TRAILER_VALUE = 9;
const TRAILER_LF = 10;
const LAST_LF = 11;
const DONE = 12;
const REFUSED = 13;

const HEX = new Int8Array(256).fill(-1);
for (let i = 0; i < 16; i++) {
  HEX[i.toString(16).charCodeAt(0)] = i;
  HEX[i.toString(16).toUpperCase().charCodeAt(0)] = i;
}

/**
 * Follows a chunked body to its end (RFC 9112 section 7.1) without changing or collecting it: every byte of it passes
 * as it is, once it was seen to be where one strict reading has it. One object follows one body after another.
 */
export class ChunkedBody {
  readonly #status: number;
  #state = FIRST_DIGIT;
  #size = 0;
  #digits = 0;
  /** Of this chunk's extensions, or of the trailer section, so far. */
  #length = 0;
  #name = '';
  #unseen = 0;
  #refused: Refused | null = null;

  /** `status` is that of a refusal: 400 where a client sent the body, 502 where an upstream did. */
  constructor(status: 400 | 502) {
    this.#status = status;
  }

  /** So many of the bytes behind those that were scanned are a chunk's data: they may pass unseen, told by `passed`. */
  get unseen(): number {
    return this.#unseen;
  }

  /** The body has ended: the next byte is not its own. */
  get done(): boolean {
    return this.#state === DONE;
  }

  /** Why the body can't be followed any further, once that is so. */
  get refused(): Refused | null {
    return this.#refused;
  }

  /** Begins with another body. */
  reset(): void {
    this.#state = FIRST_DIGIT;
    this.#size = 0;
    this.#digits = 0;
    this.#length = 0;
    this.#unseen = 0;
    this.#refused = null;
  }

  /** `count` bytes of `unseen` went by. */
  passed(count: number): void {
    if (count > this.#unseen) throw new RangeError('more bytes passed than the chunk has');
    this.#unseen -= count;
  }

  /** How many of these bytes belong to the body: all, or up to its end, or up to the byte for which it is refused. */
  scan(bytes: Buffer, start: number, end: number): number {
    let p = start;
    while (p < end && this.#state < DONE) {
      if (this.#unseen > 0) {
        const count = Math.min(this.#unseen, end - p);
        this.#unseen -= count;
        p += count;
      } else {
        this.#state = this.#next(bytes[p] as number);
        if (this.#state !== REFUSED) p++;
      }
    }
    return p - start;
  }

  #refuse(reason: string): number {
    this.#refused = refuse(this.#status, reason);
    return REFUSED;
  }

  #lineFeed(c: number, next: number): number {
    return c === LF ? next : this.#refuse('A line of the chunked body has a carriage return without a line feed.');
  }

  /** The state after the byte `c`, which is not of a chunk's data. */
  #next(c: number): number {
    switch (this.#state) {
      case FIRST_DIGIT:
        this.#size = 0;
        this.#digits = 0;
        this.#length = 0;
        return (HEX[c] as number) < 0
          ? this.#refuse('A chunk of the body does not begin with its size.')
          : this.#digit(c);
      case DIGIT:
        if ((HEX[c] as number) >= 0) return this.#digit(c);
        if (c === CR) return SIZE_LF;
        if (c === SEMICOLON) return EXTENSION;
        if (c === SP || c === HTAB) return SPACE_AFTER_SIZE;
        return this.#refuse("A chunk's size in the body is not a hexadecimal number.");
      case SPACE_AFTER_SIZE:
        if (++this.#length > MAX_EXTENSIONS) return this.#refuse("A chunk's extensions are too long.");
        if (c === SEMICOLON) return EXTENSION;
        return c === SP || c === HTAB ? SPACE_AFTER_SIZE : this.#refuse("A chunk's size has white space behind it.");
      case EXTENSION:
        if (c === CR) return SIZE_LF;
        if (++this.#length > MAX_EXTENSIONS) return this.#refuse("A chunk's extensions are too long.");
        return ((CLASS[c] as number) & VALUE) !== 0
          ? EXTENSION
          : this.#refuse("A chunk's extension has a control character in it.");
      case SIZE_LF:
        this.#unseen = c === LF ? this.#size : 0;
        this.#length = 0;
        return this.#lineFeed(c, this.#size === 0 ? TRAILER : DATA_CR);
      case DATA_CR:
        return c === CR ? DATA_LF : this.#refuse("A chunk's data in the body is longer than its size says.");
      case DATA_LF:
        return this.#lineFeed(c, FIRST_DIGIT);
      case TRAILER:
        if (c === CR) return LAST_LF;
        this.#name = '';
        return this.#trailerName(c);
      case TRAILER_NAME:
        return this.#trailerName(c);
      case TRAILER_VALUE:
        if (c === CR) return TRAILER_LF;
        if (((CLASS[c] as number) & VALUE) === 0) return this.#refuse('A trailer field has a control character in it.');
        return this.#trailer(TRAILER_VALUE);
      case TRAILER_LF:
        return this.#lineFeed(c, TRAILER);
      default:
        return this.#lineFeed(c, DONE);
    }
  }

  #digit(c: number): number {
    this.#size = this.#size * 16 + (HEX[c] as number);
    const fits = ++this.#digits <= MAX_DIGITS && this.#size <= Number.MAX_SAFE_INTEGER;
    return fits ? DIGIT : this.#refuse("A chunk's size in the body is too large.");
  }

  #trailer(next: number): number {
    return ++this.#length > MAX_TRAILERS ? this.#refuse('The trailer fields are too large.') : next;
  }

  #trailerName(c: number): number {
    if (((CLASS[c] as number) & TOKEN) !== 0) {
      this.#name += String.fromCharCode(c);
      return this.#trailer(TRAILER_NAME);
    }
    if (c !== COLON || this.#name === '') return this.#refuse('A trailer field has no name with a colon behind it.');
    if (NOT_IN_TRAILERS.has(this.#name.toLowerCase())) return this.#refuse(`${this.#name} cannot be a trailer field.`);
    return this.#trailer(TRAILER_VALUE);
  }
}
