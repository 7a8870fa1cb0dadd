import { type Refused, type RequestHead, refuse } from './http.js';
import { lengthsOf, listOf, replaceField } from './http-fields.js';

/** What is done to every request of a service on its way. */
export interface ForwardRules {
  /** The name by which this program is known in Via, one for each that runs; null: no Via. */
  readonly via: string | null;
  /** The client's address, without a port or an interface. */
  readonly clientIp: string;
  /**
   * X-Forwarded-For: left as it is, replaced by the client's address, or that added to what it says, which is for
   * clients that are trusted.
   */
  readonly forwardedFor: 'off' | 'set' | 'append';
  /** The value of Proxy-Authorization for the upstream; null: the client's own goes to it, if any. */
  readonly proxyAuthorization: string | null;
  /** The upstream passes on an offer of another protocol; else the request goes without it. */
  readonly keepUpgrade: boolean;
  /** The connection to the upstream may outlive the client's, whose `close` is not the upstream's business then. */
  readonly keepOpen: boolean;
}

/** The request is not forwarded but answered with these bytes, with which the connection ends. */
export interface Answer {
  readonly kind: 'answer';
  readonly bytes: Buffer;
}

const BODY_IN_TRACE = refuse(400, 'A TRACE request cannot have a body.');
const BAD_MAX_FORWARDS = refuse(400, "The request's Max-Forwards field is not one number.");
const UNKNOWN_EXPECTATION = refuse(417, 'The request expects something other than 100-continue.');
const LOOP = refuse(508, 'The request came here before: it was forwarded in a loop.');

/** Of one connection only, whether Connection says so or not (RFC 9110 section 7.6.1). */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'upgrade']);

/**
 * Fields that Connection cannot take away. They are for every recipient, which RFC 9110 section 7.6.1 forbids a sender
 * to list; a client that does would have the upstream read another message, or lose what the proxies before us said.
 * Transfer-Encoding is of one connection, but the body passes in it as it is, so it is ours as much.
 */
const NOT_DROPPABLE = new Set([
  'content-length',
  'expect',
  'forwarded',
  'host',
  'max-forwards',
  'proxy-authorization',
  'transfer-encoding',
  'via',
]);

const isDroppable = (name: string): boolean =>
  !HOP_BY_HOP.has(name) && !NOT_DROPPABLE.has(name) && !name.startsWith('x-forwarded-');

/** What of a head decides on how it is forwarded. Fields that come several times are a list. */
interface Survey {
  /** What else is of this connection only, as Connection says; null: nothing. */
  listed: Set<string> | null;
  trailers: boolean;
  expect: string | null;
  maxForwards: string | null;
  via: string | null;
}

/** The lengths of the names that survey() knows, and of those that dropFields() does: others need not be looked at. */
const SURVEYED_LENGTHS = lengthsOf(['connection', 'te', 'expect', 'max-forwards', 'via']);
const DROPPED_LENGTHS = lengthsOf([...HOP_BY_HOP, 'expect']);

const survey = (fields: readonly string[]): Survey => {
  const found: Survey = { listed: null, trailers: false, expect: null, maxForwards: null, via: null };
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (SURVEYED_LENGTHS[name.length] !== 1) continue;
    const value = fields[i + 1] as string;
    switch (name.toLowerCase()) {
      case 'connection':
        for (const option of listOf(value)) {
          if (isDroppable(option)) {
            found.listed ??= new Set();
            found.listed.add(option);
          }
        }
        break;
      case 'te':
        found.trailers ||= listOf(value).includes('trailers');
        break;
      case 'expect':
        found.expect = found.expect === null ? value : `${found.expect},${value}`;
        break;
      case 'max-forwards':
        found.maxForwards = found.maxForwards === null ? value : `${found.maxForwards},${value}`;
        break;
      case 'via':
        found.via = found.via === null ? value : `${found.via},${value}`;
        break;
    }
  }
  return found;
};

/** Whether one of Via's members was received by `pseudonym` (RFC 9110 section 7.6.3). */
const passed = (via: string, pseudonym: string): boolean =>
  listOf(via).some((member) => member.split(/[ \t]+/)[1] === pseudonym.toLowerCase());

/** RFC 9110 section 10.1.1. HTTP/1.0 has no expectations: whatever a request of it expects is ignored. */
const expectsMore = (head: RequestHead, expect: string | null): boolean =>
  head.minor === 1 &&
  expect !== null &&
  listOf(expect).some((expectation) => expectation !== '100-continue' && expectation !== '');

/** What Connection says toward the upstream. */
const connectionOptions = (head: RequestHead, keepOpen: boolean, upgrade: boolean, trailers: boolean): string => {
  const keepAlive = head.keepAlive || keepOpen;
  if (head.minor === 1 && keepAlive && !upgrade && !trailers) return '';
  const options: string[] = [];
  if (head.minor === 1 && !keepAlive) options.push('close');
  if (head.minor === 0 && head.keepAlive) options.push('keep-alive');
  if (upgrade) options.push('upgrade');
  if (trailers) options.push('TE');
  return options.join(', ');
};

