import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import posix from 'posix';
import { EX, Failure } from '../failure.js';
import { answersForOthers, needsTransparency, type Plan } from '../plan.js';
import { CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, keepOverSetuid, retainOnly } from '../sys/capabilities.js';

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Finds a user by name, or by `#uid`; either way it must exist, because its groups come with its name.
 * @throws Failure
 */
export const findUser = (text: string): User => {
  const key = text.startsWith('#') ? Number(text.slice(1)) : text;
  try {
    const { name, uid, gid } = posix.getpwnam(key);
    return { name, uid, gid };
  } catch {
    throw new Failure(`there is no user ${text}`, EX.NOUSER);
  }
};

/** Those of `capabilities` that this process has. */
const held = (capabilities: readonly number[]): number[] => {
  const effective = capabilitiesIn(readStatus('self'), 'CapEff');
  return capabilities.filter((capability) => effective & maskOf([capability]));
};

/**
 * The capabilities that a plan's services need while they serve, of those that this process has, and with `mayChange`
 * what those of a later plan may need.
 * Either of two suffices for IP_TRANSPARENT (ip(7)), and CAP_NET_RAW lets its holder do less.
 * @throws Failure when it has neither
 */
export const capabilitiesFor = (plan: Plan, mayChange = false): readonly number[] => {
  // A later plan may have ports below 1024. Datagrams are answered by sockets that are bound to what the client asked,
  // and that may be such a port too.
  const ports = mayChange || plan.services.some(answersForOthers) ? held([CAP_NET_BIND_SERVICE]) : [];
  if (!plan.services.some(needsTransparency)) return ports;
  const [transparency] = held([CAP_NET_RAW, CAP_NET_ADMIN]);
  if (transparency === undefined) {
    const why = "to use clients' or origins' addresses (IP_TRANSPARENT) needs root, CAP_NET_RAW or CAP_NET_ADMIN";
    throw new Failure(why, EX.NOPERM);
  }
  return [transparency, ...ports];
};

/**
 * Becomes `user` for good: supplementary groups, group, user, in this order, because each step takes away the right to
 * the one before it. The C library carries each over to all threads (nptl(7)); that this came true is read back from
 * the kernel. This thread, and those that it starts from now on, keep the capabilities of `kept`. root keeps what root
 * has.
 * @throws Failure when any of it fails
 */
export const dropPrivileges = (user: User, kept: readonly number[] = []): void => {
  const { name, uid, gid } = user;
  const fail = (why: string): Failure =>
    new Failure(`can't become user ${name} (uid ${uid}, gid ${gid}): ${why}`, EX.NOPERM);
  const step = (what: string, call: () => void): void => {
    try {
      call();
    } catch (error) {
      throw fail(`${what}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
    }
  };
  const keeps = kept.length > 0 && uid !== 0;
  if (keeps) step('prctl PR_SET_KEEPCAPS', () => keepOverSetuid(true));
  step('initgroups', () => posix.initgroups(name, gid));
  step('setregid', () => posix.setregid(gid, gid));
  step('setreuid', () => posix.setreuid(uid, uid));
  if (keeps) {
    step('capset', () => retainOnly(kept));
    step('prctl PR_SET_KEEPCAPS', () => keepOverSetuid(false));
  }
  // The first thread, which is this one, has the process's number.
  const first = readlinkSync('/proc/self');
  for (const thread of readdirSync('/proc/self/task')) {
    const status = readStatus(`self/task/${thread}`);
    const ids = (name: string): string[] => field(status, name).split('\t');
    const whole = ids('Uid').every((id) => id === `${uid}`) && ids('Gid').every((id) => id === `${gid}`);
    const allowed = keeps && thread === first ? maskOf(kept) : 0n;
    const bare = ['CapPrm', 'CapEff'].every((set) => capabilitiesIn(status, set) === allowed);
    if (!whole || (uid !== 0 && !bare)) throw fail(`thread ${thread} kept its privileges`);
  }
  if (uid !== 0 && canBecomeRoot()) throw fail('root can be had back');
};

const readStatus = (process: string): string => readFileSync(`/proc/${process}/status`, 'latin1');

const field = (status: string, name: string): string => status.match(new RegExp(`^${name}:\\t(.*)$`, 'm'))?.[1] ?? '';

/** A set of capabilities as a bit mask; proc(5) writes it in hexadecimal. */
const capabilitiesIn = (status: string, set: string): bigint => BigInt(`0x${field(status, set)}`);

const maskOf = (capabilities: readonly number[]): bigint =>
  capabilities.reduce((mask, capability) => mask | (1n << BigInt(capability)), 0n);

const canBecomeRoot = (): boolean => {
  try {
    posix.setreuid(0, 0);
    return true;
  } catch {
    return false;
  }
};
