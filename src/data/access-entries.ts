import type { End } from '../address.js';
import { type AccessLogSettings, isUnix, type UnixAddress } from '../plan.js';

/** Flushed when there are more characters than this, or after a turn. */
const ENOUGH = 64 * 1024;

/**
 * What becomes of a connection or a flow, in rinetd's words: `local` is the target's side, `remote` the client's. It has no
 * word for two of them, which its connections can't come to.
 */
export type AccessEvent =
  | 'opened'
  | 'done-remote-closed'
  | 'done-local-closed'
  /** It was silent for too long. */
  | 'done-timed-out'
  /** The program has ended, or the service. */
  | 'done-stopped'
  | 'not-allowed'
  | 'denied'
  | 'accept-failed -'
  | 'local-socket-failed -'
  | 'local-bind-failed -'
  | 'local-connect-failed -';

/** Where a service listens, as the plan has it. */
export interface Entrance {
  /** An address, a name, or the path of a unix socket. */
  readonly host: string;
  /** null: it is a unix socket. */
  readonly port: number | null;
}

/** A connection or a flow, as the access log tells of it. */
export interface Visit {
  /** null: a client of a unix socket has none. */
  readonly client: string | null;
  readonly entrance: Entrance | null;
  /** As the plan has it, or the original destination. */
  readonly target: End | UnixAddress | null;
  readonly fromClient: number;
  readonly toClient: number;
}

/** A form of lines. Each returns a line without its end, or nothing where the format has none for this. */
interface Format {
  /** As all lines of one second have it. */
  time(date: Date): string;
  /** A request or connection is sent on: transproxy's word for how, the request's number, who, and where to. */
  passed(time: string, what: string, request: number, client: string | null, target: string): string | null;
  event(time: string, event: AccessEvent, visit: Visit): string | null;
  /** `by`: who refuses it. */
  refused(time: string, by: string, event: AccessEvent, visit: Visit): string | null;
}

const two = (n: number): string => String(n).padStart(2, '0');

const timeOfDay = (date: Date): string => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

/** `2026/11/22 20:48:41`, in local time. */
const slashed = (date: Date): string =>
  `${date.getFullYear()}/${two(date.getMonth() + 1)}/${two(date.getDate())} ${timeOfDay(date)}`;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `22/Nov/2026:20:48:41`, in local time. */
const webTime = (date: Date): string =>
  `${two(date.getDate())}/${MONTHS[date.getMonth()]}/${date.getFullYear()}:${timeOfDay(date)}`;

/** `+0100`: how far local time is ahead of UTC. */
const zone = (date: Date): string => {
  const ahead = -date.getTimezoneOffset();
  const minutes = Math.abs(ahead);
  return `${ahead < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}${two(minutes % 60)}`;
};

/** A path may have anything in it, and a line has one character a byte: what would break it is written as in a URL. */
export const unixName = (path: string): string => `unix:${encodeURI(Buffer.from(path).toString())}`;

/** Host and port of where a connection came in, and of where it goes; rinetd's `?` and 0 for what is not known. */
const entranceOf = ({ entrance }: Visit): readonly [string, number] =>
  entrance === null ? ['?', 0] : entrance.port === null ? [unixName(entrance.host), 0] : [entrance.host, entrance.port];

const targetOf = ({ target }: Visit): readonly [string, number] =>
  target === null ? ['?', 0] : isUnix(target) ? [unixName(target.path), 0] : [target.host, target.port];

const clientOf = ({ client }: Visit): string => client ?? '?';

const FORMATS: Readonly<Record<AccessLogSettings['format'], Format>> = {
  transproxy: {
    time: slashed,
    passed: (time, what, request, client, target) =>
      `${time}  ${what.padEnd(13)} ${request} ${client ?? '-'} -> ${target}`,
    event: () => null,
    refused: (time, by, _, { client }) => `${time}  ${by} refused from ${client ?? '-'}`,
  },
  tab: {
    // With a space behind it, as rinetd has it.
    time: (date) => `${webTime(date)} `,
    passed: () => null,
    event: (time, event, visit) =>
      [time, clientOf(visit), ...entranceOf(visit), ...targetOf(visit), visit.fromClient, visit.toClient, event].join(
        '\t',
      ),
    refused: (time, _, event, visit) => FORMATS.tab.event(time, event, visit),
  },
  common: {
    // Two spaces, as rinetd has it.
    time: (date) => `${webTime(date)}  ${zone(date)}`,
    passed: () => null,
    event: (time, event, visit) => {
      const url = ['/rinetd-services', ...entranceOf(visit), ...targetOf(visit), event].join('/');
      return `${clientOf(visit)} - - [${time}] "GET ${url} HTTP/1.0" 200 ${visit.toClient} - - - ${visit.fromClient}`;
    },
    refused: (time, _, event, visit) => FORMATS.common.event(time, event, visit),
  },
};

/**
 * What connections and flows of one thread write to the access log, in the plan's format. Lines are collected over a turn
 * of the loop: a message for each would cost more than the request.
 */
export class AccessEntries {
  #tellsEvents = false;
  #format: Format = FORMATS.transproxy;
  readonly #flush: (lines: string) => void;
  #lines = '';
  #second = 0;
  #time = '';

  /** `flush` gets whole lines, one character a byte. */
  constructor(format: AccessLogSettings['format'], flush: (lines: string) => void) {
    this.#flush = flush;
    this.useFormat(format);
  }

  /** Connections tell of their beginning and end; else a Visit is not worth making. */
  get tellsEvents(): boolean {
    return this.#tellsEvents;
  }

  /** Lines are of this format from now on. */
  useFormat(format: AccessLogSettings['format']): void {
    this.#tellsEvents = format !== 'transproxy';
    this.#format = FORMATS[format];
    // Of no time: each format writes it in its own way.
    this.#second = 0;
  }

  /** See Format. */
  passed(what: string, request: number, client: string | null, target: string): void {
    this.#add(this.#format.passed(this.#now(), what, request, client, target));
  }

  /** See Format. */
  event(event: AccessEvent, visit: Visit): void {
    this.#add(this.#format.event(this.#now(), event, visit));
  }

  /** See Format. */
  refused(by: string, event: AccessEvent, visit: Visit): void {
    this.#add(this.#format.refused(this.#now(), by, event, visit));
  }

  flush(): void {
    if (this.#lines === '') return;
    this.#flush(this.#lines);
    this.#lines = '';
  }

  #add(line: string | null): void {
    if (line === null) return;
    this.#lines += `${line}\n`;
    if (this.#lines.length > ENOUGH) this.flush();
  }

  #now(): string {
    const now = Date.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#time = this.#format.time(new Date(now));
    }
    return this.#time;
  }
}
