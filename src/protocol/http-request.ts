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
  type RequestHead,
  refuse,
} from './http.js';
import {
  emptySummary,
  listOf,
  readContentLength,
  replaceField,
  SUMMARIZED_LENGTHS,
  type Summary,
  summarizeField,
  withoutSpace,
} from './http-fields.js';
import { COLON, CR, HTAB, LF, SP, skip, TARGET, TOKEN, VALUE } from './http-octets.js';
import { readAuthority } from './http-target.js';

/** Of a method; the longest registered one has 17 bytes. */
const MAX_METHOD = 64;

const VERSION = Buffer.from('HTTP/');

const bad = (reason: string): Refused => refuse(400, reason);

const NO_METHOD = bad('This is not an HTTP request: it does not begin with a method and one space.');
const LONG_METHOD = refuse(501, `The request's method is longer than ${MAX_METHOD} bytes.`);
const NO_TARGET = bad('The request line has no target behind its method and one space.');
const BAD_TARGET = bad('The request target has a control character in it, or no HTTP version behind it.');
const BAD_VERSION = bad('The request line does not end with an HTTP version such as HTTP/1.1.');
const OTHER_VERSION = refuse(505, 'Only HTTP/1.0 and HTTP/1.1 are understood here.');
const BAD_LINE_END = bad('A line does not end with carriage return and line feed.');
const EMPTY_LINES = bad('There are too many empty lines before the request.');
const LONG_LINE = refuse(414, 'The request line, with the URL in it, is too long.');
const LONG_HEAD = refuse(431, "The request's header fields are too large.");
const MANY_FIELDS = refuse(431, `The request has more than ${MAX_FIELDS} header fields.`);
const FOLDED = bad('A header field goes on in the next line, which HTTP/1.1 no longer allows.');
const SPACE_BEFORE_COLON = bad('A header field has white space between its name and the colon.');
const BAD_NAME = bad('A header field has no name, no colon, or a character in its name that is not allowed.');
const BAD_VALUE = bad("A header field's value has a control character in it.");

/** Where the names and values of the head that is being read stand: a name's start, its end, and its value's end. */
const marks = new Int32Array(3 * MAX_FIELDS);

/** Why a line that should have had a field's name from `line` to `at`, and a colon there, has not. */
const whyNoField = (bytes: Buffer, line: number, at: number): Refused => {
  const spaceOrTab = bytes[at] === SP || bytes[at] === HTAB;
  if (!spaceOrTab) return BAD_NAME;
  return at === line ? FOLDED : SPACE_BEFORE_COLON;
};

/**
 * Reads a request's head from `start` on. No byte of it is taken for granted: what RFC 9112 has a server refuse is
 * refused, at the first byte that shows it, so that the answer does not depend on how the bytes were cut on their way.
 * Every call begins at `start` again; that costs a nanosecond or two a byte, and `maxBytes` bounds it.
 */
