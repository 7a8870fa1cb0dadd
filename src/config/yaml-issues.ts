import type { z } from 'zod';
import { quoted } from './usage-error.js';
import type { Path, Tree } from './yaml-tree.js';

type ZodIssue = z.core.$ZodIssue;

/** What is wrong at a path, or with a `key` of the mapping there. */
interface Issue {
  readonly path: Path;
  readonly key?: string;
  readonly what: string;
}

/** What zod found, in our words. */
export function* issuesOf(issues: readonly ZodIssue[], tree: Tree, above: Path = []): Generator<Issue> {
  for (const issue of issues) {
    const path = [...above, ...issue.path];
    if (issue.code === 'custom') yield { path, what: issue.message };
    else if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) yield { path, key, what: 'there is no such word here' };
    } else if (issue.code === 'invalid_union') yield* issuesOfUnion(issue, tree, path);
    else yield { path, what: needs([wanted(issue)], tree.valueAt(path)) };
  }
}

/** Those of the form that was meant, or else what all of them would take. */
function* issuesOfUnion(issue: z.core.$ZodIssueInvalidUnion, tree: Tree, path: Path): Generator<Issue> {
  const isMeant = ([first]: readonly ZodIssue[]): boolean =>
    first !== undefined && (first.path.length > 0 || first.code === 'custom' || first.code === 'unrecognized_keys');
  const meant = issue.errors.find(isMeant) ?? issue.errors.find(([first]) => first?.code === 'invalid_union');
  if (meant !== undefined && tree.valueAt(path) !== undefined) {
    yield* issuesOf(meant, tree, path);
    return;
  }
  yield { path, what: needs(wantedBy(issue), tree.valueAt(path)) };
}

const wantedBy = (issue: z.core.$ZodIssueInvalidUnion): string[] =>
  issue.errors.flat().flatMap((inner) => (inner.code === 'invalid_union' ? wantedBy(inner) : [wanted(inner)]));

const KINDS: Readonly<Record<string, string>> = {
  object: 'a mapping',
  array: 'a list',
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
};

const wanted = (issue: ZodIssue): string => {
  switch (issue.code) {
    case 'invalid_type':
      return KINDS[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return issue.values.map(String).join(', ');
    case 'too_small':
      return issue.origin === 'array' ? 'at least one entry' : `at least ${issue.minimum}`;
    case 'too_big':
      return issue.origin === 'array' ? `${issue.maximum} entries at most` : `${issue.maximum} at most`;
    default:
      return issue.message;
  }
};

const needs = (wants: readonly string[], value: unknown): string => {
  const all = [...new Set(wants)].join(', or ');
  if (value === undefined) return `is missing: it needs ${all}`;
  return `needs ${all}, and has ${shown(value)}`;
};

/** Of nothing that may be secret: the places for passwords take texts of a form of their own. */
const shown = (value: unknown): string => {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  return typeof value === 'object' ? 'a mapping' : typeof value === 'string' ? quoted(value) : String(value);
};
