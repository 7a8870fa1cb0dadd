/** An accepted connection, until it is a Connection: who may connect, and what becomes of the others. */

import { type ClientAddress, formatAddress } from '../address.js';
import { SystemError } from '../sys/errno.js';
import { closeFd } from '../sys/process.js';
import { resetOnClose } from '../sys/socket.js';
import { entranceOf, isOwn, LOOP } from './accepted.js';
import type { AccessEvent, Entrance } from './access-entries.js';
import type { Acl, Refusal } from './acl.js';
import type { Admissions } from './admissions.js';
import { Connection } from './connection.js';
import { unopened } from './connection-lines.js';
import type { Site } from './site.js';

/** An accepted connection that shall not be, and why. */
interface Refused {
  readonly site: Site;
  readonly fd: number;
  readonly client: ClientAddress | null;
  readonly entrance: Entrance | null;
  /** Who refuses it, as transproxy's access log has it; null: it does not tell. */
  readonly by: string | null;
  readonly event: AccessEvent;
  readonly why: string;
}

/** Closes an accepted connection with a reset. */
export const refuse = ({ site, fd, client, entrance, by, event, why }: Refused): void => {
  const { access } = site.reporter;
  const visit = unopened(site, client, entrance ?? entranceOf(fd));
  site.counters.add('refused', 1);
  site.reporter.log('warn', `${site.service.name}: ${why}`);
  if (by !== null) access?.refused(by, event, visit);
  else access?.event(event, visit);
  resetOnClose(fd);
  closeFd(fd);
};

/**
 * Takes a connected socket over, if its client may connect, now or when TCP wrappers have been asked; it is closed with a
 * reset otherwise. `entrance`: of the socket that accepted it, if it is known.
 */
export const admit = (site: Site, fd: number, client: ClientAddress | null, entrance: Entrance | null = null): void => {
  const { acl, thread, service } = site;
  const from = client === null ? '-' : formatAddress(client);
  const refusal = acl === null ? null : refusalOf(acl, client, entrance);
  if (refusal !== null) {
    refuse({ site, fd, client, entrance, by: 'ACL', event: refusal, why: `ACL refused from ${from}: ${refusal}` });
    return;
  }
  if (isOwn(site, fd, client)) {
    refuse({ site, fd, client, entrance, by: null, event: 'denied', why: `client ${from}: ${LOOP}` });
    return;
  }
  if (service.tcpWrappers === null) begin(site, fd, client, entrance);
  else (thread.admissions as Admissions).hold(site, fd, client, entrance);
};

/** A client without an address is let in by who may open the unix socket, and by nothing else. */
const refusalOf = (acl: Acl, client: ClientAddress | null, entrance: Entrance | null): Refusal | null => {
  if (client !== null) return acl.refusal(client.ip);
  return entrance !== null && entrance.port === null ? null : 'not-allowed';
};

/** Takes over the connected socket of a client that is admitted; null: that failed, and it is closed. */
export const begin = (
  site: Site,
  fd: number,
  client: ClientAddress | null,
  entrance: Entrance | null = null,
): Connection | null => {
  let connection: Connection;
  try {
    connection = new Connection(site, fd, client, entrance);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const from = client === null ? '-' : formatAddress(client);
    site.reporter.log('error', `${site.service.name}: client ${from}: ${error.message}`);
    closeFd(fd);
    return null;
  }
  connection.start();
  return connection;
};
