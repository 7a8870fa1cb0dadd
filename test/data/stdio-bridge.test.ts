import assert from 'node:assert/strict';
import { closeSync, constants, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Loop } from '../../src/data/loop.js';
import { StdioBridge } from '../../src/data/stdio-bridge.js';
import { E } from '../../src/sys/errno.js';
import { createPipe, type Pipe } from '../../src/sys/pipe.js';
import { closeFd, readFrom, writeTo } from '../../src/sys/process.js';
import { Peer, pattern, play, type Script, turns, until } from './rig.js';

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;

const aPipe = (): Pipe => {
  const pipe = createPipe(65_536);
  assert.ok(typeof pipe !== 'number');
  return pipe;
};

/** A bridge between descriptors and a socket that the test holds. */
class Stage {
  readonly loop = new Loop(0);
  readonly near: Peer;
  readonly bridge: StdioBridge;
  overs = 0;

  constructor(input: number, output: number) {
    this.bridge = new StdioBridge(this.loop, input, output, () => this.overs++);
    this.near = new Peer(this.bridge.near);
  }

  play(script: () => Script): void {
    play(this.loop, script());
  }

  *over(): Script {
    yield* until('the bridge is over', () => this.overs > 0);
    yield* turns();
    assert.equal(this.overs, 1);
  }
}

const write = (fd: number, text: string): void => {
  assert.equal(writeTo(fd, Buffer.from(text), 0, text.length), text.length);
};

/** Reads a pipe to its end. */
class Sink {
  readonly #fd: number;
  readonly #pieces: Buffer[] = [];
  readonly #buffer = Buffer.alloc(65_536);
  state = 'open';

  constructor(fd: number) {
    this.#fd = fd;
  }

  read(): void {
    for (;;) {
      const count = readFrom(this.#fd, this.#buffer);
      if (count === -E.AGAIN) return;
      assert.ok(count >= 0);
      if (count === 0) {
        this.state = 'end';
        return;
      }
      this.#pieces.push(Buffer.from(this.#buffer.subarray(0, count)));
    }
  }

  get got(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  *expect(text: string): Script {
    yield* until(`${JSON.stringify(text)} comes`, () => {
      this.read();
      return this.got.length >= text.length;
    });
    assert.equal(this.got.toString(), text);
  }

  *over(): Script {
    yield* until('the end of the pipe', () => {
      this.read();
      return this.state === 'end';
    });
  }
}

const folder = (t: TestContext): string => {
  const path = mkdtempSync(join(tmpdir(), 'tproxy-test-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
};

describe('a bridge between stdin, stdout and a socket', () => {
  test('carries bytes both ways, and each end for itself', () => {
    const [input, output] = [aPipe(), aPipe()];
    const stage = new Stage(input.readEnd, output.writeEnd);
    const sink = new Sink(output.readEnd);
    const { near } = stage;
    stage.play(function* () {
      write(input.writeEnd, 'question');
      yield* near.expect('question');
      near.send('answer');
      yield* sink.expect('answer');
      closeFd(input.writeEnd);
      yield* near.over();
      assert.equal(near.state, 'end');
      near.send(', and more');
      yield* sink.expect('answer, and more');
      assert.equal(stage.overs, 0);
      near.close();
      yield* sink.over();
      yield* stage.over();
    });
    assert.equal(stage.bridge.fault, null);
  });

  test('closes stdout at its end, while stdin still goes on', () => {
    const [input, output] = [aPipe(), aPipe()];
    const stage = new Stage(input.readEnd, output.writeEnd);
    const { near } = stage;
    stage.play(function* () {
      near.send('all');
      near.shutdown();
      const sink = new Sink(output.readEnd);
      yield* sink.over();
      assert.equal(sink.got.toString(), 'all');
      yield* stage.over();
      assert.throws(() => fstatSync(output.writeEnd), { code: 'EBADF' });
      write(input.writeEnd, 'still here');
      yield* near.expect('still here');
    });
    assert.equal(stage.bridge.fault, null);
  });

  test('holds the sender back while nobody reads, and then loses nothing', () => {
    const [input, output] = [aPipe(), aPipe()];
    const stage = new Stage(input.readEnd, output.writeEnd);
    const { near } = stage;
    const said = pattern(5_000_000);
    stage.play(function* () {
      near.send(said);
      for (let i = 0; i < 200; i++) {
        assert.equal(near.flush(), false);
        yield;
      }
      const sink = new Sink(output.readEnd);
      yield* until('all of it is sent', () => {
        sink.read();
        return near.flush();
      });
      near.close();
      yield* sink.over();
      assert.ok(sink.got.equals(said));
    });
  });

  test('gives what was said before the connection ended, though it ended with bytes of stdin unread', () => {
    const [input, output] = [aPipe(), aPipe()];
    const stage = new Stage(input.readEnd, output.writeEnd);
    const { near } = stage;
    const said = pattern(100_000);
    stage.play(function* () {
      write(input.writeEnd, 'nobody reads this');
      yield* turns();
      near.send(said);
      assert.equal(near.flush(), true);
      near.close();
      const sink = new Sink(output.readEnd);
      write(input.writeEnd, 'nor this');
      yield* sink.over();
      assert.ok(sink.got.equals(said));
      yield* stage.over();
    });
    assert.equal(stage.bridge.fault, null);
  });

  test('ends both ways when nobody reads stdout any more', () => {
    const [input, output] = [aPipe(), aPipe()];
    const stage = new Stage(input.readEnd, output.writeEnd);
    const { near } = stage;
    stage.play(function* () {
      closeFd(output.readEnd);
      near.send('for nobody');
      yield* stage.over();
      yield* near.over();
      near.send('more');
      assert.equal(near.sendError, 'EPIPE');
    });
    assert.deepEqual(stage.bridge.fault, { what: 'write standard output', code: 'EPIPE' });
  });

  test('ends both ways when stdin fails, also after the end of stdout', (t) => {
    for (const first of ['nothing', 'the end of stdout']) {
      const output = aPipe();
      const input = openSync(folder(t), O_RDONLY);
      const stage = new Stage(input, output.writeEnd);
      const { near } = stage;
      if (first !== 'nothing') near.shutdown();
      stage.play(function* () {
        yield* stage.over();
        yield* near.over();
      });
      assert.deepEqual(stage.bridge.fault, { what: 'read standard input', code: 'EISDIR' }, first);
      closeSync(input);
    }
  });

  test('reads and writes files, which epoll refuses', (t) => {
    const said = pattern(3_000_000);
    const [from, to] = ['from', 'to'].map((name) => join(folder(t), name)) as [string, string];
    writeFileSync(from, said);
    writeFileSync(to, '');
    const stage = new Stage(openSync(from, O_RDONLY | O_NONBLOCK), openSync(to, O_WRONLY | O_NONBLOCK));
    const { near } = stage;
    stage.play(function* () {
      yield* until('the whole file has come', () => {
        near.read();
        return near.state === 'end';
      });
      assert.ok(near.got.equals(said));
      near.send(said);
      yield* until('it is sent back', () => near.flush());
      near.close();
      yield* stage.over();
    });
    assert.ok(readFileSync(to).equals(said));
  });

  test('says what a device has against being written to', () => {
    const input = aPipe();
    const stage = new Stage(input.readEnd, openSync('/dev/full', O_WRONLY));
    stage.play(function* () {
      stage.near.send('x');
      yield* stage.over();
    });
    assert.deepEqual(stage.bridge.fault, { what: 'write standard output', code: 'ENOSPC' });
  });
});
