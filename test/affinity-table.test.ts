import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AffinityTable, allocateAffinity } from '../src/affinity-table.js';
import type { Affinity } from '../src/plan.js';

const tableOf = (affinity: Affinity): AffinityTable => new AffinityTable(allocateAffinity(affinity), affinity, 0);

describe('which client keeps which member', () => {
  test('is known for the time to live, and for as long again when the client comes', () => {
    const table = tableOf({ ttl: 10_000, entries: 100 });
    assert.equal(table.find(7, 0), null);
    table.keep(7, 0xffff_fff0, 1000);
    assert.equal(table.find(7, 1000), 0xffff_fff0);
    assert.equal(table.find(7, 10_900), 0xffff_fff0);
    assert.equal(table.find(7, 11_000), null);
    table.keep(7, 5, 11_000);
    table.keep(7, 6, 20_000);
    assert.equal(table.find(7, 29_000), 6);
    assert.equal(table.find(8, 29_000), null);
  });

  test('of a client and a member whose hash is 0 is known as any', () => {
    const table = tableOf({ ttl: 1000, entries: 4 });
    assert.equal(table.find(0, 0), null);
    table.keep(0, 0, 0);
    assert.equal(table.find(0, 0), 0);
  });

  test('is known of so many at once, and the one that came longest ago makes room', () => {
    const table = tableOf({ ttl: 10_000, entries: 3 });
    for (const client of [1, 2, 3]) table.keep(client, client, client * 100);
    table.keep(1, 1, 400);
    table.keep(4, 4, 500);
    assert.deepEqual(
      [1, 2, 3, 4].map((client) => table.find(client, 600)),
      [1, null, 3, 4],
    );
  });

  test('is known of about all that there are entries for, of clients by the thousand', () => {
    const entries = 10_000;
    const table = tableOf({ ttl: 1e6, entries });
    const clients = Array.from({ length: entries }, (_, i) => Math.imul(i + 1, 0x9e37_79b1) >>> 0);
    for (const [i, client] of clients.entries()) table.keep(client, client ^ 1, i);
    const known = clients.filter((client) => table.find(client, entries) === (client ^ 1) >>> 0).length;
    assert.ok(known > 0.85 * entries, `${known}`);
    for (const [i, client] of clients.entries()) table.keep(client ^ 0x5555, 1, entries + i);
    assert.ok(clients.filter((client) => table.find(client, entries) !== null).length < 0.2 * entries);
  });

  test('is the same to threads whose clocks begin at different times', () => {
    const affinity = { ttl: 5000, entries: 1 };
    const memory = allocateAffinity(affinity);
    const early = new AffinityTable(memory, affinity, 1000);
    const late = new AffinityTable(memory, affinity, 61_000);
    early.keep(1, 2, 60_500);
    assert.equal(late.find(1, 500), 2);
    assert.equal(late.find(1, 5400), 2);
    assert.equal(late.find(1, 5500), null);
  });

  test('counts the process’s own time where none is given', () => {
    const affinity = { ttl: 60_000, entries: 1 };
    const memory = allocateAffinity(affinity);
    new AffinityTable(memory, affinity).keep(1, 2, performance.now());
    assert.equal(new AffinityTable(memory, affinity).find(1, performance.now()), 2);
  });

  test('is unknown rather than wrong when two threads wrote it at once', () => {
    const affinity = { ttl: 5000, entries: 1 };
    const memory = allocateAffinity(affinity);
    const table = new AffinityTable(memory, affinity, 0);
    table.keep(1, 2, 0);
    const other = new AffinityTable(allocateAffinity(affinity), affinity, 0);
    assert.equal(other.find(1, 0), null);
    // The member of another thread's client beside the client of this one.
    new Int32Array(memory)[1] = 9;
    assert.equal(table.find(1, 0), null);
  });
});
