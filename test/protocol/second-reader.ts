/** http-parser-js as a second reader of request heads. */
import { HTTPParser, type OnHeadersCompleteParser } from 'http-parser-js';

type Parsed = Parameters<OnHeadersCompleteParser>[0];

// Its default, ascii, clears bit 7 and so makes line feeds of bytes that are none.
HTTPParser.encoding = 'latin1';
HTTPParser.maxHeaderSize = Number.MAX_SAFE_INTEGER;

/** What http-parser-js takes for "nothing follows this head", so that it never gets to read a body. */
const NOTHING_FOLLOWS = 2;

const METHOD = Buffer.from('GET');

/**
 * Reads a request head. `start` is behind the method, in whose place the parser gets one that it knows: it knows 34.
 * null: it does not take all of it for a head.
 */
export const parseRequest = (bytes: Buffer, start: number, end: number): Parsed | null => {
  const parser = new HTTPParser(HTTPParser.REQUEST);
  let parsed: Parsed | null = null;
  parser[HTTPParser.kOnHeadersComplete] = (found: Parsed): number => {
    parsed = found;
    return NOTHING_FOLLOWS;
  };
  parser.execute(METHOD);
  return parser.execute(bytes, start, end - start) === end - start ? parsed : null;
};
