import type { Random } from './random.js';

/** What parsers have stumbled over; each character is one byte. */
const HOSTILE: readonly Buffer[] = [
  ...['\0', '\t', '\n', '\r', '\r\n', '\r\r\n', '\n\n', '\r\n\r\n', ' ', '  ', '\x0b', '\x0c', '\x1f', '\x7f'],
  ...['\x80', '\x85', '\x8a', '\x8d', '\xa0', '\xad', '\xe9', '\xff', '\xfe\xff', '\xc0\x80', '\xf0\x9f\x92\xa9'],
  ...[':', ',', ';', '"', '\\', '@', '/', '?', '#', '[', ']', '%', '%00', '*', '0', '1', '-', '+', 'x', '..', '://'],
  ...['Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: chunked, chunked\r\n', 'Transfer-Encoding: x\r\n'],
  ...['Content-Length: 3\r\n', 'Content-Length: 0\r\n', 'Content-Length: 99999999999999999999\r\n', 'Content-Length'],
  ...['Host: b\r\n', 'Host: \r\n', 'Connection: close\r\n', 'Connection: keep-alive, x\r\n', 'Upgrade: websocket\r\n'],
  ...[
    'Connection: upgrade, Content-Length, Host\r\n',
    'Expect: 100-continue\r\n',
    'Max-Forwards: 0\r\n',
    'TE: trailers\r\n',
  ],
  ...['Via: 1.1 fuzz\r\n', 'X-Forwarded-For: 192.0.2.1\r\n', 'Proxy-Authorization: Basic YTpi\r\n', ' folded\r\n'],
  ...['GET ', 'CONNECT ', 'OPTIONS * ', 'TRACE ', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/1.1 101 x\r\n\r\n'],
  ...[
    '0\r\n\r\n',
    '5\r\nhello\r\n',
    'ffffffffffffffff\r\n',
    '7fffffff\r\n',
    ';ext=1',
    '\x16\x03\x01',
    '\x05\x00',
    '\x05\xff',
  ],
].map((text) => Buffer.from(text, 'latin1'));

const LONG = [100, 300, 1000, 5000, 17_000, 70_000];

const spliced = (bytes: Buffer, at: number, removed: number, added: Buffer): Buffer =>
  Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(Math.min(bytes.length, at + removed))]);

/** One of the ways in which bytes go wrong. `others` are what parts may be taken from. */
const change = (random: Random, bytes: Buffer, others: readonly Buffer[]): Buffer => {
  const at = random.below(bytes.length + 1);
  const some = random.below(random.oneIn(8) ? bytes.length + 1 : 8);
  switch (random.below(12)) {
    case 0:
    case 1: {
      if (at === bytes.length) return bytes;
      const changed = Buffer.from(bytes);
      changed[at] = random.oneIn(2) ? random.below(256) : (bytes[at] as number) ^ (1 << random.below(8));
      return changed;
    }
    case 2:
    case 3:
    case 4:
      return spliced(bytes, at, 0, random.pick(HOSTILE));
    case 5:
      return spliced(bytes, at, some, random.pick(HOSTILE));
    case 6:
      return spliced(bytes, at, some, Buffer.alloc(0));
    case 7:
      return bytes.subarray(0, at);
    case 8:
      return spliced(bytes, at, 0, bytes.subarray(at, at + some));
    case 9: {
      const other = random.pick(others);
      const from = random.below(other.length + 1);
      return spliced(bytes, at, some, other.subarray(from, from + random.below(80)));
    }
    case 10: {
      // A length, perhaps: of one byte or two, off by little.
      if (at + 2 > bytes.length) return bytes;
      const changed = Buffer.from(bytes);
      changed.writeUInt16BE((changed.readUInt16BE(at) + random.below(9) - 4) & 0xffff, at);
      return changed;
    }
    default: {
      if (!random.oneIn(20)) return spliced(bytes, at, 0, Buffer.alloc(random.below(20), random.pick(HOSTILE)));
      return spliced(bytes, at, 0, Buffer.alloc(random.pick(LONG), random.pick(HOSTILE)));
    }
  }
};

/** One of `seeds`, mostly with a few changes. */
export const mutated = (random: Random, seeds: readonly Buffer[]): Buffer => {
  let bytes = random.pick(seeds);
  if (random.oneIn(6)) bytes = Buffer.concat([bytes, random.pick(seeds)]);
  for (let changes = random.below(5); changes > 0; changes--) bytes = change(random, bytes, seeds);
  return bytes;
};
