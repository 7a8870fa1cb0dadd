/** A client and an upstream that talk HTTP through a connection of ours. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { type Peer, type Script, type Settings, Stage } from './rig.js';

/** A request of a client, and what becomes of it. */
export const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nHost: origin.test\r\n${more}\r\n`;
export const sentOn = (path: string, more = ''): string =>
  `GET http://origin.test${path} HTTP/1.1\r\nHost: origin.test\r\n${more}\r\n`;
export const ok = (body: string, more = ''): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;
/** A request that is refused. */
export const BAD = 'GET / HTTP/1.1\r\nHost : origin.test\r\n\r\n';
export const NOT_HTTP = '\x16\x03\x01 this is no request\r\n\r\n';

/** A stage for http, its client, and its upstream once the client has made it connect. */
export class Talk {
  readonly stage: Stage;
  readonly client: Peer;
  upstream!: Peer;

  /** `original`: where the client meant to go, as a redirect rule would have it; null: it was not redirected. */
  constructor(
    settings: Settings = {},
    addresses?: readonly (readonly SocketAddress[])[],
    original: SocketAddress | null = null,
  ) {
    this.stage = new Stage({ mode: 'http', ...settings }, addresses);
    this.client = original === null ? this.stage.client() : this.stage.redirected(original);
  }

  /** Sends `bytes`, the first of the connection, and waits for the upstream to be connected. */
  *begin(bytes: string): Script {
    this.client.send(bytes);
    yield* this.stage.upstreamPeer((peer) => {
      this.upstream = peer;
    });
  }

  /** The client reads a refusal and the end of the stream. */
  *refused(status: number, before = ''): Script {
    yield* this.client.over();
    const { text } = this.client;
    assert.equal(text.slice(0, before.length), before);
    assert.match(text.slice(before.length), new RegExp(`^HTTP/1.1 ${status} `));
    assert.equal(this.client.state, 'end');
  }

  /** Plays, then closes what is left. */
  play(script: () => Script): void {
    const { stage } = this;
    stage.play(script());
    this.client.close();
    this.upstream?.close();
  }
}

export const withClock = (t: TestContext): { now: number } => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  return clock;
};
