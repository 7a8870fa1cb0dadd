import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parsePort, readServices } from '../../src/config/ports.js';
import { UsageError } from '../../src/config/usage-error.js';

describe('parsePort', () => {
  it('reads the numbers from 1 to 65535, in decimal also with leading zeros', () => {
    for (const [text, port] of [
      ['1', 1],
      ['80', 80],
      ['0080', 80],
      ['65535', 65535],
    ] as const) {
      assert.equal(parsePort('port', text), port);
    }
  });

  it('refuses other numbers and what is not a number, with the name and the value', () => {
    for (const text of [
      '0',
      '65536',
      '99999999999999999999',
      '-1',
      '+80',
      '8 0',
      '0x50',
      '80.0',
      '',
      'no-such-service',
    ]) {
      assert.throws(
        () => parsePort('proxyport', text),
        (error) => error instanceof UsageError && error.message.startsWith(`proxyport: "${text}" is n`),
        text,
      );
    }
  });
});

describe('readServices', () => {
  it("tells udp's services from tcp's", () => {
    const text = 'domain 53/tcp\ndomain 53/udp\ntftp 69/udp\nsmtp 25/tcp mail\n';
    assert.deepEqual(
      [...readServices(text, 'udp')],
      [
        ['domain', 53],
        ['tftp', 69],
      ],
    );
    assert.deepEqual(
      [...readServices(text)],
      [
        ['domain', 53],
        ['smtp', 25],
        ['mail', 25],
      ],
    );
  });

  const services = readServices(
    [
      '# Network services, Internet style',
      'domain\t\t53/udp',
      'http\t\t80/tcp\t\twww www-http\t# WorldWideWeb',
      'http\t\t80/udp\t\tquic',
      '  squid 3128/tcp',
      'www\t\t8080/tcp',
      'broken 70000/tcp',
      'half',
      '',
    ].join('\n'),
  );

  it('knows TCP services by name and alias', () => {
    assert.equal(services.get('http'), 80);
    assert.equal(services.get('www-http'), 80);
    assert.equal(services.get('squid'), 3128);
  });

  it('lets the first line of a name win', () => {
    assert.equal(services.get('www'), 80);
  });

  it('leaves out UDP services, comments and broken lines', () => {
    assert.deepEqual([...services.keys()], ['http', 'www', 'www-http', 'squid']);
  });
});
