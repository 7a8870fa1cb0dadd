import posix from 'posix';

/** How a process's descriptors are shared out. */
export interface Budget {
  /** For each worker. */
  readonly connections: number;
  readonly pipes: number;
}

/** For Node, listening sockets and logs. */
const RESERVED = 128;

/** Raises the soft limit of descriptors to the hard one and returns it (getrlimit(2)). */
export const raiseDescriptorLimit = (): number => {
  const { soft, hard } = posix.getrlimit('nofile');
  const most = hard ?? 2 ** 20;
  if (soft !== null && soft < most) posix.setrlimit('nofile', { soft: most, hard });
  return most;
};

/**
 * Three quarters of the descriptors are for sockets, two a connection, and a quarter for pipes, two each: a direction
 * that gets no pipe still works, a connection without a second socket does not.
 */
export const shareDescriptors = (limit: number, workers: number): Budget => {
  const each = Math.max(8, Math.floor((limit - RESERVED) / workers));
  return { connections: Math.max(1, Math.floor((each * 3) / 8)), pipes: Math.max(1, Math.floor(each / 8)) };
};
