import { createRequire } from 'node:module';
import type { Plan, Reading } from '../plan.js';
import { quoted, UsageError } from './usage-error.js';

// As CommonJS: imported, it would take five milliseconds of every start, most of them for finding out its exports' names.
const require = createRequire(import.meta.url);
const minimist = require('minimist') as typeof import('minimist');

/** What a command line asks for: to carry out a plan, or to print a text on stdout and end with exit code 0. */
export type Request =
  | {
      readonly kind: 'plan';
      readonly plan: Plan;
      /** Of a plan that a file has. */
      readonly file?: {
        readonly warnings: readonly string[];
        /** Reads the file anew, from wherever the process is by then. Throws Failure. */
        readonly reread: () => Reading;
      };
      /** The pid file of a process whose listening sockets are to be taken over. */
      readonly takeover?: string;
    }
  | { readonly kind: 'print'; readonly text: string };

/** A command line whose services are in a file that is still to be read. */
export interface FileRequest {
  readonly kind: 'file';
  readonly path: string;
  /** What the command line says of the plan, which goes before what the file says. */
  readonly said: Partial<Plan>;
  /** See Request. */
  readonly takeover: string | undefined;
}

/**
 * The request for a plan that `read` reads, now and whenever it is asked to. `takeover`: see Request; where the plan has no
 * pid file it is that one, as the next process will want to take over from this one. Throws what `read` throws.
 */
export const requestFrom = (read: () => Reading, takeover: string | undefined): Request => {
  const reread = (): Reading => {
    const { plan, warnings } = read();
    return { plan: { ...plan, pidFile: plan.pidFile ?? takeover ?? null }, warnings };
  };
  const { plan, warnings } = reread();
  return { kind: 'plan', plan, file: { warnings, reread }, ...(takeover !== undefined && { takeover }) };
};

/** One option of a dialect. */
export interface Option {
  readonly long: string;
  /** Other long names for the same. */
  readonly aliases?: readonly string[];
  /** One letter. */
  readonly short?: string;
  /** Its name in messages, where that is not how a command line has it. */
  readonly shown?: string;
  /** switch: takes no value; one: one value, given once at most; many: one value, repeatable. */
  readonly takes: 'switch' | 'one' | 'many';
}

/** An option's name in messages: `-s (--server)`. */
export const optionName = ({ short, long, shown }: Option): string =>
  shown ?? (short ? `-${short} (--${long})` : `--${long}`);

/** The options and positional arguments of one command line, none of them interpreted yet. */
export interface Arguments {
  /** Long names of the switches that are set. */
  readonly switches: ReadonlySet<string>;
  /** By long name: at least one value each, none of them empty. Options that were not given are absent. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
}

/**
 * Reads the arguments by getopt_long(3)'s rules: `-dr USER`, `-rUSER`, `--user USER`, `--user=USER`, options and
 * positional arguments in any order, `--` ends the options. No abbreviations. A value that begins with `-` is written
 * as `--user=-x`.
 * Throws UsageError: unknown option, missing or empty value, value for a switch, a `one` given twice.
 */
export const readArguments = (options: readonly Option[], argv: readonly string[]): Arguments => {
  const end = argv.includes('--') ? argv.indexOf('--') : argv.length;
  const plain = argv.slice(0, end).flatMap((arg) => longForms(options, arg));
  const read = minimist([...plain, ...argv.slice(end)], {
    boolean: options.filter(({ takes }) => takes === 'switch').map(({ long }) => long),
    string: ['_', ...options.filter(({ takes }) => takes !== 'switch').map(({ long }) => long)],
  });

  const switches = new Set<string>();
  const values = new Map<string, readonly string[]>();
  for (const option of options) {
    const value: boolean | string | string[] | undefined = read[option.long];
    if (value === true) switches.add(option.long);
    if (value === undefined || typeof value === 'boolean') continue;
    const all = [value].flat();
    if (all.includes('')) throw new UsageError(`${optionName(option)} needs a value`);
    if (option.takes === 'one' && all.length > 1) {
      throw new UsageError(`${optionName(option)} is given more than once: ${all.map(quoted).join(', ')}`);
    }
    values.set(option.long, all);
  }
  return { switches, values, positionals: read._ };
};

/**
 * One argument with its options spelled long, which minimist reads in one way only. Of short ones it takes `-ds80` for
 * `-d` with a value and `-rnobody` for seven switches; of long ones it knows `--no-x`, `--a.b` and `--constructor`.
 */
const longForms = (options: readonly Option[], arg: string): string[] => {
  if (arg.startsWith('--')) {
    const name = arg.slice(2).split('=', 1)[0] as string;
    const option = options.find(({ long, aliases }) => long === name || aliases?.includes(name));
    if (!option) throw new UsageError(`unknown option ${quoted(arg)}`);
    if (option.takes !== 'switch') return [`--${option.long}${arg.slice(2 + name.length)}`];
    if (arg.includes('=')) throw new UsageError(`${optionName(option)} takes no value: ${quoted(arg)}`);
    return [`--${option.long}=true`];
  }
  if (!arg.startsWith('-') || arg === '-') return [arg];

  const long: string[] = [];
  for (let i = 1; i < arg.length; i++) {
    const option = options.find(({ short }) => short === arg[i]);
    if (!option) {
      throw new UsageError(`unknown option ${quoted(`-${arg[i]}`)}${arg.length > 2 ? ` in ${quoted(arg)}` : ''}`);
    }
    if (option.takes === 'switch') {
      long.push(`--${option.long}=true`);
      continue;
    }
    const value = arg.slice(i + 1);
    long.push(value === '' ? `--${option.long}` : `--${option.long}=${value}`);
    break;
  }
  return long;
};

export const isSet = ({ switches, values }: Arguments, { long }: Option): boolean =>
  switches.has(long) || values.has(long);

/** Reads a value; `what` is the option's name in messages. Throws UsageError. */
export type Parse<T> = (what: string, text: string) => T;

/** Every value of an option, in the order given. */
export const all = <T>({ values }: Arguments, option: Option, parse: Parse<T>): T[] =>
  (values.get(option.long) ?? []).map((text) => parse(optionName(option), text));

/** The value of an option that takes one; undefined when it was not given. */
export const only = <T>(args: Arguments, option: Option, parse: Parse<T>): T | undefined => all(args, option, parse)[0];
