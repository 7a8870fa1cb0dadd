import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { unless } from '../support/needs.js';
import { listeningPorts, observe, type Seen, start, startOrigin, type Which } from '../support/rinetd.js';
import type { Probe } from '../support/rinetd-clients.js';
import { buildGateway } from '../support/tproxy.js';

const DOCUMENTS = new URL('../../../docs/', import.meta.url);
const PORT = 7000;
const [originV4, originV6] = ADDRESS.internet;
const [routerV4, routerV6] = ADDRESS.routerToClient;
const [sourceV4] = ADDRESS.routerToInternet;
/** Other addresses of the hosts. */
const OTHER = { source: '10.77.2.9', client: '10.77.1.21', client2: '10.77.1.22', clientV6: 'fd77:1::21' } as const;
const [A] = ADDRESS.client;
const [, A6] = ADDRESS.client;
const { client: B, client2: C, clientV6: B6 } = OTHER;

const tcp = (from: string, port = 8000, to: string = from.includes(':') ? routerV6 : routerV4): Probe => ({
  from,
  to,
  port,
  by: 'tcp',
});
const udp = (from: string, port = 8000, pause?: number): Probe => ({
  ...tcp(from, port),
  by: 'udp',
  ...(pause !== undefined && { pause }),
});
/** Clients of three addresses of IPv4. */
const three = (port = 8000): Probe[] => [A, B, C].map((from) => tcp(from, port));

/** Drops lines of the log. */
const without =
  (pattern: RegExp) =>
  (seen: Seen): Seen => ({ ...seen, log: seen.log.filter((line) => !pattern.test(line)) });
/** Puts other words into the log. */
const inLog =
  (pattern: RegExp, put: string) =>
  (seen: Seen): Seen => ({ ...seen, log: seen.log.map((line) => line.replace(pattern, put)).toSorted() });

interface Difference {
  readonly document: 'rinetd.md' | 'logs.md';
  /** The words by which the document has it. */
  readonly words: string;
  /** Makes of what rinetd did what we do, or takes out of what we did what rinetd does not. */
  readonly mend?: Partial<Record<Which, (seen: Seen) => Seen>>;
}

