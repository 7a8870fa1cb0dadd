import type { Column, RowResult, Turn } from './row.js';

export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : mean(sorted.slice(middle - 1, middle + 1));
};

/** Of a sample (n - 1). */
const standardDeviation = (values: readonly number[]): number => {
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / Math.max(1, values.length - 1));
};

/** `1.25 (1.20–1.31)`: median, least, greatest. */
const spread = (values: readonly number[], digits: number): string =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;

const samples = (turns: readonly Turn[], { key }: Column): readonly number[] =>
  turns.flatMap((turn) => turn[key] ?? []);

const figure = (turns: readonly Turn[], column: Column): string => {
  const values = samples(turns, column);
  if (values.length === 0) return '–';
  if (column.summary === 'median') return spread(values, column.digits);
  return `${mean(values).toFixed(column.digits)} ± ${standardDeviation(values).toFixed(column.digits)}`;
};

/** One ratio a round, so that what disturbed a whole round cancels out. */
const ratios = (turns: readonly Turn[], reference: readonly Turn[], column: Column): readonly number[] =>
  turns.flatMap((turn, round) => {
    const [own, other] = [turn[column.key], reference[round]?.[column.key]];
    return own === undefined || other === undefined ? [] : [mean(own) / mean(other)];
  });

/** The tables of one row as text. */
export const formatRow = ({ row, turns, absent, notes }: RowResult, title: string): string => {
  const figures = [
    ['', ...row.columns.map(({ unit, better }) => `${unit} (${better} is better)`)],
    ...[...turns].map(([name, own]) => [name, ...row.columns.map((column) => figure(own, column))]),
    ...absent.map(({ name, why }) => [name, why]),
  ];
  const against = row.references.filter((name) => turns.has(name));
  const compared = [
    ['', ...against.flatMap((name) => row.columns.map(({ unit }) => `${unit} ÷ ${name}`))],
    ...[...turns].map(([name, own]) => [
      name,
      ...against.flatMap((reference) =>
        row.columns.map((column) => {
          const values = ratios(own, turns.get(reference) ?? [], column);
          return name === reference || values.length === 0 ? '–' : spread(values, 2);
        }),
      ),
    ]),
  ];
  return [title, '', table(figures), ...(against.length > 0 ? ['', table(compared)] : []), '', ...notes, ''].join('\n');
};

const table = (rows: readonly (readonly string[])[]): string => {
  const widths: number[] = [];
  for (const row of rows) {
    // A row that is shorter than the header has a sentence in its last cell, which may run on.
    for (const [i, cell] of row.entries()) {
      if (row.length === rows[0]?.length) widths[i] = Math.max(widths[i] ?? 0, cell.length);
    }
  }
  const names = Math.max(...rows.map(([name = '']) => name.length));
  return rows
    .map(([name = '', ...cells]) =>
      [name.padEnd(names), ...cells.map((cell, i) => cell.padEnd(widths[i + 1] ?? 0))].join('   ').trimEnd(),
    )
    .map((line) => `  ${line}`)
    .join('\n');
};

/** Everything that was measured, for programs. */
export const toJson = ({ row, turns, absent, notes }: RowResult): unknown => ({
  row: row.name,
  columns: row.columns,
  contestants: Object.fromEntries(
    [...turns].map(([name, own]) => [
      name,
      {
        turns: own,
        ratios: Object.fromEntries(
          row.references
            .filter((reference) => reference !== name)
            .map((reference) => [
              reference,
              Object.fromEntries(
                row.columns.map((column) => [column.key, ratios(own, turns.get(reference) ?? [], column)]),
              ),
            ]),
        ),
      },
    ]),
  ),
  absent,
  notes,
});
