/** Flushed when there are more characters than this, or after a turn. */
const ENOUGH = 64 * 1024;

const two = (n: number): string => String(n).padStart(2, '0');

/** `2026/11/22 20:48:41`, in local time, as transproxy writes it. */
export const formatTime = (date: Date): string =>
  `${date.getFullYear()}/${two(date.getMonth() + 1)}/${two(date.getDate())} ` +
  `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

/** Entries of the access log, collected over a turn of the loop: a message for each would cost more than the request. */
export class AccessEntries {
  readonly #flush: (lines: string) => void;
  #lines = '';
  #second = 0;
  #time = '';

  /** `flush` gets whole lines, one character a byte. */
  constructor(flush: (lines: string) => void) {
    this.#flush = flush;
  }

  add(entry: string): void {
    const now = Date.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#time = formatTime(new Date(now));
    }
    this.#lines += `${this.#time}  ${entry}\n`;
    if (this.#lines.length > ENOUGH) this.flush();
  }

  flush(): void {
    if (this.#lines === '') return;
    this.#flush(this.#lines);
    this.#lines = '';
  }
}
