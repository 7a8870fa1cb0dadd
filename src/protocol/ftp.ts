import { isIPv4, isIPv6, type SocketAddress } from '../address.js';
import { addressBytes } from './address-bytes.js';

/**
 * The lines of FTP's control connection that tell where a data connection goes, read and written (RFC 959 sections 4.1.2
 * and 4.2, RFC 2428). The order of commands and replies is ftp-dialog.ts's.
 * Text is latin1, one character a byte.
 */

/** Longest line of a command that is followed, and longest reply that tells a port; none that is meant so comes near. */
export const MAX_COMMAND = 512;
export const MAX_REPLY = 4096;

/** No data connection goes to a port below this one: a service may be there that takes the bytes for commands. */
const LEAST_PORT = 1024;

/** Commands that may be followed, each up to the byte behind it. Case does not matter (RFC 959 section 5.3). */
const OURS = /^(PORT|EPRT|PASV|EPSV|AUTH)[ \t\r\n]/i;
export type Verb = 'PORT' | 'EPRT' | 'PASV' | 'EPSV' | 'AUTH';
const VERBS: readonly Verb[] = ['PORT', 'EPRT', 'PASV', 'EPSV', 'AUTH'];
const VERB_SIZE = 4;

/** What a command line turns out to be by its first bytes. Servers leave an empty one unanswered. */
export type Beginning = Verb | 'other' | 'empty' | 'incomplete';

export const commandBeginning = (bytes: Buffer, start: number, end: number): Beginning => {
  const text = bytes.toString('latin1', start, Math.min(end, start + VERB_SIZE + 1));
  const [, verb] = OURS.exec(text) ?? [];
  if (verb !== undefined) return verb.toUpperCase() as Verb;
  if (/^\r*\n/.test(text)) return 'empty';
  if (text.length > VERB_SIZE) return 'other';
  const upper = text.toUpperCase();
  return /^\r*$/.test(text) || VERBS.some((ours) => ours.startsWith(upper)) ? 'incomplete' : 'other';
};

/**
 * Telnet's own bytes before a command, as those before ABOR (RFC 959 section 4.1.3): IAC and the codes behind it.
 * White space there is no part of a command either.
 */
export const isBeforeCommand = (byte: number): boolean => byte >= 0xf0 || byte === 0x20 || byte === 0x09;

/** A line that was understood, or the reply to give in the origin's place. */
export type Understood<T> = T | { readonly refusal: string };

export const isRefused = <T extends object>(outcome: Understood<T>): outcome is { readonly refusal: string } =>
  'refusal' in outcome;

const numbers = (text: string): number[] => text.split(',').map(Number);

const addressOf = ([a, b, c, d, high, low]: readonly number[]): SocketAddress => ({
  ip: `${a}.${b}.${c}.${d}`,
  port: (high as number) * 256 + (low as number),
});

const sameHost = (a: string, b: string): boolean => addressBytes(a).equals(addressBytes(b));

/** The protocol's number in EPRT and EPSV (RFC 2428 section 2). */
export const familyOf = (ip: string): '1' | '2' => (ip.includes(':') ? '2' : '1');

const unsupported = (clientIp: string): { readonly refusal: string } => ({
  refusal: `522 Network protocol not supported, use (${familyOf(clientIp)}).`,
});

const readEprt = (argument: string): SocketAddress | 'family' | null => {
  const delimiter = argument.charAt(0);
  const [before, family, ip, port, behind, ...more] = argument.split(delimiter);
  if (!/^[!-~]$/.test(delimiter) || before !== '' || behind !== '' || more.length > 0) return null;
  if (family !== '1' && family !== '2') return /^\d+$/.test(family ?? '') ? 'family' : null;
  if (ip === undefined || !(family === '1' ? isIPv4(ip) : isIPv6(ip))) return null;
  return /^\d{1,5}$/.test(port ?? '') ? { ip, port: Number(port) } : null;
};

