/** What the control plane does on a signal. */
export interface SignalHandlers {
  stop(signal: string): void;
  reload(): void;
  reopen(): void;
  dump(): void;
}

/**
 * TERM and INT stop, HUP reloads, USR1 reopens the logs, USR2 dumps the connections. Each runs on the main thread's event
 * loop.
 */
export const handleSignals = (handlers: SignalHandlers): void => {
  process.on('SIGTERM', () => handlers.stop('SIGTERM'));
  process.on('SIGINT', () => handlers.stop('SIGINT'));
  process.on('SIGHUP', () => handlers.reload());
  // Without a handler it would open Node's inspector.
  process.on('SIGUSR1', () => handlers.reopen());
  process.on('SIGUSR2', () => handlers.dump());
};
