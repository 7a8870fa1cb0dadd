import { CHROMIUM, CHROMIUM_LONGER, CURL, OPENSSL } from '../../test/protocol/hellos.js';
import { alpn, ech, extension, hello, nameOf, record, records, serverName } from '../../test/protocol/tls-bytes.js';

/** Each character is one byte. */
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

const head = (...lines: readonly string[]): string => [...lines, '', ''].join('\r\n');

const get = (...fields: readonly string[]): string => head('GET /a?b=c HTTP/1.1', 'Host: origin.lab', ...fields);

const CHUNKS = '5\r\nhello\r\n6;ext="x"\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n';

const MANY_FIELDS = Array.from({ length: 1001 }, (_, i) => `X-${i}: ${i}`);

/** What clients send, one message or several. */
export const REQUESTS: readonly Buffer[] = [
  get(),
  get('User-Agent: curl/7.88.1', 'Accept: */*', 'X-Odd:  caf\xe9 \t'),
  get('Connection: keep-alive, X-Hop', 'X-Hop: 1', 'Keep-Alive: timeout=5', 'Proxy-Connection: keep-alive'),
  get('Via: 1.0 fred, 1.1 p.example', 'X-Forwarded-For: 192.0.2.7', 'Forwarded: for=192.0.2.7'),
  get(
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
  ),
  get('TE: trailers, gzip', 'Connection: TE, close', 'Referer: http://origin.lab/'),
  get() + get('X: second') + head('GET /third HTTP/1.0'),
  `\r\n\r\n${get()}`,
  get(...MANY_FIELDS.slice(0, 990)),
  get(...MANY_FIELDS),
  get(`Cookie: ${'c'.repeat(5000)}`),
  head(`GET /${'p'.repeat(8000)} HTTP/1.1`, 'Host: origin.lab:8080'),
  head('GET http://user.example:81/x HTTP/1.1', 'Host: other.example', 'Proxy-Authorization: Basic YTpi'),
  head('GET / HTTP/1.0'),
  head('GET / HTTP/1.0', 'Connection: keep-alive', 'Host: [2001:db8::1]:8080'),
  head('HEAD / HTTP/1.1', 'Host: 192.0.2.1'),
  head('OPTIONS * HTTP/1.1', 'Host: origin.lab', 'Max-Forwards: 3'),
  head('TRACE / HTTP/1.1', 'Host: origin.lab', 'Max-Forwards: 0', 'Cookie: secret'),
  head('CONNECT origin.lab:443 HTTP/1.1', 'Host: origin.lab:443'),
  `${head('CONNECT [::1]:22 HTTP/1.0')}tunnelled`,
  head('M-SEARCH * HTTP/1.1', 'Host: 239.255.255.250:1900'),
  `${head('PROPFIND /dav/ HTTP/1.1', 'Host: origin.lab', 'Content-Length: 3')}abc`,
  `${head('POST /form HTTP/1.1', 'Host: origin.lab', 'Expect: 100-continue', 'Content-Length: 5')}hello`,
  `${head('POST / HTTP/1.1', 'Host: origin.lab', 'Content-Length: 0000011')}hello world${get()}`,
  head('POST / HTTP/1.1', 'Host: origin.lab', 'Transfer-Encoding: chunked', 'Trailer: X-Trailer') + CHUNKS + get(),
  `${head('POST / HTTP/1.1', 'Host: origin.lab', 'Content-Length: 6', 'Transfer-Encoding: chunked')}0\r\n\r\nG`,
  head('PUT /big HTTP/1.1', 'Host: origin.lab', 'Content-Length: 3000') + 'x'.repeat(3000),
].map(latin1);

/** What is no HTTP/1. */
export const OTHERS: readonly Buffer[] = [
  latin1('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'),
  latin1('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'),
  latin1('EHLO mail.example\r\n'),
  latin1('\x13BitTorrent protocol\0\0\0\0\0\0\0\0'),
  Buffer.from('000000200000000000030000000475736572', 'hex'),
  latin1('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x04\xd2\0\x50'),
  Buffer.alloc(1),
  Buffer.alloc(300, 0xff),
];

const MANY_EXTENSIONS = Array.from({ length: 300 }, (_, i) => extension(1000 + i, Buffer.alloc(i % 40)));

export const HELLOS: readonly Buffer[] = [
  OPENSSL,
  CURL,
  CHROMIUM,
  CHROMIUM_LONGER,
  record(hello(serverName(nameOf('Origin.Lab.')), alpn('h2', 'http/1.1'))),
  record(hello(alpn('http/1.1'), serverName(nameOf('origin.lab')), ech())),
  record(hello(serverName(nameOf('10.0.0.1')))),
  record(hello(serverName(nameOf('a.example'), nameOf('b.example', 1)))),
  record(hello()),
  record(hello(...MANY_EXTENSIONS, serverName(nameOf('late.example')))),
  record(hello(extension(21, Buffer.alloc(15_000)), serverName(nameOf('padded.example')))),
  records(hello(serverName(nameOf('cut.example')), ech()), 1),
  records(hello(serverName(nameOf('cut.example')), alpn('h2')), 7),
  records(CHROMIUM.subarray(5), 200),
  record(Buffer.of(2, 40), 21),
];

