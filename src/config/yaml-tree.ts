import { type Alias, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type Scalar } from 'yaml';
import type { Place, Problems } from './problems.js';
import { printable, quoted } from './usage-error.js';

/** Of mappings and lists in each other; a plan has six. */
const MOST_DEPTH = 32;
/** What all aliases stand for is counted each time. */
const MOST_VALUES = 1_000_000;
const MOST_ERRORS = 1000;

/** Keys of mappings and indices of lists, from the top. */
export type Path = readonly PropertyKey[];

/** A YAML document as plain values, and where each of them stands. */
export interface Tree {
  readonly value: unknown;
  valueAt(path: Path): unknown;
  /** Where the value of a path stands, or what should have it; for a mapping's `key`, where that stands. */
  placeOf(path: Path, key?: string): Place;
}

/**
 * `file` is its name in messages. null: `problems` was told what is wrong, and what the rest means is not known; of keys
 * that are wrong it is told in any case.
 */
export const parseTree = (file: string, text: string, problems: Problems): Tree | null => {
  const reader = new Reader(file, text, problems);
  const value = reader.read();
  if (reader.isBroken) return null;
  return {
    value,
    valueAt: (path) => path.reduce<unknown>((inner, step) => (inner as Record<PropertyKey, unknown>)?.[step], value),
    placeOf: (path, key) => reader.placeOf(path, key),
  };
};

/** What an anchor names. */
interface Anchored {
  readonly node: Node;
  readonly value: unknown;
  readonly size: number;
}

/** The package has words of the file in its messages, and no stack where keys are nested too deep. */
const inShort = (message: string): string =>
  /call stack/.test(message) ? 'this is nested too deep' : printable(message.slice(0, 200));

class TooMuch extends Error {}

class Reader {
  isBroken = false;
  readonly #file: string;
  readonly #text: string;
  readonly #problems: Problems;
  readonly #lines = new LineCounter();
  /** By name, the last one that ended so far: an alias stands for it, and in none can there be an alias of itself. */
  readonly #anchors = new Map<string, Anchored>();
  readonly #aliases = new Map<Alias, Node>();
  #root: Node | null = null;
  #count = 0;

  constructor(file: string, text: string, problems: Problems) {
    this.#file = file;
    this.#text = text;
    this.#problems = problems;
  }

  read(): unknown {
    try {
      // Keys are compared here: the package compares each with each.
      const options = {
        lineCounter: this.#lines,
        prettyErrors: false,
        uniqueKeys: false,
        resolveKnownTags: false,
      } as const;
      const document = parseDocument(this.#text, options);
      this.#root = document.contents;
      // First: what is nested too deep has errors of its own, for which the package had no stack.
      const value = this.#root === null ? null : this.#value(this.#root, 0);
      for (const { code, pos, message } of [...document.errors, ...document.warnings].slice(0, MOST_ERRORS)) {
        this.#break(this.#placeAt(pos[0]), code === 'MULTIPLE_DOCS' ? 'a file is one document' : inShort(message));
      }
      return value;
    } catch (error) {
      if (!(error instanceof TooMuch)) throw error;
      this.#break({ file: this.#file, line: 1, column: 1 }, error.message);
      return null;
    }
  }

  placeOf(path: Path, key?: string): Place {
    let node: Node | null = this.#root;
    for (const step of path) node = this.#child(node, step) ?? node;
    const target = this.#resolved(node);
    const pair =
      key !== undefined && isMap<Scalar>(target) ? target.items.find((each) => each.key.value === key) : null;
    return this.#placeOf(pair?.key ?? target);
  }

  #break(place: Place, what: string): void {
    this.isBroken = true;
    this.#problems.error(place, what);
  }

  #child(node: Node | null, step: PropertyKey): Node | null {
    const target = this.#resolved(node);
    if (isMap<Scalar, Node>(target)) return target.items.find(({ key }) => key.value === step)?.value ?? null;
    return isSeq<Node>(target) ? (target.items[step as number] ?? null) : null;
  }

  #resolved(node: Node | null): Node | null {
    return isAlias(node) ? (this.#aliases.get(node) ?? null) : node;
  }

  #placeOf(node: Node | null): Place {
    return this.#placeAt(node?.range?.[0] ?? 0);
  }

  #placeAt(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.#file, line: Math.max(1, line), column: Math.max(1, col) };
  }

  #value(node: Node, depth: number): unknown {
    if (depth > MOST_DEPTH) throw new TooMuch(`mappings and lists are nested more than ${MOST_DEPTH} deep`);
    if (isAlias(node)) return this.#aliased(node);
    const before = this.#count;
    this.#add(1);
    const value = isMap<Node, Node | null>(node)
      ? this.#mapping(node.items, depth)
      : isSeq<Node>(node)
        ? node.items.map((item) => this.#value(item, depth + 1))
        : isScalar(node)
          ? scalar(node)
          : null;
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, { node, value, size: this.#count - before });
    return value;
  }

  #add(size: number): void {
    this.#count += size;
    if (this.#count > MOST_VALUES) throw new TooMuch(`this stands for more than ${MOST_VALUES} values`);
  }

  #aliased(alias: Alias): unknown {
    const anchored = this.#anchors.get(alias.source);
    if (anchored === undefined) {
      this.#break(this.#placeOf(alias), `there is no anchor ${quoted(`&${alias.source}`)} before this alias`);
      return null;
    }
    this.#aliases.set(alias, anchored.node);
    this.#add(anchored.size);
    return anchored.value;
  }

  #mapping(items: readonly { readonly key: Node; readonly value: Node | null }[], depth: number): unknown {
    // Without a prototype, __proto__ is a key as any other.
    const mapping: Record<string, unknown> = Object.create(null);
    for (const { key, value } of items) {
      const name = isScalar(key) ? key.value : null;
      if (typeof name !== 'string') {
        this.#problems.error(this.#placeOf(key), 'a key is a word, and neither a number nor anything else');
        continue;
      }
      if (name in mapping) this.#problems.error(this.#placeOf(key), `${quoted(name)} is there twice`);
      mapping[name] = value === null ? null : this.#value(value, depth + 1);
    }
    return mapping;
  }
}

/** A number with a 0 in front is octal to some readers of YAML and decimal to others: here it is the text that it is. */
const scalar = ({ value, source }: Scalar): unknown =>
  typeof value === 'number' && source !== undefined && /^[-+]?0\d/.test(source) ? source : value;
