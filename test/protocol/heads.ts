import assert from 'node:assert/strict';
import type { Refused, RequestHead, ResponseHead } from '../../src/protocol/http.js';
import { readRequestHead, writeRequestHead } from '../../src/protocol/http-request.js';
import { readResponseHead } from '../../src/protocol/http-response.js';

export const MAX_HEAD = 64 * 1024;

/** Each character is one byte. */
export const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

export const readRequest = (text: string, maxBytes = MAX_HEAD) => {
  const bytes = latin1(text);
  return readRequestHead(bytes, 0, bytes.length, maxBytes);
};

export const acceptedRequest = (text: string): RequestHead => {
  const outcome = readRequest(text);
  assert.equal(outcome.kind, 'head', JSON.stringify(outcome));
  return (outcome as { head: RequestHead }).head;
};

export const refusedRequest = (text: string, maxBytes = MAX_HEAD): Refused => {
  const outcome = readRequest(text, maxBytes);
  assert.equal(outcome.kind, 'refused', JSON.stringify(outcome));
  return outcome as Refused;
};

export const readResponse = (text: string, method = 'GET', maxBytes = MAX_HEAD) => {
  const bytes = latin1(text);
  return readResponseHead(bytes, 0, bytes.length, maxBytes, method);
};

export const acceptedResponse = (text: string, method = 'GET'): ResponseHead => {
  const outcome = readResponse(text, method);
  assert.equal(outcome.kind, 'head', JSON.stringify(outcome));
  return (outcome as { head: ResponseHead }).head;
};

export const refusedResponse = (text: string, method = 'GET', maxBytes = MAX_HEAD): Refused => {
  const outcome = readResponse(text, method, maxBytes);
  assert.equal(outcome.kind, 'refused', JSON.stringify(outcome));
  return outcome as Refused;
};

export const rebuilt = (head: RequestHead, target = head.target): string => {
  const into = Buffer.alloc(2 * MAX_HEAD);
  return into.toString('latin1', 0, writeRequestHead(head, target, into, 0));
};
