import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Hosts } from '../../src/control/hosts.js';
import { resolveService } from '../../src/control/resolve.js';
import { EX, Failure } from '../../src/failure.js';
import type { Service } from '../../src/plan.js';
import { planOf, recordingLog } from './plans.js';

/** A name that no resolver is asked for: getaddrinfo(3) refuses it, being longer than a name may be. */
const NOWHERE = `${'x'.repeat(60)}.`.repeat(4) + 'x'.repeat(10);
const service = (line: string): Service => planOf(line).services[0] ?? assert.fail();

describe('the hosts of a plan', () => {
  test('upstreams come before the target, each with its addresses', async () => {
    const { addresses, problems } = await resolveService(
      service('-t 127.0.0.3 25 --upstream 127.0.0.1:1 --upstream socks5://[::1]:2'),
    );
    assert.deepEqual(addresses, [
      [{ ip: '127.0.0.1', port: 1 }],
      [{ ip: '::1', port: 2 }],
      [{ ip: '127.0.0.3', port: 25 }],
    ]);
    assert.deepEqual(problems, []);
  });

  test('a service without any has nothing to look up', async () => {
    assert.deepEqual(await resolveService(service('-t')), { addresses: [], problems: [] });
  });

  test('an upstream that is not found is left out while there is another', async () => {
    const log = recordingLog();
    const hosts = await Hosts.resolve(planOf(`${NOWHERE} 1 --upstream 127.0.0.1:2`), log);
    assert.deepEqual(hosts.addresses, [[[], [{ ip: '127.0.0.1', port: 2 }]]]);
    assert.deepEqual(log.lines, [`warn can't find the host ${NOWHERE}: ENOTFOUND`]);
  });

  test('it is an error when no upstream is found, or no target where there is no upstream', async () => {
    for (const line of [`${NOWHERE} 1`, `-t ${NOWHERE} 1`, `-t 127.0.0.1 1 --upstream ${NOWHERE}:1`]) {
      await assert.rejects(
        resolveService(service(line)),
        (error) => error instanceof Failure && error.exitCode === EX.NOHOST,
        line,
      );
    }
    const { addresses } = await resolveService(service(`-t ${NOWHERE} 1 --upstream 127.0.0.1:1`));
    assert.deepEqual(addresses.at(-1), []);
  });

  test('looking again tells of the hosts that have moved, and not of the others', async () => {
    const log = recordingLog();
    const hosts = await Hosts.resolve(planOf('127.0.0.1 1 --upstream 127.0.0.2:2'), log);
    const moved: unknown[] = [];
    const onChange = (...change: unknown[]) => moved.push(change);
    await hosts.refresh(onChange);
    assert.deepEqual(moved, []);

    // As if its name had had another address until now.
    (hosts.addresses[0] as unknown[])[1] = [{ ip: '127.0.0.9', port: 2 }];
    await hosts.refresh(onChange);
    assert.deepEqual(moved, [[0, 1, [{ ip: '127.0.0.2', port: 2 }]]]);
    assert.deepEqual(hosts.addresses[0]?.[1], [{ ip: '127.0.0.2', port: 2 }]);
    assert.deepEqual(log.lines, ['info 127.0.0.2 is 127.0.0.2:2 now']);
  });

  test('a host that is not found keeps its addresses, which is said once', async () => {
    const log = recordingLog();
    const hosts = await Hosts.resolve(planOf(`127.0.0.1 1 --upstream ${NOWHERE}:2`), log);
    const known = [{ ip: '127.0.0.9', port: 2 }];
    (hosts.addresses[0] as unknown[])[1] = known;
    for (let i = 0; i < 3; i++) await hosts.refresh(() => assert.fail('moved'));
    assert.equal(hosts.addresses[0]?.[1], known);
    assert.equal(log.lines.length, 1);
  });
});
