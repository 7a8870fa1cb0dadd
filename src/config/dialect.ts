import type { Request } from './command-line.js';
import { UsageError } from './usage-error.js';
import { parseOneOf } from './values.js';

const DIALECTS = ['transproxy', 'redir', 'rinetd'] as const;
type DialectName = (typeof DIALECTS)[number];

interface Dialect {
  /** @throws UsageError, or Failure for a file that the command line names */
  readonly parse: (argv: readonly string[]) => Request | Promise<Request>;
  /** One line, for below the message of a UsageError. */
  readonly usage: string;
}

/** One is loaded and no other: a process of inetd's for one connection should not wait for what it has no use for. */
const LOADERS: Readonly<Record<DialectName, () => Promise<Dialect>>> = {
  transproxy: async () => {
    const [{ parseTransproxy }, { usage }] = await Promise.all([import('./transproxy.js'), import('./help.js')]);
    const parse = async (argv: readonly string[]): Promise<Request> => {
      const request = parseTransproxy(argv);
      if (request.kind !== 'file') return request;
      const { readFileRequest } = await import('./file.js');
      return readFileRequest(request);
    };
    return { parse, usage };
  },
  redir: async () => {
    const [{ parseRedir }, { usage }] = await Promise.all([import('./redir.js'), import('./redir-help.js')]);
    return { parse: parseRedir, usage };
  },
  rinetd: async () => {
    const [{ parseRinetd }, { usage }] = await Promise.all([import('./rinetd.js'), import('./rinetd-help.js')]);
    return { parse: parseRinetd, usage };
  },
};

/** Names of the program, or of links to it, that choose a dialect. */
const BY_PROGRAM: ReadonlyMap<string, DialectName> = new Map([
  ['redir', 'redir'],
  ['tproxy-redir', 'redir'],
  ['rinetd', 'rinetd'],
  ['tproxy-rinetd', 'rinetd'],
]);

const AS = '--as';
const CHECK = '--check';
const TO_YAML = '--to-yaml';

/** What is done with the plan: it is carried out, or written on stdout, for reading or as a file that means the same. */
type Purpose = 'run' | 'check' | 'to-yaml';

/** The dialect of a command line, and the arguments that are in it. */
interface CommandLine extends Dialect {
  readonly purpose: Purpose;
  readonly argv: readonly string[];
}

/**
 * Chooses the dialect: by a first argument `--as DIALECT` or `--as=DIALECT`, or else by the program's name. `--check` and
 * `--to-yaml` belong to none, and may stand anywhere.
 *
 * @param program the last part of the path that the program was called by
 * @param argv the arguments behind it
 * @throws UsageError for an unknown dialect
 */
export const chooseDialect = async (program: string, argv: readonly string[]): Promise<CommandLine> => {
  const { purpose, rest } = takePurpose(argv);
  return { ...(await dialectOf(program, rest)), purpose };
};

/** A value that begins with a hyphen is written behind a =, so these are none; with a number, `--check` is an option. */
const takePurpose = (argv: readonly string[]): { readonly purpose: Purpose; readonly rest: readonly string[] } => {
  const end = argv.includes('--') ? argv.indexOf('--') : argv.length;
  const isPurpose = (arg: string, i: number): boolean =>
    i < end && (arg === TO_YAML || (arg === CHECK && !/^[\d.]+$/.test(argv[i + 1] ?? '')));
  const given = argv.filter(isPurpose);
  const purpose = given.includes(TO_YAML) ? 'to-yaml' : given.length > 0 ? 'check' : 'run';
  return { purpose, rest: argv.filter((arg, i) => !isPurpose(arg, i)) };
};

const dialectOf = async (program: string, argv: readonly string[]): Promise<Omit<CommandLine, 'purpose'>> => {
  const [first, second] = argv;
  const parseName = parseOneOf(...DIALECTS);
  if (first?.startsWith(`${AS}=`)) {
    return { ...(await LOADERS[parseName(AS, first.slice(AS.length + 1))]()), argv: argv.slice(1) };
  }
  if (first === AS) {
    if (second === undefined) throw new UsageError(`${AS} needs a value: ${DIALECTS.join(', ')}`);
    return { ...(await LOADERS[parseName(AS, second)]()), argv: argv.slice(2) };
  }
  return { ...(await LOADERS[BY_PROGRAM.get(program) ?? 'transproxy']()), argv };
};