/** All that the files below may differ in. Where there is no `mend`, a case says what we do. */
const DIFFERENCES = {
  notAllowed: {
    document: 'logs.md',
    words: '| a client that is not allowed is `denied` | `not-allowed` |',
    mend: { rinetd: inLog(/(?<=[\t/])denied(?=$| HTTP)/, 'not-allowed') },
  },
  denied: {
    document: 'logs.md',
    words: '| a client that is denied is what stands in memory behind the words, such as `(null)` | `denied` |',
    mend: {
      rinetd: inLog(/(?<=\t0\t0\t|\/7000\/)(?!opened|denied|not-allowed|local-|done-).*?(?=$| HTTP)/, 'denied'),
    },
  },
  firstOfUdp: {
    document: 'logs.md',
    words: '| `opened` of a flow of UDP has the bytes of the first datagram | 0 |',
    mend: { rinetd: inLog(/\t4\t0\topened$/, '\t0\t0\topened') },
  },
  flowEnds: {
    document: 'logs.md',
    words: '| a flow of UDP that times out has no line | one |',
    mend: { tproxy: without(/\t4\t200\tdone-timed-out$/) },
  },
  stopped: {
    document: 'logs.md',
    words: '| a connection that is open when the program ends has no line | `done-stopped` |',
    mend: { tproxy: without(/\t[48]\t[24]00\tdone-stopped$/) },
  },
  mapped: {
    document: 'logs.md',
    words: '| a client that comes by IPv4 over an IPv6 socket is `::ffff:192.0.2.7` | `192.0.2.7` |',
    mend: { rinetd: inLog(/::ffff:(?=\d+\.)/, '') },
  },
  zero: {
    document: 'logs.md',
    words: '| `0` as the address of a rule is `0` | `0.0.0.0` |',
    mend: { rinetd: inLog(/\t0\t8000\t/, '\t0.0.0.0\t8000\t') },
  },
  connectFailed: {
    document: 'logs.md',
    words:
      '| a target that refuses the connection is `done-local-closed`, with bytes it never got | `local-connect-failed -`',
    mend: { rinetd: inLog(/\d+\t\d+\tdone-local-closed$/, '0\t0\tlocal-connect-failed -') },
  },
  lostSource: {
    document: 'logs.md',
    words: '| a `src` that is not there is passed over | `local-bind-failed -` |',
    mend: { rinetd: inLog(/\d+\t\d+\tdone-local-closed$/, '0\t0\tlocal-bind-failed -') },
  },
  halfClose: {
    document: 'logs.md',
    words: '| the first end closes both directions | the line is written when both have ended, with all bytes |',
    mend: { rinetd: inLog(/\t0\tdone-remote-closed$/, '\t200\tdone-remote-closed') },
  },
  secondPattern: { document: 'logs.md', words: 'rinetd 0.73 takes the second, and the first of the next rule' },
  lastLine: { document: 'rinetd.md', words: '| a last line without its end | is not read | is read |' },
  mappedGlobs: { document: 'rinetd.md', words: '| is `::ffff:192.0.2.1` to `allow` and `deny` | is `192.0.2.1`, and' },
  bracketPatterns: { document: 'rinetd.md', words: '| `allow [::1]`, `deny FE80::*` | match nobody |' },
  quotedLog: { document: 'rinetd.md', words: '| a name with the quotation marks in it | without them |' },
  bindName: { document: 'rinetd.md', words: '| a name to bind | the first of its addresses | all of its addresses |' },
  targetName: {
    document: 'rinetd.md',
    words: '| a name to connect to | looked up once, its first address | all of its addresses;',
  },
  udpOneSide: {
    document: 'rinetd.md',
    words: '| `/udp` on one side only | from udp to tcp, or from tcp to udp | udp on both,',
  },
  mistake: { document: 'rinetd.md', words: '| says the first line that is wrong, and ends | says all, with columns |' },
  status: { document: 'rinetd.md', words: '| the exit status of errors | 1 | of sysexits(3) |' },
  noRule: { document: 'rinetd.md', words: '| a file without any rule | runs and does nothing | refused |' },
  ports: { document: 'rinetd.md', words: '| port 0, 70000 | any port, 4464 | refused |' },
  brackets: { document: 'rinetd.md', words: '| `[::1]` as an address | not found | as `::1` |' },
  mixed: { document: 'rinetd.md', words: '| `/udp` on one side, `/tcp` on the other | the same | refused |' },
  sourceName: { document: 'rinetd.md', words: '| `src=` with a name | looked up | refused: an address |' },
  pattern: { document: 'rinetd.md', words: '| is taken, and matches nobody | refused |' },
  logFile: { document: 'rinetd.md', words: "| a log file that can't be written | goes on without it | refused |" },
  pidFile: {
    document: 'rinetd.md',
    words:
      "| stays behind; goes on if it can't be written | removed if it can be; one that the file names must be writable |",
  },
} as const satisfies Readonly<Record<string, Difference>>;
type Name = keyof typeof DIFFERENCES;

interface Case {
  readonly name: string;
  /** FOLDER is a folder of its own; without a log file it gets one. */
  readonly conf: string;
  readonly probes: readonly Probe[];
  readonly differs?: readonly Name[];
  /** What we do, where that is not what rinetd does. */
  readonly ours?: Partial<Seen>;
}

const LOG = 'logfile FOLDER/log\n';
const TO = `${originV4} ${PORT}`;
const rule = (port = 8000, rest = ''): string => `0.0.0.0 ${port} ${TO}${rest}\n`;

/** A line of the log of what came to nothing, or begins. */
const line = (client: string, bind: string, port: number, word: string, bytes = '0\t0'): string =>
  `TIME \t${client}\t${bind}\t${port}\t${originV4}\t${PORT}\t${bytes}\t${word}`;
/** The lines of a connection that was answered. */
const done = (client: string, bind: string, port = 8000): string[] => [
  line(client, bind, port, 'opened'),
  line(client, bind, port, 'done-local-closed', '5\t200'),
];

