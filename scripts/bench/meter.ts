import { setTimeout as sleep } from 'node:timers/promises';
import { machineCpu } from './cpu.js';
import type { Processes, Started } from './processes.js';
import { mean, median } from './report.js';
import type { Column, Turn } from './row.js';
import type { Done } from './workload.js';

/** Connections that are just closing still cost their relay some CPU. */
const SETTLE = 100;

/** The load generator and the target alone: shows that they are not what limits the relays. */
export const DIRECT = 'direct';

/** A unit of a figure, and how many of the plain unit (a byte or a connection a second, a second) make one of it. */
export interface Scale {
  readonly unit: string;
  readonly per: number;
  readonly digits: number;
}

/** Turns work that a load generator did through a relay into its rate and the relay's CPU time for a unit of work. */
export class Meter {
  readonly columns: readonly Column[];
  readonly #rate: Scale;
  readonly #cpu: Scale;
  readonly #rates = new Map<string, number[]>();
  readonly #failures = new Map<string, number>();
  readonly #others: number[] = [];
  readonly #stolen: number[] = [];

  constructor(rate: Scale, cpu: Scale) {
    this.#rate = rate;
    this.#cpu = cpu;
    this.columns = [
      { key: 'rate', unit: rate.unit, digits: rate.digits, better: 'more', summary: 'median' },
      { key: 'cpu', unit: cpu.unit, digits: cpu.digits, better: 'less', summary: 'median' },
    ];
  }

  /** One turn: `work` through `relay`, or without one. */
  async turn(name: string, processes: Processes, relay: Started | null, work: () => Promise<Done>): Promise<Turn> {
    const [begin, all, ours] = [performance.now(), machineCpu(), processes.used()];
    const before = relay?.cpu.used() ?? 0;
    const done = await work();
    await sleep(SETTLE);
    const used = (relay?.cpu.used() ?? 0) - before;
    const [time, allNow, oursNow] = [(performance.now() - begin) / 1000, machineCpu(), processes.used()];

    this.#others.push(Math.max(0, allNow.busy - all.busy - (oursNow - ours)) / time);
    this.#stolen.push((allNow.stolen - all.stolen) / time);
    if (done.failed > 0) this.#failures.set(name, (this.#failures.get(name) ?? 0) + done.failed);
    const rate = done.work / done.seconds / this.#rate.per;
    this.#rates.set(name, [...(this.#rates.get(name) ?? []), rate]);
    return { rate: [rate], ...(relay && done.work > 0 ? { cpu: [used / done.work / this.#cpu.per] } : {}) };
  }

  /** What a reader of the figures should know; warm-up turns are included. */
  notes(): readonly string[] {
    const relays = [...this.#rates].filter(([name]) => name !== DIRECT).map(([, rates]) => median(rates));
    const headroom = median(this.#rates.get(DIRECT) ?? []) / Math.max(...relays);
    const spread = (values: readonly number[]): string =>
      `${mean(values).toFixed(2)} cores on average, ${Math.max(...values).toFixed(2)} at most`;
    return [
      `Without a relay (${DIRECT}) the load generator reaches ${headroom.toFixed(1)} × the rate of the fastest relay.`,
      `Other programs on this machine took ${spread(this.#others)}; the hypervisor took ${spread(this.#stolen)}.`,
      ...[...this.#failures].map(([name, count]) => `${name}: ${count} connections FAILED`),
    ];
  }
}
