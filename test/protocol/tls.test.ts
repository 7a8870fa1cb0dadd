import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ClientHello, MAX_CLIENT_HELLO, readClientHello } from '../../src/protocol/tls.js';
import { CHROMIUM, CHROMIUM_LONGER, CURL, OPENSSL } from './hellos.js';
import {
  alpn,
  BEFORE_EXTENSIONS,
  ech,
  extension,
  hello,
  message,
  nameOf,
  record,
  records,
  serverName,
} from './tls-bytes.js';

const read = (bytes: Buffer) => readClientHello(bytes, 0, bytes.length);

const accepted = (bytes: Buffer): ClientHello => {
  const outcome = read(bytes);
  assert.equal(outcome.kind, 'hello', JSON.stringify(outcome));
  return outcome as ClientHello;
};

/**
 * Asserts that the outcome for all of `bytes` is that of its shortest part that is not incomplete, and returns it.
 * Behind each part is something else, which must not matter.
 */
const readInParts = (bytes: Buffer): ReturnType<typeof readClientHello> => {
  const outcome = read(bytes);
  const part = Buffer.alloc(bytes.length, 0xff);
  let decided = -1;
  for (let end = 0; end <= bytes.length; end++) {
    if (end > 0) bytes.copy(part, end - 1, end - 1, end);
    const then = readClientHello(part, 0, end);
    if (then.kind === 'incomplete') {
      assert.equal(decided, -1, `incomplete after ${end} bytes, and not after ${decided}`);
    } else {
      if (decided < 0) decided = end;
      assert.deepEqual(then, outcome, `after ${end} bytes`);
    }
  }
  return outcome;
};

const GOOD = hello(extension(0x0a0a), serverName(nameOf('www.example.com')), ech(), alpn('h2', 'http/1.1'));

const GREASED = { serverName: 'www.example.com', fault: null, ech: true, alpn: ['h2', 'http/1.1'] };

const CLIENTS = [
  { client: 'OpenSSL', bytes: OPENSSL, says: { ...GREASED, ech: false, alpn: [] } },
  { client: 'curl', bytes: CURL, says: { ...GREASED, ech: false } },
  { client: 'Chromium', bytes: CHROMIUM, says: GREASED },
  { client: 'Chromium with its extensions in another order', bytes: CHROMIUM_LONGER, says: GREASED },
];

