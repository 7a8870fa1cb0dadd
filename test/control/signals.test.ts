import assert from 'node:assert/strict';
import { test } from 'node:test';
import { handleSignals } from '../../src/control/signals.js';

test('signals that come before the server serves are obeyed when it does, in their order', (t) => {
  const names = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGTERM', 'SIGINT'] as const;
  const before = new Map(names.map((name) => [name, process.listeners(name)]));
  t.after(() => {
    for (const name of names) {
      for (const listener of process.listeners(name)) {
        if (!before.get(name)?.includes(listener)) process.removeListener(name, listener);
      }
    }
  });
  const done: string[] = [];
  const obey = handleSignals();
  process.emit('SIGUSR2');
  process.emit('SIGHUP');
  assert.equal(done.length, 0);
  obey({
    stop: (signal) => done.push(`stop ${signal}`),
    reload: () => done.push('reload'),
    reopen: () => done.push('reopen'),
    dump: () => done.push('dump'),
  });
  assert.deepEqual(done, ['dump', 'reload']);
  for (const name of ['SIGUSR1', 'SIGUSR2', 'SIGTERM', 'SIGINT'] as const) process.emit(name);
  assert.deepEqual(done, ['dump', 'reload', 'reopen', 'dump', 'stop SIGTERM', 'stop SIGINT']);
});
