import type { SocketAddress } from '../../src/address.js';

/**
 * What the HTTP load generator and the upstream agree on: what is asked for, by the last part of the URL, and what is
 * answered. All but keepalive have one request a connection, which some programs can't do otherwise.
 */
export type HttpKind = 'keepalive' | 'connection' | 'download' | 'upload';

/** Bytes of a small response's content. */
const SMALL = 1024;

/** Bytes that are downloaded or uploaded in one message. */
export const LARGE = 100_000_000;

/** To the load generator. */
export interface HttpJob {
  readonly kind: HttpKind;
  readonly to: SocketAddress;
  /** The name in Host. */
  readonly host: string;
  /** `to` is the upstream: what is asked for is a URL. */
  readonly absolute: boolean;
  readonly seconds: number;
  /** That are open at the same time. */
  readonly connections: number;
}

const REQUEST_FIELDS = [
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'Accept-Language: en-US,en;q=0.5',
  'Accept-Encoding: gzip, deflate',
];

/** A request's head, of a size that browsers send. */
export const requestHead = ({ kind, host, absolute }: HttpJob): Buffer =>
  Buffer.from(
    [
      `${kind === 'upload' ? 'POST' : 'GET'} ${absolute ? `http://${host}` : ''}/${kind} HTTP/1.1`,
      `Host: ${host}`,
      ...REQUEST_FIELDS,
      ...(kind === 'upload' ? ['Content-Type: application/octet-stream', `Content-Length: ${LARGE}`] : []),
      `Connection: ${kind === 'keepalive' ? 'keep-alive' : 'close'}`,
      '\r\n',
    ].join('\r\n'),
  );

/** The length of the content that the answer has. */
export const answerLength = (kind: HttpKind): number => (kind === 'download' ? LARGE : SMALL);

/** A response's head, of a size that servers send. */
export const answerHead = (status: string, length: number, close: boolean): string =>
  [
    `HTTP/1.1 ${status}`,
    'Date: Mon, 02 Nov 2026 12:00:00 GMT',
    'Server: bench',
    'Content-Type: application/octet-stream',
    `Content-Length: ${length}`,
    'Last-Modified: Sun, 01 Nov 2026 12:00:00 GMT',
    'ETag: "5f3e1a2b-400"',
    'Cache-Control: no-store',
    `Connection: ${close ? 'close' : 'keep-alive'}`,
    '\r\n',
  ].join('\r\n');
