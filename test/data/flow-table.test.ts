import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Entry, FlowTable } from '../../src/data/flow-table.js';

class Item implements Entry<Item> {
  hash = 0;
  next: Item | null = null;
  older: Item | null = null;
  newer: Item | null = null;
  readonly key: Int32Array;

  constructor(readonly number: number) {
    this.key = keyOf(number);
  }
}

const keyOf = (number: number): Int32Array => Int32Array.from({ length: 12 }, (_, i) => (i === 1 ? number : i));

/** Keys and their order of activity, as a list would have them. */
const check = (table: FlowTable<Item>, order: readonly number[]): void => {
  assert.deepEqual(
    [...table].map(({ number }) => number),
    order,
  );
  assert.equal(table.size, order.length);
  assert.equal(table.oldest?.number, order[0]);
};

describe('FlowTable', () => {
  test('does as a list would, whatever is added, touched and removed', () => {
    const step = fc.tuple(fc.constantFrom('add', 'add', 'touch', 'remove'), fc.integer({ min: 0, max: 200 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const table = new FlowTable<Item>();
        let order: number[] = [];
        for (const [what, number] of steps) {
          const found = table.find(keyOf(number));
          assert.equal(found?.number, order.includes(number) ? number : undefined);
          const others = order.filter((other) => other !== number);
          if (found === null) {
            if (what !== 'add') continue;
            table.add(new Item(number));
            order.push(number);
          } else if (what === 'remove') {
            table.remove(found);
            order = others;
          } else {
            table.touch(found);
            order = [...others, number];
          }
        }
        check(table, order);
      }),
      { numRuns: 200 },
    );
  });

  test('finds each of many thousands, and none that is not there', () => {
    const table = new FlowTable<Item>();
    for (let i = 0; i < 10_000; i++) table.add(new Item(i));
    for (let i = 0; i < 10_000; i++) assert.equal(table.find(keyOf(i))?.number, i);
    for (let i = 10_000; i < 20_000; i++) assert.equal(table.find(keyOf(i)), null);
    while (table.oldest !== null) table.remove(table.oldest);
    check(table, []);
  });

  test('keys that differ in one bit of any word are two', () => {
    const table = new FlowTable<Item>();
    const item = new Item(0);
    table.add(item);
    for (let word = 0; word < 12; word++) {
      for (let bit = 0; bit < 32; bit++) {
        const key = item.key.slice();
        key[word] = (key[word] as number) ^ (1 << bit);
        assert.equal(table.find(key), null);
      }
    }
  });

  test('what is removed twice was removed once', () => {
    const table = new FlowTable<Item>();
    const item = new Item(1);
    table.add(item);
    table.add(new Item(2));
    table.remove(item);
    table.remove(item);
    check(table, [2]);
  });
});
