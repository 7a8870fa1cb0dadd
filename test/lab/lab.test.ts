import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { Lab } from '../../scripts/lab/lab.js';
import { until } from '../../scripts/lab/until.js';
import { unless } from '../support/needs.js';

const skip = unless();
const LIBRARY = new URL('../../scripts/lab/lab.js', import.meta.url).href;

const isRunning = (pid: number): boolean => existsSync(`/proc/${pid}`);

test('closing a lab ends every process in it, daemons too, and removes its folder', { skip }, async () => {
  const lab = await Lab.open();
  const host = await lab.host('alone');
  const running = await host.spawn(['sleep', '600']);
  await host.run('sh', '-c', 'setsid sleep 601 >/dev/null 2>&1 &');
  assert.equal((await host.processes()).filter(({ command }) => command.startsWith('sleep 60')).length, 2);
  const init = host.pid;
  await lab.close();
  await running.outcome();
  assert.equal(isRunning(init), false);
  assert.equal(existsSync(lab.folder), false);
});

for (const [how, kill] of [
  ['its process is killed', (pid: number) => process.kill(pid, 'SIGKILL')],
  ['its process group is told to end', (pid: number) => process.kill(-pid, 'SIGTERM')],
] as const) {
  test(`when ${how}, a lab leaves no process and no folder`, { skip }, async () => {
    const script = `
    const { Lab } = await import(${JSON.stringify(LIBRARY)});
    const lab = await Lab.open();
    const host = await lab.host('orphan');
    const running = await host.spawn(['sh', '-c', 'setsid sleep 602 & exec sleep 603']);
    console.log(JSON.stringify({ pids: [host.pid, running.pid], folder: lab.folder }));
    setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    const [line] = await once(owner.stdout, 'data');
    const { pids, folder } = JSON.parse(String(line)) as { pids: number[]; folder: string };
    assert.ok(pids.every(isRunning));
    kill(owner.pid as number);
    await until('the processes of the lab to end', () => !pids.some(isRunning));
    await until('its folder to be removed', () => !existsSync(folder));
  });
}

test('hosts reach each other over both families, by address and by name, and nobody else', { skip }, async () => {
  const lab = await Lab.open();
  try {
    const [a, b] = [await lab.host('a'), await lab.host('b')];
    await lab.link(a, ['10.1.0.1/24', 'fd01::1/64'], b, ['10.1.0.2/24', 'fd01::2/64']);
    lab.name('b.lab', ['10.1.0.2', 'fd01::2']);
    const serve = `require('net').createServer((s) => s.end(s.remoteAddress)).listen(7, '::')`;
    await b.spawn([process.execPath, '-e', serve]);
    await b.listening(7);
    const ask = async (host: string): Promise<string> => {
      const script = `require('net').connect(7, '${host}').pipe(process.stdout)`;
      return (await a.run(process.execPath, '-e', script)).stdout;
    };
    assert.equal(await ask('10.1.0.2'), '::ffff:10.1.0.1');
    assert.equal(await ask('fd01::2'), 'fd01::1');
    assert.match(await ask('b.lab'), /10\.1\.0\.1$|^fd01::1$/);
    const outside = await a.attempt('ip', 'route', 'get', '192.0.2.1');
    assert.notEqual(outside.code, 0);
  } finally {
    await lab.close();
  }
});
