import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { refuseUnixLoops } from '../../src/control/unix-loops.js';
import { DEFAULT_PLAN, type Plan, targetTo } from '../../src/plan.js';
import { serviceOf } from '../data/rig.js';

/** Services by where they listen, and what they are relays to. */
const planOf = (...ways: readonly (readonly [from: string, ...to: readonly string[]])[]): Plan => ({
  ...DEFAULT_PLAN,
  services: ways.map(([from, ...to]) =>
    serviceOf({ listen: [{ path: from, mode: null }], targets: to.map((path) => targetTo({ path })) }),
  ),
});

describe('a plan of unix sockets', () => {
  test('is refused when a socket is relayed to itself', () => {
    assert.throws(() => refuseUnixLoops(planOf(['/a', '/a'])), {
      name: 'Failure',
      message: 'a loop: unix:/a is relayed to unix:/a',
      exitCode: 78,
    });
  });

  test('is refused when one leads to the next and back, and only the loop is told', () => {
    const plan = planOf(['/in', '/x', '/a'], ['/a', '@b'], ['@b', '/c', '/a']);
    assert.throws(() => refuseUnixLoops(plan), {
      message: 'a loop: unix:/a is relayed to unix:@b is relayed to unix:/a',
    });
  });

  test('may lead from one to the next, by several ways to the same end', () => {
    refuseUnixLoops(planOf(['/a', '/b', '/c'], ['/b', '/d'], ['/c', '/d'], ['/d', '/elsewhere']));
    refuseUnixLoops({ ...DEFAULT_PLAN, services: [serviceOf({ listen: [{ host: null, port: 80 }] })] });
  });

  test('may have as many in a row as a file has rules', () => {
    refuseUnixLoops(planOf(...Array.from({ length: 10_000 }, (_, i) => [`@${i}`, `@${i + 1}`] as const)));
  });
});
