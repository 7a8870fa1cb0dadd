import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Door, openDescriptors, type Peer, type Script, turns, upstreamOf } from './rig.js';
import { ok, Talk } from './talk.js';

/** What an upstream does with a request. */
const ACTS = ['answer', 'answer', 'answer', 'early', 'answer-end', 'answer-reset', 'end', 'reset', 'close'] as const;
type Act = (typeof ACTS)[number];

interface Request {
  readonly method: 'GET' | 'POST';
  readonly size: number;
  readonly upgrade: boolean;
}

const textOf = ({ method, size, upgrade }: Request, i: number): string =>
  `${method} /${i} HTTP/1.1\r\nHost: origin.test\r\n` +
  (upgrade ? 'Connection: upgrade\r\nUpgrade: x\r\n' : '') +
  (method === 'POST' ? `Content-Length: ${size}\r\n\r\n${'b'.repeat(size)}` : '\r\n');

/** An upstream: reads requests off one connection, and acts. */
class Actor {
  #at = 0;
  over = false;

  constructor(
    readonly peer: Peer,
    readonly next: () => Act,
    readonly seen: string[],
  ) {}

  step(): void {
    if (this.over) return;
    this.peer.flush();
    this.peer.read(65_536);
    for (;;) {
      const text = this.peer.text.slice(this.#at);
      const head = /^(\S+) (\S+) HTTP\/1\.1\r\n([\s\S]*?)\r\n\r\n/.exec(text);
      if (head === null) {
        assert.match(text, /^(?:[A-Z]|$)/, 'what an upstream reads begins with a request');
        break;
      }
      const [all, method, target = '', fields = ''] = head;
      const length = Number(/content-length: (\d+)/i.exec(fields)?.[1] ?? 0);
      if (method === 'CONNECT') {
        this.#at += all.length;
        this.peer.send('HTTP/1.1 403 No\r\n\r\n');
        this.#end('close');
        return;
      }
      const whole = text.length >= all.length + length;
      const act = this.next();
      if (!whole && act !== 'early') return;
      this.#at += all.length + length;
      this.seen.push(target);
      if (act === 'end' || act === 'reset') {
        this.#end(act);
        return;
      }
      this.peer.send(ok(target, act === 'close' ? 'Connection: close\r\n' : ''));
      if (act !== 'answer') {
        if (act === 'early' && whole) continue;
        this.#end(act === 'answer-reset' ? 'reset' : 'end');
        return;
      }
    }
    if (this.peer.state !== 'open') this.#end('end');
  }

  #end(how: 'end' | 'reset' | 'close'): void {
    this.over = true;
    if (how === 'reset') this.peer.reset();
    else this.peer.close();
  }
}

const requests = fc.array(
  fc.record({
    method: fc.constantFrom('GET' as const, 'GET' as const, 'POST' as const),
    size: fc.constantFrom(0, 1, 1000, 300_000),
    upgrade: fc.nat(9).map((n) => n === 0),
  }),
  { minLength: 1, maxLength: 12 },
);

test('whatever upstreams do, answers come in the order of the requests, or the connection ends, and nothing stays', () => {
  let whole = 0;
  fc.assert(
    fc.property(
      requests,
      fc.array(fc.constantFrom(...ACTS), { maxLength: 12 }),
      fc.array(fc.boolean(), { maxLength: 40 }),
      fc.array(fc.nat(200), { maxLength: 20 }),
      (all, acts, pauses, cuts) => {
        const before = openDescriptors();
        const doors = [new Door(), new Door()];
        const talk = new Talk(
          { upstreams: [upstreamOf({ host: 'one' }), upstreamOf({ host: 'two' })], balance: 'url-hash' },
          doors.map(({ address }) => [address]),
        );
        const actors: Actor[] = [];
        const seen: string[] = [];
        let acted = 0;
        const next = (): Act => acts[acted++] ?? 'answer';
        talk.play(function* (): Script {
          let text = all.map(textOf).join('');
          for (let turn = 0; turn < 4000 && talk.stage.connections.size > 0; turn++) {
            const cut = cuts[turn] ?? text.length;
            if (text !== '' && talk.client.flush()) {
              talk.client.send(text.slice(0, cut));
              text = text.slice(cut);
            }
            talk.client.flush();
            talk.client.read();
            for (const door of doors) {
              const peer = door.tryAccept();
              if (peer !== null) actors.push(new Actor(peer, next, seen));
            }
            if (pauses[turn] !== true) for (const actor of actors) actor.step();
            const answers = talk.client.text.split('HTTP/1.1 ').length - 1;
            if (talk.client.state !== 'open' || (text === '' && answers >= all.length)) break;
            yield;
          }
          if (talk.stage.connections.size === 0) yield* talk.client.over();
          const answers = talk.client.text.split(/(?=HTTP\/1\.1 )/);
          const count = answers.filter((answer) => answer !== '').length;
          for (const [i, answer] of answers.entries()) {
            if (answer === '') continue;
            if (answer.startsWith('HTTP/1.1 200'))
              assert.ok(answer.endsWith(`\r\n\r\nhttp://origin.test/${i}`), answer);
            else assert.ok(i === count - 1 && talk.client.state !== 'open', `${answer} is the last`);
          }
          // It came to an end within its turns, not by waiting.
          assert.ok(talk.client.state !== 'open' || count === all.length, `${count} of ${all.length} answers`);
          if (count === all.length) whole++;
          for (const [i, { method }] of all.entries()) {
            const times = seen.filter((target) => target === `http://origin.test/${i}`).length;
            assert.ok(times <= (method === 'POST' ? 1 : 2), `request ${i} was sent ${times} times`);
          }
          talk.client.reset();
          talk.client.close = () => {};
          for (const actor of actors) if (!actor.over) actor.peer.reset();
          yield* turns(20);
          for (const door of doors) door.tryAccept()?.reset();
          assert.equal(talk.stage.connections.size, 0);
          for (const member of talk.stage.site.pool.members) assert.equal(member.connections, 0);
          yield;
        });
        for (const door of doors) door.close();
        assert.equal(openDescriptors(), before);
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(whole > 5, `${whole} got all of their answers`);
});
