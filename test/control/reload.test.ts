import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Coalesced, InTurn, ServiceIds, withFixed } from '../../src/control/reload.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, type Plan } from '../../src/plan.js';
import { serviceOf } from '../data/rig.js';

const [a, b, c] = ['a', 'b', 'c'].map((name) => serviceOf({ name })) as [
  ReturnType<typeof serviceOf>,
  ReturnType<typeof serviceOf>,
  ReturnType<typeof serviceOf>,
];

describe('numbers of services', () => {
  test('those of the first plan are their indices', () => {
    assert.deepEqual(new ServiceIds([a, b]).ids, [0, 1]);
  });

  test('a service that is the same keeps its number, wherever it stands', () => {
    const services = new ServiceIds([a, b]);
    assert.deepEqual(services.succeed([structuredClone(b), c, structuredClone(a)]), {
      ids: [1, 2, 0],
      added: [1],
      gone: [],
    });
    assert.equal(services.indexOf(0), 2);
  });

  test('one that has changed in anything gets a new one, and so does one that comes again', () => {
    const services = new ServiceIds([a]);
    assert.deepEqual(services.succeed([{ ...a, limits: { ...DEFAULT_LIMITS, idle: Number.POSITIVE_INFINITY } }]), {
      ids: [1],
      added: [0],
      gone: [0],
    });
    assert.deepEqual(services.succeed([a]), { ids: [2], added: [0], gone: [1] });
    assert.equal(services.indexOf(0), -1);
  });

  test('of two that are the same each has its own', () => {
    const services = new ServiceIds([a, { ...a }]);
    assert.deepEqual(services.succeed([a, { ...a }, { ...a }]), { ids: [0, 1, 2], added: [2], gone: [] });
    assert.deepEqual(services.succeed([a]), { ids: [0], added: [], gone: [1, 2] });
  });
});

test('what a process can’t change stays, and is named', () => {
  const now: Plan = { ...DEFAULT_PLAN, services: [a], user: 'nobody', workers: 2 };
  const next: Plan = { ...now, services: [b], user: null, workers: 3, drain: 5000, foreground: true };
  assert.deepEqual(withFixed(now, next), {
    plan: { ...next, user: 'nobody', workers: 2, foreground: false },
    refused: ['the user', 'the number of workers', 'the foreground'],
  });
  assert.deepEqual(withFixed(now, now).refused, []);
});

describe('work that is asked for again and again', () => {
  test('is done one at a time, and once more for all that ask meanwhile', async () => {
    let begun = 0;
    let go: () => void = () => {};
    const work = new Coalesced(() => {
      begun++;
      return new Promise((settle) => {
        go = settle;
      });
    });
    const first = work.run();
    void work.run();
    void work.run();
    assert.equal(begun, 1);
    go();
    await new Promise(setImmediate);
    assert.equal(begun, 2);
    go();
    await first;
    assert.equal(begun, 2);
  });

  test('goes in turn, whatever becomes of the one before', async () => {
    const done: string[] = [];
    const turn = new InTurn();
    const first = turn.run(async () => {
      await new Promise(setImmediate);
      done.push('first');
      throw new Error('as it should');
    });
    const second = turn.run(async () => {
      done.push('second');
    });
    await assert.rejects(first, /as it should/);
    await second;
    assert.deepEqual(done, ['first', 'second']);
  });
});
