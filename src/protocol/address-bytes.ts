import { addressDigits, isAddress } from '../address.js';

/**
 * An address as it goes on the wire: 4 bytes or 16. The interface of a link-local address is left out.
 * Throws RangeError if it is none.
 */
export const addressBytes = (ip: string): Buffer => {
  if (!isAddress(ip)) throw new RangeError(`${ip} is not an IP address`);
  return Buffer.from(addressDigits(ip), 'hex');
};
