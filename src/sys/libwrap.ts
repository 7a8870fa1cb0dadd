import * as libc from './libc.js';

/** The library by which programs ask TCP wrappers, by its name for the dynamic loader. */
export const LIBWRAP = 'libwrap.so.0';

/** What stands for a client's name that nobody knows, or its user's (STRING_UNKNOWN in tcpd.h). */
export const UNKNOWN = 'unknown';

/** What stands for a name that does not lead back to its address (STRING_PARANOID in tcpd.h). */
export const PARANOID = 'paranoid';

/** What hosts.allow and hosts.deny say of a client; they are read anew for each (hosts_access(3)). */
export type Judge = (daemon: string, clientName: string, clientAddress: string) => boolean;

/**
 * Loads libwrap. Its answers may take long: a rule's shell command is waited for (hosts_options(5)).
 * @throws Error with the loader's words
 */
export const loadLibwrap = (): Judge => {
  const { hostsCtl, setResident } = libc.loadLibwrap(LIBWRAP);
  // A rule with `twist` would replace our process with its command. In a resident process it is an error instead, and
  // the client is refused; hosts_access() itself takes a process for resident from its third call on (options.c).
  setResident(1);
  return (daemon, clientName, clientAddress) => hostsCtl(daemon, clientName, clientAddress, UNKNOWN) !== 0;
};