const CASES: readonly Case[] = [
  {
    name: 'a name to connect to, of whose addresses the first does not serve',
    conf: `${routerV4} 8000 two.lab ${PORT}\n${LOG}`,
    probes: [tcp(A)],
    differs: ['targetName'],
    ours: { answers: [sourceV4], log: done(A, routerV4).map((text) => text.replace(originV4, 'two.lab')) },
  },
  { name: 'a rule', conf: `${rule()}${LOG}`, probes: three() },
  {
    name: 'rules with spaces, tabs and comments',
    conf: `# A comment\n\n \t\n\t0.0.0.0\t8000 \t${TO} \t# another\n   # and one\n0.0.0.0  8001  ${TO}#\n${LOG}`,
    probes: [...three(), tcp(A, 8001)],
  },
  {
    name: 'lines that end in CRLF',
    conf: `${rule()}${rule(8001)}`.replaceAll('\n', '\r\n') + LOG,
    probes: [tcp(A), tcp(A, 8001)],
  },
  {
    name: 'a last line without its end',
    conf: `${LOG}${rule()}${rule(8001)}`.trimEnd(),
    probes: [tcp(A), tcp(A, 8001)],
    differs: ['lastLine'],
    ours: {
      ports: ['tcp 0.0.0.0:8000', 'tcp 0.0.0.0:8001'],
      answers: [sourceV4, sourceV4],
      log: [...done(A, '0.0.0.0'), ...done(A, '0.0.0.0', 8001)],
    },
  },
  { name: '0 as an address', conf: `0 8000 ${TO}\n${LOG}`, probes: [tcp(A)], differs: ['zero'] },
  {
    name: 'one address of several to bind',
    conf: `${routerV4} 8000 ${TO}\n${LOG}`,
    probes: [tcp(A), tcp(A, 8000, sourceV4)],
  },
  {
    name: 'names of hosts and of services',
    conf: `router4.lab http four.lab domain\nrouter4.lab domain/udp four.lab domain/udp\n${LOG}`,
    probes: [tcp(A, 80), udp(A, 53)],
    differs: ['firstOfUdp', 'stopped'],
  },
  {
    name: '/tcp',
    conf: `0.0.0.0 8000/tcp ${TO}/tcp\n0.0.0.0 8001/tcp ${TO}\n0.0.0.0 8002 ${TO}/tcp\n${LOG}`,
    probes: [tcp(A), tcp(A, 8001), tcp(A, 8002)],
  },
  {
    name: '/udp',
    conf: `0.0.0.0 8000/udp ${TO}/udp\n${LOG}`,
    probes: [udp(A), udp(B), udp(A, 8000, 1200), udp(A, 8001), tcp(A)],
    differs: ['firstOfUdp', 'stopped'],
  },
  {
    name: 'one port for tcp and udp',
    conf: `0.0.0.0 8000/udp ${TO}/udp\n${rule()}${LOG}`,
    probes: [udp(A), tcp(A)],
    differs: ['firstOfUdp', 'stopped'],
  },
  {
    name: 'the time-out of udp',
    conf: `0.0.0.0 8000/udp ${TO}/udp [timeout=1]\n${LOG}`,
    probes: [udp(A, 8000, 3500)],
    differs: ['firstOfUdp', 'flowEnds', 'stopped'],
  },
  {
    name: '/udp on one side only',
    conf: `0.0.0.0 8000/udp ${TO}\n${LOG}`,
    probes: [tcp(A), udp(A)],
    differs: ['udpOneSide', 'stopped'],
    ours: { answers: ['closed port', sourceV4], log: [line(A, '0.0.0.0', 8000, 'opened')] },
  },
  { name: 'IPv6', conf: `${routerV6} 8000 ${originV6} ${PORT}\n${LOG}`, probes: [tcp(A6), tcp(B6), tcp(A)] },
  {
    name: 'from IPv6 to IPv4 and back',
    conf: `${routerV6} 8000 ${TO}\n${routerV4} 8000 ${originV6} ${PORT}\n${LOG}`,
    probes: [tcp(A6), tcp(A)],
  },
  {
    name: 'all addresses of both families',
    conf: `:: 8000 ${TO}\n${LOG}`,
    probes: [tcp(A6), tcp(A)],
    differs: ['mapped'],
  },
  {
    name: 'udp of IPv6',
    conf: `${routerV6} 8000/udp ${originV6} ${PORT}/udp\n${LOG}`,
    probes: [udp(A6), udp(B6)],
    differs: ['firstOfUdp', 'stopped'],
  },
  { name: 'src', conf: `${rule(8000, ` [src=${OTHER.source}]`)}${LOG}`, probes: [tcp(A), tcp(B)] },
  {
    name: 'src and timeout with spaces, for udp',
    conf: `0.0.0.0 8000/udp ${TO}/udp [ timeout = 9 , src = ${OTHER.source} ]\n${LOG}`,
    probes: [udp(A)],
    differs: ['firstOfUdp', 'stopped'],
  },
  {
    name: 'src that is no address of this host',
    conf: `${rule(8000, ' [src=192.0.2.77]')}${LOG}`,
    probes: [tcp(A)],
    differs: ['lostSource'],
    ours: { answers: ['refused'] },
  },
  {
    name: 'allow for all rules',
    conf: `allow ${A}\nallow ${B}\n${rule()}${rule(8001)}${LOG}`,
    probes: [...three(), ...three(8001)],
    differs: ['notAllowed'],
  },
  {
    name: 'deny for all rules',
    conf: `deny ${B}\n${rule()}${rule(8001)}${LOG}`,
    probes: [...three(), ...three(8001)],
    differs: ['denied'],
  },
  {
    name: 'allow with * and ?',
    conf: `allow 10.77.*.2?\nallow 192.*\n${rule()}${LOG}`,
    probes: three(),
    differs: ['notAllowed'],
  },
  {
    name: 'deny with * and ?',
    conf: `deny *.77.1.?\ndeny ??.?7.1.22\n${rule()}${LOG}`,
    probes: three(),
    differs: ['denied'],
  },
  {
    name: 'allow and deny for all rules',
    conf: `deny ${B}\nallow 10.77.1.2?\n${rule()}${LOG}`,
    probes: three(),
    differs: ['notAllowed', 'denied'],
  },
  {
    name: 'allow and deny for all rules, and for one',
    conf: `allow 10.77.*\n${rule()}deny ${B}\n${rule(8001)}allow ${C}\n${rule(8002)}${LOG}`,
    probes: [...three(), ...three(8001), ...three(8002)],
    differs: ['notAllowed', 'denied'],
  },
  {
    name: 'two patterns for the first rule that has any',
    conf: `${rule()}allow ${B}\nallow ${C}\n${LOG}`,
    probes: three(),
    differs: ['secondPattern', 'notAllowed'],
    ours: {
      answers: ['refused', sourceV4, sourceV4],
      log: [line(A, '0.0.0.0', 8000, 'not-allowed'), ...done(B, '0.0.0.0'), ...done(C, '0.0.0.0')],
    },
  },
  {
    name: 'a rule that allows whom all rules refuse',
    conf: `deny ${B}\n${rule()}allow ${B}\n${LOG}`,
    probes: three(),
    differs: ['notAllowed', 'denied'],
  },
  {
    name: 'allow for IPv6',
    conf: `allow ${A6}\n${routerV6} 8000 ${TO}\n${LOG}`,
    probes: [tcp(A6), tcp(B6)],
    differs: ['notAllowed'],
  },
  {
    name: 'deny for IPv6, with *',
    conf: `deny fd77:1::2?\n${routerV6} 8000 ${TO}\n${LOG}`,
    probes: [tcp(A6), tcp(B6)],
    differs: ['denied'],
  },
  {
    name: 'deny for IPv6, with brackets or in upper case',
    conf: `deny [${B6}]\ndeny ${A6.toUpperCase()}\n${routerV6} 8000 ${TO}\n${LOG}`,
    probes: [tcp(A6), tcp(B6)],
    differs: ['bracketPatterns'],
    ours: {
      answers: ['refused', 'refused'],
      log: [line(A6, routerV6, 8000, 'denied'), line(B6, routerV6, 8000, 'denied')],
    },
  },
  {
    name: 'allow for IPv4 where :: is bound',
    conf: `allow ${A}\nallow ${A6}\n:: 8000 ${TO}\n${LOG}`,
    probes: [tcp(A), tcp(B), tcp(A6)],
    differs: ['mappedGlobs', 'notAllowed'],
    ours: {
      answers: [sourceV4, 'refused', sourceV4],
      log: [...done(A, '::'), line(B, '::', 8000, 'not-allowed'), ...done(A6, '::')],
    },
  },
  {
    name: 'allow and deny for udp',
    conf: `allow 10.77.1.2?\ndeny ${C}\n0.0.0.0 8000/udp ${TO}/udp\n${LOG}`,
    probes: [udp(A), udp(B), udp(C)],
    differs: ['notAllowed', 'denied', 'firstOfUdp', 'stopped'],
  },
  {
    name: 'logcommon',
    conf: `logcommon\n${LOG}${rule()}${rule(8001)}deny ${B}\n${rule(8002)}allow ${C}\n`,
    probes: [...three(), ...three(8001), ...three(8002)],
    differs: ['notAllowed', 'denied'],
  },
  {
    name: 'a log file and a pid file',
    conf: `${LOG}pidlogfile FOLDER/pid\n${rule()}`,
    probes: [tcp(A)],
  },
  { name: 'a pid file in quotation marks', conf: `${LOG}pidlogfile "FOLDER/pid"\n${rule()}`, probes: [tcp(A)] },
  { name: 'no log file', conf: `logcommon\n${rule()}`, probes: [tcp(A)] },
  {
    name: 'a log file in quotation marks',
    conf: `logfile "FOLDER/log"\n${rule()}`,
    probes: [tcp(A)],
    differs: ['quotedLog'],
    ours: { log: done(A, '0.0.0.0') },
  },
  {
    name: 'a target where nobody listens',
    conf: `0.0.0.0 8000 ${originV4} 7999\n${LOG}`,
    probes: [tcp(A)],
    differs: ['connectFailed'],
  },
  {
    name: 'a client that ends its direction first',
    conf: `${rule()}${LOG}`,
    probes: [{ ...tcp(A), by: 'half' }],
    differs: ['halfClose'],
    ours: { answers: [sourceV4] },
  },
  {
    name: 'a name to bind that has several addresses',
    conf: `router 8000 ${TO}\n${LOG}`,
    probes: [tcp(A), tcp(A6)],
    differs: ['bindName'],
    ours: {
      ports: [`tcp ${routerV4}:8000`, `tcp [${routerV6}]:8000`],
      answers: [sourceV4, sourceV4],
      log: [...done(A, 'router'), ...done(A6, 'router')],
    },
  },
];

