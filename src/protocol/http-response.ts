import {
  type Body,
  CHUNKED,
  INCOMPLETE,
  type Incomplete,
  MAX_EMPTY_LINES,
  MAX_FIELDS,
  NO_BODY,
  type Read,
  type Refused,
  type ResponseHead,
  refuse,
  UNTIL_CLOSE,
} from './http.js';
import {
  emptySummary,
  listOf,
  parseResponse,
  readContentLength,
  type Summary,
  summarize,
  summarizeField,
  withoutSpace,
} from './http-fields.js';
import { COLON, CR, HTAB, LF, SP, skip, TOKEN } from './http-octets.js';

const bad = (reason: string): Refused => refuse(502, `The server's answer can't be relied on: ${reason}`);

const NO_STATUS_LINE = bad('it does not begin with an HTTP/1.x status line.');
const EMPTY_LINES = bad('there are too many empty lines before it.');
const BARE_CR = bad('a carriage return in its head has no line feed behind it.');
const NUL_IN_HEAD = bad('there is a NUL in its head.');
const LONG_HEAD = bad('its head is too large.');
const MANY_FIELDS = bad(`it has more than ${MAX_FIELDS} header fields.`);
const LEADING_SPACE = bad('a line of its head is only white space, or the first one begins with it.');
const HIDDEN_LENGTH = bad('a line that is not a proper header field speaks of the length of its body.');
const BAD_LENGTH = bad('its Content-Length is not one number.');
const TWICE_CHUNKED = bad('its Transfer-Encoding says chunked more than once.');
const AMBIGUOUS = bad('its head could be read in more than one way.');

const VERSION = Buffer.from('HTTP/1.');

/** What `nextLine` answers when there is none. */
const UNFINISHED = -1;
const HAS_BARE_CR = -2;
const HAS_NUL = -3;

/** The position behind the line feed of the line at `at`, or why there is none. */
const nextLine = (bytes: Buffer, at: number, to: number): number => {
  for (let p = at; p < to; p++) {
    const c = bytes[p];
    if (c === LF) return p + 1;
    if (c === CR) {
      if (p + 1 === to) return UNFINISHED;
      return bytes[p + 1] === LF ? p + 2 : HAS_BARE_CR;
    }
    if (c === 0) return HAS_NUL;
  }
  return UNFINISHED;
};

const isSpace = (c: number | undefined): boolean => c === SP || c === HTAB;

const isDigit = (c: number): boolean => c >= 0x30 && c <= 0x39;

const digitAt = (bytes: Buffer, at: number): number => (bytes[at] as number) - 0x30;

/** Of the lengths and with the first letters of Connection, Content-Length and Transfer-Encoding, which are what counts. */
const mayMatter = (bytes: Buffer, at: number, length: number): boolean => {
  const first = (bytes[at] as number) | 0x20;
  return length === 17 ? first === 0x74 : (length === 10 || length === 14) && first === 0x63;
};

/** A field that some reader could take for one that says where the body ends. */
const FRAMING_FIELD = /(?:content-length|transfer-encoding)[^A-Za-z0-9]*:/i;

/** Why a line that is no proper field line can't be let pass. `previous` is the line before it, if that is a field's. */
const faultOf = (previous: string | null, line: string): Refused | null => {
  if (FRAMING_FIELD.test(line)) return HIDDEN_LENGTH;
  if (!line.startsWith(' ') && !line.startsWith('\t')) return null;
  if (previous === null || /^[ \t]+$/.test(line)) return LEADING_SPACE;
  return FRAMING_FIELD.test(previous) ? HIDDEN_LENGTH : null;
};

/** http-parser-js takes these for fields, with names that are no tokens. */
const TAKEN_FOR_FIELD = /^[^: \t]+:/;

/**
 * Reads a response's head from `start` on. Its bytes reach the client as they are, so it is read as leniently as
 * RFC 9112 lets a recipient be (bare line feeds, section 2.2; space before a colon, 5.1; folded lines, 5.2),
 * but refused with 502 where two lenient readers could differ on where the body ends.
 * `requestMethod` is that of the request that it answers.
 */