const answer = (status: string, ...lines: readonly string[]): string => head(`HTTP/1.1 ${status}`, ...lines);

/** What upstreams answer, with or without the body. */
export const RESPONSES: readonly Buffer[] = [
  `${answer('200 OK', 'Content-Length: 5', 'Content-Type: text/plain')}hello`,
  answer('200 OK', 'Transfer-Encoding: chunked') + CHUNKS,
  answer('200 OK', 'Transfer-Encoding: gzip, chunked', 'Connection: close') + CHUNKS,
  `${answer('200 OK')}until the end`,
  `${answer('200 OK', 'Content-Length: 3', 'Content-Length: 3')}abc`,
  answer('200 OK', 'Content-Length: 5', 'Transfer-Encoding: chunked') + CHUNKS,
  answer('100 Continue') + answer('200 OK', 'Content-Length: 0'),
  `${answer('103 Early Hints', 'Link: </a.css>; rel=preload') + answer('200 OK', 'Content-Length: 2')}ok`,
  `${answer('101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket')}\x81\x05hello`,
  answer('204 No Content'),
  answer('304 Not Modified', 'Content-Length: 1000', 'ETag: "x"'),
  answer('407 Proxy Authentication Required', 'Proxy-Authenticate: Basic realm="x"', 'Content-Length: 0'),
  answer('408 Request Timeout', 'Connection: close', 'Content-Length: 0'),
  `${answer('502 Bad Gateway', 'Content-Length: 4')}oops`,
  `${head('HTTP/1.0 200 OK', 'Connection: keep-alive', 'Content-Length: 2')}ok`,
  head('HTTP/1.0 200 OK', 'Transfer-Encoding: chunked') + CHUNKS,
  'HTTP/1.1 200\nContent-Length : 2\nX: a\n folded\n\nok',
  answer('200 caf\xe9', 'no colon here', 'X-\xe9: \xe9', 'Content-Length: 0'),
  answer('200 OK', `Set-Cookie: ${'c'.repeat(20_000)}`, 'Content-Length: 0'),
  answer('200 OK', ...MANY_FIELDS, 'Content-Length: 0'),
  `${answer('200 OK', 'Content-Length: 2')}ok${answer('200 OK', 'Content-Length: 3')}two`,
  'ICY 200 OK\r\n\r\n',
].map(latin1);

/** Bodies in chunks. */
export const CHUNK_STREAMS: readonly Buffer[] = [
  CHUNKS,
  '0\r\n\r\n',
  '0000000000000005\r\nhello\r\n0\r\n\r\n',
  'A ;a=b\r\n0123456789\r\n0;x\r\nA: b\r\nC: \xe9\r\n\r\n',
  `${(2000).toString(16)}\r\n${'y'.repeat(2000)}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
  `${'1\r\na\r\n'.repeat(50)}0\r\n\r\n`,
  `5;${'e'.repeat(4090)}\r\nhello\r\n0\r\n${'T: v\r\n'.repeat(2000)}\r\n`,
].map(latin1);

/** What upstreams answer to CONNECT. */
export const CONNECT_REPLIES: readonly Buffer[] = [
  answer('200 Connection established'),
  `${answer('200 OK', 'Content-Length: 10', 'Proxy-Agent: x')}SSH-2.0-early`,
  `${answer('100 Continue') + answer('103 Early Hints') + answer('200 OK')}220 mail`,
  `${answer('403 Forbidden', 'Content-Length: 3')}no!`,
  answer('407 Proxy Authentication Required', 'Proxy-Authenticate: Basic realm="x"'),
  head('HTTP/1.0 200 OK'),
  answer('101 Switching Protocols'),
  answer('503 x', 'Transfer-Encoding: chunked') + CHUNKS,
].map(latin1);

/** What SOCKS upstreams say, all turns behind one another. */
export const SOCKS_REPLIES: readonly Buffer[] = [
  '\x05\x00' + '\x05\x00\x00\x01\x7f\0\0\x01\x1f\x90' + '220 mail',
  `\x05\x02\x01\x00\x05\x00\x00\x04${'\0'.repeat(15)}\x01\x1f\x90`,
  '\x05\x02' + '\x05\x00' + '\x05\x00\x00\x03\x09localhost\x1f\x90early',
  '\x05\x02' + '\x01\x01',
  '\x05\x00' + '\x05\x05\x00\x01\0\0\0\0\0\0',
  '\x05\x00' + '\x05\x01',
  '\x05\xff',
  '\x04\x5a\0\0\0\0\0\0',
].map(latin1);

/** A host, perhaps with a port. */
export const AUTHORITIES: readonly Buffer[] = [
  'origin.lab',
  'origin.lab:8080',
  'origin.lab:',
  '192.0.2.1:443',
  '[2001:db8::1]:443',
  '[::ffff:192.0.2.1]',
  "a-b_c~!$&'()*+,;=.example:65535",
  `${'label.'.repeat(60)}example:1`,
].map(latin1);
