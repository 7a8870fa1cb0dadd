import { readFileSync, readlinkSync } from 'node:fs';

/**
 * The name that we take in Via unless we are given one: the same in every process that inetd starts from one line, and
 * another in any other tproxy, so that two of them in a row are not taken for a loop.
 */
export const ownPseudonym = (argv: readonly string[]): string => {
  const parts = [
    () => readFileSync('/proc/sys/kernel/hostname', 'latin1'),
    () => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'),
    // Containers and network namespaces may share all the rest.
    () => readlinkSync('/proc/self/ns/net'),
    () => argv.join('\0'),
  ];
  return `tproxy-${fnv1a(parts.map(orNothing).join('\0')).toString(16).padStart(8, '0')}`;
};

/** A system that hides a part of /proc leaves enough of the others. */
const orNothing = (part: () => string): string => {
  try {
    return part();
  } catch {
    return '';
  }
};

/** FNV-1a, 32 bits. node:crypto takes longer to load than a process of inetd's should wait. */
const fnv1a = (text: string): number => {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
};
