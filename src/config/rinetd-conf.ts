import { resolve } from 'node:path';
import { formatEnd } from '../address.js';
import { Failure } from '../failure.js';
import { type AccessList, isUnix, type Listen, type Plan, type Reading, type Service } from '../plan.js';
import { type Place, Problems, placeName } from './problems.js';
import { accessList, parsePattern } from './rinetd-access.js';
import { type Located, readStatements } from './rinetd-files.js';
import type { Statement } from './rinetd-lines.js';
import { readRule } from './rinetd-rules.js';
import { readSettings, type Settings } from './rinetd-settings.js';
import { quoted } from './usage-error.js';

const MOST_RULES = 10_000;

/**
 * Reads a rinetd.conf and all that it includes. What it doesn't say is as in `defaults`, whose ident is our name for
 * TCP wrappers.
 *
 * @param base an absolute path: the folder that relative paths start from, but those of `include`, which start from the
 * folder of the file that includes
 * @throws Failure with a line `FILE:LINE:COLUMN: what` for each mistake
 */
export const readRinetdConf = (path: string, base: string, defaults: Omit<Plan, 'services'>): Reading => {
  const problems = new Problems();
  const statements = readStatements(path, base, problems);
  const settings = readSettings(statements, problems);
  const services = readServices(statements, settings, defaults.ident, problems);
  if (services.length === 0 && problems.count === 0) {
    problems.error({ file: path, line: 1, column: 1 }, 'there is no rule in this file');
  }
  problems.throwAny();
  const { logFile, logFormat, pidFile, statusFile, statusInterval, statusFormat, statsInterval } = settings;
  const plan: Plan = {
    ...defaults,
    services,
    accessLog: logFile === null ? null : { path: resolve(base, logFile), format: logFormat },
    pidFile: pidFile === null ? defaults.pidFile : resolve(base, pidFile),
    status:
      statusFile === null ? null : { path: resolve(base, statusFile), interval: statusInterval, format: statusFormat },
    statsInterval,
  };
  return { plan, warnings: problems.warnings };
};

interface OfKind<K extends Statement['kind']> {
  readonly statement: Extract<Statement, { kind: K }>;
  readonly at: Located['at'];
}

const isOfKind = <K extends Statement['kind']>(kind: K, located: object): located is OfKind<K> =>
  (located as Located).statement.kind === kind;

/** A rule and the lines of access behind it, or the lines before the first rule. */
interface Section {
  readonly rule: OfKind<'rule'> | null;
  readonly access: OfKind<'access'>[];
}

const readServices = (
  statements: readonly Located[],
  settings: Settings,
  ident: string,
  problems: Problems,
): Service[] => {
  const [first, ...sections] = sectionsOf(statements);
  const global = readAccess(first?.access ?? [], problems);
  const names = new Map<string, Place>();
  const bound = new Map<string, Place>();
  const services: Service[] = [];
  for (const { rule, access } of sections) {
    if (rule === null) continue;
    const { statement, at } = rule;
    const place = at(statement.bind.address);
    if (services.length >= MOST_RULES) {
      problems.error(place, `a file has ${MOST_RULES} rules at most`);
      break;
    }
    const own = readAccess(access, problems);
    const lists = [global, own].filter((list) => list !== null);
    const service = readRule(statement, at, { common: settings, access: lists, ident, problems });
    if (service === null) continue;
    services.push(service);
    if (service.listen.some(isUnix)) warnOfAccess(access, problems);
    const keys = service.listen.flatMap((listen) => bindings(listen, service.protocol));
    const taken = keys.find((key) => bound.has(key));
    if (taken !== undefined)
      problems.error(place, `${taken} is taken by the rule at ${placeName(bound.get(taken) as Place)}`);
    const namesake = names.get(service.name);
    if (taken === undefined && namesake !== undefined) {
      problems.error(place, `the rule at ${placeName(namesake)} has the name ${quoted(service.name)} too`);
    }
    for (const key of keys) bound.set(key, place);
    names.set(service.name, place);
  }
  return services;
};

const sectionsOf = (statements: readonly Located[]): Section[] => {
  const sections: Section[] = [{ rule: null, access: [] }];
  for (const located of statements) {
    if (isOfKind('rule', located)) sections.push({ rule: located, access: [] });
    else if (isOfKind('access', located)) sections.at(-1)?.access.push(located);
  }
  return sections;
};

const readAccess = (lines: readonly OfKind<'access'>[], problems: Problems): AccessList | null =>
  accessList(
    lines.flatMap(({ statement: { verb, pattern }, at }) => {
      try {
        return [{ verb, pattern: parsePattern(verb, pattern.text) }];
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        problems.error(at(pattern), error.message);
        return [];
      }
    }),
  );

const warnOfAccess = (lines: readonly OfKind<'access'>[], problems: Problems): void => {
  for (const { statement, at } of lines) {
    problems.warn(at(statement.pattern), `${statement.verb} has no effect: clients of a unix socket have no address`);
  }
};

/** What a rule binds, as it binds it and as messages name it. */
const bindings = (listen: Listen, protocol: Service['protocol']): string[] => {
  if (isUnix(listen)) return [formatEnd(listen)];
  const { host, port } = listen;
  return (host === null ? ['::', '0.0.0.0'] : [host]).map((ip) => `${formatEnd({ host: ip, port })}/${protocol}`);
};