export const readRequestHead = (
  bytes: Buffer,
  start: number,
  end: number,
  maxBytes: number,
): Incomplete | Refused | Read<RequestHead> => {
  const to = Math.min(end, start + maxBytes);
  const more = end - start < maxBytes;

  // Empty lines, which RFC 9112 section 2.2 has us skip.
  let p = start;
  for (let lines = 0; p < to && (bytes[p] === CR || bytes[p] === LF); lines++, p += 2) {
    if (lines === MAX_EMPTY_LINES) return EMPTY_LINES;
    if (bytes[p] === LF) return BAD_LINE_END;
    if (p + 1 === to) return more ? INCOMPLETE : EMPTY_LINES;
    if (bytes[p + 1] !== LF) return BAD_LINE_END;
  }

  // The request line (section 3): method SP target SP HTTP/1.x
  const line = p;
  p = skip(bytes, line, Math.min(to, line + MAX_METHOD + 1), TOKEN);
  if (p - line > MAX_METHOD) return LONG_METHOD;
  if (p === to) return more ? INCOMPLETE : LONG_LINE;
  if (p === line || bytes[p] !== SP) return NO_METHOD;
  const methodEnd = p;
  const target = p + 1;
  p = skip(bytes, target, to, TARGET);
  if (p === to) return more ? INCOMPLETE : LONG_LINE;
  if (p === target) return NO_TARGET;
  if (bytes[p] !== SP) return BAD_TARGET;
  const targetEnd = p++;
  for (let i = 0; i < VERSION.length; i++, p++) {
    if (p === to) return more ? INCOMPLETE : LONG_LINE;
    if (bytes[p] !== VERSION[i]) return BAD_VERSION;
  }
  if (p === to) return more ? INCOMPLETE : LONG_LINE;
  const major = (bytes[p] as number) - 0x30;
  if (major < 0 || major > 9) return BAD_VERSION;
  if (major !== 1) return OTHER_VERSION;
  if (++p === to) return more ? INCOMPLETE : LONG_LINE;
  if (bytes[p] !== 0x2e) return BAD_VERSION;
  if (++p === to) return more ? INCOMPLETE : LONG_LINE;
  const digit = (bytes[p] as number) - 0x30;
  if (digit < 0 || digit > 9) return BAD_VERSION;
  if (++p === to) return more ? INCOMPLETE : LONG_LINE;
  if (bytes[p] !== CR) return bytes[p] === LF ? BAD_LINE_END : BAD_VERSION;
  if (++p === to) return more ? INCOMPLETE : LONG_LINE;
  if (bytes[p++] !== LF) return BAD_LINE_END;

  // The field lines (section 5): name ":" value, and an empty one.
  let count = 0;
  for (;;) {
    if (p === to) return more ? INCOMPLETE : LONG_HEAD;
    if (bytes[p] === CR) {
      if (++p === to) return more ? INCOMPLETE : LONG_HEAD;
      if (bytes[p++] !== LF) return BAD_LINE_END;
      break;
    }
    if (count++ === MAX_FIELDS) return MANY_FIELDS;
    const name = p;
    p = skip(bytes, name, to, TOKEN);
    if (p === to) return more ? INCOMPLETE : LONG_HEAD;
    if (p === name && bytes[p] === LF) return BAD_LINE_END;
    if (p === name || bytes[p] !== COLON) return whyNoField(bytes, name, p);
    const nameEnd = p;
    p = skip(bytes, p + 1, to, VALUE);
    if (p === to) return more ? INCOMPLETE : LONG_HEAD;
    if (bytes[p] !== CR) return bytes[p] === LF ? BAD_LINE_END : BAD_VALUE;
    const mark = 3 * (count - 1);
    marks[mark] = name;
    marks[mark + 1] = nameEnd;
    marks[mark + 2] = p;
    if (++p === to) return more ? INCOMPLETE : LONG_HEAD;
    if (bytes[p++] !== LF) return BAD_LINE_END;
  }

  // One string, which the others are parts of: that costs less than a string from the bytes for each.
  const text = bytes.toString('latin1', line, p);
  const fields: string[] = [];
  const summary = emptySummary();
  for (let i = 0; i < 3 * count; i += 3) {
    const from = (marks[i] as number) - line;
    const to = (marks[i + 1] as number) - line;
    const name = text.substring(from, to);
    const value = withoutSpace(text.substring(to + 1, (marks[i + 2] as number) - line));
    fields.push(name, value);
    if (SUMMARIZED_LENGTHS[to - from] === 1) summarizeField(summary, name, value);
  }
  const method = text.substring(0, methodEnd - line);
  return understand(
    method,
    text.substring(target - line, targetEnd - line),
    digit === 0 ? 0 : 1,
    fields,
    summary,
    p - start,
  );
};