describe('a ClientHello', () => {
  for (const { client, bytes, says } of CLIENTS) {
    test(`of ${client} is read`, () => {
      assert.deepEqual(read(bytes), { kind: 'hello', ...says });
    });

    test(`of ${client} is incomplete until its last byte`, () => {
      for (let end = 0; end < bytes.length; end++) {
        assert.equal(readClientHello(bytes, 0, end).kind, 'incomplete', `after ${end} bytes`);
      }
    });

    test(`of ${client} is the same wherever it is split into two records, each cut anywhere`, () => {
      const content = bytes.subarray(5);
      for (let at = 1; at < content.length; at++) {
        const both = Buffer.concat([record(content.subarray(0, at)), record(content.subarray(at))]);
        assert.deepEqual(read(both), { kind: 'hello', ...says }, `split at ${at}`);
        const ends = [1, 4, 5, at + 4, at + 5, at + 6, at + 9, at + 10, at + 11, both.length - 1];
        for (const end of ends.filter((place) => place < both.length)) {
          assert.equal(readClientHello(both, 0, end).kind, 'incomplete', `split at ${at}, after ${end}`);
        }
      }
    });

    test(`of ${client} is the same in records of any size`, () => {
      for (const size of [1, 2, 3, 4, 5, 7, 100, 536, 1460]) {
        assert.deepEqual(
          readInParts(records(bytes.subarray(5), size)),
          { kind: 'hello', ...says },
          `${size} bytes each`,
        );
      }
    });

    test(`of ${client} is read in the midst of other bytes, which stay as they are`, () => {
      const around = Buffer.concat([Buffer.from('before'), bytes, Buffer.from('behind')]);
      const copy = Buffer.from(around);
      assert.deepEqual(readClientHello(around, 6, around.length), { kind: 'hello', ...says });
      assert.deepEqual(around, copy);
    });
  }

  test('of Chromium has a key share of X25519MLKEM768 and is longer than a segment of Ethernet', () => {
    for (const bytes of [CHROMIUM, CHROMIUM_LONGER]) {
      assert.ok(bytes.includes(Buffer.of(0x11, 0xec, 0x04, 0xc0)));
      assert.ok(bytes.length > 1460);
    }
  });

  test('has what is behind its message in the same record, and behind it, left alone', () => {
    assert.equal(accepted(record(Buffer.concat([GOOD, Buffer.of(1, 2, 3)]))).serverName, 'www.example.com');
    assert.equal(accepted(Buffer.concat([record(GOOD), Buffer.of(21, 3, 3)])).serverName, 'www.example.com');
  });

  test('may come in records of any minor version (RFC 8446 section 5.1)', () => {
    for (const version of [0x0300, 0x0301, 0x0303, 0x0304, 0x03ff]) {
      assert.equal(accepted(record(GOOD, 22, version)).serverName, 'www.example.com');
    }
  });

  test('without extensions, or with others only, names no server, and nothing is wrong with that', () => {
    const nameless = { kind: 'hello', serverName: null, fault: null, ech: false, alpn: [] };
    assert.deepEqual(readInParts(record(message(BEFORE_EXTENSIONS))), nameless);
    assert.deepEqual(readInParts(record(hello())), nameless);
    assert.deepEqual(readInParts(record(hello(extension(0xfafa), extension(43, Buffer.of(2, 3, 4))))), nameless);
  });

  test('with an outer encrypted hello says so; with an inner one, which is not encrypted, it does not', () => {
    assert.equal(accepted(record(hello(ech(0)))).ech, true);
    assert.equal(accepted(record(hello(ech(1)))).ech, false);
    assert.equal(accepted(record(hello(extension(0xfe0d), serverName(nameOf('a.example'))))).ech, false);
  });

  test('has the protocols that it offers in their order and bytes', () => {
    assert.deepEqual(accepted(record(hello(alpn('\x0a\x0a', 'h2', '\xff')))).alpn, ['\x0a\x0a', 'h2', '\xff']);
  });
});

describe('bytes that do not begin as TLS does', () => {
  const rows: readonly (readonly [what: string, bytes: Buffer])[] = [
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['an SSH banner', Buffer.from('SSH-2.0-OpenSSH_9.2\r\n')],
    ['an SSL 2 hello', Buffer.of(0x80, 0x2e, 0x01, 0x03, 0x01, 0, 0x15, 0, 0, 0, 0x10)],
    ['an alert', record(Buffer.of(2, 40), 21)],
    ['a change of cipher', record(Buffer.of(1), 20)],
    ['application data', record(Buffer.alloc(40), 23)],
    ['a DTLS hello', Buffer.of(22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)],
    ['another version', record(GOOD, 22, 0x0401)],
    ['an empty record', record(Buffer.alloc(0))],
    ['a record longer than TLS allows', Buffer.concat([Buffer.of(22, 3, 1, 0x40, 0x01), GOOD])],
    ['a ServerHello', record(message(Buffer.alloc(40), 2))],
  ];
  for (const [what, bytes] of rows) {
    test(`such as ${what} are not TLS, however they are cut`, () => {
      assert.deepEqual(readInParts(bytes), { kind: 'not-tls' });
    });
  }

  test('are told by the first byte', () => {
    assert.deepEqual(read(Buffer.from('G')), { kind: 'not-tls' });
    assert.deepEqual(read(Buffer.of(22, 2)), { kind: 'not-tls' });
  });
});

