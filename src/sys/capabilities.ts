import { must } from './errno.js';
import * as libc from './libc.js';

/** Numbers of linux/capability.h. */
export const CAP_NET_BIND_SERVICE = 10;
export const CAP_NET_ADMIN = 12;
export const CAP_NET_RAW = 13;

const PR_SET_KEEPCAPS = 8;
/** _LINUX_CAPABILITY_VERSION_3: each set is two words, and the words of the three sets stand side by side. */
const VERSION = 0x20080522;

/**
 * Whether the calling thread keeps its permitted capabilities when it stops being root (PR_SET_KEEPCAPS, prctl(2)).
 * @throws SystemError
 */
export const keepOverSetuid = (keep: boolean): void => {
  must(libc.prctl(PR_SET_KEEPCAPS, keep ? 1 : 0) === -1 ? -libc.errno() : 0, 'prctl', 'PR_SET_KEEPCAPS');
};

/**
 * Leaves the calling thread, and those that it starts, these capabilities, in effect, and takes all others from it for
 * good (capset(2)). Other threads stay as they are. They are all below 32.
 * @throws SystemError
 */
export const retainOnly = (capabilities: readonly number[]): void => {
  const bits = capabilities.reduce((sum, capability) => sum | (1 << capability), 0);
  const header = new Uint32Array([VERSION, 0]);
  // Effective, permitted, inheritable.
  const sets = new Uint32Array([bits, bits, 0, 0, 0, 0]);
  must(libc.capset(header, sets) === -1 ? -libc.errno() : 0, 'capset');
};