/** Drops the fields of this connection; and Expect of HTTP/1.0, which has none. */
const dropFields = (fields: string[], listed: ReadonlySet<string> | null, upgrade: boolean, minor: 0 | 1): void => {
  let kept = 0;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (listed !== null || DROPPED_LENGTHS[name.length] === 1) {
      const lower = name.toLowerCase();
      if (listed?.has(lower) || (HOP_BY_HOP.has(lower) && !(upgrade && lower === 'upgrade'))) continue;
      if (minor === 0 && lower === 'expect') continue;
    }
    fields[kept++] = name;
    fields[kept++] = fields[i + 1] as string;
  }
  fields.length = kept;
};

/**
 * Does to a request what an intermediary has to before it forwards it (RFC 9110 section 7.6): edits `head.fields`, and
 * leaves order and spelling of what it has no reason to touch. What is of one connection is made anew, at the end; but
 * Transfer-Encoding stays, as the body passes in it. The fields are as they came if the request is not forwarded.
 */
export const forwardRequest = (head: RequestHead, rules: ForwardRules): null | Refused | Answer => {
  const { fields, method } = head;
  const found = survey(fields);

  // RFC 9110 section 9.3.8
  if (method === 'TRACE' && (head.body.kind === 'chunked' || (head.body.kind === 'length' && head.body.length > 0))) {
    return BODY_IN_TRACE;
  }
  // RFC 9110 section 7.6.2. Before anything else: whoever counts hops wants to hear from this one.
  let maxForwards: string | null = null;
  if (found.maxForwards !== null && (method === 'TRACE' || method === 'OPTIONS')) {
    if (!/^[0-9]+$/.test(found.maxForwards)) return BAD_MAX_FORWARDS;
    const left = Number(found.maxForwards);
    if (left === 0) return method === 'TRACE' ? traced(head) : OPTIONS_ANSWER;
    maxForwards = String(Math.min(left - 1, MAX_HOPS));
  }
  if (rules.via !== null && found.via !== null && passed(found.via, rules.via)) return LOOP;
  if (expectsMore(head, found.expect)) return UNKNOWN_EXPECTATION;

  const upgrade = rules.keepUpgrade && head.upgrade;
  const trailers = found.trailers && head.minor === 1;
  const options = connectionOptions(head, rules.keepOpen, upgrade, trailers);
  dropFields(fields, found.listed, upgrade, head.minor);
  if (maxForwards !== null) replaceField(fields, 'Max-Forwards', maxForwards);
  if (rules.proxyAuthorization !== null) replaceField(fields, 'Proxy-Authorization', rules.proxyAuthorization);
  forwardedFor(fields, rules);
  // RFC 9110 section 7.6.3: behind those of the proxies before us, with the version that the request came in.
  if (rules.via !== null) fields.push('Via', `1.${head.minor} ${rules.via}`);
  if (options !== '') fields.push('Connection', options);
  // RFC 9110 section 10.1.4: responses pass as they are, so the client gets the trailers that it takes. Codings are not
  // asked for: hardly anyone sends them.
  if (trailers) fields.push('TE', 'trailers');
  return null;
};

const forwardedFor = (fields: string[], { forwardedFor: how, clientIp }: ForwardRules): void => {
  if (how === 'off') return;
  let all = '';
  for (let i = 0; how === 'append' && i < fields.length; i += 2) {
    if ((fields[i] as string).toLowerCase() === 'x-forwarded-for' && fields[i + 1] !== '') all += `${fields[i + 1]}, `;
  }
  replaceField(fields, 'X-Forwarded-For', `${all}${clientIp}`);
};

/** A larger Max-Forwards is made this (RFC 9110 section 7.6.2). */
const MAX_HOPS = 2 ** 31 - 1;

/** RFC 9110 section 9.3.7. Allow has what is registered and of use; every other method is forwarded too. */
const OPTIONS_ANSWER: Answer = {
  kind: 'answer',
  bytes: Buffer.from(
    'HTTP/1.1 200 OK\r\n' +
      'Allow: GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS, TRACE\r\n' +
      'Content-Length: 0\r\n' +
      'Connection: close\r\n' +
      '\r\n',
  ),
};

/** What no page may get to read by way of an answer to TRACE. */
const SENSITIVE = new Set(['authorization', 'cookie', 'proxy-authorization']);

/** The request as it came, as the content of its answer (RFC 9110 section 9.3.8). */
const traced = (head: RequestHead): Answer => {
  const { fields } = head;
  let content = `TRACE ${head.target} HTTP/1.${head.minor}\r\n`;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (!SENSITIVE.has(name.toLowerCase())) content += `${name}: ${fields[i + 1]}\r\n`;
  }
  content += '\r\n';
  const answer =
    'HTTP/1.1 200 OK\r\n' +
    'Content-Type: message/http\r\n' +
    `Content-Length: ${content.length}\r\n` +
    'Connection: close\r\n' +
    `\r\n${content}`;
  return { kind: 'answer', bytes: Buffer.from(answer, 'latin1') };
};
