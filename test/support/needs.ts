import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

const installed = (program: string): boolean =>
  FOLDERS.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

let namespaces: boolean | undefined;
const canMakeNamespaces = (): boolean => {
  if (namespaces === undefined) {
    const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
    const flags = [...asRoot, '--net', '--mount', '--pid', '--fork', '--mount-proc'];
    namespaces = spawnSync('unshare', [...flags, 'true']).status === 0;
  }
  return namespaces;
};

const hasLibwrap = (): boolean =>
  (spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'latin1' }).stdout ?? '').includes('libwrap.so.0 ');

/** `root`: users other than our own are needed; `libwrap`: the library and its tables; anything else is a program. */
type Need = 'root' | 'ipv6' | 'libwrap' | `program ${string}`;

const missing = (need: Need): string | null => {
  if (need === 'root') return process.getuid?.() === 0 ? null : 'it changes users, which needs root';
  if (need === 'ipv6') return existsSync('/proc/net/if_inet6') ? null : 'this kernel has no IPv6';
  if (need === 'libwrap') {
    const there = hasLibwrap() && existsSync('/etc/hosts.allow') && existsSync('/etc/hosts.deny');
    return there ? null : 'libwrap is not installed (scripts/install-lab.sh does that)';
  }
  const program = need.slice('program '.length);
  return installed(program) ? null : `${program} is not installed (scripts/install-lab.sh does that)`;
};

/**
 * For node:test's `skip`: why a lab test can't run on this machine, or false when it can.
 * Where everything must run (CI=true), it is an error instead.
 */
export const unless = (...needs: readonly Need[]): string | false => {
  const reasons = canMakeNamespaces() ? [] : ['namespaces need root or the right to make user namespaces'];
  for (const need of ['program ip', ...needs] as const) {
    const reason = missing(need);
    if (reason) reasons.push(reason);
  }
  if (reasons.length === 0) return false;
  if (process.env.CI === 'true') throw new Error(`a lab test can't run here: ${reasons.join('; ')}`);
  return reasons.join('; ');
};
