import { createRequire } from 'node:module';
import type { HTTPParserJS, OnHeadersCompleteParser } from 'http-parser-js';
import type { Fields } from './http.js';

type Parsed = Parameters<OnHeadersCompleteParser>[0];
type Parser = (bytes: Buffer, start: number, end: number) => Parsed | null;

/** What http-parser-js takes for "nothing follows this head", so that it never gets to read a body. */
const NOTHING_FOLLOWS = 2;

const loadParser = (): Parser => {
  const require = createRequire(import.meta.url);
  const { HTTPParser } = require('http-parser-js') as typeof import('http-parser-js');
  // Its default, ascii, clears bit 7 and so makes line feeds of bytes that are none. The bound on a head is our own, before.
  HTTPParser.encoding = 'latin1';
  HTTPParser.maxHeaderSize = Number.MAX_SAFE_INTEGER;
  // One parser for every head: making one costs more than a small head does.
  const parser: HTTPParserJS = new HTTPParser(HTTPParser.RESPONSE);
  let parsed: Parsed | null = null;
  parser[HTTPParser.kOnHeadersComplete] = (found: Parsed): number => {
    parsed = found;
    return NOTHING_FOLLOWS;
  };
  return (bytes, start, end) => {
    parsed = null;
    parser.reinitialize(HTTPParser.RESPONSE);
    return parser.execute(bytes, start, end - start) === end - start ? parsed : null;
  };
};

let parser: Parser | null = null;

/**
 * Has http-parser-js read a response head from its status line on, whose bytes were checked already. It is loaded for
 * the first one: most threads never see a head that needs it.
 * null: it reads the head in another way than we do, or finds several Content-Length.
 */
export const parseResponse: Parser = (bytes, start, end) => {
  parser ??= loadParser();
  return parser(bytes, start, end);
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
  credentials: boolean;
}

const joined = (list: string | null, value: string): string => (list === null ? value : `${list},${value}`);

/** White space here is space and tab only: trim() would also take the 8-bit byte 0xA0, which no other reader does. */
export const withoutSpace = (text: string): string => {
  let start = 0;
  let end = text.length;
  while (start < end && isSpace(text.charCodeAt(start))) start++;
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
};

const isSpace = (code: number): boolean => code === 0x20 || code === 0x09;

/** A table of the lengths of some names: 1 where there is one. */
export const lengthsOf = (names: Iterable<string>): Uint8Array => {
  const lengths = new Uint8Array(32);
  for (const name of names) lengths[name.length] = 1;
  return lengths;
};

/** The members of a comma-separated list, in lower case. */
export const listOf = (value: string): string[] =>
  value.includes(',')
    ? value.split(',').map((member) => withoutSpace(member).toLowerCase())
    : [withoutSpace(value).toLowerCase()];

const readConnection = (summary: Summary, value: string): void => {
  for (const option of listOf(value)) {
    if (option === 'close') summary.close = true;
    else if (option === 'keep-alive') summary.keepAlive = true;
    else if (option === 'upgrade') summary.upgradeOption = true;
  }
};

export const emptySummary = (): Summary => ({
  hosts: 0,
  host: null,
  referer: null,
  contentLength: null,
  transferEncoding: null,
  close: false,
  keepAlive: false,
  upgradeOption: false,
  upgrade: false,
  credentials: false,
});

/** The lengths of the names that matter: others need not be looked at. */
export const SUMMARIZED_LENGTHS = lengthsOf([
  ...['host', 'referer', 'upgrade', 'authorization', 'proxy-authorization'],
  ...['connection', 'content-length', 'transfer-encoding'],
]);

/** Adds what one field says. */
export const summarizeField = (summary: Summary, name: string, value: string): void => {
  switch (name.toLowerCase()) {
    case 'host':
      summary.hosts++;
      summary.host = value;
      break;
    case 'authorization':
    case 'proxy-authorization':
      summary.credentials = true;
      break;
    case 'referer':
      summary.referer ??= value;
      break;
    case 'upgrade':
      summary.upgrade = true;
      break;
    case 'connection':
      readConnection(summary, value);
      break;
    case 'content-length':
      summary.contentLength = joined(summary.contentLength, value);
      break;
    case 'transfer-encoding':
      summary.transferEncoding = joined(summary.transferEncoding, value);
      break;
  }
};

export const summarize = (fields: Fields): Summary => {
  const summary = emptySummary();
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (SUMMARIZED_LENGTHS[name.length] === 1) summarizeField(summary, name, fields[i + 1] as string);
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

/** Drops all fields of the name `name`. */
export const removeField = (fields: Fields, name: string): void => {
  const lower = name.toLowerCase();
  let kept = 0;
  for (let i = 0; i < fields.length; i += 2) {
    const old = fields[i] as string;
    if (old.length === name.length && old.toLowerCase() === lower) continue;
    fields[kept++] = old;
    fields[kept++] = fields[i + 1] as string;
  }
  fields.length = kept;
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
