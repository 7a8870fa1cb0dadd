/**
 * HTTP/1 as this program speaks it: the words that the readers and writers beside this file share.
 * A head is read by http-request.ts or http-response.ts, a chunked body is followed by http-chunked.ts,
 * and http-target.ts says which URL a request goes to.
 */

/** The bytes so far may become what is looked for: ask again from the same start when there are more. */
export interface Incomplete {
  readonly kind: 'incomplete';
}

/** The bytes may not be forwarded. `status` is the HTTP status to answer with, `reason` a sentence for a person. */
export interface Refused {
  readonly kind: 'refused';
  readonly status: number;
  readonly reason: string;
}

/** Where the body after a head ends. Source: RFC 9112 section 6.3. */
export type Body =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'until-close' };

/**
 * Fields in the order and spelling received: name, value, name, value, … Each character is one byte (latin1); white
 * space around values is gone. May be edited before it is written.
 */
export type Fields = string[];

export interface RequestHead {
  readonly method: string;
  /** As received, one character a byte. */
  readonly target: string;
  /** Of HTTP/1.x; later ones than 1 are read as 1 (RFC 9110 section 2.5). */
  readonly minor: 0 | 1;
  /** As received, except that Content-Length is one field with one number. */
  readonly fields: Fields;
  /** The Host field, checked to be a host and perhaps a port; empty when it is there and empty, null without one. */
  readonly host: string | null;
  readonly referer: string | null;
  readonly body: Body;
  /** The client may send another request after this one. */
  readonly keepAlive: boolean;
  /** The client offers another protocol (RFC 9110 section 7.8). CONNECT is told by its method. */
  readonly upgrade: boolean;
  /** It says who the client is, by Authorization or Proxy-Authorization (RFC 9110 section 11). */
  readonly credentials: boolean;
  /** In bytes, with the empty lines before it and the one after it. */
  readonly size: number;
}

export interface ResponseHead {
  readonly status: number;
  readonly minor: 0 | 1;
  readonly body: Body;
  /** The upstream may answer another request after this one. */
  readonly keepAlive: boolean;
  /** In bytes, with the empty lines before it and the one after it. */
  readonly size: number;
}

export interface Read<Head> {
  readonly kind: 'head';
  readonly head: Head;
}

export const INCOMPLETE: Incomplete = { kind: 'incomplete' };

export const refuse = (status: number, reason: string): Refused => ({ kind: 'refused', status, reason });

export const NO_BODY: Body = { kind: 'none' };
export const CHUNKED: Body = { kind: 'chunked' };
export const UNTIL_CLOSE: Body = { kind: 'until-close' };

/** Fields of one head, far more than any sender needs; a head of many tiny fields costs much to read. */
export const MAX_FIELDS = 1000;

/** Empty lines before a head, which RFC 9112 section 2.2 has us skip. */
export const MAX_EMPTY_LINES = 8;

const PHRASES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  408: 'Request Timeout',
  409: 'Conflict',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
  508: 'Loop Detected',
};

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => ENTITIES[c] as string);

/** A whole answer that says why a request goes no further, and that the connection ends with it. */
export const refusal = (status: number, reason: string): Buffer => {
  const phrase = PHRASES[status] ?? 'Error';
  const page = `<!DOCTYPE html>
<html><head><title>${status} ${phrase}</title></head>
<body><h1>${status} ${phrase}</h1>
<p>${escapeHtml(reason)}</p>
<hr><p>transproxy</p></body></html>
`;
  return Buffer.from(
    `HTTP/1.1 ${status} ${phrase}\r\n` +
      'Content-Type: text/html; charset=utf-8\r\n' +
      `Content-Length: ${Buffer.byteLength(page)}\r\n` +
      'Cache-Control: no-store\r\n' +
      'Connection: close\r\n' +
      `\r\n${page}`,
  );
};
