import type { End, OriginalDestination } from '../address.js';
import type { LogLevel, Passage } from '../plan.js';
import type { AccessEvent } from './access-entries.js';
import { type Detected, detect } from './detect.js';
import type { Filter, Pump } from './pump.js';
import type { Site } from './site.js';
import { originalEnd } from './ways.js';

/** What a client's first bytes need of its connection. */
export interface FirstBytesLink {
  readonly site: Site;
  readonly original: OriginalDestination | null;
  readonly toUpstream: Pump;
  /** It is HTTP: the first `count` of `bytes`, valid during this call only, are the beginning of a request. */
  beginHttp(bytes: Buffer, count: number): void;
  /** It is something else, which goes to `end` as `passage` says, FirstBytes.bytes first. */
  pass(passage: Passage, end: End): void;
  giveUp(reason: string, event: AccessEvent): void;
  /** Something has to be said until then. */
  watchUntil(deadline: number): void;
  log(level: LogLevel, message: string): void;
}

const NOTHING = Buffer.alloc(0);

/** In http mode, a client's bytes until they say what it speaks (detect.ts). The link hears it by one call. */
export class FirstBytes implements Filter {
  /** Those that had to be kept. */
  bytes: Buffer = NOTHING;
  readonly #link: FirstBytesLink;

  constructor(link: FirstBytesLink) {
    this.#link = link;
    link.toUpstream.filter = this;
    link.toUpstream.unseen = 0;
  }

  onBytes(bytes: Buffer, count: number): void {
    const link = this.#link;
    if (this.bytes === NOTHING && detect(bytes, 0, count).kind === 'http') {
      // The ordinary case: a request's head in one piece, which need not be copied for that.
      link.beginHttp(bytes, count);
      return;
    }
    const first = Buffer.concat([this.bytes, bytes.subarray(0, count)]);
    this.bytes = first;
    const detected = detect(first, 0, first.length);
    if (detected.kind !== 'incomplete') this.#onDetected(detected);
    else if (first.length === count) link.watchUntil(link.site.loop.now + link.site.service.limits.head);
  }

  onPassed(): void {}

  onEnd(): void {
    // Too few bytes to say what they are, and there will be no more.
    if (this.bytes.length > 0) this.#onDetected({ kind: 'unknown' });
  }

  /** It waits for the server to begin, or stopped in the middle of what might have been a request. */
  onSilence(): void {
    this.#onDetected({ kind: 'unknown' });
  }

  #onDetected(detected: Detected): void {
    const link = this.#link;
    const { toUpstream } = link;
    const { service, reporter } = link.site;
    const first = this.bytes;
    if (reporter.verbose) link.log('debug', whatItSpeaks(detected, first.length));
    if (detected.kind === 'http') {
      link.beginHttp(first, first.length);
      return;
    }
    toUpstream.filter = null;
    toUpstream.unseen = Number.POSITIVE_INFINITY;
    toUpstream.paused = true;
    const end = originalEnd(link.original);
    if (end === null) {
      const why = 'no HTTP, and no original destination: the connection was not redirected here';
      link.giveUp(why, 'local-connect-failed -');
      return;
    }
    if (detected.kind === 'unknown') {
      link.pass(service.unknown, end);
      return;
    }
    // With an encrypted hello the name may be that of a front (RFC 9849), which the upstream might look up to somewhere
    // else than where the client was going.
    const { serverName, ech } = detected;
    link.pass(
      service.tls,
      serverName === null || (ech && service.ech === 'address') ? end : { host: serverName, port: end.port },
    );
  }
}

/** For a debug line: what the first `count` bytes of a client are. */
const whatItSpeaks = (detected: Detected, count: number): string => {
  if (detected.kind !== 'tls')
    return count === 0 ? 'the client waits for the server to begin' : `it is ${detected.kind}`;
  const { serverName, ech } = detected;
  return `it is tls, ${serverName === null ? 'without a name' : `for ${serverName}`}${ech ? ', maybe encrypted' : ''}`;
};
