import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { SocketAddress } from '../../src/address.js';
import { placesOf } from '../../src/control/listen.js';
import { type Change, Listeners } from '../../src/control/listeners.js';
import { DEFAULT_PLAN, type Plan, type Service, targetTo } from '../../src/plan.js';
import { closeFd } from '../../src/sys/process.js';
import { inheritedKind, localAddress } from '../../src/sys/socket.js';
import { boundUdpSocket } from '../../src/sys/udp-socket.js';
import { Door, serviceOf } from '../data/rig.js';

const planOf = (...services: readonly Service[]): Plan => ({ ...DEFAULT_PLAN, services });

const udp = (more: Partial<Service> = {}): Service => ({ ...serviceOf(), protocol: 'udp', ...more }) as Service;

/** What a plan listens on, and how it came to it. */
const open = async (plan: Plan, workers: number): Promise<Change> => {
  const listeners = new Listeners(workers, async () => {}, assert.fail);
  return listeners.prepare(await placesOf(plan));
};

const adopt = (service: Service, fd: number, workers: number) =>
  new Listeners(workers, async () => {}, assert.fail).adopt([fd], service);

const fdsOf = ({ handles }: Change): number[] => handles.flat().map(({ fd }) => fd);

const closeAfter = (t: TestContext, change: Change): Change => {
  t.after(() => change.abandon());
  return change;
};

/** A port of UDP that was free a moment ago. */
const freePort = (): number => {
  const fd = boundUdpSocket({ ip: '127.0.0.1', port: 0 }, false, false);
  const { port } = localAddress(fd) as SocketAddress;
  closeFd(fd);
  return port;
};

describe('listening for datagrams', () => {
  test('each worker has a socket of its own on the same address', async (t) => {
    const port = freePort();
    const plan = planOf(udp({ listen: [{ host: '127.0.0.1', port }] }));
    const listening = closeAfter(t, await open(plan, 3));
    const fds = fdsOf(listening);
    assert.equal(new Set(fds).size, 3);
    for (const fd of fds) {
      assert.equal(inheritedKind(fd), 'datagram');
      assert.deepEqual(localAddress(fd), { ip: '127.0.0.1', port });
    }
    assert.deepEqual(listening.opened, [`127.0.0.1:${port} (udp)`]);
  });

  test('TCP and UDP may have one port number', async (t) => {
    const port = freePort();
    const listen = [{ host: '127.0.0.1', port }];
    const plan = planOf(udp({ listen }), serviceOf({ listen }));
    const listening = closeAfter(t, await open(plan, 1));
    assert.deepEqual(fdsOf(listening).map(inheritedKind), ['datagram', 'listening']);
  });

  test('a second one on the same address is an error, whether it shares or not', async (t) => {
    const port = freePort();
    const plan = planOf(udp({ listen: [{ host: '127.0.0.1', port }] }));
    for (const workers of [1, 2]) {
      const listening = await open(plan, workers);
      for (const more of [1, 2]) {
        await assert.rejects(open(plan, more), new RegExp(`bind 127.0.0.1:${port}: EADDRINUSE`));
      }
      listening.abandon();
    }
    closeAfter(t, await open(plan, 1));
  });

  for (const [what, more, why] of [
    ['http mode', { mode: 'http' }, /http mode is for TCP/],
    ['a proxy', { upstreams: [{ scheme: 'socks5', host: 'p', port: 1, credentials: null }] }, /proxies take TCP only/],
    ['a unix socket to listen on', { listen: [{ path: '/x', mode: null }] }, /unix sockets/],
    ['a unix socket as its target', { targets: [targetTo({ path: '/x' })] }, /unix sockets/],
    ['FTP', { ftp: { active: true, passive: true, ports: null } }, /FTP/],
    ['TCP wrappers', { tcpWrappers: 'x' }, /TCP wrappers/],
    ['PROXY version 1', { proxyProtocol: 'v1' }, /PROXY version 2 only/],
    ['no target and no TPROXY', { targets: [] }, /by TPROXY only/],
  ] as readonly [string, Partial<Service>, RegExp][]) {
    test(`${what} is refused, by the service's name`, async () => {
      const service = udp({ listen: [{ host: '127.0.0.1', port: freePort() }], name: 'names', ...more });
      await assert.rejects(open(planOf(service), 1), (error: Error) => {
        assert.match(error.message, why);
        assert.match(error.message, /^names: /);
        return true;
      });
    });
  }

  test('a socket that was handed over is for one worker, since each datagram would come to another', (t) => {
    const fd = boundUdpSocket({ ip: '127.0.0.1', port: 0 }, false, false);
    t.after(() => closeFd(fd));
    const { handles, opened } = adopt(udp(), fd, 3);
    assert.deepEqual(handles, [[{ service: 0, fd, host: null }], [], []]);
    assert.deepEqual(opened, [`127.0.0.1:${localAddress(fd)?.port} (udp)`]);
  });

  test('a socket of the other protocol is an error', (t) => {
    const fd = boundUdpSocket({ ip: '127.0.0.1', port: 0 }, false, false);
    const door = new Door();
    t.after(() => {
      closeFd(fd);
      door.close();
    });
    assert.throws(() => adopt(serviceOf(), fd, 1), { message: `test: fd ${fd} is no tcp socket` });
    assert.throws(() => adopt(udp(), door.fd, 1), {
      message: `test: fd ${door.fd} is no udp socket`,
    });
  });
});
