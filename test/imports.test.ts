import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** Files straight in src that know nothing but each other. */
const LEAVES = ['plan', 'address', 'messages', 'counters', 'failure', 'own-sockets', 'affinity-table', 'glob'];

/** Who may import whom, types too; a folder may always import its own files. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  main: ['config', 'control', ...LEAVES],
  config: ['plan', 'address', 'failure', 'glob'],
  control: ['sys', ...LEAVES],
  data: ['protocol', 'sys', ...LEAVES],
  protocol: ['address'],
  sys: ['address'],
  ...Object.fromEntries(LEAVES.map((leaf) => [leaf, LEAVES])),
};

/** What serves a connection on the main thread, and so knows the data plane. */
const SERVES_ON_MAIN_THREAD = ['control/inetd.ts', 'control/stdio.ts'];
/** The one file that starts threads. */
const STARTS_THREADS = 'control/workers.ts';

/** Packages that one file or folder has for itself. */
const PACKAGE_HOMES: Readonly<Record<string, RegExp>> = {
  koffi: /^sys\/libc\.ts$/,
  pino: /^control\/log\.ts$/,
  posix: /^control\//,
};

interface Source {
  /** Relative to src, as `control/log.ts`. */
  readonly file: string;
  readonly text: string;
  /** What it imports, types too, as files relative to src or as package names. */
  readonly imports: readonly string[];
  /** Files that it names by URL, relative to src. */
  readonly paths: readonly string[];
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

const toFile = (from: string, specifier: string): string =>
  specifier.startsWith('.') ? normalize(join(dirname(from), specifier)).replace(/\.js$/, '.ts') : specifier;

const readSource = (file: string): Source => {
  const text = withoutComments(readFileSync(join(SRC, file), 'utf8'));
  const matches = (pattern: RegExp): string[] =>
    [...text.matchAll(pattern)].map(([, found]) => toFile(file, found ?? ''));
  return {
    file,
    text,
    imports: matches(/\b(?:from|import|require|import\.meta\.resolve)\s*\(?\s*['"]([^'"]+)['"]/g),
    paths: matches(/\bnew URL\(\s*['"]([^'"]+)['"]/g).filter((path) => path.endsWith('.ts')),
  };
};

const sources = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
  .map(readSource);

/** `control` for `control/log.ts`, `plan` for `plan.ts`. */
const partOf = (file: string): string => file.replace(/\/.*$/, '').replace(/\.ts$/, '');

/** Every import that `wrong` objects to, as `file: import`. */
const offences = (wrong: (source: Source, imported: string) => boolean): string[] =>
  sources.flatMap((source) =>
    source.imports.filter((imported) => wrong(source, imported)).map((imported) => `${source.file}: ${imported}`),
  );

const isOurs = (imported: string): boolean => imported.endsWith('.ts');

describe('the direction of imports', () => {
  test('the source was found and read', () => {
    assert.ok(sources.length > 10, `${sources.length} files in ${relative(process.cwd(), SRC)}`);
    assert.ok(sources.some(({ imports }) => imports.includes('sys/libc.ts')));
  });

  test('every file belongs to a part that the table knows', () => {
    assert.deepEqual(
      sources.map(({ file }) => partOf(file)).filter((part) => !(part in ALLOWED)),
      [],
    );
  });

  test('no part imports one that the table does not allow it', () => {
    const wrong = offences(({ file }, imported) => {
      if (!isOurs(imported)) return false;
      const [from, to] = [partOf(file), partOf(imported)];
      if (from === to || (ALLOWED[from] ?? []).includes(to)) return false;
      return !(SERVES_ON_MAIN_THREAD.includes(file) && to === 'data');
    });
    assert.deepEqual(wrong, []);
  });

  test('files are named by URL only where threads are started, and that is the worker', () => {
    const named = sources.flatMap(({ file, paths }) => paths.map((path) => `${file}: ${path}`));
    assert.deepEqual(named, [`${STARTS_THREADS}: data/worker.ts`]);
  });

  for (const [name, home] of Object.entries(PACKAGE_HOMES)) {
    test(`only ${home.source} imports ${name}`, () => {
      const users = sources.filter(({ imports }) => imports.includes(name)).map(({ file }) => file);
      assert.notDeepEqual(users, []);
      assert.deepEqual(
        users.filter((file) => !home.test(file)),
        [],
      );
    });
  }

  test('built-in modules are imported by their node: names', () => {
    assert.deepEqual(
      offences((_, imported) => builtinModules.includes(imported)),
      [],
    );
  });

  test('only main.ts ends the process', () => {
    const exits = /\bprocess\s*\.\s*(?:exit|reallyExit|abort)\b/;
    assert.deepEqual(
      sources.filter(({ text, file }) => file !== 'main.ts' && exits.test(text)).map(({ file }) => file),
      [],
    );
  });
});
