import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { mutated, streamForNode } from './arbitraries.js';
import { followRequests, type Message } from './follow.js';
import { latin1, MAX_HEAD } from './heads.js';

/** What a server made of one request. */
interface Seen {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly string[];
  readonly content: string;
}

describe("what is written, read by Node's own parser", () => {
  const seen = new Map<number, Seen[]>();

  const answer = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const from = incoming.socket.remotePort as number;
    const content: Buffer[] = [];
    incoming.on('data', (data: Buffer) => content.push(data));
    incoming.on('end', () => {
      const { method = '', url = '', rawHeaders } = incoming;
      seen
        .get(from)
        ?.push({ method, target: url, fields: rawHeaders, content: Buffer.concat(content).toString('latin1') });
      outgoing.end();
    });
  };

  const server = createServer({ requireHostHeader: false, maxHeaderSize: 2 * MAX_HEAD }, answer);
  server.on('checkContinue', answer);
  server.on('checkExpectation', answer);
  server.on('clientError', (_error, socket) => socket.destroy());

  before(() => new Promise<void>((done) => server.listen(0, '127.0.0.1', done)));
  after(() => server.close());

  /** The requests that Node reads from these bytes. */
  const nodeReads = async (bytes: string): Promise<Seen[]> => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => {});
    await new Promise((done) => socket.once('connect', done));
    const from = socket.localPort as number;
    const requests: Seen[] = [];
    seen.set(from, requests);
    socket.resume();
    socket.end(latin1(bytes));
    await new Promise((done) => socket.once('close', done));
    seen.delete(from);
    return requests;
  };

  /** The data in a body as it was sent. */
  const contentOf = ({ body: { kind }, content }: Message): string => {
    if (kind !== 'chunked') return content;
    let data = '';
    for (let at = 0; ; ) {
      const line = content.indexOf('\r\n', at);
      const size = Number.parseInt(content.slice(at, line), 16);
      if (size === 0) return data;
      data += content.slice(line + 2, line + 2 + size);
      at = line + 2 + size + 2;
    }
  };

  const asSeen = (message: Message): Seen => ({
    method: message.method,
    target: message.target,
    fields: message.fields,
    content: contentOf(message),
  });

  const untilClose = (messages: readonly Message[]): Message[] => {
    const last = messages.findIndex(({ keepAlive }) => !keepAlive);
    return last < 0 ? [...messages] : messages.slice(0, last + 1);
  };

  test('has the same requests with the same targets, fields and bodies', async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(streamForNode, async (bytes) => {
        const followed = followRequests([latin1(bytes)]);
        const messages = untilClose(followed.messages);
        const written = messages.map(({ written, content }) => written + content).join('');
        assert.deepEqual(await nodeReads(written), messages.map(asSeen));
        compared += messages.length;
      }),
      { numRuns: 300 },
    );
    assert.ok(compared > 200, `only ${compared} requests to compare`);
  });

  test('has the same meaning, or none, also where the bytes before it were tampered with', async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(mutated(streamForNode), async (bytes) => {
        const messages = untilClose(followRequests([latin1(bytes)]).messages);
        const written = messages.map(({ written, content }) => written + content).join('');
        const got = await nodeReads(written);
        assert.deepEqual(got, messages.map(asSeen).slice(0, got.length));
        compared += got.length;
      }),
      { numRuns: 600 },
    );
    assert.ok(compared > 200, `only ${compared} requests to compare`);
  });
});
