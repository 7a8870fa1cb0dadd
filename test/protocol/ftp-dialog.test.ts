import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import fc from 'fast-check';
import type { SocketAddress } from '../../src/address.js';
import { FtpDialog, type FtpEnds, type FtpRules } from '../../src/protocol/ftp-dialog.js';

const RULES: FtpRules = { active: true, passive: true, clientIp: '192.0.2.7', originIPv6: false };
const OVER_IPV6: FtpRules = { ...RULES, clientIp: '2001:db8::7', originIPv6: true };

/** A dialog and all that it did. */
class Control implements FtpEnds {
  readonly dialog: FtpDialog;
  origin = '';
  client = '';
  readonly listened: string[] = [];
  forgotten = 0;
  clientTakes = true;
  /** No port is to be had. */
  exhausted = false;
  readonly #ipv6: readonly [client: boolean, origin: boolean];

  constructor(rules: Partial<FtpRules> = {}, greeted = true) {
    const all = { ...RULES, ...rules };
    this.#ipv6 = [all.clientIp.includes(':'), all.originIPv6];
    this.dialog = new FtpDialog(this, all);
    if (greeted) {
      this.says('220 hello\r\n');
      this.client = '';
    }
  }

  toOrigin(bytes: Buffer, start: number, end: number): void {
    this.origin += bytes.toString('latin1', start, end);
  }

  toClient(bytes: Buffer, start: number, end: number): void {
    this.client += bytes.toString('latin1', start, end);
  }

