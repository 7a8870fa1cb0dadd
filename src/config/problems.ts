import { EX, Failure } from '../failure.js';

/** Where something stands in a file; both count from 1, columns in UTF-16 units. */
export interface Place {
  /** As the user names it. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** More would only scroll away what is at the top. */
const MOST_SHOWN = 100;
const MOST_KEPT = 10_000;

interface Problem extends Place {
  readonly what: string;
}

/** What is wrong with a file and those that it includes, and what is merely strange. */
export class Problems {
  readonly #errors: Problem[] = [];
  readonly #warnings: Problem[] = [];

  /** How many errors were told. */
  get count(): number {
    return this.#errors.length;
  }

  get warnings(): readonly string[] {
    return sorted(this.#warnings);
  }

  error(place: Place, what: string): void {
    if (this.#errors.length < MOST_KEPT) this.#errors.push({ ...place, what });
  }

  warn(place: Place, what: string): void {
    if (this.#warnings.length < MOST_SHOWN) this.#warnings.push({ ...place, what: `warning: ${what}` });
  }

  /** @throws Failure with a line for each error, if there is any */
  throwAny(): void {
    if (this.count === 0) return;
    const lines = sorted(this.#errors);
    const more = lines.length - MOST_SHOWN;
    throw new Failure([...lines.slice(0, MOST_SHOWN), ...(more > 0 ? [`and ${more} more`] : [])].join('\n'), EX.CONFIG);
  }
}

/** By file in the order of their first, and in a file from top to bottom. */
const sorted = (problems: readonly Problem[]): string[] => {
  const files = [...new Set(problems.map(({ file }) => file))];
  return [...problems]
    .sort((a, b) => files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column)
    .map((problem) => `${placeName(problem)}: ${problem.what}`);
};

export const placeName = ({ file, line, column }: Place): string => `${file}:${line}:${column}`;
