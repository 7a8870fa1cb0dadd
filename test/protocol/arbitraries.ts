import fc from 'fast-check';

const CTL = Array.from({ length: 0x20 }, (_, i) => i).concat(0x7f);

const octets = (...ranges: (readonly [number, number])[]): string[] =>
  ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i)));

const text = (of: string[], minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...of), minLength, maxLength });

const token = text([..."!#$%&'*+-.^_`|~", ...octets([0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a])], 1, 20);
const value = text(octets([0x09, 0x09], [0x20, 0x7e], [0x80, 0xff]), 0, 40);
const space = fc.constantFrom('', ' ', '\t', ' \t ');
const host = fc.constantFrom('a', 'www.example.com', 'a:8080', '[2001:db8::1]:81', '192.0.2.7', '');

/** Every method that Node's parser knows and that has no meaning of its own to Node's server. */
const method = fc.constantFrom(
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
  'PROPFIND',
  'M-SEARCH',
  'PURGE',
);

const targetWith = (path: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof(
    path.map((rest) => `/${rest}`),
    fc.tuple(host, path).map(([authority, rest]) => `http://${authority}/${rest}`),
  );

const anyCase = (name: string): fc.Arbitrary<string> => fc.mixedCase(fc.constant(name));

const field = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(token, value) },
  { weight: 1, arbitrary: fc.tuple(anyCase('connection'), fc.constantFrom('keep-alive', 'close', 'Foo, Close', 'TE')) },
  { weight: 1, arbitrary: fc.tuple(anyCase('expect'), fc.constantFrom('100-continue', '100-Continue')) },
  { weight: 1, arbitrary: fc.tuple(anyCase('referer'), value) },
);

interface Latitude {
  readonly path: fc.Arbitrary<string>;
  readonly extension: fc.Arbitrary<string>;
}

/** What passes here. */
const OURS: Latitude = {
  path: text(octets([0x21, 0x7e], [0x80, 0xff]), 0, 40),
  extension: fc.constantFrom('', ';a', ' ; a="b"', ';x=\xe9', '\t;;'),
};

/** What Node's parser lets pass too, which is stricter with targets and extensions. */
const NODES: Latitude = {
  path: text(
    octets([0x21, 0x7e]).filter((c) => c !== '#'),
    0,
    40,
  ),
  extension: fc.constantFrom('', ';a', ';a="b";c=d'),
};

/** A body with the fields that say its length. */
const bodyWith = (extension: fc.Arbitrary<string>) =>
  fc.oneof(
    fc.constant({ fields: [] as string[], content: '' }),
    fc
      .tuple(anyCase('content-length'), text(octets([0x00, 0xff]), 0, 100), fc.constantFrom('', '0', '00'))
      .map(([name, content, zeros]) => ({ fields: [`${name}: ${zeros}${content.length}`], content })),
    fc.tuple(anyCase('content-length'), text(octets([0x00, 0xff]), 0, 100)).map(([name, content]) => ({
      fields: [`${name}: ${content.length}`, `Content-Length: ${content.length}`],
      content,
    })),
    fc
      .tuple(
        anyCase('transfer-encoding'),
        anyCase('chunked'),
        fc.array(fc.tuple(text(octets([0x00, 0xff]), 1, 40), extension, fc.boolean()), { maxLength: 4 }),
        fc.array(token, { maxLength: 2 }),
      )
      .map(([name, coding, chunks, trailers]) => {
        const sized = chunks.map(([data, extension, upper]) => {
          const size = data.length.toString(16);
          return `${upper ? size.toUpperCase() : size}${extension}\r\n${data}\r\n`;
        });
        return {
          fields: [`${name}: ${coding}`],
          content: `${sized.join('')}0\r\n${trailers.map((trailer) => `X-${trailer}: 1\r\n`).join('')}\r\n`,
        };
      }),
  );

const FRAMING = /^(host|content-length|transfer-encoding|upgrade)$/i;

const request = ({ path, extension }: Latitude): fc.Arbitrary<string> =>
  fc
    .tuple(
      method,
      targetWith(path),
      fc.array(fc.tuple(field, space, space), { maxLength: 6 }),
      host,
      bodyWith(extension),
      fc.boolean(),
    )
    .map(([verb, to, fields, name, { fields: framing, content }, old]) => {
      const lines = fields
        .filter(([[field]]) => !FRAMING.test(field))
        .map(([[field, is], before, behind]) => `${field}:${before}${is}${behind}`);
      lines.splice(1, 0, `Host: ${name}`, ...framing);
      const version = old && !/^t/i.test(framing[0] ?? '') ? '1.0' : '1.1';
      return `${verb} ${to} HTTP/${version}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${content}`;
    });

/** Bytes that parsers have stumbled over. */
const hostile = fc.constantFrom(
  ...CTL.map((c) => String.fromCharCode(c)),
  ...[' ', '\t', '\r\n', '\n', '\r', ':', ',', ';', '"', '0', '\x80', '\x8a', '\x8d', '\xa0', '\x85', '\xff'],
  ...['Transfer-Encoding: chunked\r\n', 'Content-Length: 3\r\n', 'Host: b\r\n', '\r\n\r\n', '\n\n', ' \r\n', 'x'],
);

/** The same with some of its bytes replaced, removed or added to. */
export const mutated = (stream: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(stream, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 }), hostile), { maxLength: 3 }))
    .map(([original, changes]) =>
      changes.reduce((changed, [where, removed, added]) => {
        const at = where % (changed.length + 1);
        return changed.slice(0, at) + added + changed.slice(at + removed);
      }, original),
    );

const streamOf = (latitude: Latitude): fc.Arbitrary<string> =>
  fc.array(request(latitude), { minLength: 1, maxLength: 3 }).map((requests) => requests.join(''));

/** One request to three behind one another, each well-formed. */
export const stream = streamOf(OURS);
export const streamForNode = streamOf(NODES);

/** A response's head. */
export const response = fc
  .tuple(
    fc.constantFrom(
      'HTTP/1.1 200 OK',
      'HTTP/1.0 404',
      'HTTP/1.1 204 No Content',
      'HTTP/1.1 304 x',
      '\r\nHTTP/1.1 100 Continue',
    ),
    fc.array(fc.tuple(field, space), { maxLength: 5 }),
    fc.constantFrom('\r\n', '\r\n', '\n'),
    bodyWith(OURS.extension),
  )
  .map(([status, fields, eol, { fields: framing }]) => {
    const lines = fields.map(([[name, is], before]) => `${name}:${before}${is}`);
    return [status, ...lines, ...framing, '', ''].join(eol);
  });
