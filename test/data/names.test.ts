import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Names } from '../../src/data/names.js';

const make = (): { names: Names; asked: string[]; told: string[]; telling: (who: string) => () => void } => {
  const asked: string[] = [];
  const told: string[] = [];
  return { names: new Names((name) => asked.push(name)), asked, told, telling: (who) => () => told.push(who) };
};

describe('Names', () => {
  test('are asked for once, and all who wait are called once, when the addresses are there', () => {
    const { names, asked, told, telling } = make();
    assert.equal(names.lookup('a.test', 0, telling('one')), null);
    assert.equal(names.lookup('a.test', 1, telling('two')), null);
    assert.deepEqual(asked, ['a.test']);
    assert.deepEqual(told, []);
    names.answer('a.test', ['192.0.2.1'], 10);
    assert.deepEqual(told, ['one', 'two']);
    assert.deepEqual(names.lookup('a.test', 20, telling('three')), ['192.0.2.1']);
    names.answer('a.test', ['192.0.2.2'], 30);
    assert.deepEqual(told, ['one', 'two']);
    assert.deepEqual(asked, ['a.test']);
  });

  test('are asked for again after half a minute, those without an address after a second', () => {
    const { names, asked, telling } = make();
    names.answer('a.test', ['192.0.2.1'], 0);
    names.answer('none.test', [], 0);
    assert.deepEqual(names.lookup('none.test', 999, telling('')), []);
    assert.equal(names.lookup('none.test', 1000, telling('')), null);
    assert.deepEqual(names.lookup('a.test', 29_999, telling('')), ['192.0.2.1']);
    assert.equal(names.lookup('a.test', 30_000, telling('')), null);
    assert.deepEqual(asked, ['none.test', 'a.test']);
  });

  test('whoever is called may ask again at once, and has the answer', () => {
    const { names } = make();
    let found: readonly string[] | null = null;
    names.lookup('a.test', 0, () => {
      found = names.lookup('a.test', 5, () => {});
    });
    names.answer('a.test', [], 5);
    assert.deepEqual(found, []);
  });

  test('are kept in bounds, and those that are waited for are not forgotten', () => {
    const { names, asked, told, telling } = make();
    names.lookup('waits.test', 0, telling('waits'));
    for (let i = 0; i < 10_001; i++) names.answer(`${i}.test`, ['192.0.2.1'], 0);
    assert.deepEqual(names.lookup('10000.test', 1, telling('')), ['192.0.2.1']);
    assert.equal(names.lookup('0.test', 1, telling('')), null);
    names.answer('waits.test', ['192.0.2.9'], 1);
    assert.deepEqual(told, ['waits']);
    assert.deepEqual(asked, ['waits.test', '0.test']);
  });
});
