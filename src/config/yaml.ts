import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatEnd } from '../address.js';
import { EX, Failure } from '../failure.js';
import {
  type AccessLogSettings,
  DEFAULT_PLAN,
  isUnix,
  type Plan,
  type Reading,
  type Service,
  type StatusSettings,
} from '../plan.js';
import { type Place, Problems, placeName } from './problems.js';
import { printable, quoted } from './usage-error.js';
import { issuesOf } from './yaml-issues.js';
import { accessList, COMMON, type Common, connects, readRule } from './yaml-rule.js';
import { flawsOf, idleWords } from './yaml-sense.js';
import { type Path, parseTree, type Tree } from './yaml-tree.js';
import { FILE, type Global, type Rule } from './yaml-words.js';

const MOST_BYTES = 16 * 1024 * 1024;
/** More take long to find the places of. */
const MOST_PROBLEMS = 200;
const STATUS_INTERVAL = 30_000;

/**
 * Reads a plan in YAML, of which JSON is a part.
 *
 * @param base an absolute path: the folder that relative paths start from
 * @param said what the command line says, which goes before what the file says
 * @throws Failure with a line `FILE:LINE:COLUMN: PATH: what` for each mistake
 */
export const readYaml = (path: string, base: string, said: Partial<Plan>): Reading =>
  parseYaml(printable(path), load(resolve(base, path), printable(path)), base, said);

/** The same with the file's text; `file` is its name in messages. */
export const parseYaml = (file: string, text: string, base: string, said: Partial<Plan>): Reading => {
  const problems = new Problems();
  const tree = parseTree(file, text, problems);
  const plan = tree === null ? null : new Reader(tree, base, said, problems).read();
  problems.throwAny();
  return { plan: plan as Plan, warnings: problems.warnings };
};

const load = (path: string, shown: string): string => {
  try {
    // Opening a pipe would wait for someone to write into it.
    if (!statSync(path).isFile()) throw new Failure(`${shown}: is no regular file`, EX.NOINPUT);
    return new TextDecoder('utf-8', { fatal: true }).decode(readAtMost(path, shown));
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') throw new Failure(`${shown}: is not UTF-8`, EX.CONFIG);
    throw new Failure(`${shown}: ${code}`, EX.NOINPUT);
  }
};

const readAtMost = (path: string, shown: string): Buffer => {
  const fd = openSync(path, 'r');
  try {
    const pieces: Buffer[] = [];
    for (let bytes = 0; bytes <= MOST_BYTES; ) {
      const piece = Buffer.allocUnsafe(64 * 1024);
      const length = readSync(fd, piece);
      if (length === 0) return Buffer.concat(pieces);
      pieces.push(piece.subarray(0, length));
      bytes += length;
    }
    throw new Failure(`${shown}: has more than ${MOST_BYTES} bytes`, EX.NOINPUT);
  } finally {
    closeSync(fd);
  }
};

class Reader {
  readonly #names = new Map<string, Place>();
  readonly #bound = new Map<string, Place>();

  constructor(
    readonly tree: Tree,
    readonly base: string,
    readonly said: Partial<Plan>,
    readonly problems: Problems,
  ) {}

  /** What it is worth depends on whether `problems` were told any. */
  read(): Plan | null {
    const { tree } = this;
    const parsed = FILE.safeParse(tree.value);
    if (!parsed.success) {
      for (const { path, key, what } of issuesOf(parsed.error.issues, tree)) {
        if (this.problems.count >= MOST_PROBLEMS) break;
        this.#error(path, what, key);
      }
      return null;
    }
    const { global = {}, rules } = parsed.data;
    const process = this.#readProcess(global);
    const common: Common = {
      access: global.access === undefined ? COMMON.access : [accessList(global.access)],
      dnsRefresh: global.dns_refresh === undefined ? COMMON.dnsRefresh : global.dns_refresh,
      connect: global.connect_timeout ?? COMMON.connect,
      backlog: global.listen_backlog ?? COMMON.backlog,
      flows: global.max_udp_connections ?? COMMON.flows,
      ident: process.ident,
    };
    const services = rules.map((rule, i) => this.#readRule(rule, i, common));
    this.#warnOfGlobal(global);
    const given = services.findIndex((service) => service?.listen.length === 0);
    if (given !== -1 && rules.length > 1) {
      this.#error(['rules', given, 'bind'], '[] is for a file of one rule, which gets the sockets of inetd or systemd');
    }
    if (given === -1 && global.exit_idle !== undefined) {
      this.#error(['global', 'exit_idle'], 'is for sockets of inetd or systemd (bind: [])');
    }
    return { ...process, services: services.filter((service) => service !== null) };
  }

  #error(path: Path, what: string, key?: string): void {
    const place = this.tree.placeOf(path, key);
    const shown = pathName(key === undefined ? path : [...path, key]);
    this.problems.error(place, `${shown === '' ? '' : `${shown}: `}${what}`);
  }

