import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Listener, onRoom } from '../../src/data/listener.js';
import { Door, openDescriptors, type Peer, type Script, Stage, turns, until } from './rig.js';

/** A stage whose service listens on `door`. */
const serving = (mostConnections: number, service: ConstructorParameters<typeof Stage>[0] = {}): [Stage, Door] => {
  const stage = new Stage(service);
  const door = new Door();
  stage.thread.mostConnections = mostConnections;
  new Listener(stage.site, door.fd);
  stage.thread.onClosed = () => onRoom(stage.thread);
  return [stage, door];
};

const callers = (door: Door, count: number): Peer[] => Array.from({ length: count }, () => door.connect());

describe('Listener', () => {
  test('accepts all that wait, more than one turn takes', () => {
    const [stage, door] = serving(1000);
    const clients = callers(door, 150);
    stage.play(
      (function* () {
        yield* until('all are accepted', () => stage.connections.size === 150);
      })(),
    );
    assert.equal(stage.counters.get('accepted'), 150);
    for (const client of clients) client.close();
    door.close();
  });

  test('a connection knows its client', () => {
    const [stage, door] = serving(10);
    const [client] = callers(door, 1);
    stage.play(
      (function* () {
        yield* until('it is accepted', () => stage.connections.size === 1);
        const [connection] = stage.connections;
        assert.equal(connection?.clientAddress?.ip, '127.0.0.1');
        assert.notEqual(connection?.clientAddress?.port, door.address.port);
      })(),
    );
    client?.close();
    door.close();
  });

  test('of FTP leaves three quarters of the connections to its data', () => {
    const [stage, door] = serving(8, { ftp: { active: true, passive: true, ports: null } });
    const clients = callers(door, 3);
    stage.play(
      (function* (): Script {
        yield* until('two are accepted', () => stage.connections.size === 2);
        yield* turns();
        assert.equal(stage.counters.get('accepted'), 2);
      })(),
    );
    for (const client of clients) client.close();
    door.close();
  });

  test('more than it may have wait in the queue, and come in as others leave', () => {
    const [stage, door] = serving(3);
    const clients = callers(door, 5);
    stage.play(
      (function* (): Script {
        yield* until('three are accepted', () => stage.connections.size === 3);
        yield* turns();
        assert.equal(stage.connections.size, 3);
        assert.equal(stage.counters.get('accepted'), 3);
        for (const client of clients.slice(0, 2)) client.reset();
        yield* until('two more', () => stage.counters.get('accepted') === 5);
        assert.equal(stage.connections.size, 3);
      })(),
    );
    door.close();
  });

  test('that it is full is said once, not for each connection that leaves and makes room for one that waits', () => {
    const [stage, door] = serving(2);
    const clients = callers(door, 30);
    stage.play(
      (function* (): Script {
        yield* until('two are accepted', () => stage.connections.size === 2);
        for (const [i, client] of clients.entries()) {
          client.reset();
          if (i < 28) yield* until('one more', () => stage.counters.get('accepted') >= i + 3);
        }
      })(),
    );
    const said = stage.logs.filter(([, line]) => line.includes('have to wait')).length;
    assert.equal(said, 1);
    door.close();
  });

  test('refused clients do not count as connections', () => {
    const [stage, door] = serving(1, { access: [{ allow: [], deny: [] }] });
    const clients = callers(door, 3);
    stage.play(
      (function* (): Script {
        for (const client of clients) yield* client.over();
      })(),
    );
    assert.equal(stage.counters.get('refused'), 3);
    assert.deepEqual(
      clients.map(({ state }) => state),
      ['ECONNRESET', 'ECONNRESET', 'ECONNRESET'],
    );
    door.close();
  });

  test('without descriptors it accepts nothing for a moment, says so once, and goes on', () => {
    // In a process of its own, which lowers its limit.
    const program = fileURLToPath(new URL('starved-listener.js', import.meta.url));
    const result = JSON.parse(execFileSync(process.execPath, [program], { encoding: 'utf8', timeout: 60_000 })) as {
      attempts: number;
      acceptedStarved: number;
      acceptedAfter: number;
      errors: number;
      logs: string[];
      entries: string[];
    };
    assert.deepEqual(result.logs, ['test: accept: EMFILE: nothing is accepted for a moment']);
    assert.deepEqual(result.entries, ['?\tgate.test\tPORT\ttarget\t1\t0\t0\taccept-failed -']);
    assert.equal(result.errors, result.attempts);
    assert.equal(result.acceptedStarved, 0);
    assert.ok(result.attempts < 10, `${result.attempts} calls of accept: it does not spin`);
    assert.equal(result.acceptedAfter, 2);
  });

  test('what it accepted is closed with the connections', () => {
    const before = openDescriptors();
    const [stage, door] = serving(10);
    const clients = callers(door, 3);
    stage.play(
      (function* (): Script {
        yield* until('they are accepted', () => stage.connections.size === 3);
        for (const client of clients) client.reset();
        yield* until('they are gone', () => stage.connections.size === 0);
        for (let peer = stage.upstream.tryAccept(); peer !== null; peer = stage.upstream.tryAccept()) peer.close();
        yield;
      })(),
    );
    door.close();
    assert.equal(openDescriptors(), before);
  });
});
