import type { Body } from '../../src/protocol/http.js';
import { ChunkedBody } from '../../src/protocol/http-chunked.js';
import { replaceField } from '../../src/protocol/http-fields.js';
import { readRequestHead, writeRequestHead } from '../../src/protocol/http-request.js';
import { readResponseHead } from '../../src/protocol/http-response.js';
import { absoluteTarget } from '../../src/protocol/http-target.js';
import { MAX_HEAD } from './heads.js';

export interface Message {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly string[];
  readonly body: Body;
  readonly keepAlive: boolean;
  /** What an upstream gets, one character a byte. */
  readonly written: string;
  readonly content: string;
}

export interface Followed {
  readonly messages: readonly Message[];
  /** The status of the refusal that ended it; null: it ended with the bytes. */
  readonly refused: number | null;
  readonly reason: string | null;
  /** What of a message that is not at its end would have been forwarded. */
  readonly rest: string;
}

const original = { ip: '192.0.2.1', port: 80 };

/** Reads requests as a relay does, from bytes that come in these pieces, each behind all that came before. */
export const followRequests = (pieces: readonly Buffer[], maxBytes = MAX_HEAD): Followed => {
  const messages: Message[] = [];
  const all = Buffer.concat(pieces);
  const into = Buffer.alloc(2 * all.length + 4096);
  const chunked = new ChunkedBody(400);
  let at = 0;
  let end = 0;
  let current: Omit<Message, 'content'> | null = null;
  let content = '';
  let left = 0;
  const refused = (status: number, reason: string): Followed => ({
    messages,
    refused: status,
    reason,
    rest: current === null ? '' : current.written + content,
  });

  for (const piece of pieces) {
    end += piece.length;
    for (;;) {
      if (current === null) {
        if (at === end) break;
        const outcome = readRequestHead(all, at, end, maxBytes);
        if (outcome.kind === 'incomplete') break;
        if (outcome.kind === 'refused') return refused(outcome.status, outcome.reason);
        const { head } = outcome;
        const target = absoluteTarget(head, original);
        if (target.kind === 'refused') return refused(target.status, target.reason);
        if (target.host !== null) replaceField(head.fields, 'Host', target.host);
        const size = writeRequestHead(head, target.target, into, 0);
        current = {
          method: head.method,
          target: target.target,
          fields: head.fields,
          body: head.body,
          keepAlive: head.keepAlive,
          written: into.toString('latin1', 0, size),
        };
        at += head.size;
        left = head.body.kind === 'length' ? head.body.length : 0;
        chunked.reset();
      }
      const from = at;
      if (current.body.kind === 'chunked') at += chunked.scan(all, at, end);
      else at = Math.min(end, at + left);
      left -= at - from;
      content += all.toString('latin1', from, at);
      if (chunked.refused !== null) return refused(chunked.refused.status, chunked.refused.reason);
      if (current.body.kind === 'chunked' ? !chunked.done : left > 0) break;
      messages.push({ ...current, content });
      current = null;
      content = '';
    }
  }
  return {
    messages,
    refused: null,
    reason: null,
    rest: current === null ? '' : (current as Message).written + content,
  };
};

/** The first outcome but `incomplete` for a response head that comes in these pieces, as text. */
export const readResponseIn = (pieces: readonly Buffer[], method: string, maxBytes = MAX_HEAD): string => {
  const all = Buffer.concat(pieces);
  let end = 0;
  for (const piece of pieces) {
    end += piece.length;
    const outcome = readResponseHead(all, 0, end, maxBytes, method);
    if (outcome.kind !== 'incomplete') return JSON.stringify(outcome);
  }
  return 'incomplete';
};