describe('a ClientHello that cannot be read is one without a name, and says why:', () => {
  const cutShort = (bytes: Buffer, count: number): Buffer => bytes.subarray(0, bytes.length - count);
  const inside = hello(serverName(nameOf('a.example'))).subarray(4);
  const two = (second: Buffer): Buffer => Buffer.concat([record(GOOD.subarray(0, 50)), second]);

  const rows: readonly (readonly [what: string, bytes: Buffer, fault: RegExp])[] = [
    ['nothing in it', record(message(Buffer.alloc(0))), /malformed/],
    ['an end within its random bytes', record(message(inside.subarray(0, 33))), /malformed/],
    ['an end within its session', record(message(inside.subarray(0, 40))), /malformed/],
    ['an end within its ciphers', record(message(inside.subarray(0, 70))), /malformed/],
    ['no compression', record(message(cutShort(BEFORE_EXTENSIONS, 2))), /malformed/],
    ['an end within its extensions', record(message(cutShort(inside, 1))), /malformed/],
    ['half a length of its extensions', record(message(Buffer.concat([BEFORE_EXTENSIONS, Buffer.of(0)]))), /malformed/],
    ['bytes behind its extensions', record(message(Buffer.concat([inside, Buffer.of(0)]))), /malformed/],
    ['half an extension', record(hello(Buffer.of(0, 0, 0))), /malformed/],
    ['an extension longer than all', record(hello(Buffer.of(0, 35, 0, 1))), /malformed/],
    ['SSL 2 as its version', record(message(Buffer.concat([Buffer.of(2), inside.subarray(1)]))), /malformed/],
    ['an empty list of protocols with bytes behind it', record(hello(extension(16, Buffer.of(0, 0, 1)))), /malformed/],
    ['a protocol longer than the list', record(hello(extension(16, Buffer.of(0, 2, 5, 1)))), /malformed/],
    ['an alert within', two(record(Buffer.of(1, 0), 21)), /broken off/],
    ['another version within', two(record(GOOD.subarray(50), 22, 0x0201)), /broken off/],
    ['an empty record within', two(record(Buffer.alloc(0))), /broken off/],
    ['a record that is too long within', two(Buffer.of(22, 3, 1, 0x40, 0x01)), /broken off/],
    ['an empty server_name extension', record(hello(extension(0))), /server name .* malformed/],
    ['a server_name without an entry', record(hello(serverName())), /server name .* malformed/],
    ['a name of another type only', record(hello(serverName(nameOf('a.example', 1)))), /server name .* malformed/],
    ['two host names', record(hello(serverName(nameOf('a.example'), nameOf('b.example')))), /server name .* malformed/],
    [
      'a name longer than its list',
      record(hello(extension(0, Buffer.of(0, 4, 0, 0, 9, 97)))),
      /server name .* malformed/,
    ],
    [
      'bytes behind its names',
      record(hello(extension(0, Buffer.of(0, 4, 0, 0, 1, 97, 9)))),
      /server name .* malformed/,
    ],
    [
      'two server_name extensions',
      record(hello(serverName(nameOf('a.example')), serverName(nameOf('a.example')))),
      /several server names/,
    ],
  ];
  for (const [what, bytes, fault] of rows) {
    test(what, () => {
      const outcome = readInParts(bytes);
      assert.equal(outcome.kind, 'hello', JSON.stringify(outcome));
      assert.equal((outcome as ClientHello).serverName, null);
      assert.match((outcome as ClientHello).fault ?? '', fault);
    });
  }

  test('a name of an unknown type beside the host name is skipped by its length', () => {
    assert.equal(accepted(record(hello(serverName(nameOf('\0\xff', 7), nameOf('a.example'))))).serverName, 'a.example');
  });

  test('an encrypted hello and protocols are told even if the name is not good', () => {
    const { ech: encrypted, alpn: protocols } = accepted(record(hello(serverName(nameOf('a b')), ech(), alpn('h2'))));
    assert.deepEqual([encrypted, protocols], [true, ['h2']]);
  });
});

