import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** CPU time and membership of one group of processes: a program and everything that it started. */
export interface CpuAccount {
  /** What goes before a command so that it starts inside the group. */
  readonly enter: readonly string[];
  /** The command was started as this process. */
  started(pid: number): void;
  /** User and system time of all processes since the group began, in seconds. */
  used(): number;
  /** The processes that live now. */
  pids(): number[];
  close(): void;
}

/** A way to account for CPU time, told to the reader of the figures. */
export interface CpuMethod {
  readonly description: string;
  /** Whether the time of processes that ended is kept in any case. */
  readonly keepsEnded: boolean;
  open(name: string): CpuAccount;
  close(): void;
}

/** Control groups where this user may make some, else /proc. */
export const chooseCpuMethod = (): CpuMethod => cgroupMethod() ?? procMethod;

/**
 * Version 2 control groups: cpu.stat counts every process that ever was in the group, to the microsecond, whether the
 * cpu controller is on or not (Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files").
 */
const cgroupMethod = (): CpuMethod | null => {
  const parent = ownCgroup();
  if (parent === null) return null;
  const root = join(parent, `transproxy-bench-${process.pid}`);
  try {
    mkdirSync(root);
  } catch {
    return null;
  }
  const open = (name: string): CpuAccount => {
    const directory = join(root, name);
    mkdirSync(directory);
    const procs = join(directory, 'cgroup.procs');
    return {
      enter: ['sh', '-c', 'echo $$ > "$0" && exec "$@"', procs],
      started: () => {},
      used: () => Number(/^usage_usec (\d+)$/m.exec(readFileSync(join(directory, 'cpu.stat'), 'utf8'))?.[1]) / 1e6,
      pids: () => readFileSync(procs, 'utf8').split('\n').filter(Boolean).map(Number),
      close: () => rmdirSync(directory),
    };
  };
  try {
    // Entering a group and leaving it for its parent take more rights than making it.
    const trial = open('trial');
    writeFileSync(join(root, 'trial', 'cgroup.procs'), `${process.pid}`);
    writeFileSync(join(parent, 'cgroup.procs'), `${process.pid}`);
    trial.used();
    trial.close();
  } catch {
    for (const directory of [join(root, 'trial'), root]) if (existsSync(directory)) rmdirSync(directory);
    return null;
  }
  return {
    description: 'a control group for each relay (v2, usage_usec of cpu.stat), processes that ended included',
    keepsEnded: true,
    open,
    close: () => rmdirSync(root),
  };
};

/** The directory of this process's own version 2 control group. */
const ownCgroup = (): string | null => {
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((line) => / - cgroup2 /.test(line));
  const path = /^0::(\/.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  const mountPoint = mounted?.split(' ')[4];
  return mountPoint === undefined || path === undefined ? null : join(mountPoint, path);
};

/** USER_HZ, which is 100 wherever Node runs on Linux (proc(5), sysconf(3)). */
const TICKS_PER_SECOND = 100;

/** proc(5): a process's own time and that of the children that it waited for. */
const procMethod: CpuMethod = {
  description:
    '/proc/PID/stat in steps of 10 ms, as no control group could be made. It loses children that nobody waited for,\n' +
    'so there are no figures for relays with a process a connection',
  keepsEnded: false,
  open: () => {
    let root = 0;
    let since: string | undefined;
    // The id of a program that has ended may have become another one's, which its start time tells.
    const tree = (): number[] => (root !== 0 && stat(root)?.since === since ? [root, ...descendants(root)] : []);
    return {
      enter: [],
      started: (pid) => {
        root = pid;
        since = stat(pid)?.since;
      },
      used: () => tree().reduce((sum, pid) => sum + (stat(pid)?.used ?? 0), 0),
      pids: () => tree().filter((pid) => stat(pid)?.alive),
      close: () => {},
    };
  },
  close: () => {},
};

interface ProcessStat {
  /** utime, stime, cutime and cstime together, in seconds. */
  readonly used: number;
  readonly alive: boolean;
  /** Ticks from the machine's start to the process's. */
  readonly since: string | undefined;
}

/** /proc/PID/stat; null when there is no such process. */
const stat = (pid: number): ProcessStat | null => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return { used: ticks / TICKS_PER_SECOND, alive: fields[0] !== 'Z', since: fields[19] };
  } catch {
    return null;
  }
};

const descendants = (pid: number): number[] => {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
    return children.flatMap((child) => [child, ...descendants(child)]);
  } catch {
    return [];
  }
};

/** CPU time of the whole machine in seconds: what all processes used, and what the hypervisor gave to others. */
export const machineCpu = (): {
  readonly busy: number;
  readonly stolen: number;
} => {
  const line = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '';
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, stolen = 0] = line
    .split(' ')
    .map((ticks) => Number(ticks) / TICKS_PER_SECOND);
  return { busy: user + nice + system + irq + softirq, stolen };
};
