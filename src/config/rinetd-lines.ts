import { quoted } from './usage-error.js';

// The grammar of one line of rinetd.conf: rinetd's, and the words that came later. What a word means is others' business.

/** A piece of a line. */
export interface Word {
  readonly text: string;
  /** Of its first character, from 1. */
  readonly column: number;
}

/** Where a rule listens or connects. */
export interface End {
  readonly address: Word;
  /** null: the address is one that takes none, `unix:` or `*`. */
  readonly port: Word | null;
  /** `tcp` or `udp`, where it is said. */
  readonly protocol: Word | null;
}

/** `NAME` or `NAME=VALUE`, in the brackets behind a rule. */
export interface Property {
  readonly name: Word;
  readonly value: Word | null;
}

export type Statement =
  | {
      readonly kind: 'rule';
      readonly bind: End;
      readonly connect: End;
      readonly properties: readonly Property[];
    }
  | { readonly kind: 'access'; readonly verb: 'allow' | 'deny'; readonly pattern: Word }
  | { readonly kind: 'setting'; readonly name: SettingName; readonly word: Word; readonly value: Word | null }
  | { readonly kind: 'include'; readonly pattern: Word };

/** A line that is none of the grammar's. */
export class LineError extends Error {
  constructor(
    readonly column: number,
    readonly what: string,
  ) {
    super(what);
  }
}

/** Words that begin a line and take the name of a file. */
const OF_FILES = ['logfile', 'pidlogfile', 'pidfile', 'statusfile'] as const;

/** And those that take something else. */
const OF_VALUES = [
  'buffersize',
  'dns-refresh',
  'dns-multi-ip-expand',
  'dns-multi-ip-proto',
  'connect-timeout',
  'pool-min-free',
  'pool-max-free',
  'pool-trim-delay',
  'listen-backlog',
  'max-udp-connections',
  'statusinterval',
  'statusformat',
  'statsloginterval',
] as const;

/** The settings of a whole file; logcommon stands alone. */
export type SettingName = (typeof OF_FILES)[number] | (typeof OF_VALUES)[number] | 'logcommon';

const RULE = 'BINDADDRESS BINDPORT CONNECTADDRESS CONNECTPORT';