/** What the fields of a well-formed head mean, or why they cannot be relied on. */
const understand = (
  method: string,
  target: string,
  minor: 0 | 1,
  fields: string[],
  summary: Summary,
  size: number,
): Refused | Read<RequestHead> => {
  // RFC 9112 section 3.2
  if (summary.hosts > 1) return bad('The request has more than one Host field.');
  if (summary.host === null && minor === 1) return bad('An HTTP/1.1 request needs a Host field; this one has none.');
  if (summary.host !== null && summary.host !== '' && readAuthority(summary.host) === null) {
    return bad("The request's Host field is not a host name or address with, perhaps, a port.");
  }

  const body = framing(summary, minor);
  if (body.kind === 'refused') return body;
  // What follows CONNECT's head is the tunnel's (RFC 9110 section 9.3.6): a body that some reader expects would hide in it.
  if (method === 'CONNECT' && (body.kind === 'chunked' || (body.kind === 'length' && body.length > 0))) {
    return bad('A CONNECT request cannot have a body.');
  }
  if (body.kind === 'length') {
    const length = String(body.length);
    if (summary.contentLength !== length) replaceField(fields, 'Content-Length', length);
  }

  return {
    kind: 'head',
    head: {
      method,
      target,
      minor,
      fields,
      host: summary.host,
      referer: summary.referer,
      body,
      // RFC 9112 section 9.3
      keepAlive: !summary.close && (minor === 1 || summary.keepAlive),
      // HTTP/1.0 has none (RFC 9110 section 7.8).
      upgrade: minor === 1 && summary.upgrade && summary.upgradeOption,
      credentials: summary.credentials,
      size,
    },
  };
};

/** Where the body ends (RFC 9112 sections 6.1 to 6.3). */
const framing = (summary: Summary, minor: 0 | 1): Body | Refused => {
  if (summary.transferEncoding !== null) {
    if (minor === 0) return bad('An HTTP/1.0 request cannot have a Transfer-Encoding.');
    if (summary.contentLength !== null) return bad('The request has both a Content-Length and a Transfer-Encoding.');
    const codings = listOf(summary.transferEncoding);
    if (codings.indexOf('chunked') !== codings.length - 1) {
      return bad("The request's Transfer-Encoding does not end with chunked, or has it more than once.");
    }
    return codings.length === 1
      ? CHUNKED
      : refuse(501, "The request's Transfer-Encoding has a coding other than chunked, which is not understood here.");
  }
  if (summary.contentLength === null) return NO_BODY;
  const length = readContentLength(summary.contentLength);
  return length === null ? bad("The request's Content-Length is not one number.") : { kind: 'length', length };
};

/**
 * Writes a request's head, built from nothing but what was understood, and returns where it ends.
 * Throws RangeError if `into` has no room for it.
 */
export const writeRequestHead = (head: RequestHead, target: string, into: Buffer, at: number): number => {
  let text = `${head.method} ${target} HTTP/1.${head.minor}\r\n`;
  const { fields } = head;
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  text += '\r\n';
  if (text.length > into.length - at) throw new RangeError('no room for the request head');
  return at + into.write(text, at, 'latin1');
};

const SLASH = 0x2f;
const HTTP_1 = Buffer.from('HTTP/1.');

/**
 * Whether a connection's first bytes are meant as an HTTP/1 request, well-formed or not: a method and a path, or
 * `OPTIONS *`, or any other target with HTTP/1.x behind it. HTTP/2's preface `PRI * HTTP/2.0` is none.
 */
export const looksLikeRequest = (bytes: Buffer, start: number, end: number): 'yes' | 'no' | 'incomplete' => {
  let line = start;
  while (line < end && (bytes[line] === CR || bytes[line] === LF)) line++;
  if (line - start > 2 * MAX_EMPTY_LINES) return 'no';
  const methodEnd = skip(bytes, line, Math.min(end, line + MAX_METHOD + 1), TOKEN);
  if (methodEnd - line > MAX_METHOD) return 'no';
  if (methodEnd === end) return 'incomplete';
  if (methodEnd === line || bytes[methodEnd] !== SP) return 'no';
  const target = methodEnd + 1;
  if (target === end) return 'incomplete';
  if (bytes[target] === SLASH) return 'yes';
  let p = skip(bytes, target, end, TARGET);
  if (p === end) return 'incomplete';
  if (p === target || bytes[p] !== SP) return 'no';
  p++;
  for (let i = 0; i < HTTP_1.length; i++, p++) {
    if (p === end) return 'incomplete';
    if (bytes[p] !== HTTP_1[i]) return 'no';
  }
  return 'yes';
};
