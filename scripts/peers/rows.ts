import { ADDRESS } from '../lab/topology.js';
import { LONG_FIELD, LONG_FIELDS, ODD_FIELDS, WEB_SOCKET_KEY } from './answers.js';
import type { Heard, Step } from './client.js';
import type { Seen } from './far-end.js';

/** What a row needs of the lab. */
export interface Field {
  /** Talks to an address of the origin, from the client, through the redirect. */
  talk(to: { readonly host: string; readonly port: number }, steps: readonly Step[], patience?: number): Promise<Heard>;
  /** What has reached the upstream and the origin since it was asked last. */
  seen(): readonly Seen[];
}

export interface Row {
  readonly title: string;
  /** What is sent and what makes a peer's cell `ok`, in a sentence or two. */
  readonly about: string;
  /** `ok`, or what went wrong in a few words. */
  run(field: Field): Promise<string>;
}

const OK = 'ok';
const [IPV4, IPV6] = ADDRESS.internet;
const WEB = { host: IPV4, port: 80 };
/** In milliseconds; who gets it through at all needs a tenth of it. */
const UPLOAD_PATIENCE = 30_000;
const MEBIBYTE = 1024 * 1024;

const request = (line: string, ...fields: readonly string[]): string => [line, ...fields, '', ''].join('\r\n');
const get = (path: string, ...fields: readonly string[]): string =>
  request(`GET ${path} HTTP/1.1`, 'Host: origin.lab', ...fields);

const ANSWERED = '^HTTP/1\\.[01] [2-5].*\\r\\n\\r\\n';

const statusOf = ({ text }: Heard): number | null => {
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1];
  return status === undefined ? null : Number(status);
};

/** Why what the client heard is not a 200; null: it is. */
const flawOf = (heard: Heard): string | null => {
  const status = statusOf(heard);
  if (status === 200) return null;
  if (status !== null) return `answers ${status}`;
  if (heard.text !== '') return 'the answer has no beginning';
  if (heard.end === 'ECONNREFUSED') return 'does not listen';
  if (heard.end === 'end') return 'closes without an answer';
  return heard.end === null ? 'no answer' : 'resets the connection';
};

const URL_HOST = /^[A-Z]+ http:\/\/([^/ ]*)/;

/** Where a request with this in it went: the host and the port of its URL, or the origin's port; null: nowhere. */
const wentTo = (seen: readonly Seen[], text: string): string | null => {
  const found = seen.find((one) => one.text.includes(text));
  if (found === undefined) return null;
  if (found.tunnel !== null) return found.tunnel;
  return found.at === 'origin' ? `the origin's port ${found.port}` : (URL_HOST.exec(found.text)?.[1] ?? 'no URL');
};

/** A row whose request must get to one of these places. */
const destination = (
  title: string,
  about: string,
  to: { readonly host: string; readonly port: number },
  text: string,
  expected: readonly string[],
): Row => ({
  title,
  about,
  run: async ({ talk, seen }) => {
    const heard = await talk(to, [{ send: text }, { await: ANSWERED }]);
    const where = wentTo(seen(), '/wish-where');
    if (where === null) return flawOf(heard) ?? 'answers by itself';
    if (!expected.includes(where)) return where === '' ? 'asks for no host' : `asks for ${where}`;
    return flawOf(heard) ?? OK;
  },
});

/** The lines of the first request with this in it, without the request line. */
const fieldsSeen = (seen: readonly Seen[], text: string): string[] | null => {
  const found = seen.find((one) => one.text.includes(text));
  return found === undefined ? null : found.text.split('\r\n').slice(1, -2);
};

/** How the lines that got there differ from those that were sent, which others may be added to; null: they don't. */
const changeOf = (sent: readonly string[], got: readonly string[]): string | null => {
  if (sent.every((line) => got.includes(line))) {
    const kept = got.filter((line) => sent.includes(line));
    return kept.join() === sent.join() ? null : 'order changed';
  }
  const lower = (lines: readonly string[]): string[] => lines.map((line) => line.toLowerCase());
  if (lower(sent).every((line) => lower(got).includes(line))) return 'spelling changed';
  const eightBit = sent.find((line) => /[\x80-\xff]/.test(line) && !lower(got).includes(line.toLowerCase()));
  return eightBit === undefined ? 'fields lost or joined' : '8-bit bytes changed';
};

const SENT_FIELDS = [
  'uSeR-aGeNt: x',
  'X-oDD: caf\xe9',
  'zz-First: 1',
  'Accept: */*',
  'aa-second: 2',
  'X-Twice: 1',
  'X-Twice: 2',
];

const TARGET = "/wish-target/%41%2Fb//c/../d;e?q=%20+'";

