import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { replaceFd } from '../sys/process.js';

/** Set for the process that is to be the daemon: the descriptor on which it says that it is ready. */
const READY_FD = 'TPROXY_READY_FD';

/** This process is the daemon that startDaemon began. */
export const isDaemon = (): boolean => process.env[READY_FD] !== undefined;

/**
 * Starts this program anew as a daemon: in a session of its own, without a terminal. Node can't fork(2).
 * Settles with the exit code for this process: 0 once the daemon serves, the daemon's own when it ends before that; what
 * it has to say until then it says on our stderr.
 */
export const startDaemon = (): Promise<number> =>
  new Promise((settle, fail) => {
    const daemon = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
      env: { ...process.env, [READY_FD]: '3' },
    });
    daemon.on('error', fail);
    daemon.on('exit', (code) => settle(code ?? 70));
    daemon.stdio[3]?.once('data', () => settle(0));
  });

/** Says to the process that started us that we serve, and lets go of its terminal. */
export const announceReady = (): void => {
  const fd = Number(process.env[READY_FD]);
  delete process.env[READY_FD];
  process.chdir('/');
  const nothing = openSync('/dev/null', 'r+');
  replaceFd(nothing, 2);
  closeSync(nothing);
  writeSync(fd, 'ready\n');
  closeSync(fd);
};
