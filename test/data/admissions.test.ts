import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Listener, onRoom } from '../../src/data/listener.js';
import { Door, openDescriptors, type Peer, type Settings, Stage, turns, until } from './rig.js';
import { withClock } from './talk.js';

const WRAPPED: Settings = { tcpWrappers: 'relayd' };

/** A client that waits for its admission, and its question's number. */
const held = (settings: Settings = {}): { stage: Stage; client: Peer; id: number } => {
  const stage = new Stage({ ...WRAPPED, ...settings });
  const client = stage.client();
  const [question] = stage.questions;
  assert.ok(question);
  return { stage, client, id: question[0] };
};

describe('a client that TCP wrappers decide on', () => {
  test('is asked about by service and address, and nobody is connected to until the answer is there', () => {
    const { stage, client, id } = held();
    assert.deepEqual(stage.questions, [[id, WRAPPED.tcpWrappers, '127.0.0.1']]);
    client.send('early');
    let upstream: Peer | null = null;
    stage.play(
      (function* () {
        yield* turns();
        assert.equal(stage.connections.size, 0);
        assert.equal(stage.counters.get('accepted'), 0);
        assert.equal(stage.upstream.tryAccept(), null);
        stage.thread.admissions?.answer(id, null);
        yield* stage.upstreamPeer((peer) => {
          upstream = peer;
        });
        yield* (upstream as unknown as Peer).expect('early');
        assert.equal(stage.counters.get('accepted'), 1);
        client.reset();
        yield* stage.gone();
      })(),
    );
  });

  test('is reset, counted and logged when it is refused', () => {
    const before = openDescriptors();
    const { stage, client, id } = held();
    let ends = 0;
    stage.thread.onClosed = () => ends++;
    stage.play(
      (function* () {
        yield* turns(3);
        stage.thread.admissions?.answer(id, 'its name is evil.test');
        yield* client.over();
      })(),
    );
    assert.equal(client.state, 'ECONNRESET');
    assert.equal(stage.counters.get('refused'), 1);
    assert.equal(stage.counters.get('accepted'), 0);
    assert.deepEqual(stage.entries, ['TCP wrappers refused from 127.0.0.1']);
    const [[level, line] = [], ...others] = stage.logs;
    assert.equal(level, 'warn');
    assert.match(String(line), /^test: TCP wrappers refused from 127\.0\.0\.1:\d+: its name is evil\.test$/);
    assert.deepEqual(others, []);
    assert.equal(ends, 1);
    client.close();
    assert.ok(openDescriptors() <= before);
  });

  test('is refused when no answer comes in time, and an answer that comes later is nothing', (t) => {
    const clock = withClock(t);
    const { stage, client, id } = held();
    stage.play(
      (function* () {
        yield* turns(3);
        clock.now += 9900;
        yield* turns(3);
        assert.equal(stage.counters.get('refused'), 0);
        clock.now += 200;
        yield* client.over();
        assert.equal(client.state, 'ECONNRESET');
        stage.thread.admissions?.answer(id, null);
        yield* turns(3);
      })(),
    );
    assert.ok(stage.said('no answer within 10 s'));
    assert.equal(stage.counters.get('accepted'), 0);
    assert.equal(stage.thread.admissions?.size, 0);
  });

  test('is not asked about when our own list refuses it', () => {
    const stage = new Stage({ ...WRAPPED, access: [{ allow: [], deny: [] }] });
    const client = stage.client();
    stage.play(client.over());
    assert.deepEqual(stage.questions, []);
    assert.deepEqual(stage.entries, ['ACL refused from 127.0.0.1']);
  });

  test('counts among the connections that the thread may have', () => {
    const stage = new Stage(WRAPPED);
    const door = new Door();
    stage.thread.mostConnections = 2;
    new Listener(stage.site, door.fd);
    stage.thread.onClosed = () => onRoom(stage.thread);
    const clients = [1, 2, 3].map(() => door.connect());
    stage.play(
      (function* () {
        yield* until('two are asked about', () => stage.questions.length === 2);
        yield* turns();
        assert.equal(stage.questions.length, 2);
        stage.thread.admissions?.answer(stage.questions[0]?.[0] as number, 'no');
        yield* until('the third is', () => stage.questions.length === 3);
      })(),
    );
    for (const client of clients) client.close();
    door.close();
  });
});

test('a service without TCP wrappers asks nobody', () => {
  const stage = new Stage();
  const client = stage.client();
  assert.deepEqual(stage.questions, []);
  assert.equal(stage.connections.size, 1);
  client.reset();
  stage.play(stage.gone());
});
