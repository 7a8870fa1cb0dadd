import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { allocateCounters, CounterRow, total } from '../src/counters.js';

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
