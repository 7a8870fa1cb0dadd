import { setTimeout as sleep } from 'node:timers/promises';
import { type CpuAccount, machineCpu } from './cpu.js';
import type { Processes } from './processes.js';
import { mean, median } from './report.js';
import type { Bench, Column, Turn } from './row.js';
import type { Done } from './workload.js';

/** Connections that are just closing still cost their relay some CPU. */
const SETTLE = 100;

/** Cores that other programs may take before a turn is done anew, and the pause before it, in milliseconds. */
const DISTURBED = 0.2;
const PAUSE = 1000;

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
  #repeated = 0;
  /** Seconds spent on turns that were done anew. */
  #lost = 0;

  constructor(rate: Scale, cpu: Scale) {
    this.#rate = rate;
    this.#cpu = cpu;
    this.columns = [
      { key: 'rate', unit: rate.unit, digits: rate.digits, better: 'more', summary: 'median' },
      { key: 'cpu', unit: cpu.unit, digits: cpu.digits, better: 'less', summary: 'median' },
    ];
  }

  /**
   * One turn: `work` through a relay whose CPU time is counted, or not (null). It is done anew, within the patience asked for, when
   * other programs got in the way.
   */
  async turn(
    name: string,
    { processes, options }: Bench,
    cpu: CpuAccount | null,
    work: () => Promise<Done>,
  ): Promise<Turn> {
    let measured = await this.#measure(name, processes, cpu, work);
    // Where ended processes are lost, their time looks like that of other programs.
    while (processes.cpuMethod.keepsEnded && measured.others > DISTURBED && this.#lost < options.patience) {
      const begin = performance.now();
      await sleep(PAUSE);
      measured = await this.#measure(name, processes, cpu, work);
      this.#repeated++;
      this.#lost += (performance.now() - begin) / 1000;
    }
    const { rate, perUnit, others, stolen } = measured;
    this.#rates.set(name, [...(this.#rates.get(name) ?? []), rate]);
    this.#others.push(others);
    this.#stolen.push(stolen);
    return { rate: [rate], ...(perUnit === null ? {} : { cpu: [perUnit] }), others: [others], stolen: [stolen] };
  }

  async #measure(name: string, processes: Processes, cpu: CpuAccount | null, work: () => Promise<Done>) {
    const [begin, all, ours] = [performance.now(), machineCpu(), processes.used()];
    const before = cpu?.used() ?? 0;
    const done = await work();
    await sleep(SETTLE);
    const used = (cpu?.used() ?? 0) - before;
    const [time, allNow, oursNow] = [(performance.now() - begin) / 1000, machineCpu(), processes.used()];
    if (done.failed > 0) this.#failures.set(name, (this.#failures.get(name) ?? 0) + done.failed);
    return {
      rate: done.work / done.seconds / this.#rate.per,
      perUnit: cpu === null || done.work === 0 ? null : used / done.work / this.#cpu.per,
      others: Math.max(0, allNow.busy - all.busy - (oursNow - ours)) / time,
      stolen: (allNow.stolen - all.stolen) / time,
    };
  }

  /** What a reader of the figures should know; warm-up turns are included. */
  notes(): readonly string[] {
    const relays = [...this.#rates].filter(([name]) => name !== DIRECT).map(([, rates]) => median(rates));
    const headroom = median(this.#rates.get(DIRECT) ?? []) / Math.max(...relays);
    const spread = (values: readonly number[]): string =>
      `${mean(values).toFixed(2)} cores on average, ${Math.max(...values).toFixed(2)} at most`;
    return [
      `Without a relay (${DIRECT}) the load generator reaches ${headroom.toFixed(1)} × the rate of the fastest relay.`,
      `${this.#repeated} turns were done anew because other programs on this machine took more than ${DISTURBED} cores.`,
      `In those that count they took ${spread(this.#others)}; the hypervisor took ${spread(this.#stolen)}.`,
      ...[...this.#failures].map(([name, count]) => `${name}: ${count} connections FAILED`),
    ];
  }
}