describe('the name of a server', () => {
  const named = (name: string): ClientHello => accepted(record(hello(serverName(nameOf(name)))));

  const good: readonly (readonly [sent: string, means: string])[] = [
    ['example.com', 'example.com'],
    ['WWW.Example.COM', 'www.example.com'],
    ['example.com.', 'example.com'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['_dmarc.my_host.example', '_dmarc.my_host.example'],
    ['localhost', 'localhost'],
    ['1.2.3.4.example', '1.2.3.4.example'],
    ['r3---sn-4g5e6nz7.example', 'r3---sn-4g5e6nz7.example'],
    ['0xa.example', '0xa.example'],
    [`${'a'.repeat(63)}.example`, `${'a'.repeat(63)}.example`],
    [`${'a.'.repeat(126)}a`, `${'a.'.repeat(126)}a`],
  ];
  for (const [sent, means] of good) {
    test(`${sent} is ${means}`, () => {
      assert.deepEqual(named(sent), { kind: 'hello', serverName: means, fault: null, ech: false, alpn: [] });
    });
  }

  const refused: readonly string[] = [
    ...['', '.', '..', 'example..com', '.example.com', 'example.com..'],
    ...['a\0.example', '\0', 'a.example\0', 'a\r\n.example', 'a\t.example', 'a b.example', 'a.example\x7f'],
    ...['b\xfccher.example', 'a/b.example', 'a.example:443', 'user@a.example', 'a%00.example', '*.example'],
    ...['192.0.2.1', '192.0.2.1.', '127.1', '2130706433', '0x7f.1', 'example.0x7f', 'example.123', '0x'],
    ...['[2001:db8::1]', '2001:db8::1', '::ffff:192.0.2.1'],
    ...[`${'a'.repeat(64)}.example`, `${'a.'.repeat(126)}ab`],
  ];
  for (const name of refused) {
    test(`${JSON.stringify(name)} is none`, () => {
      assert.deepEqual(named(name), {
        kind: 'hello',
        serverName: null,
        fault: 'The server name in the ClientHello is not a host name.',
        ech: false,
        alpn: [],
      });
    });
  }
});

describe(`the bound of ${MAX_CLIENT_HELLO} bytes`, () => {
  const tooLong = /does not end within 16384 bytes/;
  const padded = (size: number): Buffer => {
    const named = serverName(nameOf('a.example'));
    const empty = hello(named, extension(21)).length;
    return hello(named, extension(21, Buffer.alloc(size - empty)));
  };

  test('is what a hello may have with the headers of its records, and no more', () => {
    assert.equal(accepted(record(padded(MAX_CLIENT_HELLO - 5))).serverName, 'a.example');
    const longer = accepted(record(padded(MAX_CLIENT_HELLO - 4)));
    assert.equal(longer.serverName, null);
    assert.match(longer.fault ?? '', tooLong);
    assert.equal(accepted(records(padded(MAX_CLIENT_HELLO - 10), 8192)).serverName, 'a.example');
    const inTwo = records(padded(MAX_CLIENT_HELLO - 9), 8192);
    assert.match(accepted(inTwo).fault ?? '', tooLong);
    // Known before the header of the second record, which is one too many.
    assert.match(accepted(inTwo.subarray(0, 5 + 8192)).fault ?? '', tooLong);
  });

  test('is seen to be broken as soon as the length is known', () => {
    assert.match(accepted(Buffer.of(22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff)).fault ?? '', tooLong);
    assert.match(accepted(Buffer.of(22, 3, 1, 0x40, 0, 1, 0, 0x40, 0)).fault ?? '', tooLong);
  });

  test('holds for a hello in records of a byte each, whose headers are most of it', () => {
    assert.equal(accepted(records(padded(2700), 1)).serverName, 'a.example');
    const bytes = records(padded(2800), 1);
    assert.match(accepted(bytes).fault ?? '', tooLong);
    assert.match(accepted(bytes.subarray(0, MAX_CLIENT_HELLO)).fault ?? '', tooLong);
  });
});

describe('however a hello is put into records, cut and tampered with', () => {
  const cutInRecords = fc
    .tuple(fc.constantFrom(GOOD, OPENSSL.subarray(5), CURL.subarray(5)), fc.array(fc.nat(), { maxLength: 8 }))
    .map(([content, cuts]) => {
      const places = [...new Set([0, content.length, ...cuts.map((cut) => cut % content.length)])].sort(
        (a, b) => a - b,
      );
      return Buffer.concat(places.slice(1).map((place, i) => record(content.subarray(places[i] as number, place))));
    });

  test('it is the same hello', () => {
    fc.assert(
      fc.property(cutInRecords, (bytes) => {
        assert.equal(accepted(bytes).serverName, 'www.example.com');
        assert.equal(readClientHello(bytes, 0, bytes.length - 1).kind, 'incomplete');
      }),
      { numRuns: 2000 },
    );
  });

  test('its outcome does not depend on how it is cut on its way, and nothing is thrown', () => {
    const change = fc.tuple(fc.nat(), fc.nat({ max: 2 }), fc.uint8Array({ maxLength: 3 }));
    fc.assert(
      fc.property(cutInRecords, fc.array(change, { maxLength: 4 }), (bytes, changes) => {
        let changed = bytes;
        for (const [where, removed, added] of changes) {
          const at = where % (changed.length + 1);
          changed = Buffer.concat([changed.subarray(0, at), added, changed.subarray(at + removed)]);
        }
        const outcome = readInParts(changed);
        if (outcome.kind === 'hello' && outcome.serverName !== null) {
          assert.match(outcome.serverName, /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('any bytes at all behind the beginning of a hello are read without an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, framed) => {
        readInParts(framed ? record(message(Buffer.from(bytes))) : Buffer.from(bytes));
      }),
      { numRuns: 3000 },
    );
  });
});

describe('a client that is on this host', () => {
  const TIMEOUT = 20_000;

  /** What the program sends first to a listener on loopback, whose port it is given. */
  const sentBy = async (program: string, args: (port: number) => readonly string[]): Promise<Buffer> => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const connected = once(server, 'connection') as Promise<[Socket]>;
    const child = spawn(program, args((server.address() as AddressInfo).port), { stdio: ['pipe', 'ignore', 'ignore'] });
    const exited = once(child, 'exit');
    try {
      const [socket] = await Promise.race([connected, exited.then(() => Promise.reject(new Error('it ended early')))]);
      socket.on('error', () => {});
      let bytes = Buffer.alloc(0);
      for await (const data of socket) {
        bytes = Buffer.concat([bytes, data as Buffer]);
        if (read(bytes).kind !== 'incomplete') break;
      }
      socket.destroy();
      return bytes;
    } finally {
      child.kill();
      server.close();
      await exited;
    }
  };

  const has = (program: string): boolean => spawnSync(program, ['version']).error === undefined;

  test('such as openssl sends a hello that is read', { skip: !has('openssl'), timeout: TIMEOUT }, async () => {
    const bytes = await sentBy('openssl', (port) => [
      's_client',
      ...['-connect', `127.0.0.1:${port}`, '-servername', 'Www.Example.Com', '-alpn', 'h2,http/1.1'],
    ]);
    const { serverName: name, alpn: protocols } = readInParts(bytes) as ClientHello;
    assert.deepEqual([name, protocols], ['www.example.com', ['h2', 'http/1.1']]);
  });

  test('such as openssl without a name sends a hello without one', {
    skip: !has('openssl'),
    timeout: TIMEOUT,
  }, async () => {
    const bytes = await sentBy('openssl', (port) => ['s_client', '-connect', `127.0.0.1:${port}`, '-noservername']);
    const { serverName: name, fault } = readInParts(bytes) as ClientHello;
    assert.deepEqual([name, fault], [null, null]);
  });

  test('such as curl sends a hello that is read', { skip: !has('curl'), timeout: TIMEOUT }, async () => {
    const bytes = await sentBy('curl', (port) => [
      ...['--silent', '--insecure', '--noproxy', '*', '--connect-to', `www.example.com:443:127.0.0.1:${port}`],
      'https://www.example.com/',
    ]);
    assert.equal((readInParts(bytes) as ClientHello).serverName, 'www.example.com');
  });
});
