import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  commandBeginning,
  readActive,
  readEpsv,
  readPassive,
  writeActive,
  writePassive,
} from '../../src/protocol/ftp.js';

const V4 = '192.0.2.7';
const V6 = '2001:db8::7';

describe('PORT and EPRT', () => {
  for (const [verb, argument, client, port] of [
    ['PORT', '192,0,2,7,4,0', V4, 1024],
    ['PORT', '192,0,2,7,255,255', V4, 65_535],
    ['PORT', '192,000,02,7,019,136', V4, 5000],
    ['EPRT', '|1|192.0.2.7|5282|', V4, 5282],
    ['EPRT', '!1!192.0.2.7!5282!', V4, 5282],
    ['EPRT', '|2|2001:db8::7|5282|', V6, 5282],
    ['EPRT', '|2|2001:0DB8:0:0:0:0:0:7|5282|', V6, 5282],
    ['EPRT', '|2|fe80::7|5282|', 'fe80::7%3', 5282],
  ] as const) {
    test(`${verb} ${argument} is understood`, () => {
      assert.deepEqual(readActive(verb, argument, client), { port });
    });
  }

  for (const [verb, argument, client, code] of [
    ['PORT', '', V4, 501],
    ['PORT', '192,0,2,7,20', V4, 501],
    ['PORT', '192,0,2,7,20,21,22', V4, 501],
    ['PORT', '192,0,2,256,20,21', V4, 501],
    ['PORT', '192,0,2,7,256,1', V4, 501],
    ['PORT', '192,0,2,7,-1,1', V4, 501],
    ['PORT', '192.0.2.7,20,21', V4, 501],
    ['PORT', '192, 0,2,7,20,21', V4, 501],
    ['PORT', '192,0,2,7,20,21\r', V4, 501],
    ['PORT', '192,0,2,8,20,21', V4, 500],
    ['PORT', '127,0,0,1,20,21', V4, 500],
    ['PORT', '192,0,2,7,3,255', V4, 500],
    ['PORT', '192,0,2,7,0,0', V4, 500],
    ['PORT', '192,0,2,7,20,21', V6, 522],
    ['EPRT', '', V4, 501],
    ['EPRT', '|1|192.0.2.7|5282', V4, 501],
    ['EPRT', '|1|192.0.2.7|5282||', V4, 501],
    ['EPRT', '|1|192.0.2.7|5282|x', V4, 501],
    ['EPRT', 'x|1|192.0.2.7|5282|', V4, 501],
    ['EPRT', '|1|192.0.2.07|5282|', V4, 501],
    ['EPRT', '|1|2001:db8::7|5282|', V6, 501],
    ['EPRT', '|2|192.0.2.7|5282|', V4, 501],
    ['EPRT', ':2:2001:db8::7:5282:', V6, 501],
    ['EPRT', '|1|192.0.2.7|65536|', V4, 501],
    ['EPRT', '|1|192.0.2.7||', V4, 501],
    ['EPRT', '|1|192.0.2.7|0x14a2|', V4, 501],
    ['EPRT', '|x|192.0.2.7|5282|', V4, 501],
    ['EPRT', '|3|192.0.2.7|5282|', V4, 522],
    ['EPRT', '|2|2001:db8::7|5282|', V4, 522],
    ['EPRT', '|1|192.0.2.7|5282|', V6, 522],
    ['EPRT', '|1|192.0.2.8|5282|', V4, 500],
    ['EPRT', '|2|2001:db8::8|5282|', V6, 500],
    ['EPRT', '|2|2001:db8::7|1023|', V6, 500],
  ] as const) {
    test(`${verb} ${JSON.stringify(argument)} of ${client} is refused with ${code}`, () => {
      const outcome = readActive(verb, argument, client);
      assert.ok('refusal' in outcome, JSON.stringify(outcome));
      assert.equal(outcome.refusal.slice(0, 4), `${code} `);
    });
  }

  test('a refusal for the protocol names the one that the client has', () => {
    assert.match((readActive('EPRT', '|2|2001:db8::7|5282|', V4) as { refusal: string }).refusal, /use \(1\)/);
    assert.match((readActive('PORT', '192,0,2,7,20,21', V6) as { refusal: string }).refusal, /use \(2\)/);
  });

  test('are written so that they are read the same', () => {
    assert.equal(writeActive('PORT', { ip: V4, port: 5282 }), 'PORT 192,0,2,7,20,162');
    assert.equal(writeActive('EPRT', { ip: V4, port: 5282 }), 'EPRT |1|192.0.2.7|5282|');
    assert.equal(writeActive('EPRT', { ip: V6, port: 5282 }), 'EPRT |2|2001:db8::7|5282|');
    assert.equal(writeActive('EPRT', { ip: 'fe80::1%2', port: 5282 }), 'EPRT |2|fe80::1|5282|');
  });
});

