import { closeSync, fstatSync, openSync } from 'node:fs';
import { EX, Failure } from '../failure.js';
import type { Plan } from '../plan.js';
import { replaceFd } from '../sys/process.js';
import { inheritedKind, peerAddress } from '../sys/socket.js';

/** The first descriptor of socket activation (sd_listen_fds(3)). */
const FIRST_FD = 3;

/** What this process was started on. */
export type Inheritance =
  /** Listening sockets and those of UDP: inetd's `wait`, or socket activation. */
  | { readonly kind: 'listening'; readonly fds: readonly number[] }
  /** One connection: inetd's `nowait`, tcpserver, Accept=yes. */
  | { readonly kind: 'connection'; readonly fd: number }
  /** Pipes, a terminal, files. */
  | { readonly kind: 'stdio' };

/** Looks at the descriptors that LISTEN_FDS counts, if it is for this process, or else at fd 0. */
export const inspectInheritance = (): Inheritance => {
  const fds = activationFds();
  const first = fds[0] ?? 0;
  const kind = inheritedKind(first);
  if (kind === 'listening' || kind === 'datagram') {
    // accept(2) would fail for anything else, and for ever.
    const other = fds.find((fd) => inheritedKind(fd) !== kind);
    const what = kind === 'datagram' ? 'UDP socket as the first one is' : 'listening stream socket';
    if (other !== undefined) throw new Failure(`fd ${other} of LISTEN_FDS is no ${what}`, EX.CONFIG);
    return { kind: 'listening', fds: fds.length > 0 ? fds : [0] };
  }
  // Who starts a program with pipes may use unix socket pairs for them, one for each direction; they are no one connection.
  const pipeLike = first === 0 && peerAddress(0) === null && fstatSync(0).ino !== fstatSync(1).ino;
  if (kind === 'connected' && !pipeLike) return { kind: 'connection', fd: first };
  return { kind: 'stdio' };
};

/** inetd hands its socket over as stderr too: what is written there would reach the client as data. */
export const stderrIsTheSocket = (): boolean => isStderr(0);

const isStderr = (fd: number): boolean => {
  const stderr = fstatSync(2);
  return stderr.isSocket() && stderr.ino === fstatSync(fd).ino;
};

/**
 * Where messages go: where the plan says, or else to stderr in the foreground, and to syslog elsewhere. `fds`: what we were
 * started on, none for what we listen on ourselves.
 */
export const logDestination = (
  { logTo, foreground }: Pick<Plan, 'logTo' | 'foreground'>,
  fds: readonly number[],
): 'stderr' | 'syslog' => {
  if (logTo !== null) return logTo;
  if (fds.some(isStderr)) return 'syslog';
  // systemd's stderr is the journal.
  const isActivated = fds.length > 0 && !fds.includes(0);
  return foreground || isActivated ? 'stderr' : 'syslog';
};

/** Puts /dev/null in the place of these descriptors. */
export const putNothingAt = (...fds: readonly number[]): void => {
  const nothing = openSync('/dev/null', 'r+');
  for (const fd of fds) replaceFd(nothing, fd);
  closeSync(nothing);
};

const activationFds = (): number[] => {
  const { LISTEN_PID, LISTEN_FDS } = process.env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']) delete process.env[name];
  if (LISTEN_PID !== String(process.pid)) return [];
  return Array.from({ length: Number(LISTEN_FDS) || 0 }, (_, i) => FIRST_FD + i);
};
