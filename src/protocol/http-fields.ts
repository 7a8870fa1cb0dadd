import { HTTPParser, type OnHeadersCompleteParser } from 'http-parser-js';
import type { Fields } from './http.js';

// Its default, ascii, clears bit 7 and so makes line feeds of bytes that are none. The bound on a head is our own, before.
HTTPParser.encoding = 'latin1';
HTTPParser.maxHeaderSize = Number.MAX_SAFE_INTEGER;

type Parsed = Parameters<OnHeadersCompleteParser>[0];

/** What http-parser-js takes for "nothing follows this head", so that it never gets to read a body. */
const NOTHING_FOLLOWS = 2;

/** One parser for every head: making one costs more than a small head does. */
const parser = new HTTPParser(HTTPParser.REQUEST);
const result: { parsed: Parsed | null } = { parsed: null };

parser[HTTPParser.kOnHeadersComplete] = (parsed: Parsed): number => {
  result.parsed = parsed;
  return NOTHING_FOLLOWS;
};

const begin = (type: 'REQUEST' | 'RESPONSE'): void => {
  result.parsed = null;
  parser.reinitialize(type);
};

const finish = (bytes: Buffer, start: number, end: number): Parsed | null => {
  const taken = parser.execute(bytes, start, end - start);
  return taken === end - start ? result.parsed : null;
};

const ANY_METHOD = Buffer.from('GET');

/**
 * Has http-parser-js read a request head whose bytes were checked already. `start` is behind the method, in whose place
 * it gets one that it knows (it knows 34, and a proxy forwards all: RFC 9110 section 7.6).
 * null: it reads the head in another way than we do, or finds several Content-Length.
 */
export const parseRequest = (bytes: Buffer, start: number, end: number): Parsed | null => {
  begin(HTTPParser.REQUEST);
  parser.execute(ANY_METHOD);
  return finish(bytes, start, end);
};

/** The same for a response head, from its status line on. */
export const parseResponse = (bytes: Buffer, start: number, end: number): Parsed | null => {
  begin(HTTPParser.RESPONSE);
  return finish(bytes, start, end);
};

/** What the fields of one head say about its connection and its body. Fields that come several times are a list. */
export interface Summary {
  hosts: number;
  host: string | null;
  referer: string | null;
  contentLength: string | null;
  transferEncoding: string | null;
  /** Connection options (RFC 9110 section 7.6.1). */
  close: boolean;
  keepAlive: boolean;
  upgradeOption: boolean;
  upgrade: boolean;
  expect: string | null;
}

const joined = (list: string | null, value: string): string => (list === null ? value : `${list},${value}`);

/** White space here is space and tab only: trim() would also take the 8-bit byte 0xA0, which no other reader does. */
const withoutSpace = (text: string): string => text.replace(/^[ \t]+|[ \t]+$/g, '');

/** The members of a comma-separated list, in lower case. */
export const listOf = (value: string): string[] => value.split(',').map((member) => withoutSpace(member).toLowerCase());

const readConnection = (summary: Summary, value: string): void => {
  for (const option of listOf(value)) {
    if (option === 'close') summary.close = true;
    else if (option === 'keep-alive') summary.keepAlive = true;
    else if (option === 'upgrade') summary.upgradeOption = true;
  }
};

/** Goes through the fields once. A name is looked at only if it has the length of one that matters. */
export const summarize = (fields: Fields): Summary => {
  const summary: Summary = {
    hosts: 0,
    host: null,
    referer: null,
    contentLength: null,
    transferEncoding: null,
    close: false,
    keepAlive: false,
    upgradeOption: false,
    upgrade: false,
    expect: null,
  };
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === 'host') {
          summary.hosts++;
          summary.host = value;
        }
        break;
      case 6:
        if (name.toLowerCase() === 'expect') summary.expect = joined(summary.expect, value);
        break;
      case 7: {
        const lower = name.toLowerCase();
        if (lower === 'referer') summary.referer ??= value;
        else if (lower === 'upgrade') summary.upgrade = true;
        break;
      }
      case 10:
        if (name.toLowerCase() === 'connection') readConnection(summary, value);
        break;
      case 14:
        if (name.toLowerCase() === 'content-length') {
          summary.contentLength = joined(summary.contentLength, value);
        }
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') {
          summary.transferEncoding = joined(summary.transferEncoding, value);
        }
        break;
    }
  }
  return summary;
};

/**
 * The one number that a Content-Length says, several times perhaps (RFC 9110 section 8.6).
 * null: no number, several numbers, or more than a number can hold exactly (2^53-1).
 */
export const readContentLength = (value: string): number | null => {
  let length: number | null = null;
  for (const member of listOf(value)) {
    if (!/^[0-9]+$/.test(member)) return null;
    const number = Number(member);
    if (!Number.isSafeInteger(number) || (length !== null && length !== number)) return null;
    length = number;
  }
  return length;
};

/** Gives the field `name` the one value `value`, in the place of its first occurrence; at the end if there is none. */
export const replaceField = (fields: Fields, name: string, value: string): void => {
  const lower = name.toLowerCase();
  let kept = 0;
  let placed = false;
  for (let i = 0; i < fields.length; i += 2) {
    const old = fields[i] as string;
    const same = old.length === name.length && old.toLowerCase() === lower;
    if (same && placed) continue;
    fields[kept++] = old;
    fields[kept++] = same ? value : (fields[i + 1] as string);
    placed ||= same;
  }
  fields.length = kept;
  if (!placed) fields.push(name, value);
};
