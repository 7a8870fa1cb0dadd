import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readRinetdConf } from '../../src/config/rinetd-conf.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_PLAN } from '../../src/plan.js';

/** A folder with configuration files in it. */
export class ConfFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'tproxy-test-'));

  write(name: string, text: string | Uint8Array): void {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  /** Writes the file and reads it. */
  read(text: string | Uint8Array, name = 'rinetd.conf') {
    this.write(name, text);
    return readRinetdConf(name, this.path, { ...DEFAULT_PLAN, ident: 'rinetd' });
  }

  /** The mistakes in the file, which has some, without its name. */
  mistakes(text: string | Uint8Array): string[] {
    try {
      this.read(text);
    } catch (error) {
      assert.ok(error instanceof Failure, String(error));
      assert.equal(error.exitCode, EX.CONFIG);
      return error.message.split('\n').map((line) => line.replace(/^rinetd\.conf:/, ''));
    }
    return assert.fail(`no mistake in ${text}`);
  }

  remove(): void {
    rmSync(this.path, { recursive: true });
  }
}
