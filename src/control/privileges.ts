import { readdirSync, readFileSync } from 'node:fs';
import posix from 'posix';
import { EX, Failure } from '../failure.js';

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

/**
 * Becomes `user` for good: supplementary groups, group, user, in this order, because each step takes away the right to
 * the one before it. The C library carries each over to all threads (nptl(7)); that this came true is read back from
 * the kernel.
 * @throws Failure when any of it fails
 */
export const dropPrivileges = (user: User): void => {
  const { name, uid, gid } = user;
  const step = (what: string, call: () => void): void => {
    try {
      call();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
      throw new Failure(`can't become user ${name} (uid ${uid}, gid ${gid}): ${what}: ${code}`, EX.NOPERM);
    }
  };
  step('initgroups', () => posix.initgroups(name, gid));
  step('setregid', () => posix.setregid(gid, gid));
  step('setreuid', () => posix.setreuid(uid, uid));
  for (const thread of readdirSync('/proc/self/task')) {
    const status = readFileSync(`/proc/self/task/${thread}/status`, 'latin1');
    const ids = (field: string): string[] =>
      (status.match(new RegExp(`^${field}:\\t(.*)$`, 'm'))?.[1] ?? '').split('\t');
    const whole = ids('Uid').every((id) => id === `${uid}`) && ids('Gid').every((id) => id === `${gid}`);
    if (!whole) throw new Failure(`can't become user ${name}: thread ${thread} kept its privileges`, EX.NOPERM);
  }
  if (uid !== 0 && canBecomeRoot()) throw new Failure(`can't become user ${name}: root can be had back`, EX.NOPERM);
};

const canBecomeRoot = (): boolean => {
  try {
    posix.setreuid(0, 0);
    return true;
  } catch {
    return false;
  }
};
