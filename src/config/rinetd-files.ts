import { closeSync, lstatSync, openSync, readdirSync, readSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { EX, Failure } from '../failure.js';
import { matchesGlob } from '../glob.js';
import type { Place, Problems } from './problems.js';
import { LineError, parseLine, type Statement } from './rinetd-lines.js';
import { quoted } from './usage-error.js';

const MOST_LINE = 4096;
const MOST_BYTES = 16 * 1024 * 1024;
const MOST_FILES = 1000;
const MOST_DEPTH = 10;

/** A statement, and where its words stand: `at(word)` is the place of one. */
export interface Located {
  readonly statement: Exclude<Statement, { kind: 'include' }>;
  readonly at: (word: { readonly column: number }) => Place;
}

/**
 * Every statement of a file and of those that it includes, in order. What is no statement is told to `problems`.
 * `base` is the folder that relative paths start from.
 * @throws Failure when the first file can't be read
 */
export const readStatements = (path: string, base: string, problems: Problems): Located[] => {
  const reader = new Reader(base, problems);
  try {
    reader.read(path, []);
  } catch (error) {
    if (error instanceof Unreadable) throw new Failure(`${shown(path)}: ${error.message}`, EX.NOINPUT);
    if (!(error instanceof TooMany)) throw error;
  }
  return reader.statements;
};

class Unreadable extends Error {}

/** Of files; that was told. */
class TooMany extends Error {}

class Reader {
  readonly statements: Located[] = [];
  readonly #base: string;
  readonly #problems: Problems;
  #bytes = 0;
  #files = 0;

  constructor(base: string, problems: Problems) {
    this.#base = base;
    this.#problems = problems;
  }

  /** `within`: the real paths of the files that include this one, outermost first. Throws Unreadable. */
  read(path: string, within: readonly string[]): void {
    const text = this.#load(path);
    const real = realpathSync(resolve(this.#base, path));
    const file = shown(path);
    for (const [i, content] of text.split('\n').entries()) {
      const line = i + 1;
      const at: Located['at'] = ({ column }) => ({ file, line, column });
      const statement = this.#parse(content.replace(/\r$/, ''), at);
      if (statement === null) continue;
      if (statement.kind !== 'include') this.statements.push({ statement, at });
      else this.#include(statement.pattern.text, at(statement.pattern), path, [...within, real]);
    }
  }

  #parse(line: string, at: Located['at']): Statement | null {
    if (line.length > MOST_LINE) {
      this.#problems.error(at({ column: MOST_LINE + 1 }), `a line has ${MOST_LINE} characters at most`);
      return null;
    }
    try {
      return parseLine(line);
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      this.#problems.error(at(error), error.what);
      return null;
    }
  }

  #include(pattern: string, place: Place, from: string, within: readonly string[]): void {
    if (within.length > MOST_DEPTH) {
      this.#problems.error(place, `files include each other ${MOST_DEPTH} deep at most`);
      return;
    }
    const paths = this.#expand(pattern, place, from);
    this.#files += Math.max(1, paths.length);
    if (this.#files > MOST_FILES) {
      this.#problems.error(place, `more than ${MOST_FILES} files`);
      throw new TooMany();
    }
    if (paths.length === 0) this.#problems.warn(place, `${quoted(pattern)} matches no file`);
    for (const path of paths) {
      try {
        const real = realpathSync(resolve(this.#base, path));
        if (within.includes(real)) this.#problems.error(place, `${quoted(path)} includes itself by this`);
        else this.read(path, within);
      } catch (error) {
        if (!(error instanceof Unreadable) && !isSystemError(error)) throw error;
        this.#problems.error(place, `${quoted(path)}: ${isSystemError(error) ? error.code : error.message}`);
      }
    }
  }

  /** The files of a pattern in the order of their names. One without wildcards is a file, whether there is one or not. */
  #expand(pattern: string, place: Place, from: string): string[] {
    const path = pattern.startsWith('/') ? pattern : join(dirname(from), pattern);
    if (!hasWildcard(path)) return [path];
    try {
      return expand(path, this.#base);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.#problems.error(place, `${quoted(pattern)}: ${error.code}`);
      return [];
    }
  }

  /** Throws Unreadable. */
  #load(path: string): string {
    try {
      // Opening a pipe would wait for someone to write into it.
      if (!statSync(resolve(this.#base, path)).isFile()) throw new Unreadable('is no regular file');
      const bytes = readAtMost(resolve(this.#base, path), MOST_BYTES - this.#bytes);
      this.#bytes += bytes.length;
      // A line may be a comment in any encoding: what is no UTF-8 becomes U+FFFD, which no word may have in it.
      return new TextDecoder().decode(bytes);
    } catch (error) {
      throw isSystemError(error) ? new Unreadable(error.code) : error;
    }
  }
}

const readAtMost = (path: string, most: number): Buffer => {
  const fd = openSync(path, 'r');
  try {
    const pieces: Buffer[] = [];
    let left = most;
    for (;;) {
      const piece = Buffer.allocUnsafe(64 * 1024);
      const length = readSync(fd, piece);
      if (length === 0) return Buffer.concat(pieces);
      left -= length;
      if (left < 0) throw new Unreadable(`more than ${MOST_BYTES} bytes`);
      pieces.push(piece.subarray(0, length));
    }
  } finally {
    closeSync(fd);
  }
};

const hasWildcard = (text: string): boolean => /[*?]/.test(text);

/** What a path with wildcards stands for, folders not among it. Throws what readdir(3) and stat(2) fail with. */
const expand = (path: string, base: string): string[] => {
  let found = [''];
  for (const [i, part] of path.split('/').entries()) {
    const inFolder = (folder: string, name: string): string => (i === 0 ? name : `${folder}/${name}`);
    found = found.flatMap((folder) => {
      if (!hasWildcard(part)) return [inFolder(folder, part)];
      // A name with a dot in front is matched by none that does not say so, as in glob(7).
      const names = entries(resolve(base, inFolder(folder, '')));
      const hits = names.filter((name) => name.startsWith('.') === part.startsWith('.') && matchesGlob(part, name));
      return hits.map((name) => inFolder(folder, name));
    });
  }
  const exists = (file: string): boolean => lstatSync(file, { throwIfNoEntry: false }) !== undefined;
  const isFolder = (file: string): boolean => statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return found.filter((file) => exists(resolve(base, file)) && !isFolder(resolve(base, file))).sort();
};

const entries = (folder: string): string[] => {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return [];
    throw error;
  }
};

const isSystemError = (error: unknown): error is NodeJS.ErrnoException & { code: string } =>
  error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';

/** A path in messages: as it is, if it has no character that a terminal would obey. */
const shown = (path: string): string => (quoted(path) === `"${path}"` ? path : quoted(path));
