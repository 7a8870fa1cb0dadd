import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SocketAddress } from '../src/address.js';
import { allocateOwnSockets, OwnSockets } from '../src/own-sockets.js';

const at = (ip: string, port: number): SocketAddress => ({ ip, port });

describe('OwnSockets', () => {
  test('has a connection that was added until it is removed, in every view of the memory', () => {
    const memory = allocateOwnSockets();
    const [mine, theirs] = [new OwnSockets(memory), new OwnSockets(memory)];
    const all = [
      [at('192.0.2.1', 1), at('192.0.2.9', 80)],
      [at('192.0.2.1', 65_535), at('192.0.2.9', 80)],
      [at('2001:db8::1', 40_000), at('2001:db8::9', 80)],
    ] as const;
    const keys = all.map(([local, remote]) => mine.add(local, remote));
    for (const [local, remote] of all)
      assert.equal(
        theirs.has(local, () => remote),
        true,
      );
    for (const [i, [local]] of all.entries()) theirs.remove(local.port, keys[i] as number);
    for (const [local, remote] of all)
      assert.equal(
        mine.has(local, () => remote),
        false,
      );
  });

  test('does not take another connection for it that has one of the addresses, or none', () => {
    const own = new OwnSockets(allocateOwnSockets());
    own.add(at('192.0.2.1', 5000), at('192.0.2.9', 80));
    for (const [client, destination] of [
      [at('192.0.2.1', 5000), at('192.0.2.9', 81)],
      [at('192.0.2.1', 5000), at('192.0.2.8', 80)],
      [at('192.0.2.2', 5000), at('192.0.2.9', 80)],
      [at('192.0.2.1', 5001), at('192.0.2.9', 80)],
      [at('192.0.2.1', 5000), null],
    ] as const) {
      assert.equal(
        own.has(client, () => destination),
        false,
      );
    }
  });

  test('does not ask where a connection was going that comes from a port that is none of ours', () => {
    const own = new OwnSockets(allocateOwnSockets());
    assert.equal(
      own.has(at('192.0.2.1', 5000), () => assert.fail('asked')),
      false,
    );
  });

  test('of several with one port the latest is known, and the end of an earlier one does not make it unknown', () => {
    const own = new OwnSockets(allocateOwnSockets());
    const local = at('192.0.2.1', 5000);
    const [first, second] = [at('192.0.2.8', 80), at('192.0.2.9', 80)];
    const key = own.add(local, first);
    own.add(local, second);
    own.remove(local.port, key);
    assert.equal(
      own.has(local, () => second),
      true,
    );
    assert.equal(
      own.has(local, () => first),
      false,
    );
  });
});
