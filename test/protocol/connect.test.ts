import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { basicAuthorization, ConnectHandshake, readConnectResponse, writeConnect } from '../../src/protocol/connect.js';
import { single, talk } from './handshakes.js';
import { acceptedRequest, latin1, MAX_HEAD } from './heads.js';

const read = (text: string, maxBytes = MAX_HEAD) => readConnectResponse(latin1(text), 0, text.length, maxBytes);

const ESTABLISHED = 'HTTP/1.1 200 Connection established\r\n\r\n';

describe('RFC 9110 section 9.3.6: a CONNECT request', () => {
  test('names the authority as its target and as its Host', () => {
    assert.equal(
      writeConnect('www.example.com:443', null).toString('latin1'),
      'CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n',
    );
  });

  test('has the credentials for the upstream', () => {
    assert.equal(
      writeConnect('[2001:db8::1]:443', 'Basic YTpi').toString('latin1'),
      'CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: Basic YTpi\r\n\r\n',
    );
  });

  test('is read by ourselves as one without a body', () => {
    const { method, target, host, body } = acceptedRequest(writeConnect('my_host.example:8443', null).toString());
    assert.deepEqual(
      [method, target, host, body.kind],
      ['CONNECT', 'my_host.example:8443', 'my_host.example:8443', 'none'],
    );
  });

  for (const authority of [
    'a.example',
    '2001:db8::1:443',
    'a.example:443\r\nX: y',
    'a b:1',
    'user@a:1',
    'a:0',
    'a:',
    '',
  ]) {
    test(`is not written for ${JSON.stringify(authority)}`, () => {
      assert.throws(() => writeConnect(authority, null), RangeError);
    });
  }
});

describe('RFC 7617 section 2: the credentials', () => {
  test('are the user and the password in base 64, and in UTF-8', () => {
    assert.equal(basicAuthorization('Aladdin', 'open sesame'), 'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==');
    assert.equal(basicAuthorization('test', '123\u00a3'), 'Basic dGVzdDoxMjPCow==');
    assert.equal(basicAuthorization('', 'a:b'), 'Basic OmE6Yg==');
  });

  test('have no colon in the user, nor control characters', () => {
    assert.throws(() => basicAuthorization('a:b', 'c'), RangeError);
    for (const control of ['\0', '\n', '\x1f', '\x7f']) {
      assert.throws(() => basicAuthorization(`a${control}`, 'c'), RangeError);
      assert.throws(() => basicAuthorization('a', control), RangeError);
    }
  });
});

describe('the answer to CONNECT', () => {
  test('is a tunnel for any 2xx, and what is behind its head is not read', () => {
    assert.deepEqual(read(`${ESTABLISHED}SSH-2.0-x\r\n`), { kind: 'connected', size: ESTABLISHED.length });
    assert.deepEqual(read('HTTP/1.0 200\r\n\r\n'), { kind: 'connected', size: 16 });
    assert.deepEqual(read('HTTP/1.1 299 x\r\n\r\n'), { kind: 'connected', size: 18 });
  });

  test('has no body even if its fields speak of one', () => {
    const text = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n';
    assert.deepEqual(read(`${text}hello`), { kind: 'connected', size: text.length });
  });

  test('is the one behind interim answers', () => {
    const text = `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${ESTABLISHED}`;
    assert.deepEqual(read(`${text}more`), { kind: 'connected', size: text.length });
    for (let end = 0; end < text.length; end++) {
      assert.equal(readConnectResponse(latin1(text), 0, end, MAX_HEAD).kind, 'incomplete', `after ${end} bytes`);
    }
  });

  for (const status of [300, 403, 407, 502, 999]) {
    test(`of ${status} is no tunnel, and the status is told`, () => {
      const text = `HTTP/1.1 ${status} x\r\nContent-Length: 3\r\n\r\n`;
      assert.deepEqual(read(`${text}abc`), { kind: 'declined', status, size: text.length });
    });
  }

  for (const [what, text] of [
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['no HTTP', 'SSH-2.0-OpenSSH\r\n'],
    ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
    ['a NUL', 'HTTP/1.1 200 OK\r\nA: \0\r\n\r\n'],
  ] as const) {
    test(`with ${what} gets 502`, () => {
      const outcome = read(text);
      assert.equal(outcome.kind === 'refused' && outcome.status, 502, JSON.stringify(outcome));
    });
  }

  test('is bounded with all interim answers before it', () => {
    const text = `HTTP/1.1 100 x\r\n\r\n${ESTABLISHED}`;
    assert.equal(read(text, text.length).kind, 'connected');
    assert.equal(read(text, text.length - 1).kind, 'refused');
    assert.equal(read('HTTP/1.1 100 x\r\n\r\n'.repeat(10), 18 * 10).kind, 'refused');
    assert.equal(read('HTTP/1.1 100 x\r\n\r\n'.repeat(10), 18 * 10 + 1).kind, 'incomplete');
  });

  test('is read where it begins', () => {
    const bytes = latin1(`xyz${ESTABLISHED}`);
    assert.deepEqual(readConnectResponse(bytes, 3, bytes.length, MAX_HEAD), {
      kind: 'connected',
      size: ESTABLISHED.length,
    });
  });
});

