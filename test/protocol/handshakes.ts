import type { Handshake } from '../../src/protocol/handshake.js';

export interface Talked {
  readonly outcome: 'connected' | 'refused' | 'incomplete';
  /** What was sent to the upstream, in hexadecimal, a turn each. */
  readonly sent: readonly string[];
  readonly status: number | null;
  readonly reason: string | null;
  /** What the upstream said that is the tunnel's, one character a byte. */
  readonly early: string;
}

/** Has a handshake with an upstream that says these pieces, whatever it is told; the tunnel gets what is left. */
export const talk = (handshake: Handshake, pieces: readonly Buffer[]): Talked => {
  const sent = [handshake.first().toString('hex')];
  const all = Buffer.concat(pieces);
  let at = 0;
  let end = 0;
  for (const piece of pieces) {
    end += piece.length;
    for (;;) {
      const outcome = handshake.next(all, at, end);
      if (outcome.kind === 'incomplete') break;
      if (outcome.kind === 'refused') {
        return { outcome: 'refused', sent, status: outcome.status, reason: outcome.reason, early: '' };
      }
      at += outcome.size;
      if (outcome.kind === 'connected') {
        return { outcome: 'connected', sent, status: null, reason: null, early: all.toString('latin1', at) };
      }
      sent.push(outcome.bytes.toString('hex'));
    }
  }
  return { outcome: 'incomplete', sent, status: null, reason: null, early: '' };
};

/** The same bytes one by one. */
export const single = (bytes: Buffer): Buffer[] => [...bytes].map((byte) => Buffer.of(byte));
