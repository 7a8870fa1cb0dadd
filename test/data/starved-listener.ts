/**
 * A listener in a process that has run out of descriptors. Prints what it did as JSON: see listener.test.ts.
 * The clock is the test's, so that the pauses take no time.
 */
import { closeSync, openSync } from 'node:fs';
import posix from 'posix';
import { Listener } from '../../src/data/listener.js';
import { Door, Stage, turns, until } from './rig.js';

const clock = { now: 1000 };
performance.now = () => clock.now;

const stage = new Stage({}, undefined, true, 'tab');
const door = new Door();
new Listener(stage.site, door.fd, 'gate.test');
const clients = [door.connect(), door.connect()];

const errors = (): [string, string][] => stage.logs.filter(([level]) => level === 'error');
let attempts = 0;
const { watch } = stage.loop.timers;
stage.loop.timers.watch = (timed) => {
  // Each failed accept files one pause.
  if (timed instanceof Listener) attempts++;
  watch.call(stage.loop.timers, timed);
};

const { hard } = posix.getrlimit('nofile');
posix.setrlimit('nofile', { soft: 128, hard });
const fillers: number[] = [];
try {
  for (;;) fillers.push(openSync('/dev/null', 'r'));
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'EMFILE') throw error;
}

let acceptedStarved = -1;
let logs: string[] = [];
stage.play(
  (function* () {
    yield* until('it failed', () => errors().length > 0);
    yield* turns(500);
    // Four seconds: pauses that did not grow would end twenty times.
    for (let i = 0; i < 20; i++) {
      clock.now += 200;
      yield* turns(20);
    }
    acceptedStarved = stage.counters.get('accepted');
    logs = errors().map(([, line]) => line);
    for (const fd of fillers) closeSync(fd);
    clock.now += 10_000;
    yield* until('it goes on', () => stage.counters.get('accepted') === 2);
  })(),
);
process.stdout.write(
  JSON.stringify({
    attempts,
    acceptedStarved,
    acceptedAfter: stage.counters.get('accepted'),
    errors: stage.counters.get('acceptErrors'),
    logs,
    entries: stage.entries
      .filter((line) => line.includes('failed'))
      .map((line) => line.replace(/\t\d{4,5}\t/, '\tPORT\t')),
  }),
);
for (const client of clients) client.close();