/** A file that one of them or both do not take. */
interface Mistake {
  readonly name: string;
  readonly conf: string;
  /** What rinetd says before it ends with 1, or the ports that it listens on. */
  readonly theirs: RegExp | readonly string[];
  /** All that we say, with FILE for the file's name, before we end; or the ports. */
  readonly ours: readonly string[] | { readonly ports: readonly string[] };
  /** What we end with. */
  readonly code?: number;
  readonly differs?: readonly Name[];
}

const badLine = (n: number): RegExp => new RegExp(`invalid syntax at line ${n}:`);
const NO_WORD = 'is no word that a line begins with, and no rule (BINDADDRESS BINDPORT CONNECTADDRESS CONNECTPORT)';
const NO_PATTERN = 'is no address, no network (ADDRESS/BITS) and no pattern with * or ?';
const NO_PORT = 'is not a port from 1 to 65535';
const NO_SERVICE = 'is neither a port from 1 to 65535 nor a TCP service in /etc/services';
const ONE_PORT = ['tcp 0.0.0.0:8000'];

const MISTAKES: readonly Mistake[] = [
  {
    name: 'a word that there is none of',
    conf: `${rule()}nonsense 1\n${rule(8001)}`,
    theirs: badLine(2),
    ours: [`FILE:2:1: "nonsense" ${NO_WORD}`],
  },
  {
    name: 'words in upper case',
    conf: `Allow 10.*\n${rule()}LOGCOMMON\n`,
    theirs: badLine(1),
    ours: [`FILE:1:1: "Allow" ${NO_WORD}`, `FILE:3:1: "LOGCOMMON" ${NO_WORD}`],
  },
  {
    name: 'a rule that ends too soon',
    conf: `0.0.0.0 8000 ${originV4}\n${rule(8001)}`,
    theirs: badLine(1),
    ours: ['FILE:1:23: CONNECTPORT is missing'],
  },
  {
    name: 'a rule that has a word too many',
    conf: `${rule(8000, ' more')}${rule(8001)}`,
    theirs: badLine(1),
    ours: ['FILE:1:29: "more" is too much here'],
  },
  {
    name: 'brackets without an end',
    conf: rule(8000, ' [timeout=3'),
    theirs: badLine(1),
    ours: ['FILE:1:39: there is no ] at the end'],
  },
  {
    name: 'brackets without a word',
    conf: rule(8000, ' []'),
    theirs: badLine(1),
    ours: ['FILE:1:30: "]" is where the name of a property should be'],
  },
  {
    name: 'properties that there are none of',
    conf: rule(8000, ' [nonsense=off,src=192.0.2.1,more]'),
    theirs: badLine(1),
    ours: ['FILE:1:30: "nonsense" is no property of a rule', 'FILE:1:57: "more" is no property of a rule'],
  },
  {
    name: 'a time-out that is no number',
    conf: rule(8000, ' [timeout=abc]'),
    theirs: badLine(1),
    ours: ['FILE:1:38: timeout: "abc" is not a number of seconds from 0.001 to 604800'],
  },
  {
    name: 'names of no service',
    conf: `${rule()}0.0.0.0 nosuch ${originV4} nonesuch\n`,
    theirs: /cannot resolve host "0\.0\.0\.0" port nosuch/,
    ours: [`FILE:2:9: BINDPORT: "nosuch" ${NO_SERVICE}`, `FILE:2:26: CONNECTPORT: "nonesuch" ${NO_SERVICE}`],
  },
  {
    name: 'a protocol that there is none of',
    conf: `0.0.0.0 8000/sctp ${TO}\n${rule(8001)}`,
    theirs: badLine(1),
    ours: ['FILE:1:13: "/sctp" is neither /tcp nor /udp'],
  },
  {
    name: 'a name of no host to bind',
    conf: `nowhere.lab 8000 ${TO}\n${rule(8001)}`,
    theirs: /cannot resolve host "nowhere\.lab" port 8000/,
    ours: ["can't find the host nowhere.lab: ENOTFOUND"],
    code: 68,
  },
  {
    name: 'a name of no host to connect to',
    conf: `0.0.0.0 8000 nowhere.lab 80\n${rule(8001)}`,
    theirs: /cannot resolve host "nowhere\.lab" port 80/,
    ours: ["can't find the host nowhere.lab: ENOTFOUND"],
    code: 68,
  },
  {
    name: 'an address of another host to bind',
    conf: `${rule()}${originV4} 8001 ${TO}\n`,
    theirs: /couldn't bind to address 10\.77\.2\.2 port 8001/,
    ours: [`bind ${originV4}:8001: EADDRNOTAVAIL (it is no address of this host)`],
    code: 71,
  },
  {
    name: 'a port that is bound twice',
    conf: `${rule()}${rule(8001)}${rule()}`,
    theirs: /couldn't bind to address 0\.0\.0\.0 port 8000/,
    ours: ['FILE:3:1: 0.0.0.0:8000/tcp is taken by the rule at FILE:1:1'],
  },
  {
    name: 'a port of all addresses and of one',
    conf: `:: 8000 ${TO}\n${rule()}`,
    theirs: /couldn't bind to address 0\.0\.0\.0 port 8000/,
    ours: ['FILE:2:1: 0.0.0.0:8000/tcp is taken by the rule at FILE:1:1'],
  },
  {
    name: 'an address with a 256 in it',
    conf: `10.0.0.256 8000 ${TO}\n`,
    theirs: /cannot resolve host "10\.0\.0\.256"/,
    ours: ['FILE:1:1: BINDADDRESS: "10.0.0.256" is not a host name or an IP address'],
  },
  {
    name: 'allow without a pattern',
    conf: `allow\n${rule()}`,
    theirs: badLine(1),
    ours: ['FILE:1:6: allow needs a value'],
  },
  {
    name: 'names of hosts to allow and deny',
    conf: `allow client.lab\n${rule()}deny client.lab\n`,
    theirs: badLine(1),
    ours: [`FILE:1:7: allow: "client.lab" ${NO_PATTERN}`, `FILE:3:6: deny: "client.lab" ${NO_PATTERN}`],
  },
  {
    name: 'an address to allow that no client has',
    conf: `allow 10.77.1\n${rule()}`,
    theirs: ONE_PORT,
    ours: [`FILE:1:7: allow: "10.77.1" ${NO_PATTERN}`],
    differs: ['pattern'],
  },
  {
    name: 'port 70000',
    conf: `${rule()}0.0.0.0 70000 ${originV4} 70001\n`,
    theirs: ['tcp 0.0.0.0:4464', 'tcp 0.0.0.0:8000'],
    ours: [`FILE:2:9: BINDPORT: "70000" ${NO_PORT}`, `FILE:2:25: CONNECTPORT: "70001" ${NO_PORT}`],
    differs: ['ports'],
  },
  {
    name: 'addresses in brackets',
    conf: `[${routerV6}] 8000 [${originV6}] ${PORT}\n`,
    theirs: /cannot resolve host "\[fd77:1::1\]"/,
    ours: { ports: [`tcp [${routerV6}]:8000`] },
    differs: ['brackets'],
  },
  {
    name: '/udp on one side and /tcp on the other',
    conf: `0.0.0.0 8000/udp ${TO}/tcp\n`,
    theirs: ['udp 0.0.0.0:8000'],
    ours: ['FILE:1:32: /tcp contradicts /udp of BINDPORT: nothing is relayed between the two'],
    differs: ['mixed'],
  },
  {
    name: 'a name of no host as src',
    conf: rule(8000, ' [src=nowhere.lab]'),
    theirs: /cannot resolve host "nowhere\.lab" port <null>/,
    ours: ['FILE:1:34: src: "nowhere.lab" is not an IP address'],
  },
  {
    name: 'a name of a host as src',
    conf: rule(8000, ' [src=router4.lab]'),
    theirs: ONE_PORT,
    ours: ['FILE:1:34: src: "router4.lab" is not an IP address'],
    differs: ['sourceName'],
  },
  {
    name: 'logfile without a file',
    conf: `logfile\n${rule()}`,
    theirs: badLine(1),
    ours: ['FILE:1:8: logfile needs a value'],
  },
  {
    name: 'logfile in a folder that is not there',
    conf: `logfile /run/nowhere/log\n${rule()}`,
    theirs: ONE_PORT,
    ours: ['access log /run/nowhere/log: ENOENT'],
    code: 73,
    differs: ['logFile'],
  },
  {
    name: 'pidlogfile in a folder that is not there',
    conf: `pidlogfile /run/nowhere/pid\n${rule()}`,
    theirs: ONE_PORT,
    ours: ['pid file /run/nowhere/pid: ENOENT'],
    code: 73,
    differs: ['pidFile'],
  },
  {
    name: 'logcommon with a value',
    conf: `logcommon yes\n${rule()}`,
    theirs: badLine(1),
    ours: ['FILE:1:11: "yes" is too much here'],
  },
  {
    name: 'no rule in it',
    conf: '# nothing\n',
    theirs: [],
    ours: ['FILE:1:1: there is no rule in this file'],
    differs: ['noRule'],
  },
  {
    name: 'nothing in it',
    conf: '',
    theirs: [],
    ours: ['FILE:1:1: there is no rule in this file'],
    differs: ['noRule'],
  },
  {
    name: 'bytes that are no text',
    conf: `${rule()}\u0001\u0002\n`,
    theirs: badLine(2),
    ours: ['FILE:2:3: BINDPORT is missing'],
  },
  {
    name: 'mistakes in many places',
    conf: `allow x\n${rule()}0.0.0.0 htpp ${TO}\n0.0.0.0 8001 ${TO} [nope,ftp=yes]\nlogfile\n`,
    theirs: badLine(1),
    ours: [
      `FILE:1:7: allow: "x" ${NO_PATTERN}`,
      `FILE:3:9: BINDPORT: "htpp" ${NO_SERVICE}`,
      'FILE:4:30: "nope" is no property of a rule',
      'FILE:4:39: ftp: "yes" is none of port, pasv, both',
      'FILE:5:8: logfile needs a value',
    ],
  },
];

