import type { Processes } from './processes.js';

/** What a run of the bench was asked for. */
export interface Options {
  readonly rows: readonly string[];
  /** Names of contestants; null: all. What ratios refer to is measured in any case. */
  readonly only: readonly string[] | null;
  readonly rounds: number;
  /** Of one turn. */
  readonly seconds: number;
  /** Seconds that a row may spend on turns that are done anew because other programs disturbed them. */
  readonly patience: number;
  /** That are open at the same time; null: what suits the row. */
  readonly connections: number | null;
  readonly json: string | null;
}

/** What every row is handed. */
export interface Bench {
  readonly options: Options;
  readonly processes: Processes;
  /** A temporary directory for configuration files. */
  readonly directory: string;
}

/** One figure of a row. Samples of it are numbers in `unit`. */
export interface Column {
  readonly key: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly digits: number;
  /** How samples are summed up: the median with the least and the greatest, or the mean with the standard deviation. */
  readonly summary: 'median' | 'mean';
}

/** What one turn gave, by column: one sample or several. A column may be absent. */
export type Turn = Readonly<Record<string, readonly number[]>>;

/** Something that is measured beside others. */
export interface Contestant {
  readonly name: string;
  turn(seconds: number): Promise<Turn>;
}

/** A contestant that could not take part, and why. */
export interface Absent {
  readonly name: string;
  readonly why: string;
}

/** What a row opened: its contestants are up and wait for their turns. */
interface Opened {
  readonly contestants: readonly Contestant[];
  readonly absent: readonly Absent[];
  /** Told when all rounds are done: what else a reader should know. */
  notes(): readonly string[];
  /** Frees what is not one of the bench's processes; those are stopped after every row. */
  close(): void | Promise<void>;
}

/** One table of the bench: what is measured, for whom, in which units. */
export interface Row {
  readonly name: string;
  title(options: Options): string;
  readonly columns: readonly Column[];
  /** Contestants that the others are compared with. */
  readonly references: readonly string[];
  open(bench: Bench): Promise<Opened>;
}

export interface RowResult {
  readonly row: Row;
  /** By contestant, the turns in the order of the rounds. */
  readonly turns: ReadonlyMap<string, readonly Turn[]>;
  readonly absent: readonly Absent[];
  readonly notes: readonly string[];
}

/** Whether a contestant takes part: nobody was named, it was named, or the ratios need it. */
export const takesPart = (name: string, references: readonly string[], { only }: Options): boolean =>
  only === null || only.includes(name) || references.includes(name);

/**
 * Measures one row. Every round goes once round all contestants, each round beginning with another one, so that a
 * change of the machine's speed and the place in the order meet all of them alike. One shorter round before the first
 * warms up compilers and caches and is thrown away.
 */
export const measure = async (row: Row, bench: Bench): Promise<RowResult> => {
  const { rounds, seconds } = bench.options;
  let opened: Opened | null = null;
  try {
    opened = await row.open(bench);
    const contestants: Contestant[] = [];
    const absent = [...opened.absent];
    for (const contestant of opened.contestants) {
      progress(`${row.name}: warm-up, ${contestant.name}`);
      try {
        await contestant.turn(Math.min(1, seconds));
        contestants.push(contestant);
      } catch (error) {
        absent.push({ name: contestant.name, why: (error as Error).message });
      }
    }
    const turns = new Map<string, Turn[]>(contestants.map(({ name }) => [name, []]));
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < contestants.length; i++) {
        const contestant = contestants[(i + round) % contestants.length] as Contestant;
        progress(`${row.name}: round ${round + 1} of ${rounds}, ${contestant.name}`);
        turns.get(contestant.name)?.push(await contestant.turn(seconds));
      }
    }
    return { row, turns, absent, notes: opened.notes() };
  } finally {
    progress('');
    await opened?.close();
    bench.processes.stopAll();
  }
};

/** A line on a terminal that the next one overwrites. */
const progress = (text: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
};