  #warn(path: Path, what: string): void {
    this.problems.warn(this.tree.placeOf(path.slice(0, -1), String(path.at(-1))), `${pathName(path)}: ${what}`);
  }

  #readRule(rule: Rule, index: number, common: Common): Service | null {
    const at: Path = ['rules', index];
    try {
      const service = readRule(rule.proxy_auth === undefined ? rule : this.#withPath(rule), common);
      for (const { path, what } of flawsOf(rule, service)) this.#error([...at, ...this.#real(at, path)], what);
      for (const key of idleWords(rule, service)) this.#warn([...at, key], `has no effect on ${service.protocol}`);
      this.#warnOfTargets(rule, at);
      this.#claim(service, at);
      return service;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#error([...at, 'proxy_auth'], error.message.replace(/^: /, ''));
      return null;
    }
  }

  #withPath(rule: Rule): Rule {
    return { ...rule, proxy_auth: resolve(this.base, rule.proxy_auth as string) };
  }

  /** Where there may be one or several, the only one has no index. */
  #real(at: Path, path: Path): Path {
    const [key, index, ...rest] = path;
    if (typeof index !== 'number' || Array.isArray(this.tree.valueAt([...at, key as PropertyKey]))) return path;
    return [key as PropertyKey, ...rest];
  }

  #warnOfTargets(rule: Rule, at: Path): void {
    for (const [i, end] of connects(rule).entries()) {
      if ('dest' in end && end.name !== undefined) {
        this.#warn(
          [...at, ...this.#real(at, ['connect', i]), 'name'],
          'has no effect: targets are known by their address',
        );
      }
    }
  }

  /** Tells of what an earlier rule has already. */
  #claim({ name, listen, protocol }: Service, at: Path): void {
    const place = this.tree.placeOf([...at, 'name']);
    const namesake = this.#names.get(name);
    if (namesake !== undefined)
      this.#error([...at, 'name'], `the rule at ${placeName(namesake)} has the name ${quoted(name)} too`);
    else this.#names.set(name, place);
    for (const [i, end] of listen.entries()) {
      const path = [...at, ...this.#real(at, ['bind', i])];
      const keys = isUnix(end)
        ? [`unix:${end.path}`]
        : (end.host === null ? ['::', '0.0.0.0'] : [end.host]).map(
            (host) => `${formatEnd({ host, port: end.port })}/${protocol}`,
          );
      const taken = keys.find((key) => this.#bound.has(key));
      if (taken !== undefined)
        this.#error(path, `${printable(taken)} is taken at ${placeName(this.#bound.get(taken) as Place)}`);
      else for (const key of keys) this.#bound.set(key, this.tree.placeOf(path));
    }
  }

  #readProcess(global: Global): Omit<Plan, 'services'> {
    return {
      user: global.user ?? DEFAULT_PLAN.user,
      accessLog: this.#readAccessLog(global),
      status: this.#readStatus(global.status),
      statsInterval: global.stats_log_interval ?? DEFAULT_PLAN.statsInterval,
      drain: global.drain ?? DEFAULT_PLAN.drain,
      pidFile: global.pid_file === undefined ? DEFAULT_PLAN.pidFile : resolve(this.base, global.pid_file),
      foreground: global.foreground ?? DEFAULT_PLAN.foreground,
      workers: global.workers ?? DEFAULT_PLAN.workers,
      logLevel: global.log_level ?? DEFAULT_PLAN.logLevel,
      logTo: global.log_to ?? DEFAULT_PLAN.logTo,
      ident: global.ident ?? DEFAULT_PLAN.ident,
      exitIdle: global.exit_idle ?? DEFAULT_PLAN.exitIdle,
      ...this.said,
    };
  }

  #readAccessLog({ log_file, log_format, log_common }: Global): AccessLogSettings | null {
    if (log_format !== undefined && log_common !== undefined && log_common !== (log_format === 'common')) {
      this.#error(['global', 'log_common'], `contradicts log_format: ${log_format}`);
    }
    const format = log_format ?? (log_common ? 'common' : 'tab');
    return log_file === undefined ? null : { path: resolve(this.base, log_file), format };
  }

  #readStatus(status: Global['status']): StatusSettings | null {
    if (status === undefined || status.enabled === false) return null;
    if (status.file === undefined) {
      this.#error(['global', 'status'], 'needs a file');
      return null;
    }
    return {
      path: resolve(this.base, status.file),
      interval: status.interval ?? STATUS_INTERVAL,
      format: status.format ?? 'json',
    };
  }

  #warnOfGlobal(global: Global): void {
    const buffers = 'has no effect: an idle connection has no buffer here, and a busy one what it needs';
    for (const key of ['buffer_size', 'pool_min_free', 'pool_max_free', 'pool_trim_delay'] as const) {
      if (global[key] !== undefined) this.#warn(['global', key], buffers);
    }
    if (global.dns_multi_ip_expand === false) {
      this.#warn(['global', 'dns_multi_ip_expand'], 'false has no effect: every address of a name is used');
    }
    const { dns_multi_ip_proto } = global;
    if (dns_multi_ip_proto !== undefined && dns_multi_ip_proto.toLowerCase() !== 'any') {
      this.#warn(['global', 'dns_multi_ip_proto'], 'has no effect: the addresses of a name are used in both families');
    }
    for (const key of ['log_format', 'log_common'] as const) {
      if (global[key] && global.log_file === undefined) this.#warn(['global', key], 'has no effect without log_file');
    }
  }
}

/** `rules[0].connect[1].weight` */
const pathName = (path: Path): string =>
  path.reduce<string>((whole, step) => {
    if (typeof step === 'number') return `${whole}[${step}]`;
    const name = String(step);
    const shown = /^\w+$/.test(name) ? name : quoted(name);
    return whole === '' ? shown : `${whole}.${shown}`;
  }, '');
