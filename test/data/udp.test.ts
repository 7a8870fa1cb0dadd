import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Site } from '../../src/data/site.js';
import { type Inlet, serveUdp } from '../../src/data/udp.js';
import { Flows } from '../../src/data/udp-flows.js';
import { closeFd } from '../../src/sys/process.js';
import { localAddress } from '../../src/sys/socket.js';
import { openDescriptors, type Script, turns, until } from './rig.js';
import { withClock } from './talk.js';
import { UdpClient, UdpStage, UdpTarget } from './udp-rig.js';

const HEADER_OF_UDP4 = Buffer.from('0d0a0d0a000d0a515549540a2112000c', 'hex').toString('latin1');
const PROXY_V4_LENGTH = 28;

const clientsOf = (stage: UdpStage, count: number): UdpClient[] =>
  Array.from({ length: count }, () => new UdpClient(stage.address));

const closeAll = (clients: readonly UdpClient[]): void => {
  for (const { fd } of clients) closeFd(fd);
};

describe('flows', () => {
  test('each client gets its own answers, and the target sees each by an address of its own', () => {
    const before = openDescriptors();
    const stage = new UdpStage();
    const clients = clientsOf(stage, 3);
    stage.play(
      (function* (): Script {
        for (const [i, client] of clients.entries()) client.send(`question ${i}`, `more ${i}`);
        yield* stage.target.expect(6);
        for (const [i, client] of clients.entries()) yield* client.expect(`question ${i}`, `more ${i}`);
        const ports = stage.target.got.map(({ from }) => from.port);
        assert.equal(new Set(ports).size, 3);
        assert.equal(stage.flows.size, 3);
        const [first] = clients as [UdpClient];
        first.send('again');
        yield* stage.target.expect(1);
        assert.ok(ports.includes(stage.target.got[0]?.from.port ?? 0));
        assert.equal(stage.counters.get('accepted'), 3);
        assert.equal(stage.counters.get('open'), 3);
      })(),
    );
    closeAll(clients);
    assert.equal(openDescriptors(), before);
    assert.equal(stage.counters.get('open'), 0);
    assert.equal(stage.counters.get('bytesFromClients'), 'question 0more 0'.length * 3 + 'again'.length);
    assert.equal(stage.thread.flowSockets, 0);
  });

  test('empty datagrams and the longest pass both ways', () => {
    const stage = new UdpStage();
    const [client] = clientsOf(stage, 1) as [UdpClient];
    const longest = 'x'.repeat(65_507);
    stage.play(
      (function* (): Script {
        client.send('', longest, '');
        yield* stage.target.expect(3);
        yield* client.expect('', longest, '');
      })(),
    );
    closeAll([client]);
    assert.equal(stage.counters.get('dropped'), 0);
  });

  test('more than a batch of datagrams, of many clients in any order, reach the target whole and once', () => {
    const stage = new UdpStage();
    const clients = clientsOf(stage, 10);
    stage.play(
      (function* (): Script {
        const said: string[] = [];
        for (let i = 0; i < 200; i++) {
          const which = (i * i) % 10;
          said.push(`${which}:${i}`);
          clients[which]?.send(`${which}:${i}`);
        }
        yield* stage.target.expect(200);
        assert.deepEqual(stage.target.got.map(({ text }) => text).sort(), said.sort());
        yield* until('all answers', () => clients.reduce((sum, client) => sum + client.read().length, 0) === 200);
        for (const [i, { got }] of clients.entries()) assert.ok(got.every((text) => text.startsWith(`${i}:`)));
      })(),
    );
    closeAll(clients);
  });

  test('with the limit reached the flow that was silent longest makes room, and that is said once', () => {
    const stage = new UdpStage({ limits: { flows: 3 } });
    const clients = clientsOf(stage, 6);
    const [a, b, c] = clients as [UdpClient, UdpClient, UdpClient];
    stage.play(
      (function* (): Script {
        for (const client of [a, b, c]) {
          client.send('1');
          yield* stage.target.expect(1);
          yield* client.expect('1');
        }
        const ports = new Map<UdpClient, number>();
        a.send('2');
        yield* stage.target.expect(1);
        ports.set(a, stage.target.got[0]?.from.port ?? 0);
        yield* a.expect('2');
        for (const client of clients.slice(3, 5)) {
          client.send('1');
          yield* stage.target.expect(1);
          assert.equal(stage.flows.size, 3);
        }
        // b and c were silent for longer than a.
        a.send('3');
        yield* stage.target.expect(1);
        assert.equal(stage.target.got[0]?.from.port, ports.get(a));
        yield* a.expect('3');
        // b begins anew, from where nobody knows.
        b.send('3');
        yield* stage.target.expect(1);
        yield* b.expect('3');
        assert.equal(stage.counters.get('accepted'), 6);
      })(),
    );
    closeAll(clients);
    assert.equal(stage.logs.filter(([level, line]) => level === 'warn' && line.includes('let go')).length, 1);
  });

  test('with room for one, a batch of many clients still reaches the target whole', () => {
    const stage = new UdpStage({ limits: { flows: 1 } });
    const clients = clientsOf(stage, 20);
    stage.play(
      (function* (): Script {
        for (const client of clients) client.send('a', 'b');
        yield* stage.target.expect(40, true);
        assert.equal(stage.flows.size, 1);
      })(),
    );
    closeAll(clients);
  });

  test('flows have the places of connections: two sockets are as much as one of them', () => {
    const stage = new UdpStage({}, undefined, undefined, 2);
    const clients = clientsOf(stage, 6);
    stage.play(
      (function* (): Script {
        for (const client of clients) client.send('x');
        yield* stage.target.expect(6, true);
        assert.equal(stage.flows.size, 4);
        assert.equal(stage.thread.flowSockets, 4);
      })(),
    );
    closeAll(clients);
  });

  test('where connections have all places a datagram is dropped', () => {
    const stage = new UdpStage({}, undefined, undefined, 0);
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* until('it is refused', () => stage.counters.get('refused') === 1);
      })(),
    );
    closeAll([client]);
    assert.ok(stage.said('there is no room for a flow'));
  });

  test('a flow ends when neither side has said anything for its time', (t) => {
    const clock = withClock(t);
    const stage = new UdpStage({ limits: { idle: 72_000 } });
    const [asking, silent] = clientsOf(stage, 2) as [UdpClient, UdpClient];
    stage.play(
      (function* (): Script {
        asking.send('1');
        silent.send('1');
        yield* stage.target.expect(2);
        yield* asking.expect('1');
        yield* silent.expect('1');
        clock.now += 71_000;
        yield* turns(3);
        asking.send('2');
        yield* stage.target.expect(1);
        yield* asking.expect('2');
        clock.now += 2000;
        yield* until('the silent one ends', () => stage.flows.size === 1);
        asking.send('3');
        yield* stage.target.expect(1);
        yield* asking.expect('3');
        assert.equal(stage.counters.get('accepted'), 2);
        // An answer counts as a question does.
        clock.now += 71_000;
        yield* turns(3);
        stage.target.tell(stage.target.got[0]?.from, 'late');
        yield* asking.expect('late');
        clock.now += 71_000;
        yield* turns(3);
        assert.equal(stage.flows.size, 1);
        clock.now += 2000;
        yield* until('the other ends', () => stage.flows.size === 0);
        asking.send('4');
        yield* until('it begins anew', () => stage.counters.get('accepted') === 3);
      })(),
    );
    closeAll([asking, silent]);
    assert.ok(stage.said('closed: idle for 73 s'));
  });

  test('a target that is not there is no end: what is said when it is back arrives, and the errors are said once', () => {
    const stage = new UdpStage();
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('1');
        yield* stage.target.expect(1);
        yield* client.expect('1');
        closeFd(stage.target.fd);
        for (let i = 0; i < 5; i++) {
          client.send('lost');
          yield* turns(5);
        }
        assert.equal(stage.flows.size, 1);
        const back = new UdpTarget(stage.target.address);
        // The first one behind an ICMP message goes out as well: the call that told of it had sent nothing.
        client.send('back');
        yield* back.expect(1);
        yield* client.expect('back');
        assert.equal(stage.counters.get('accepted'), 1);
        closeFd(back.fd);
        yield* turns(2);
      })(),
    );
    closeAll([client]);
    assert.equal(stage.logs.filter(([, line]) => line.includes('ECONNREFUSED')).length, 1);
    assert.equal(stage.unreachable, 1);
  });

  test('who is refused is counted, and no flood of lines', () => {
    const stage = new UdpStage({ access: [{ allow: [], deny: [] }] });
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        for (let i = 0; i < 100; i++) client.send('x');
        yield* until('all are refused', () => stage.counters.get('refused') === 100);
        assert.equal(stage.target.take(), 0);
      })(),
    );
    closeAll([client]);
    assert.ok(stage.said(`test: ACL refused from 127.0.0.1:`));
    // Ten a second, and the test may lie on both sides of the end of one.
    assert.ok(stage.logs.length <= 20, `${stage.logs.length} lines`);
    assert.ok(stage.entries.length <= 20);
    assert.equal(stage.entries[0], 'ACL refused from 127.0.0.1');
    assert.equal(stage.counters.get('accepted'), 0);
  });

  test('a target that is not there for many clients is no flood of lines either', () => {
    const stage = new UdpStage();
    const clients = clientsOf(stage, 100);
    stage.play(
      (function* (): Script {
        closeFd(stage.target.fd);
        for (const client of clients) client.send('x');
        yield* until('all flows are open', () => stage.flows.size === 100);
        yield* turns();
      })(),
    );
    closeAll(clients);
    const said = stage.logs.filter(([, line]) => line.includes('ECONNREFUSED')).length;
    assert.ok(said >= 10 && said <= 20, `${said} lines`);
    assert.equal(stage.unreachable, said);
  });

  test('each datagram to the target has the PROXY header, and answers have none', () => {
    const stage = new UdpStage({ proxyProtocol: 'v2' });
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('one', '', 'three');
        yield* stage.target.expect(3, true);
        const { port } = client.address;
        const ends = Buffer.from([127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0]);
        ends.writeUInt16BE(port, 8);
        ends.writeUInt16BE(stage.address.port, 10);
        const header = HEADER_OF_UDP4 + ends.toString('latin1');
        assert.equal(header.length, PROXY_V4_LENGTH);
        assert.deepEqual(
          stage.target.got.map(({ text }) => text),
          [`${header}one`, header, `${header}three`],
        );
        client.send('four');
        yield* stage.target.expect(1);
        yield* client.expect(`${header}four`);
      })(),
    );
    closeAll([client]);
    assert.equal(stage.counters.get('bytesFromClients'), 'onethreefour'.length);
  });

  test('a datagram that the header makes too long is dropped, and the others are not', () => {
    const stage = new UdpStage({ proxyProtocol: 'v2' });
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('before', 'x'.repeat(65_507), 'behind');
        yield* stage.target.expect(2, true);
        assert.deepEqual(
          stage.target.got.map(({ text }) => text.slice(PROXY_V4_LENGTH)),
          ['before', 'behind'],
        );
      })(),
    );
    closeAll([client]);
    assert.equal(stage.counters.get('dropped'), 1);
  });

  test('a client that asks two of our addresses gets each answer from the one that it asked', () => {
    const stage = new UdpStage({}, [{ ip: '0.0.0.0', port: 0 }]);
    const { port } = stage.address;
    const one = new UdpClient({ ip: '127.0.0.1', port });
    const other = new UdpClient({ ip: '127.0.0.99', port });
    stage.play(
      (function* (): Script {
        one.send('of one');
        other.send('of the other');
        yield* stage.target.expect(2);
        yield* one.expect('of one');
        yield* other.expect('of the other');
      })(),
    );
    closeAll([one, other]);
  });

  test('an IPv6 client reaches an IPv4 target', () => {
    const stage = new UdpStage({}, [{ ip: '::', port: 0 }]);
    const client = new UdpClient({ ip: '::1', port: stage.address.port });
    stage.play(
      (function* (): Script {
        client.send('six');
        yield* stage.target.expect(1);
        yield* client.expect('six');
      })(),
    );
    closeAll([client]);
    assert.deepEqual(stage.entries, ['Transparent   1 ::1 -> target:1']);
  });

  test('flows come from the source of the service, to an address of its family', () => {
    const target = new UdpTarget();
    const to = [{ ip: '::1', port: target.address.port }, target.address];
    const stage = new UdpStage({ source: '127.0.0.9' }, undefined, [to]);
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* target.expect(1);
        assert.equal(target.got[0]?.from.ip, '127.0.0.9');
        yield* client.expect('x');
      })(),
    );
    closeAll([client]);
    closeFd(target.fd);
  });

  test('a flow that no address will do for says why, and the next datagram tries again', () => {
    const stage = new UdpStage({ source: '192.0.2.1' });
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* until('it is refused', () => stage.counters.get('refused') === 1);
        client.send('x');
        yield* until('so is the next', () => stage.counters.get('refused') === 2);
      })(),
    );
    closeAll([client]);
    assert.ok(stage.said('EADDRNOTAVAIL (no address of this host is 192.0.2.1)'), JSON.stringify(stage.logs));
    // That says nothing about the target.
    assert.equal(stage.unreachable, 0);
  });

  test('a target that is ourselves is refused before it goes round', () => {
    const stage = new UdpStage({}, undefined, [[{ ip: '127.0.0.1', port: 1 }]]);
    stage.site.setAddresses(0, [stage.address]);
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* until('it is refused', () => stage.counters.get('refused') === 1);
        yield* turns();
        assert.equal(stage.flows.size, 1);
        assert.equal(stage.counters.get('refused'), 1);
      })(),
    );
    closeAll([client]);
    assert.ok(stage.said('loop: the datagram is our own'));
  });

  test('without a target, a datagram that TPROXY did not bring has nowhere to go', () => {
    const stage = new UdpStage({ targets: [], intercept: 'tproxy' }, [{ ip: '0.0.0.0', port: 0 }], []);
    const client = new UdpClient({ ip: '127.0.0.1', port: stage.address.port });
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* until('it is refused', () => stage.counters.get('refused') === 1);
      })(),
    );
    closeAll([client]);
    assert.ok(stage.said('no original destination'));
  });

  test('with a target, it gets its answer from the address that it asked', () => {
    const stage = new UdpStage({ intercept: 'tproxy' }, [{ ip: '0.0.0.0', port: 0 }]);
    const client = new UdpClient({ ip: '127.0.0.42', port: stage.address.port });
    stage.play(
      (function* (): Script {
        client.send('x');
        yield* stage.target.expect(1);
        yield* client.expect('x');
      })(),
    );
    closeAll([client]);
  });

  test('a dump has a line for each flow', () => {
    const stage = new UdpStage();
    const [client] = clientsOf(stage, 1) as [UdpClient];
    stage.play(
      (function* (): Script {
        client.send('12345');
        yield* stage.target.expect(1, true);
        const [line, ...more] = stage.flows.describe();
        assert.deepEqual(more, []);
        const { port } = client.address;
        const what = `test: flow of client 127.0.0.1:${port}, upstream 127.0.0.1:${localAddress(stage.target.fd)?.port}`;
        assert.ok(line?.startsWith(`${what}: 5 bytes from the client, 0 bytes to it, age `), line);
      })(),
    );
    closeAll([client]);
  });
});

