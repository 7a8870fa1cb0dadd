import { formatAddress } from '../address.js';
import { EX, Failure } from '../failure.js';
import { isUnix, type Plan } from '../plan.js';

/**
 * Refuses a plan whose unix sockets lead from one to the next and back. A connection to one of them would come in again
 * and again, each time as another connection, and an accepted unix socket has no address that could tell.
 * @throws Failure
 */
export const refuseUnixLoops = ({ services }: Plan): void => {
  const onward = new Map<string, readonly string[]>();
  for (const { listen, targets } of services) {
    const to = targets.flatMap((target) => (isUnix(target.to) ? [target.to.path] : []));
    for (const at of listen) if (isUnix(at)) onward.set(at.path, to);
  }
  const harmless = new Set<string>();
  const follow = (path: string, way: readonly string[]): void => {
    const since = way.indexOf(path);
    if (since >= 0) {
      const loop = [...way.slice(since), path].map((name) => formatAddress({ path: name }));
      throw new Failure(`a loop: ${loop.join(' is relayed to ')}`, EX.CONFIG);
    }
    if (harmless.has(path)) return;
    for (const next of onward.get(path) ?? []) follow(next, [...way, path]);
    harmless.add(path);
  };
  for (const path of onward.keys()) follow(path, []);
};