describe('a handshake by CONNECT', () => {
  const handshake = () => new ConnectHandshake('a.example:443', 'Basic YTpi', MAX_HEAD);
  const first = writeConnect('a.example:443', 'Basic YTpi').toString('hex');

  test('is over with the head of the answer, and leaves what the origin says at once', () => {
    const bytes = latin1(`${ESTABLISHED}220 mail.example ESMTP\r\n`);
    const expected = {
      outcome: 'connected',
      sent: [first],
      status: null,
      reason: null,
      early: '220 mail.example ESMTP\r\n',
    };
    assert.deepEqual(talk(handshake(), [bytes]), expected);
    assert.deepEqual(talk(handshake(), single(bytes)), expected);
  });

  for (const [answered, told] of [
    [302, 502],
    [401, 502],
    [403, 403],
    [404, 502],
    [500, 502],
    [503, 503],
    [504, 504],
  ] as const) {
    test(`that is answered with ${answered} is refused with ${told}, and the reason says ${answered}`, () => {
      const { outcome, status, reason } = talk(handshake(), [latin1(`HTTP/1.1 ${answered} x\r\n\r\n`)]);
      assert.deepEqual([outcome, status], ['refused', told]);
      assert.equal(reason, `The upstream proxy answered CONNECT with status ${answered}.`);
    });
  }

  test('that is answered with 407 is refused with 502, and the reason says what is wanted', () => {
    for (const [authorization, wanted] of [
      [null, 'a user and a password'],
      ['Basic YTpi', 'another user or password'],
    ] as const) {
      const { outcome, status, reason } = talk(new ConnectHandshake('a.example:443', authorization, MAX_HEAD), [
        latin1('HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n'),
      ]);
      assert.deepEqual([outcome, status], ['refused', 502]);
      assert.equal(reason, `The upstream proxy answered CONNECT with status 407: it wants ${wanted}.`);
    }
  });

  test('ends the same however the answer is cut', () => {
    const answer = fc
      .tuple(
        fc.constantFrom('', 'HTTP/1.1 100 x\r\n\r\n', '\r\n'),
        fc.constantFrom(ESTABLISHED, 'HTTP/1.1 407 x\r\nA: b\r\n\r\n', 'HTTP/1.1 2000\r\n\r\n'),
        fc.string({ maxLength: 20 }),
      )
      .map((parts) => Buffer.from(parts.join('')));
    fc.assert(
      fc.property(answer, fc.nat(), (bytes, where) => {
        const at = where % (bytes.length + 1);
        const whole = talk(handshake(), [bytes]);
        assert.deepEqual(talk(handshake(), [bytes.subarray(0, at), bytes.subarray(at)]), whole);
        assert.deepEqual(talk(handshake(), single(bytes)), whole);
      }),
      { numRuns: 500 },
    );
  });
});