describe('an inlet', () => {
  /** The flows of a service that goes somewhere else, by the same inlets. */
  const succeed = (stage: UdpStage, target: UdpTarget): Flows => {
    const { site } = stage;
    const next = new Site(1, { ...site.service, name: 'next' }, site.thread, site.parts, [[target.address]], 0);
    const flows = new Flows(next, stage.flows.ownFlows);
    for (const inlet of stage.inlets) assert.equal(serveUdp(flows, inlet.fd, null, inlet), inlet);
    return flows;
  };

  /** Waits for so many datagrams, and says them back. */
  function* answer(target: UdpTarget, count: number): Script {
    target.got.length = 0;
    yield* until(`${count} datagrams for the other target`, () => {
      target.take();
      return target.got.length >= count;
    });
  }

  test('that another service has from now on lets open flows go on, and begins new ones there', () => {
    const before = openDescriptors();
    const stage = new UdpStage({}, [{ ip: '0.0.0.0', port: 0 }]);
    const other = new UdpTarget();
    const to = { ip: '127.0.0.1', port: stage.address.port };
    const clients = [new UdpClient(to), new UdpClient(to)];
    const [old, young] = clients as [UdpClient, UdpClient];
    stage.play(
      (function* (): Script {
        old.send('1');
        yield* stage.target.expect(1);
        yield* old.expect('1');
        const next = succeed(stage, other);
        young.send('2');
        yield* answer(other, 1);
        yield* young.expect('2');
        old.send('3');
        yield* stage.target.expect(1);
        yield* old.expect('3');
        assert.deepEqual([stage.flows.size, next.size], [1, 1]);
        // Its client begins anew, and comes to the other.
        stage.flows.close('the test says so');
        old.send('4');
        yield* answer(other, 1);
        yield* old.expect('4');
        assert.deepEqual([stage.flows.size, next.size], [0, 2]);
        next.close('the test says so');
      })(),
    );
    closeAll(clients);
    closeFd(other.fd);
    assert.equal(stage.thread.flowSockets, 0);
    assert.equal(openDescriptors(), before);
  });

  test('that is left ends its flows, those of services before too, and not those of another inlet', () => {
    const local = { ip: '127.0.0.1', port: 0 };
    const stage = new UdpStage({}, [local, local]);
    const other = new UdpTarget();
    const [left, stays] = stage.inlets as [Inlet, Inlet];
    const clients = [left, stays, left].map(({ address }) => new UdpClient(address));
    const [first, second, third] = clients as [UdpClient, UdpClient, UdpClient];
    stage.play(
      (function* (): Script {
        first.send('1');
        second.send('2');
        yield* stage.target.expect(2);
        const next = succeed(stage, other);
        third.send('3');
        yield* answer(other, 1);
        left.leave(true);
        assert.deepEqual([stage.flows.size, next.size], [1, 0]);
        second.send('4');
        yield* stage.target.expect(1);
        yield* second.expect('2', '4');
        stays.leave(true);
        assert.deepEqual([stage.flows.size, next.size], [0, 0]);
      })(),
    );
    closeAll(clients);
    closeFd(other.fd);
    assert.equal(stage.counters.get('open'), 0);
    assert.equal(stage.thread.flowSockets, 0);
  });

  test('that is left takes what waits there before', () => {
    const stage = new UdpStage();
    const [client] = clientsOf(stage, 1) as [UdpClient];
    const [inlet] = stage.inlets as [Inlet];
    stage.play(
      (function* (): Script {
        client.send('1');
        inlet.leave(true);
        yield* stage.target.expect(1);
        assert.equal(stage.flows.size, 0);
      })(),
    );
    closeAll([client]);
  });
});
