/** A request whose answer shows that a daemon still serves, as client and upstream know it. */

/** What is asked for at this address is always done, so that an answer that is not there says something of the daemon. */
export const GOOD_ADDRESS = '10.78.9.10';
export const GOOD_HOST = 'good.lab';

export const GOOD = /\/still-serving-(\d+)[\s?]/;

export const goodRequest = (number: number): string =>
  `GET /still-serving-${number} HTTP/1.1\r\nHost: ${GOOD_HOST}\r\nConnection: close\r\n\r\n`;

export const goodAnswer = (number: string): string => {
  const body = `serving ${number}`;
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
};

export const isGoodAnswer = (text: string, number: number): boolean => text.endsWith(`\r\n\r\nserving ${number}`);
