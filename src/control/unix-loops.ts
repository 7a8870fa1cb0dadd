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
  for (const first of onward.keys()) {
    if (harmless.has(first)) continue;
    // Without recursion, because thousands may stand in a row: each with those of its targets that are still to be followed.
    const way = [{ path: first, rest: onward.get(first)?.values() }];
    const paths = new Set([first]);
    for (let here = way.at(-1); here !== undefined; here = way.at(-1)) {
      const path: string | undefined = here.rest?.next().value;
      if (path === undefined) {
        way.pop();
        paths.delete(here.path);
        harmless.add(here.path);
      } else if (paths.has(path)) {
        const names = [...paths, path].slice([...paths].indexOf(path));
        const loop = names.map((name) => formatAddress({ path: name })).join(' is relayed to ');
        throw new Failure(`a loop: ${loop}`, EX.CONFIG);
      } else if (!harmless.has(path)) {
        way.push({ path, rest: onward.get(path)?.values() });
        paths.add(path);
      }
    }
  }
};