const mend = (which: Which, names: readonly Name[], seen: Seen): Seen =>
  names.reduce((soFar, name) => (DIFFERENCES[name] as Difference).mend?.[which]?.(soFar) ?? soFar, seen);

describe('the same rinetd.conf', { skip: unless('program rinetd', 'program ss', 'ipv6') }, () => {
  let topology: Topology;

  before(async () => {
    topology = await buildGateway();
    const { lab, client, router, internet } = topology;
    for (const address of [OTHER.client, OTHER.client2]) await client.address('to-router', `${address}/24`);
    await client.address('to-router', `${OTHER.clientV6}/64`);
    await router.address('to-internet', `${OTHER.source}/24`);
    // Else it may keep the message back by which a client knows of a closed port of UDP (icmp(7)).
    await router.sysctl('net.ipv4.icmp_ratelimit', 0);
    lab.name('four.lab', [originV4]);
    lab.name('two.lab', [sourceV4, originV4]);
    lab.name('router4.lab', [routerV4]);
    for (const port of [PORT, 53]) await startOrigin(internet, port);
  });
  after(() => topology?.lab.close());

  describe('does the same with rinetd and with ours, but for what the documents say', () => {
    for (const [i, { name, conf, probes, differs = [], ours = {} }] of CASES.entries()) {
      test(`with ${name}`, async (t) => {
        const given = { folder: `right${i}`, conf, probes };
        const theirs = await observe(t, topology, 'rinetd', given);
        const copy = await observe(t, topology, 'tproxy', given);
        const expected: Seen = { ...mend('rinetd', differs, theirs), ...ours };
        assert.deepEqual(mend('tproxy', differs, copy), { ...expected, log: expected.log.toSorted() });
        // What is no difference any more is not to stay in the documents.
        for (const one of differs) {
          const others = differs.filter((other) => other !== one);
          const isMended = (DIFFERENCES[one] as Difference).mend !== undefined && Object.keys(ours).length === 0;
          if (isMended) assert.notDeepEqual(mend('tproxy', others, copy), mend('rinetd', others, theirs), one);
        }
        if (Object.keys(ours).length > 0) assert.notDeepEqual(mend('rinetd', differs, theirs), expected);
      });
    }
  });

  describe('with a mistake in it is refused by ours, with all that is wrong and with nothing done', () => {
    for (const [i, { name, conf, theirs, ours, code = 78 }] of MISTAKES.entries()) {
      test(`with ${name}`, async (t) => {
        const given = { folder: `wrong${i}`, conf };
        const original = await start(t, topology, 'rinetd', given);
        if (theirs instanceof RegExp) {
          assert.ok('code' in original, `rinetd listens on ${original}`);
          assert.equal(original.code, 1);
          assert.match(original.stderr, theirs);
        } else assert.deepEqual(original, theirs);

        const copy = await start(t, topology, 'tproxy', given);
        if ('ports' in ours) {
          assert.deepEqual(copy, ours.ports);
          return;
        }
        assert.ok('code' in copy, `we listen on ${copy}`);
        const file = topology.lab.path(given.folder, 'tproxy', 'rinetd.conf');
        assert.deepEqual(copy, {
          code,
          signal: null,
          stdout: '',
          stderr: ours.map((text) => `tproxy: ${text.replaceAll('FILE', file)}\n`).join(''),
        });
        assert.deepEqual(await listeningPorts(topology.router), []);
      });
    }
  });

  test('differs in nothing but what stands in the documents', () => {
    const texts = new Map<string, string>();
    const met = new Set<string>([
      'mistake',
      'status',
      ...[...CASES, ...MISTAKES].flatMap(({ differs = [] }) => differs),
    ]);
    for (const [name, { document, words }] of Object.entries<Difference>(DIFFERENCES)) {
      const text = texts.get(document) ?? readFileSync(new URL(document, DOCUMENTS), 'utf8').replace(/\s+/g, ' ');
      texts.set(document, text);
      assert.ok(text.includes(words), `${document} does not say: ${words}`);
      assert.ok(met.has(name), `no file shows ${name}`);
    }
  });
});
