/** The client of an intercepting proxy: a process that gets Talks from its parent and answers each with what was Heard. */
import { createCipheriv, createHash } from 'node:crypto';
import { connect } from 'node:net';

/** Each character is one byte. */
export type Step =
  | { readonly send: string }
  /** Sends so many bytes that look random. */
  | { readonly noise: number }
  /** Waits until what came matches, in vain perhaps. */
  | { readonly await: string }
  /** Ends our direction. */
  | { readonly fin: true };

export interface Talk {
  readonly host: string;
  readonly port: number;
  readonly steps: readonly Step[];
  /** In milliseconds, for each step that waits. */
  readonly patience: number;
}

export interface Heard {
  /** Everything that came, up to the last step. */
  readonly text: string;
  /** How the other side ended by then; null: it did not. An error code or `end`. */
  readonly end: string | null;
  /** The noise could not all be sent. */
  readonly stalled: boolean;
  /** Of the noise that was sent. */
  readonly sha256: string;
}

const talk = async ({ host, port, steps, patience }: Talk): Promise<Heard> => {
  const hash = createHash('sha256');
  let text = '';
  let stalled = false;
  let end: string | null = null;
  let wake: () => void = () => {};
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
    wake();
  });
  socket.on('end', () => {
    end ??= 'end';
    wake();
  });
  socket.on('error', ({ code }: NodeJS.ErrnoException) => {
    end ??= code ?? 'error';
    wake();
  });
  const change = (milliseconds: number): Promise<void> =>
    new Promise((done) => {
      const timer = setTimeout(done, milliseconds);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });

  for (const step of steps) {
    if ('send' in step) socket.write(Buffer.from(step.send, 'latin1'));
    else if ('fin' in step) socket.end();
    else if ('await' in step) {
      const until = Date.now() + patience;
      while (!new RegExp(step.await, 's').test(text) && end === null && Date.now() < until)
        await change(until - Date.now());
    } else {
      const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
      const zeros = Buffer.alloc(256 * 1024);
      // A refusal may come in the middle, and whoever sent it may read no more.
      const before = text.length;
      const until = Date.now() + patience;
      for (let left = step.noise; left > 0 && end === null && text.length === before; left -= zeros.length) {
        const piece = cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
        hash.update(piece);
        if (socket.write(piece)) continue;
        const drained = new Promise<boolean>((done) => socket.once('drain', () => done(true)));
        const changed = change(until - Date.now()).then(() => false);
        if (!(await Promise.race([drained, changed]))) {
          stalled = Date.now() >= until;
          break;
        }
      }
    }
    if (stalled) break;
  }
  socket.destroy();
  return { text, end, stalled, sha256: hash.digest('hex') };
};

process.on('message', async (order: Talk) => process.send?.(await talk(order)));
process.on('disconnect', () => process.exit());
