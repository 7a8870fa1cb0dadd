import { isIPv4, isIPv6 } from '../address.js';

const DOTTED_END = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/;

/** An IPv6 address without its interface, and in groups of hexadecimal digits only: the last four bytes may come dotted. */
export const hexGroups = (ip: string): string =>
  ip
    .replace(/%.*$/, '')
    .replace(DOTTED_END, (_, a: string, b: string, c: string, d: string) =>
      [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
    );

/**
 * An address as it goes on the wire: 4 bytes or 16. The interface of a link-local address is left out.
 * Throws RangeError if it is none.
 */
export const addressBytes = (ip: string): Buffer => {
  if (isIPv4(ip)) return Buffer.from(ip.split('.').map(Number));
  if (!isIPv6(ip)) throw new RangeError(`${ip} is not an IP address`);
  const [head = '', tail] = hexGroups(ip).split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = groups(tail ?? '');
  const bytes = Buffer.alloc(16);
  before.forEach((group, i) => {
    bytes.writeUInt16BE(group, 2 * i);
  });
  after.forEach((group, i) => {
    bytes.writeUInt16BE(group, 16 - 2 * (after.length - i));
  });
  return bytes;
};