export const readResponseHead = (
  bytes: Buffer,
  start: number,
  end: number,
  maxBytes: number,
  requestMethod: string,
): Incomplete | Refused | Read<ResponseHead> => {
  const to = Math.min(end, start + maxBytes);
  const unfinished = end - start < maxBytes ? INCOMPLETE : LONG_HEAD;

  let p = start;
  for (let lines = 0; p < to && (bytes[p] === CR || bytes[p] === LF); lines++, p++) {
    if (lines === MAX_EMPTY_LINES) return EMPTY_LINES;
    if (bytes[p] === CR && ++p === to) return unfinished;
    if (bytes[p] !== LF) return BARE_CR;
  }

  // The status line (section 4): HTTP/1.x SP status [SP reason]
  const line = p;
  for (let i = 0; i < VERSION.length; i++, p++) {
    if (p === to) return unfinished;
    if (bytes[p] !== VERSION[i]) return NO_STATUS_LINE;
  }
  for (let i = 0; i < 5; i++, p++) {
    if (p === to) return unfinished;
    const c = bytes[p] as number;
    if (i === 1 ? c !== SP : !isDigit(c)) return NO_STATUS_LINE;
  }
  if (p === to) return unfinished;
  if (!isSpace(bytes[p]) && bytes[p] !== CR && bytes[p] !== LF) return NO_STATUS_LINE;
  const status = 100 * digitAt(bytes, p - 3) + 10 * digitAt(bytes, p - 2) + digitAt(bytes, p - 1);
  if (status < 100) return NO_STATUS_LINE;

  // The rest of it, and the field lines up to an empty line.
  let count = 0;
  let previous = -1;
  const summary = emptySummary();
  let regular = true;
  p = nextLine(bytes, p, to);
  for (let lines = 0; p >= 0; lines++) {
    const at = p;
    p = nextLine(bytes, at, to);
    if (p < 0) break;
    const stop = bytes[p - 2] === CR ? p - 2 : p - 1;
    if (stop === at) break;
    if (lines === MAX_FIELDS) return MANY_FIELDS;
    const nameEnd = skip(bytes, at, stop, TOKEN);
    if (nameEnd > at && bytes[nameEnd] === COLON) {
      count++;
      const length = nameEnd - at;
      if (mayMatter(bytes, at, length)) {
        const text = bytes.toString('latin1', at, stop);
        summarizeField(summary, text.slice(0, length), withoutSpace(text.slice(length + 1)));
      }
    } else {
      regular = false;
      const odd = bytes.toString('latin1', at, stop);
      const fault = faultOf(previous < 0 ? null : bytes.toString('latin1', previous, at), odd);
      if (fault !== null) return fault;
      if (TAKEN_FOR_FIELD.test(odd)) count++;
    }
    previous = at;
  }
  if (p === UNFINISHED) return unfinished;
  if (p === HAS_NUL) return NUL_IN_HEAD;
  if (p === HAS_BARE_CR) return BARE_CR;

  const minor = bytes[line + VERSION.length] === 0x30 ? 0 : 1;
  if (regular) return understand(status, minor, summary, requestMethod, p - start);
  // Lines that are no proper fields are read in more than one way out there: the second reader has to agree.
  const parsed = parseResponse(bytes, line, p);
  if (parsed === null) return BAD_LENGTH;
  if (parsed.headers.length !== 2 * count || parsed.statusCode !== status) return AMBIGUOUS;
  return understand(status, minor, summarize(parsed.headers), requestMethod, p - start);
};

/** What the fields of a head mean, or why they can't be relied on. */
const understand = (
  status: number,
  minor: 0 | 1,
  summary: Summary,
  requestMethod: string,
  size: number,
): Refused | Read<ResponseHead> => {
  const body = hasNoBody(status, requestMethod) ? NO_BODY : framing(summary, minor);
  if (body.kind === 'refused') return body;
  const keepAlive =
    !summary.close &&
    (minor === 1 || summary.keepAlive) &&
    body.kind !== 'until-close' &&
    // Another reader may go by the length: nothing may follow (RFC 9112 section 6.3, item 3).
    !(summary.transferEncoding !== null && summary.contentLength !== null);
  return { kind: 'head', head: { status, minor, body, keepAlive, size } };
};

/** RFC 9112 section 6.3, items 1 and 2. */
const hasNoBody = (status: number, requestMethod: string): boolean =>
  requestMethod === 'HEAD' ||
  status < 200 ||
  status === 204 ||
  status === 304 ||
  (requestMethod === 'CONNECT' && status < 300);

/** RFC 9112 section 6.3, items 3 to 8. */
const framing = (summary: Summary, minor: 0 | 1): Body | Refused => {
  if (summary.transferEncoding !== null) {
    // HTTP/1.0 has no such field: readers differ, so the end of the connection has to be the end (section 6.1).
    if (minor === 0) return UNTIL_CLOSE;
    const codings = listOf(summary.transferEncoding);
    const chunked = codings.indexOf('chunked');
    if (chunked >= 0 && chunked !== codings.lastIndexOf('chunked')) return TWICE_CHUNKED;
    return chunked === codings.length - 1 ? CHUNKED : UNTIL_CLOSE;
  }
  if (summary.contentLength === null) return UNTIL_CLOSE;
  const length = readContentLength(summary.contentLength);
  return length === null ? BAD_LENGTH : { kind: 'length', length };
};
