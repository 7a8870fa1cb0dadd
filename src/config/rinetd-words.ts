import { Failure } from '../failure.js';
import { type Arguments, type Option, optionName } from './command-line.js';
import type { Problems } from './problems.js';
import type { Located } from './rinetd-files.js';
import type { Property } from './rinetd-lines.js';
import { OF_SERVICE, type ServiceOptions } from './service.js';
import { quoted } from './usage-error.js';

/** A word of the brackets behind a rule, which messages name as it is written there. */
const word = (long: string, takes: Option['takes'], ...aliases: string[]): Option => ({
  long,
  shown: long,
  takes,
  aliases,
});

const ofService = Object.fromEntries(
  Object.entries(OF_SERVICE).map(([name, { long, takes }]) => [name, word(long, takes)]),
) as unknown as ServiceOptions;

/** What may stand in the brackets: rinetd's, those that came later, and the options of a service under their long names. */
export const WORDS = {
  ...ofService,
  source: word('src', 'one', 'source'),
  /** rinetd has a time-out for udp, and takes it for tcp too without effect. */
  udpTimeout: word('timeout', 'one'),
  timeout: word('tcp-timeout', 'one'),
  keepalive: word('keepalive', 'one'),
  dnsRefresh: word('dns-refresh', 'one'),
  mode: word('mode', 'one'),
  /** `mode` with a number. */
  socketMode: { ...word('mode', 'one'), long: 'socket-mode' },
  name: word('name', 'one'),
  backlog: word('listen-backlog', 'one'),
  flows: word('max-udp-connections', 'one'),
  healthThreshold: word('health-threshold', 'one'),
  recoveryTimeout: word('recovery-timeout', 'one'),
  affinityTtl: word('affinity-ttl', 'one'),
  affinityEntries: word('affinity-max-entries', 'one'),
} as const satisfies Record<string, Option>;

const optionOf = ({ name, value }: Property): Option | undefined => {
  if (name.text === WORDS.mode.shown) return /^\d/.test(value?.text ?? '') ? WORDS.socketMode : WORDS.mode;
  return Object.values<Option>(WORDS).find(({ shown, aliases }) => shown === name.text || aliases?.includes(name.text));
};

interface Given {
  readonly option: Option;
  readonly property: Property;
}

/** The properties of one rule, which are read as a command line's options are. */
export class Properties {
  #given: readonly Given[] = [];
  readonly #problems: Problems;
  readonly #at: Located['at'];

  constructor(properties: readonly Property[], at: Located['at'], problems: Problems) {
    this.#problems = problems;
    this.#at = at;
    for (const property of properties) this.#add(property);
  }

  #add(property: Property): void {
    const { name, value } = property;
    const option = optionOf(property);
    if (option === undefined) {
      this.#problems.error(this.#at(name), `${quoted(name.text)} is no property of a rule`);
      return;
    }
    if ((option.takes === 'switch') !== (value === null)) {
      this.#problems.error(this.#at(name), `${name.text} ${value === null ? 'needs a' : 'takes no'} value`);
      return;
    }
    if (option.takes !== 'many' && this.#has(option)) {
      this.#problems.warn(this.#at(name), `${name.text} is given more than once, and the last one counts`);
      this.#given = this.#given.filter((other) => other.option !== option);
    }
    this.#given = [...this.#given, { option, property }];
  }

  #has(option: Option): boolean {
    return this.#given.some((given) => given.option === option);
  }

  /** Of options that are given. */
  warn(options: readonly Option[], what: string): void {
    for (const { option, property } of this.#given) {
      if (options.includes(option)) this.#problems.warn(this.#at(property.name), `${property.name.text} ${what}`);
    }
  }

  /** Of options that are given. */
  refuse(isWrong: (option: Option) => boolean, what: string): void {
    for (const { option, property } of this.#given) {
      if (isWrong(option)) this.#problems.error(this.#at(property.name), `${property.name.text} ${what}`);
    }
  }

  /**
   * What `reader` makes of them. It stops at the first that is wrong: that one is told and left out until nothing is
   * wrong any more, so that all are told.
   * @throws Failure of `reader` that is about none of them
   */
  read<T>(reader: (args: Arguments) => T): T {
    for (;;) {
      try {
        return reader(this.#asArguments());
      } catch (error) {
        if (!(error instanceof Failure) || !this.#blame(error.message)) throw error;
      }
    }
  }

  /** A message about an option begins with its name, and has the value in it if that is what is wrong. */
  #blame(message: string): boolean {
    const named = this.#given.filter(({ option }) => /^[: ]/.test(message.slice(optionName(option).length)));
    const about = named.filter(({ option }) => message.startsWith(optionName(option)));
    const worst = about.find(({ property: { value } }) => value !== null && message.includes(quoted(value.text)));
    const blamed = worst ?? about[0];
    if (blamed === undefined) return false;
    this.#given = this.#given.filter((given) => given !== blamed);
    this.#problems.error(this.#at(blamed.property.value ?? blamed.property.name), message);
    return true;
  }

  #asArguments(): Arguments {
    const values = new Map<string, string[]>();
    for (const { option, property } of this.#given) {
      if (property.value === null) continue;
      values.set(option.long, [...(values.get(option.long) ?? []), property.value.text]);
    }
    const switches = this.#given.filter(({ option }) => option.takes === 'switch');
    return { switches: new Set(switches.map(({ option }) => option.long)), values, positionals: [] };
  }
}
