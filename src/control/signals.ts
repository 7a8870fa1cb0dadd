/** What the control plane does on a signal. */
export interface SignalHandlers {
  stop(signal: string): void;
  reload(): void;
  reopen(): void;
  dump(): void;
}

/**
 * TERM and INT stop, HUP reloads, USR1 reopens the logs, USR2 dumps the connections. Each runs on the main thread's event loop.
 * To be called before the first socket listens: who finds it may send a signal, and all but TERM and INT wait until the
 * returned function is told who obeys. Without a handler HUP and USR2 would end the process, and USR1 open Node's
 * inspector.
 */
export const handleSignals = (): ((handlers: SignalHandlers) => void) => {
  const early: ((handlers: SignalHandlers) => void)[] = [];
  let obey = (act: (handlers: SignalHandlers) => void): unknown => early.push(act);
  process.on('SIGHUP', () => obey((handlers) => handlers.reload()));
  process.on('SIGUSR1', () => obey((handlers) => handlers.reopen()));
  process.on('SIGUSR2', () => obey((handlers) => handlers.dump()));
  return (handlers) => {
    process.on('SIGTERM', () => handlers.stop('SIGTERM'));
    process.on('SIGINT', () => handlers.stop('SIGINT'));
    obey = (act) => act(handlers);
    for (const act of early) act(handlers);
  };
};