const readPort = (argument: string): SocketAddress | null => {
  if (!/^\d{1,3}(?:,\d{1,3}){5}$/.test(argument)) return null;
  const all = numbers(argument);
  return all.every((number) => number <= 255) ? addressOf(all) : null;
};

/**
 * The port of PORT or EPRT. The address has to be the client's own: else anybody could be made the end of a connection
 * that seems to come from us (RFC 2577 section 3, CVE-1999-0017).
 */
export const readActive = (
  verb: 'PORT' | 'EPRT',
  argument: string,
  clientIp: string,
): Understood<{ readonly port: number }> => {
  const address = verb === 'PORT' ? readPort(argument) : readEprt(argument);
  if (address === 'family') return unsupported(clientIp);
  if (address === null || address.port > 65_535) return { refusal: `501 Illegal ${verb} command.` };
  if (familyOf(address.ip) !== familyOf(clientIp)) return unsupported(clientIp);
  if (!sameHost(address.ip, clientIp)) {
    return { refusal: `500 Illegal ${verb} command: the address has to be your own.` };
  }
  return isDataPort(address.port)
    ? { port: address.port }
    : { refusal: `500 Illegal ${verb} command: no port below ${LEAST_PORT}.` };
};

/** What an EPSV asks for (RFC 2428 section 3). */
export const readEpsv = (argument: string, clientIp: string): Understood<{ readonly all: boolean }> => {
  if (argument.toUpperCase() === 'ALL') return { all: true };
  if (argument === '' || argument === familyOf(clientIp)) return { all: false };
  return /^\d+$/.test(argument) ? unsupported(clientIp) : { refusal: '501 Illegal EPSV command.' };
};

/**
 * The port in a 227 or a 229, null if there is none that could be used. Of several lines the last that has one counts.
 * RFC 1123 section 4.1.2.6 has us look for the digits of a 227 wherever they are; the address among them is not used.
 */
export const readPassive = (code: 227 | 229, reply: string): number | null => {
  const pattern = code === 227 ? /(?<![\d,])\d{1,3}(?:,\d{1,3}){5}(?![\d,])/g : /\(([!-~])\1\1(?<port>\d{1,5})\1\)/g;
  const ports = [...reply.matchAll(pattern)].map(({ 0: found, groups }) => {
    if (groups !== undefined) return Number(groups.port);
    return readPort(found)?.port ?? 0;
  });
  const port = ports.at(-1) ?? 0;
  return isDataPort(port) ? port : null;
};

const isDataPort = (port: number): boolean => port >= LEAST_PORT && port <= 65_535;

const commas = ({ ip, port }: SocketAddress): string => `${ip.replaceAll('.', ',')},${port >> 8},${port & 0xff}`;

/** PORT or EPRT, without its line end. The interface of a link-local address is of this host only. */
export const writeActive = (verb: 'PORT' | 'EPRT', address: SocketAddress): string =>
  verb === 'PORT'
    ? `PORT ${commas(address)}`
    : `EPRT |${familyOf(address.ip)}|${address.ip.replace(/%.*$/, '')}|${address.port}|`;

/** A 227 or a 229, without its line end. */
export const writePassive = (code: 227 | 229, address: SocketAddress): string =>
  code === 227
    ? `227 Entering Passive Mode (${commas(address)}).`
    : `229 Entering Extended Passive Mode (|||${address.port}|)`;

/**
 * What a reply's line is by its first bytes. `code` 0: no reply begins or ends here. `more`: other lines follow it, up to
 * one that begins with the code and a space (RFC 959 section 4.2).
 */
export interface ReplyLine {
  readonly code: number;
  readonly more: boolean;
}

export const readReplyLine = (bytes: Buffer, start: number, end: number): ReplyLine | 'incomplete' => {
  const text = bytes.toString('latin1', start, Math.min(end, start + 4));
  if (text.length < 4 && /^\d*$/.test(text)) return 'incomplete';
  return /^\d{3}[- \r\n]$/.test(text) ? { code: Number(text.slice(0, 3)), more: text[3] === '-' } : NO_REPLY;
};

const NO_REPLY: ReplyLine = { code: 0, more: false };