describe('EPSV', () => {
  for (const [argument, client, outcome] of [
    ['', V4, false],
    ['1', V4, false],
    ['2', V6, false],
    ['ALL', V4, true],
    ['all', V6, true],
    ['2', V4, '522'],
    ['1', V6, '522'],
    ['3', V4, '522'],
    ['ALLES', V4, '501'],
    ['x', V4, '501'],
  ] as const) {
    test(`EPSV ${argument} over ${client} is ${outcome === false ? 'a port asked for' : outcome}`, () => {
      const read = readEpsv(argument, client);
      assert.equal('refusal' in read ? read.refusal.slice(0, 3) : read.all, outcome);
    });
  }
});

describe('227 and 229', () => {
  for (const [code, reply, port] of [
    [227, '227 Entering Passive Mode (192,0,2,9,20,162).\r\n', 5282],
    [227, '227 Entering Passive Mode. 192,0,2,9,20,162\r\n', 5282],
    [227, '227 =192,0,2,9,20,162\n', 5282],
    [227, '227-Entering\r\n 1,2\r\n227 Passive (192,0,2,9,20,162)\r\n', 5282],
    [227, '227-(192,0,2,9,20,162)\r\n227 End\r\n', 5282],
    [227, '227-(192,0,2,9,20,162)\r\n227 (192,0,2,9,20,163)\r\n', 5283],
    [227, '227 Entering Passive Mode (192,0,2,9,3,255).\r\n', null],
    [227, '227 Entering Passive Mode (192,0,2,9,256,1).\r\n', null],
    [227, '227 Entering Passive Mode (192,0,2,9,20).\r\n', null],
    [227, '227 Entering Passive Mode (192,0,2,9,20,162,1).\r\n', null],
    [227, '227 Entering Passive Mode (1192,0,2,9,20,162).\r\n', null],
    [227, '227 Entering Extended Passive Mode (|||5282|)\r\n', null],
    [229, '229 Entering Extended Passive Mode (|||5282|)\r\n', 5282],
    [229, '229 (!!!5282!)\r\n', 5282],
    [229, '229-one\r\n229 (|||5282|)\r\n', 5282],
    [229, '229 (|||1023|)\r\n', null],
    [229, '229 (|||65536|)\r\n', null],
    [229, '229 (|||99999|)\r\n', null],
    [229, '229 (|||999999|)\r\n', null],
    [229, '229 (||5282|)\r\n', null],
    [229, '229 (|||5282)\r\n', null],
    [229, '229 (||!5282|)\r\n', null],
    [229, '229 (|1|192.0.2.9|5282|)\r\n', null],
    [229, '229 Entering Passive Mode (192,0,2,9,20,162).\r\n', null],
  ] as const) {
    test(`${JSON.stringify(reply)} names ${port === null ? 'no port' : port}`, () => {
      assert.equal(readPassive(code, reply), port);
    });
  }

  test('are written so that they are read the same', () => {
    for (const code of [227, 229] as const) {
      for (const port of [1024, 5282, 65_535]) {
        assert.equal(readPassive(code, writePassive(code, { ip: V4, port })), port);
      }
    }
  });
});

describe('the beginning of a command', () => {
  for (const [text, is] of [
    ['PORT 1', 'PORT'],
    ['pAsV\r\n', 'PASV'],
    ['EPSV\n', 'EPSV'],
    ['AUTH\tTLS', 'AUTH'],
    ['EPRT', 'incomplete'],
    ['P', 'incomplete'],
    ['ep', 'incomplete'],
    ['', 'incomplete'],
    ['\r', 'incomplete'],
    ['\r\n', 'empty'],
    ['\n', 'empty'],
    ['PORTS', 'other'],
    ['PASS secret', 'other'],
    ['PASVX\r\n', 'other'],
    ['PO\r\n', 'other'],
    ['LIST', 'other'],
    ['\x16\x03\x01', 'other'],
    ['PA\xdfV ', 'other'],
  ] as const) {
    test(`${JSON.stringify(text)} is ${is}`, () => {
      const bytes = Buffer.from(`${text}PASV`, 'latin1');
      assert.equal(commandBeginning(bytes, 0, text.length), is);
    });
  }
});
