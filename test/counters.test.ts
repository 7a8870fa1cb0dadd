import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { allocateCounters, CounterRow, Counters, total } from '../src/counters.js';

describe('counters', () => {
  test('each worker has its own row, and a total is over all of them', () => {
    const memory = allocateCounters(3);
    const rows = [0, 1, 2].map((worker) => new CounterRow(memory, worker));
    for (const [i, row] of rows.entries()) {
      row.add('accepted', 10 ** i);
      row.add('bytesToClients', 5);
    }
    rows[1]?.add('accepted', -3);
    assert.deepEqual(
      rows.map((row) => row.get('accepted')),
      [1, 7, 100],
    );
    assert.equal(total(memory, 'accepted'), 108);
    assert.equal(total(memory, 'bytesToClients'), 15);
    for (const slot of ['open', 'refused', 'bytesFromClients'] as const) assert.equal(total(memory, slot), 0);
  });

  test('counts bytes exactly beyond 2^32', () => {
    const memory = allocateCounters(1);
    const row = new CounterRow(memory, 0);
    row.add('bytesToClients', 2 ** 52);
    row.add('bytesToClients', 1);
    assert.equal(total(memory, 'bytesToClients'), 2 ** 52 + 1);
  });

  test('is shared with another thread', async () => {
    const memory = allocateCounters(2);
    const url = new URL('../src/counters.js', import.meta.url).href;
    const code = `
      const { workerData } = require('node:worker_threads');
      import(${JSON.stringify(url)}).then(({ CounterRow }) => new CounterRow(workerData, 1).add('open', 4));`;
    const worker = new Worker(code, { eval: true, workerData: memory });
    await new Promise((resolve) => worker.on('exit', resolve));
    assert.equal(total(memory, 'open'), 4);
    assert.equal(new CounterRow(memory, 0).get('open'), 0);
  });
});

describe('the counters of several services', () => {
  test('are known one by one and in total', () => {
    const counters = new Counters(2);
    const [web, mail] = [counters.add(0), counters.add(1)];
    new CounterRow(web, 0).add('accepted', 1);
    new CounterRow(web, 1).add('accepted', 2);
    new CounterRow(mail, 1).add('accepted', 4);
    assert.equal(counters.of(0, 'accepted'), 3);
    assert.equal(counters.of(1, 'accepted'), 4);
    assert.equal(counters.of(2, 'accepted'), 0);
    assert.equal(counters.total('accepted'), 7);
  });

  test('of a service that is gone count in the totals, while its connections go on and after', () => {
    const counters = new Counters(1);
    const row = new CounterRow(counters.add(0), 0);
    row.add('accepted', 2);
    row.add('open', 1);
    counters.retire(0);
    assert.equal(counters.of(0, 'accepted'), 0);
    assert.equal(counters.total('open'), 1);
    row.add('bytesToClients', 10);
    row.add('open', -1);
    assert.equal(counters.total('open'), 0);
    assert.equal(counters.total('accepted'), 2);
    assert.equal(counters.total('bytesToClients'), 10);
    new CounterRow(counters.add(1), 0).add('accepted', 1);
    assert.equal(counters.total('accepted'), 3);
  });
});