// Where only some characters can be meant, any others are taken along, so that a message shows the word that was written.
const ADDRESS = /unix:[^ \t[\]]*|\[[^\] \t]*\]|[^ \t#[\]"]+/y;
const PORT = /[^ \t#[\]"/]+/y;
const PROTOCOL = /\/([^ \t#[\]"]*)/y;
const KEYWORD = /[a-z-]+(?![^ \t#])/y;
/** A name with spaces or with a quotation mark needs the other form. */
const FILENAME = /"([^"]*)"|[^ \t"][^ \t]*/y;
const PATTERN = /[^ \t#]+/y;
const PROPERTY = /[^ \t#,=[\]"]+/y;
/** May stand in comments only. */
const STRANGE = /[^\P{Cc}\t]|\uFFFD/u;
/** Brackets in it are IPv6's, as in a URL. */
const VALUE = /"([^"]*)"|(?:\[[^[\] \t,"]*\]|[^ \t,[\]"#])+/y;

/**
 * Reads one line, without its end. null: it is empty, or a comment.
 * @throws LineError for the first thing that is wrong
 */
export const parseLine = (line: string): Statement | null => {
  const rest = new Rest(line);
  rest.skip();
  if (rest.isOver) return null;
  const statement = parseStatement(rest);
  rest.skip();
  if (!rest.isOver) throw rest.error('is too much here', '');
  const strange = STRANGE.exec(rest.before);
  if (strange === null) return statement;
  throw new LineError(strange.index + 1, 'a control character, or a byte that is not UTF-8');
};

const parseStatement = (rest: Rest): Statement => {
  const word = rest.peek(KEYWORD);
  if (word === null) return parseRule(rest);
  const { text } = word;
  const ofFile = OF_FILES.find((known) => known === text);
  const ofValue = OF_VALUES.find((known) => known === text);
  if (text === 'allow' || text === 'deny') return { kind: 'access', verb: text, pattern: argument(rest, PATTERN) };
  if (text === 'include') return { kind: 'include', pattern: argument(rest, FILENAME) };
  if (ofFile !== undefined) return { kind: 'setting', name: ofFile, word, value: argument(rest, FILENAME) };
  if (ofValue !== undefined) return { kind: 'setting', name: ofValue, word, value: argument(rest, PATTERN) };
  if (text !== 'logcommon') return parseRule(rest);
  rest.take(KEYWORD);
  return { kind: 'setting', name: text, word, value: null };
};

/** A keyword's value. */
const argument = (rest: Rest, form: RegExp): Word => {
  const keyword = rest.take(KEYWORD) as Word;
  rest.skip();
  const missing = `${keyword.text} needs a value`;
  const word = rest.take(form);
  if (word === null) throw rest.error(`is where ${keyword.text} has its value`, missing);
  if (word.text === '') throw new LineError(word.column, missing);
  return word;
};

const parseRule = (rest: Rest): Statement => {
  const word = rest.peek(/[a-z-]+(?![^ \t#])/iy);
  if (word !== null && !/^[a-z-]+[ \t]+[^ \t#]+[ \t]+[^ \t#]/i.test(rest.text.slice(word.column - 1))) {
    throw new LineError(word.column, `${quoted(word.text)} is no word that a line begins with, and no rule (${RULE})`);
  }
  const bind = parseEnd(rest, 'BIND');
  if (!rest.skip()) throw rest.error('is where a space should be', 'CONNECTADDRESS is missing');
  const connect = parseEnd(rest, 'CONNECT');
  rest.skip();
  return { kind: 'rule', bind, connect, properties: rest.take(/\[/y) === null ? [] : parseProperties(rest) };
};

const parseEnd = (rest: Rest, which: 'BIND' | 'CONNECT'): End => {
  const address = rest.take(ADDRESS);
  if (address === null) throw rest.error(`is where a rule has ${which}ADDRESS`, `${which}ADDRESS is missing`);
  const takesNone = address.text.startsWith('unix:') || (which === 'CONNECT' && address.text === '*');
  if (takesNone) return { address, port: null, protocol: null };
  const spaced = rest.skip();
  const port = spaced ? rest.take(PORT) : null;
  if (port === null) throw rest.error(`is where a rule has ${which}PORT`, `${which}PORT is missing`);
  const protocol = rest.take(PROTOCOL);
  if (protocol !== null && protocol.text !== 'tcp' && protocol.text !== 'udp') {
    throw new LineError(protocol.column, `${quoted(`/${protocol.text}`)} is neither /tcp nor /udp`);
  }
  return { address, port, protocol };
};

/** Behind `[`. */
const parseProperties = (rest: Rest): Property[] => {
  const properties: Property[] = [];
  for (;;) {
    rest.skip();
    const name = rest.take(PROPERTY);
    if (name === null) throw rest.error('is where the name of a property should be', 'there is no ] at the end');
    rest.skip();
    let value: Word | null = null;
    if (rest.take(/=/y) !== null) {
      rest.skip();
      value = rest.take(VALUE);
      if (value === null || value.text === '') {
        throw new LineError(value?.column ?? rest.column, `${name.text}= has no value`);
      }
      rest.skip();
    }
    properties.push({ name, value });
    if (rest.take(/,/y) !== null) continue;
    if (rest.take(/\]/y) !== null) return properties;
    throw rest.error('is where , or ] should be', 'there is no ] at the end');
  }
};

/** What is left of a line. */
class Rest {
  #at = 0;

  constructor(readonly text: string) {}

  get column(): number {
    return this.#at + 1;
  }

  /** What was taken. */
  get before(): string {
    return this.text.slice(0, this.#at);
  }

  get isOver(): boolean {
    return this.#at === this.text.length || this.text[this.#at] === '#';
  }

  /** Passes spaces and tabs; whether there were any. */
  skip(): boolean {
    return this.take(/[ \t]+/y) !== null;
  }

  peek(form: RegExp): Word | null {
    form.lastIndex = this.#at;
    const found = form.exec(this.text);
    // Without its quotation marks, or the / in front of it.
    return found === null ? null : { text: found[1] ?? found[0], column: this.column };
  }

  /** The word of this form that begins here; null if none does. */
  take(form: RegExp): Word | null {
    const word = this.peek(form);
    if (word !== null) this.#at = form.lastIndex;
    return word;
  }

  /** What stands here `is` something, or at the end of the line there is something `missing`. */
  error(is: string, missing: string): LineError {
    if (this.isOver) return new LineError(this.column, missing);
    const [next] = /^[^ \t]{1,40}/.exec(this.text.slice(this.#at)) ?? [' '];
    return new LineError(this.column, `${quoted(next)} ${is}`);
  }
}