  listenForClient(port: number): SocketAddress | null {
    this.listened.push(`client to ${port}`);
    return this.exhausted ? null : { ip: this.#ipv6[0] ? '2001:db8::1' : '10.0.0.1', port: 2561 };
  }

  listenForOrigin(port: number): SocketAddress | null {
    this.listened.push(`origin to ${port}`);
    return this.exhausted ? null : { ip: this.#ipv6[1] ? '2001:db8:1::1' : '10.0.1.1', port: 2562 };
  }

  forget(): void {
    this.forgotten++;
  }

  /** Bytes of the client's, cut behind each of `cuts`. */
  asks(text: string, cuts: readonly number[] = []): void {
    pieces(text, cuts).forEach((piece) => {
      this.dialog.fromClient(piece, piece.length);
    });
  }

  says(text: string, cuts: readonly number[] = []): void {
    pieces(text, cuts).forEach((piece) => {
      this.dialog.fromOrigin(piece, piece.length);
    });
  }
}

const pieces = (text: string, cuts: readonly number[]): Buffer[] => {
  const at = [...new Set([0, ...cuts.map((cut) => Math.min(cut, text.length)), text.length])].sort((a, b) => a - b);
  return at.slice(1).map((end, i) => Buffer.from(text.slice(at[i], end), 'latin1'));
};

const everywhere = (text: string): number[] => Array.from(text, (_, i) => i);

const PASSIVE = '227 Entering Passive Mode (10,0,0,1,10,1).\r\n';
const EXTENDED = '229 Entering Extended Passive Mode (|||2561|)\r\n';

interface Turn {
  readonly asks?: string;
  readonly says?: string;
}

interface Case {
  readonly title: string;
  readonly rules?: Partial<FtpRules>;
  readonly turns: readonly Turn[];
  readonly origin: string;
  readonly client: string;
  readonly listened?: readonly string[];
}

const CASES: readonly Case[] = [
  {
    title: 'PASV passes, and its 227 tells our address',
    turns: [{ asks: 'PASV\r\n' }, { says: '227 Entering Passive Mode (198,51,100,9,20,162).\r\n' }],
    origin: 'PASV\r\n',
    client: PASSIVE,
    listened: ['client to 5282'],
  },
  {
    title: 'case does not matter, nor does a bare LF, and what is sent on is a line as it should be',
    turns: [
      { asks: 'pasv\n' },
      { says: '227 =198,51,100,9,20,162\n' },
      { asks: 'ePsV 1 \n' },
      { says: '229 (|||5283|)\n' },
    ],
    origin: 'PASV\r\nEPSV\r\n',
    client: PASSIVE + EXTENDED,
    listened: ['client to 5282', 'client to 5283'],
  },
  {
    title: 'a 227 of several lines becomes one',
    turns: [
      { asks: 'PASV\r\n' },
      { says: '227-Here it is\r\n227-or not\r\n 227 \r\nwell\r\n227 (198,51,100,9,20,162)\r\n' },
    ],
    origin: 'PASV\r\n',
    client: PASSIVE,
    listened: ['client to 5282'],
  },
  {
    title: 'a 227 without a port that may be used is answered with 425',
    turns: [{ asks: 'PASV\r\n' }, { says: '227 Entering Passive Mode (198,51,100,9,0,22).\r\n' }],
    origin: 'PASV\r\n',
    client: "425 Can't open data connection: the server's reply names no port that may be used.\r\n",
  },
  {
    title: 'what refuses PASV passes',
    turns: [{ asks: 'PASV\r\n' }, { says: '530-Please\r\n530 log in.\r\n' }],
    origin: 'PASV\r\n',
    client: '530-Please\r\n530 log in.\r\n',
  },
  {
    title: 'a 227 that nobody asked for passes',
    turns: [{ asks: 'NOOP\r\n' }, { says: '227 Entering Passive Mode (198,51,100,9,20,162).\r\n' }],
    origin: 'NOOP\r\n',
    client: '227 Entering Passive Mode (198,51,100,9,20,162).\r\n',
  },
  {
    title: 'PORT and EPRT tell the origin our address, and their replies pass',
    turns: [
      { asks: 'PORT 192,0,2,7,20,162\r\n' },
      { says: '200 fine\r\n' },
      { asks: 'eprt |1|192.0.2.7|5283|\n' },
      { says: '200-very\r\n200 fine\r\n' },
    ],
    origin: 'PORT 10,0,1,1,10,2\r\nEPRT |1|10.0.1.1|2562|\r\n',
    client: '200 fine\r\n200-very\r\n200 fine\r\n',
    listened: ['origin to 5282', 'origin to 5283'],
  },
  {
    title: 'over IPv6, EPRT and EPSV do the same',
    rules: OVER_IPV6,
    turns: [
      { asks: 'EPRT |2|2001:db8::7|5282|\r\n' },
      { says: '200 fine\r\n' },
      { asks: 'EPSV 2\r\n' },
      { says: '229 Entering Extended Passive Mode (|||5283|)\r\n' },
    ],
    origin: 'EPRT |2|2001:db8:1::1|2562|\r\nEPSV\r\n',
    client: `200 fine\r\n${EXTENDED}`,
    listened: ['origin to 5282', 'client to 5283'],
  },
  {
    title: 'an address that is not the client’s is refused in the origin’s place',
    turns: [{ asks: 'PORT 192,0,2,8,20,162\r\nNOOP\r\n' }, { says: '200 noop\r\n' }],
    origin: 'NOOP\r\n',
    client: '500 Illegal PORT command: the address has to be your own.\r\n200 noop\r\n',
  },
  {
    title: 'a refusal of ours does not overtake the replies to commands before it',
    turns: [
      { asks: 'RETR a\r\nSTAT\r\nPORT 192,0,2,8,20,162\r\nNOOP\r\n' },
      { says: '150 here it comes\r\n226-there\r\n' },
      { says: '226 it was\r\n211 stat\r\n' },
      { says: '200 noop\r\n' },
    ],
    origin: 'RETR a\r\nSTAT\r\nNOOP\r\n',
    client:
      '150 here it comes\r\n226-there\r\n226 it was\r\n211 stat\r\n' +
      '500 Illegal PORT command: the address has to be your own.\r\n200 noop\r\n',
  },
  {
    title: 'pipelined data commands each wait for the replies before them',
    turns: [
      { asks: 'PORT 192,0,2,7,20,162\r\nRETR a\r\nPORT 192,0,2,7,20,163\r\nRETR b\r\nPASV\r\nQUIT\r\n' },
      { says: '200 port\r\n' },
      { says: '150 a\r\n' },
      { says: '226 a\r\n' },
      { says: '200 port\r\n' },
      { says: '150 b\r\n226 b\r\n' },
      { says: '227 (198,51,100,9,20,164)\r\n' },
      { says: '221 bye\r\n' },
    ],
    origin: 'PORT 10,0,1,1,10,2\r\nRETR a\r\nPORT 10,0,1,1,10,2\r\nRETR b\r\nPASV\r\nQUIT\r\n',
    client: `200 port\r\n150 a\r\n226 a\r\n200 port\r\n150 b\r\n226 b\r\n${PASSIVE}221 bye\r\n`,
    listened: ['origin to 5282', 'origin to 5283', 'client to 5284'],
  },
  {
    title: 'EPSV ALL, once accepted, has the other data commands refused',
    turns: [
      { asks: 'EPSV all\r\n' },
      { says: '200 all\r\n' },
      { asks: 'PASV\r\nPORT 192,0,2,7,20,162\r\nEPRT |1|192.0.2.7|5283|\r\nEPSV\r\n' },
      { says: '229 (|||5283|)\r\n' },
    ],
    origin: 'EPSV ALL\r\nEPSV\r\n',
    client:
      '200 all\r\n501 PASV is not allowed after EPSV ALL.\r\n501 PORT is not allowed after EPSV ALL.\r\n' +
      `501 EPRT is not allowed after EPSV ALL.\r\n${EXTENDED}`,
    listened: ['client to 5283'],
  },
  {
    title: 'EPSV ALL that the origin refused changes nothing',
    turns: [
      { asks: 'EPSV ALL\r\n' },
      { says: '500 what\r\n' },
      { asks: 'PASV\r\n' },
      { says: '227 (198,51,100,9,20,162)\r\n' },
    ],
    origin: 'EPSV ALL\r\nPASV\r\n',
    client: `500 what\r\n${PASSIVE}`,
    listened: ['client to 5282'],
  },
  {
    title: 'behind an accepted AUTH all passes',
    turns: [
      { asks: 'AUTH TLS\r\n' },
      { says: '234 go on\r\n' },
      { asks: 'PASV\nPORT 1,2,3,4,5,6\n\x16' },
      { says: '227 (198,51,100,9,20,162)\n\x16' },
    ],
    origin: 'AUTH TLS\r\nPASV\nPORT 1,2,3,4,5,6\n\x16',
    client: '234 go on\r\n227 (198,51,100,9,20,162)\n\x16',
  },
  {
    title: 'what was sent behind AUTH before its reply passes too',
    turns: [{ asks: 'auth ssl\r\n\x16\x03\x01PASV\r\n' }, { says: '234-go\r\n234 on\r\n\x16x' }, { asks: '\x17y' }],
    origin: 'auth ssl\r\n\x16\x03\x01PASV\r\n\x17y',
    client: '234-go\r\n234 on\r\n\x16x',
  },
  {
    title: 'a refused AUTH changes nothing',
    turns: [{ asks: 'AUTH TLS\r\nPASV\r\n' }, { says: '530 no\r\n' }, { says: '227 (198,51,100,9,20,162)\r\n' }],
    origin: 'AUTH TLS\r\nPASV\r\n',
    client: `530 no\r\n${PASSIVE}`,
    listened: ['client to 5282'],
  },
  {
    title: 'an IPv4 client is brought together with an IPv6 origin',
    rules: { originIPv6: true },
    turns: [
      { asks: 'PASV\r\n' },
      { says: '229 (|||5282|)\r\n' },
      { asks: 'PORT 192,0,2,7,20,163\r\n' },
      { says: '200 EPRT fine\r\n' },
      { asks: 'EPSV 1\r\n' },
      { says: '229 (|||5284|)\r\n' },
      { asks: 'EPSV ALL\r\n' },
      { says: '200 all\r\n' },
    ],
    origin: 'EPSV\r\nEPRT |2|2001:db8:1::1|2562|\r\nEPSV\r\nEPSV ALL\r\n',
    client: `${PASSIVE}200 EPRT fine\r\n${EXTENDED}200 all\r\n`,
    listened: ['client to 5282', 'origin to 5283', 'client to 5284'],
  },
  {
    title: 'an IPv6 client is brought together with an IPv4 origin',
    rules: { clientIp: '2001:db8::7' },
    turns: [
      { asks: 'EPSV\r\n' },
      { says: '227 (198,51,100,9,20,162)\r\n' },
      { asks: 'EPRT |2|2001:db8::7|5283|\r\n' },
      { says: '200 PORT fine\r\n' },
      { asks: 'EPSV ALL\r\nPASV\r\n' },
    ],
    origin: 'PASV\r\nPORT 10,0,1,1,10,2\r\n',
    client: `${EXTENDED}200 PORT fine\r\n504 EPSV ALL is not possible here.\r\n522 PASV is for IPv4, use EPSV.\r\n`,
    listened: ['client to 5282', 'origin to 5283'],
  },
  {
    title: 'what is not followed passes byte for byte',
    rules: { active: false },
    turns: [
      { asks: 'port 1,2,3,4,5,6\nEPRT x\r\nPASV\r\n' },
      { says: '200 a\r\n200 b\r\n' },
      { says: '227 (198,51,100,9,20,162)\r\n' },
    ],
    origin: 'port 1,2,3,4,5,6\nEPRT x\r\nPASV\r\n',
    client: `200 a\r\n200 b\r\n${PASSIVE}`,
    listened: ['client to 5282'],
  },
  {
    title: 'without the passive ones, PASV and its 227 pass byte for byte',
    rules: { passive: false },
    turns: [
      { asks: 'Pasv x\nEPSV ALL\nPORT 192,0,2,7,20,162\n' },
      { says: '227 (1,2,3,4,5,6)\n200 all\n' },
      { says: '200 port\n' },
    ],
    origin: 'Pasv x\nEPSV ALL\nPORT 10,0,1,1,10,2\r\n',
    client: '227 (1,2,3,4,5,6)\n200 all\n200 port\n',
    listened: ['origin to 5282'],
  },
  {
    title: 'telnet bytes, empty lines, and lines that are no commands pass untouched',
    turns: [
      { asks: '\r\n\n\xff\xf4\xff\xf2ABOR\r\nSITE \xff\xff\x00\r\n \tNOOP\r\n' },
      { says: '426 a\r\n226 b\r\nnot a reply\r\n1\r\n200 c\r\n' },
      { asks: '\xff\xf4\xffPASV\r\n' },
      { says: '227 (198,51,100,9,20,162)\r\n' },
    ],
    origin: '\r\n\n\xff\xf4\xff\xf2ABOR\r\nSITE \xff\xff\x00\r\n \tNOOP\r\n\xff\xf4\xffPASV\r\n',
    client: `426 a\r\n226 b\r\nnot a reply\r\n1\r\n200 c\r\n${PASSIVE}`,
    listened: ['client to 5282'],
  },
  {
    title: 'a long line that is no command of ours passes, and one that is gets refused',
    turns: [
      { asks: `STOR ${'x'.repeat(9000)}\r\n` },
      { says: `150 ${'y'.repeat(9000)}\r\n226 done\r\n` },
      { asks: `PORT ${' '.repeat(600)}192,0,2,8,20,162\r\nNOOP\r\n` },
      { says: '200 noop\r\n' },
    ],
    origin: `STOR ${'x'.repeat(9000)}\r\nNOOP\r\n`,
    client: `150 ${'y'.repeat(9000)}\r\n226 done\r\n500 Line too long.\r\n200 noop\r\n`,
  },
  {
    title: 'a 227 that does not end in time is left out',
    turns: [
      { asks: 'PASV\r\nNOOP\r\n' },
      { says: `227-${'y'.repeat(3000)}\r\n${'y'.repeat(3000)}\r\n227 (198,51,100,9,20,162)\r\n200 noop\r\n` },
    ],
    origin: 'PASV\r\nNOOP\r\n',
    client: "425 Can't open data connection: the server's reply names no port that may be used.\r\n200 noop\r\n",
  },
];

describe('a control connection', () => {
  for (const { title, rules, turns, origin, client, listened = [] } of CASES) {
    const check = (cutsOf: (text: string, turn: number) => readonly number[]): void => {
      const control = new Control(rules);
      turns.forEach(({ asks, says }, i) => {
        if (asks !== undefined) control.asks(asks, cutsOf(asks, i));
        if (says !== undefined) control.says(says, cutsOf(says, i));
      });
      assert.equal(control.origin, origin);
      assert.equal(control.client, client);
      assert.deepEqual(control.listened, listened);
    };

    test(title, () => {
      check(() => []);
    });

    test(`${title}, byte by byte`, () => {
      check(everywhere);
    });

    test(`${title}, however it is cut`, () => {
      const cuts = fc.array(fc.array(fc.nat(120), { maxLength: 8 }), {
        minLength: turns.length,
        maxLength: turns.length,
      });
      fc.assert(
        fc.property(cuts, (all) => check((_, i) => all[i] ?? [])),
        { numRuns: 50 },
      );
    });
  }

  test('nothing is asked of the origin before its greeting, and what is no data command passes', () => {
    const control = new Control({}, false);
    control.asks('PASV\r\n');
    assert.equal(control.origin, '');
    assert.equal(control.dialog.stopped, true);
    control.says('120 wait\r\n');
    assert.equal(control.origin, '');
    control.says('220 hello\r\n');
    assert.equal(control.origin, 'PASV\r\n');
    assert.equal(control.dialog.stopped, false);
  });

  test('a reply of ours waits until the client has taken those before it', () => {
    const control = new Control();
    control.clientTakes = false;
    control.asks('PORT 1,2,3,4,5,6\r\nNOOP\r\n');
    assert.deepEqual([control.client, control.origin, control.dialog.stopped], ['', '', true]);
    assert.equal(control.dialog.canResume, false);
    control.clientTakes = true;
    assert.equal(control.dialog.canResume, true);
    control.dialog.resume();
    assert.match(control.client, /^500 /);
    assert.equal(control.origin, 'NOOP\r\n');
  });

  test('a reply of ours does not come between the lines of one of the origin', () => {
    const control = new Control();
    control.says('421-I am about\r\n');
    control.asks('PORT 1,2,3,4,5,6\r\n');
    assert.equal(control.client, '421-I am about\r\n');
    control.says('421 to leave\r\n');
    assert.match(control.client, /^421-I am about\r\n421 to leave\r\n500 /);
  });

  test('where no port is to be had the client gets a 425, and the origin no command of it', () => {
    const control = new Control();
    control.exhausted = true;
    control.asks('PORT 192,0,2,7,20,162\r\n');
    assert.equal(control.client, "425 Can't open data connection.\r\n");
    assert.equal(control.origin, '');
    control.asks('PASV\r\n');
    control.says('227 (198,51,100,9,20,162)\r\n');
    assert.equal(control.client, "425 Can't open data connection.\r\n".repeat(2));
  });

  test('what was made ready is forgotten with the next PASV, and with a PORT that the origin refuses', () => {
    const control = new Control();
    control.asks('PORT 192,0,2,7,20,162\r\n');
    control.says('200 fine\r\n');
    assert.equal(control.forgotten, 0);
    control.asks('PASV\r\n');
    assert.equal(control.forgotten, 1);
    control.says('227 (198,51,100,9,20,162)\r\n');
    control.asks('PORT 192,0,2,7,20,162\r\n');
    control.says('500 no\r\n');
    assert.equal(control.forgotten, 2);
  });

  test('replies that never come are given up, and the commands that waited for them go on', () => {
    const control = new Control();
    control.asks('ABOR\r\nSTAT\r\nPASV\r\nNOOP\r\n');
    control.says('226 both at once\r\n');
    assert.equal(control.origin, 'ABOR\r\nSTAT\r\n');
    control.dialog.giveUpWaiting();
    assert.equal(control.origin, 'ABOR\r\nSTAT\r\nPASV\r\n');
    control.says('227 (198,51,100,9,20,162)\r\n');
    assert.equal(control.client, `226 both at once\r\n${PASSIVE}`);
    assert.equal(control.origin, 'ABOR\r\nSTAT\r\nPASV\r\nNOOP\r\n');
  });

  test('a 227 that stops in the middle passes when it is given up', () => {
    const control = new Control();
    control.asks('PASV\r\nNOOP\r\n');
    control.says('227 (198,51');
    assert.equal(control.client, '');
    control.dialog.giveUpWaiting();
    assert.equal(control.client, '227 (198,51');
    assert.equal(control.origin, 'PASV\r\nNOOP\r\n');
  });

  test('what ends in the middle of a line passes as far as it came', () => {
    const control = new Control();
    control.asks('NOOP\r\nPAS');
    control.dialog.clientEnds();
    control.says('22');
    control.dialog.originEnds();
    assert.deepEqual([control.origin, control.client], ['NOOP\r\nPAS', '22']);
  });

  test('lines of a reply that is waited for are looked at once, in however many pieces they come', () => {
    const control = new Control();
    control.asks('PASV\r\n');
    const lines = 2000;
    const text = `227-\n${'\n'.repeat(lines)}227 (198,51,100,9,20,162)\n`;
    const looks = mock.method(Buffer.prototype, 'toString');
    control.says(text, everywhere(text));
    looks.mock.restore();
    assert.equal(control.client, PASSIVE);
    // Each line, and the first once for each piece.
    assert.ok(looks.mock.callCount() < 3 * text.length, `${looks.mock.callCount()} looks at ${lines} lines`);
  });

  test('a command without an end takes no memory', () => {
    const control = new Control();
    const piece = 'PORT'.repeat(1000);
    control.asks('PORT ');
    for (let i = 0; i < 1000; i++) control.asks(piece);
    assert.equal(control.client, '500 Line too long.\r\n');
    control.asks('\r\nNOOP\r\n');
    assert.equal(control.origin, 'NOOP\r\n');
  });
});

/** An origin that answers each line that it gets, and a client's idea of what it should get for each. */
const COMMANDS: readonly (readonly [command: string, code: string])[] = [
  ['NOOP\r\n', '200'],
  ['noop\n', '200'],
  ['RETR a\r\n', '150,226'],
  ['STAT\r\n', '211'],
  ['\xff\xf4\xff\xf2ABOR\r\n', '225'],
  ['PASV\r\n', '227'],
  ['EPSV\r\n', '229'],
  ['PORT 192,0,2,7,20,162\r\n', '200'],
  ['PORT 192,0,2,8,20,162\r\n', '500'],
  ['PORT 192,0,2,7,0,162\n', '500'],
  ['EPRT |2|::1|5282|\r\n', '522'],
  ['EPSV 7\r\n', '522'],
  ['AUTH TLS\r\n', '530'],
  [`EPRT ${'x'.repeat(700)}\r\n`, '500'],
];

const answer = (line: string): string => {
  const verb = line
    .replace(/[\xf0-\xff]/g, '')
    .slice(0, 4)
    .toUpperCase();
  if (verb === 'RETR') return '150 coming\r\n226-came\r\n226 all\r\n';
  if (verb === 'STAT') return '211-Status\r\n 212 no\r\n211 End\r\n';
  if (verb === 'ABOR') return '225 ok\r\n';
  if (verb === 'PASV') return '227 Entering Passive Mode (198,51,100,9,20,162).\r\n';
  if (verb === 'EPSV') return '229-so\r\n229 Entering (|||5282|)\r\n';
  if (verb === 'AUTH') return '530 no\r\n';
  return '200 ok\r\n';
};

describe('a client that pipelines', () => {
  test('gets one reply for each command, in their order, whatever comes when', () => {
    const command = fc.constantFrom(...COMMANDS);
    fc.assert(
      fc.property(fc.array(command, { maxLength: 20 }), fc.array(fc.nat(60)), (commands, steps) => {
        const control = new Control();
        let unsent = commands.map(([text]) => text).join('');
        let answered = 0;
        let replies = '';
        const work = (step: number): void => {
          if (unsent !== '' && !control.dialog.stopped && step % 2 === 0) {
            control.asks(unsent.slice(0, step));
            unsent = unsent.slice(step);
          }
          for (let lf = control.origin.indexOf('\n', answered); lf >= 0; lf = control.origin.indexOf('\n', answered)) {
            replies += answer(control.origin.slice(answered, lf + 1));
            answered = lf + 1;
          }
          if (step % 2 === 1 && replies !== '') {
            control.says(replies.slice(0, step));
            replies = replies.slice(step);
          }
        };
        for (const step of steps) work(step);
        const busy = (): boolean => unsent !== '' || replies !== '' || answered < control.origin.length;
        for (let i = 0; i < 2000 && busy(); i++) work(40 + (i % 2));
        const codes = [...control.client.matchAll(/^(\d{3}) /gm)].map(([, code]) => code);
        assert.deepEqual(
          codes,
          commands.flatMap(([, code]) => code.split(',')),
        );
      }),
      { numRuns: 300 },
    );
  });
});

describe('hostile bytes', () => {
  const token = fc.oneof(
    fc.constantFrom(
      'PORT ',
      'EPRT |',
      'PASV',
      'EPSV ALL',
      'AUTH',
      '\r',
      '\n',
      '\r\n',
      ' ',
      '\xff',
      '227',
      '229-',
      '234 ',
    ),
    fc.constantFrom('227 (1,2,3,4,5,6)', '(|||5282|)', '-', '1,2,3,4,5,6', '|1|192.0.2.7|5282|', 'x'.repeat(600)),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );

  test('of both ends never throw, and what is not written anew passes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), token), { maxLength: 40 }), (said) => {
        const control = new Control();
        for (const [byClient, text] of said) {
          if (byClient) control.asks(text);
          else control.says(text);
        }
        control.dialog.giveUpWaiting();
        for (const line of control.origin.split('\n')) {
          if (!control.dialog.released)
            assert.doesNotMatch(line, /^[ \t\xf0-\xff]*(?:PORT (?!10,0,1,1,)|EPRT \|1\|(?!10))/i);
        }
      }),
    );
  });
});