const upload = (title: string, about: string, bytes: number, framing: (bytes: number) => readonly Step[]): Row => ({
  title,
  about,
  run: async ({ talk }) => {
    const heard = await talk(WEB, [...framing(bytes), { await: ANSWERED }], UPLOAD_PATIENCE);
    if (heard.stalled) return 'stalls';
    return flawOf(heard) ?? (heard.text.includes(heard.sha256) ? OK : 'bytes changed');
  },
});

export const ROWS: readonly Row[] = [
  destination(
    'original port, Host without one',
    'A request to port 8080 whose `Host` has no port must be asked for with `:8080`.',
    { host: IPV4, port: 8080 },
    get('/wish-where'),
    ['origin.lab:8080', `${IPV4}:8080`, "the origin's port 8080"],
  ),
  destination(
    'original port over IPv6, Host without one',
    'The same to an IPv6 address.',
    { host: IPV6, port: 8080 },
    get('/wish-where'),
    ['origin.lab:8080', `[${IPV6}]:8080`, "the origin's port 8080"],
  ),
  destination(
    'no Host, IPv4 destination',
    'An HTTP/1.0 request without `Host` must go to the address that the client connected to.',
    WEB,
    request('GET /wish-where HTTP/1.0'),
    [IPV4, `${IPV4}:80`, "the origin's port 80"],
  ),
  destination(
    'no Host, IPv6 destination',
    'The same over IPv6, with the address in brackets.',
    { host: IPV6, port: 80 },
    request('GET /wish-where HTTP/1.0'),
    [`[${IPV6}]`, `[${IPV6}]:80`, "the origin's port 80"],
  ),
  {
    title: 'request target kept',
    about: `\`${TARGET}\` must get to the upstream byte for byte (RFC 9110 section 7.7).`,
    run: async ({ talk, seen }) => {
      const heard = await talk(WEB, [{ send: get(TARGET) }, { await: ANSWERED }]);
      const found = seen().find(({ text }) => text.includes('wish-target'));
      if (found === undefined) return flawOf(heard) ?? 'answers by itself';
      return found.text.includes(`${TARGET} HTTP/1.`) ? (flawOf(heard) ?? OK) : 'path changed';
    },
  },
  {
    title: '`OPTIONS *`',
    about:
      'Must get to the upstream as `OPTIONS http://origin.lab`, without a path (RFC 9112 section 3.2.4), or to the origin as it is.',
    run: async ({ talk, seen }) => {
      const heard = await talk(WEB, [{ send: request('OPTIONS * HTTP/1.1', 'Host: origin.lab') }, { await: ANSWERED }]);
      const found = seen().find(({ text }) => text.startsWith('OPTIONS '));
      if (found === undefined) return flawOf(heard) ?? 'answers by itself';
      const target = found.text.split(' ')[1];
      const good =
        found.at === 'origin' || found.tunnel !== null
          ? target === '*'
          : /^http:\/\/origin\.lab(:80)?$/.test(target ?? '');
      return good ? (flawOf(heard) ?? OK) : `asks for ${target}`;
    },
  },
  {
    title: 'another protocol',
    about: 'The client begins with an SSH banner; the origin must get it, and the client what the origin says.',
    run: async ({ talk, seen }) => {
      const heard = await talk(WEB, [{ send: 'SSH-2.0-client\r\n' }, { await: 'you said|HTTP' }]);
      if (seen().some(({ at, tunnel, text }) => at === 'upstream' && tunnel === null && !text.startsWith('CONNECT '))) {
        return 'sends it to the upstream as HTTP';
      }
      return heard.text === 'you said SSH-2.0-client\r\n' ? OK : (flawOf(heard) ?? 'answers by itself');
    },
  },
  {
    title: 'server speaks first',
    about: 'The client waits for the greeting of the origin, up to 5 seconds.',
    run: async ({ talk }) => {
      const heard = await talk(WEB, [{ await: '^220 ' }]);
      return heard.text.startsWith('220 origin.lab') ? OK : (flawOf(heard) ?? 'answers by itself');
    },
  },
  {
    title: 'half-close',
    about: 'The client ends its direction behind its request; the answer comes 0.7 seconds later.',
    run: async ({ talk }) => {
      const heard = await talk(WEB, [{ send: get('/wish-slow') }, { fin: true }, { await: 'slow$' }]);
      return flawOf(heard) ?? (heard.text.endsWith('slow') ? OK : 'answer cut off');
    },
  },
  {
    title: '103 Early Hints',
    about: 'The interim response must reach the client before the final one (RFC 9110 section 15.2).',
    run: async ({ talk }) => {
      const heard = await talk(WEB, [{ send: get('/wish-hints') }, { await: 'hinted$' }]);
      if (statusOf(heard) !== 103) return statusOf(heard) === 200 ? '103 lost' : (flawOf(heard) ?? '');
      return /^HTTP\/1\.1 103.*\r\n\r\nHTTP\/1\.1 200.*hinted$/s.test(heard.text) ? OK : 'no answer behind the 103';
    },
  },
  {
    title: 'web socket',
    about: 'An upgrade must end in a 101 and bytes both ways, by whichever way.',
    run: async ({ talk }) => {
      const upgrade = get(
        '/wish-websocket',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Key: ${WEB_SOCKET_KEY}`,
      );
      const heard = await talk(WEB, [
        { send: upgrade },
        { await: ANSWERED.replace('[2-5]', '[1-5]') },
        { send: 'a frame' },
        { await: 'a frame' },
      ]);
      if (statusOf(heard) === 101) return heard.text.endsWith('a frame') ? OK : 'no bytes behind the 101';
      return statusOf(heard) === 200 ? 'Upgrade not passed on' : (flawOf(heard) ?? '');
    },
  },
  {
    title: '`Expect`, continued',
    about:
      "The client sends its body when the upstream's 100 comes; it is known by a field, so that one that the peer made up shows.",
    run: async ({ talk }) => {
      const head = request(
        'POST /wish-expected HTTP/1.1',
        'Host: origin.lab',
        'Expect: 100-continue',
        'Content-Length: 4',
      );
      const heard = await talk(WEB, [
        { send: head },
        { await: '^HTTP/1\\.[01] .*\\r\\n\\r\\n' },
        { send: 'body' },
        { await: 'expected$' },
      ]);
      if (statusOf(heard) !== 100) return statusOf(heard) === 200 ? '100 lost' : (flawOf(heard) ?? '');
      if (!heard.text.endsWith('expected')) return 'no answer behind the 100';
      return /^x-from: far-end\r$/im.test(heard.text) ? OK : '100 made up';
    },
  },
  {
    title: '`Expect`, refused',
    about: 'The upstream answers 413 in place of a 100: the client must hear that, and no 100.',
    run: async ({ talk }) => {
      const head = request(
        'POST /wish-unexpected HTTP/1.1',
        'Host: origin.lab',
        'Expect: 100-continue',
        'Content-Length: 4',
      );
      const heard = await talk(WEB, [{ send: head }, { await: '^HTTP/1\\.[01] .*\\r\\n\\r\\n' }]);
      const status = statusOf(heard);
      if (status === 413) return OK;
      return status === 100 ? '100 made up' : (flawOf(heard) ?? 'answers 200');
    },
  },
  {
    title: 'response head of 60 KB',
    about: `${LONG_FIELDS} fields of ${LONG_FIELD} bytes each must reach the client.`,
    run: async ({ talk }) => {
      const heard = await talk(WEB, [
        { send: get('/wish-long-head') },
        { await: 'long$|^HTTP/1\\.[01] [45].*\\r\\n\\r\\n' },
      ]);
      const whole = Array.from(
        { length: LONG_FIELDS },
        (_, i) => new RegExp(`^x-long-${i}: l{${LONG_FIELD}}\\r$`, 'im'),
      );
      return flawOf(heard) ?? (whole.every((line) => line.test(heard.text)) ? OK : 'fields lost');
    },
  },
  upload(
    'upload of 100 MB',
    '100 MiB with `Content-Length` must reach the upstream unchanged.',
    100 * MEBIBYTE,
    (bytes) => [
      { send: request('POST /wish-upload HTTP/1.1', 'Host: origin.lab', `Content-Length: ${bytes}`) },
      { noise: bytes },
    ],
  ),
  {
    title: 'request header bytes kept',
    about: 'Fields with 8-bit bytes, odd spelling, twice the same name: order and bytes must get there as they were.',
    run: async ({ talk, seen }) => {
      const heard = await talk(WEB, [{ send: get('/wish-fields', ...SENT_FIELDS) }, { await: ANSWERED }]);
      const got = fieldsSeen(seen(), '/wish-fields');
      if (got === null) return flawOf(heard) ?? 'answers by itself';
      return changeOf(SENT_FIELDS, got) ?? flawOf(heard) ?? OK;
    },
  },
  {
    title: 'response header bytes kept',
    about: 'The same for the fields of a response.',
    run: async ({ talk }) => {
      const heard = await talk(WEB, [{ send: get('/wish-odd-answer') }, { await: 'odd$' }]);
      return flawOf(heard) ?? changeOf(ODD_FIELDS, heard.text.split('\r\n')) ?? OK;
    },
  },
];
