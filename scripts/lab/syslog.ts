import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './host.js';
import type { Lab } from './lab.js';
import type { Running } from './running.js';
import { until } from './until.js';

/** Gives the host a /dev of its own, unless it has one: the machine's is not the place for a socket of the lab. */
const OWN_DEV = `
set -e
if [ -e /run/dev ]; then exit; fi
mkdir /run/dev
mount -t tmpfs -o mode=755 tmpfs /run/dev
for device in null zero full random urandom tty; do
  touch "/run/dev/$device"
  mount --bind "/dev/$device" "/run/dev/$device"
done
mkdir -m 1777 /run/dev/shm
ln -s /proc/self/fd /run/dev/fd
mount --rbind /run/dev /dev`;

/** A real syslog daemon of a host, on /dev/log. */
export class Syslog {
  readonly #host: Host;
  readonly #configuration: string;
  readonly #file: string;
  #running: Running | null = null;

  private constructor(lab: Lab, host: Host) {
    const folder = mkdtempSync(lab.path('syslog-'));
    this.#host = host;
    this.#file = join(folder, 'messages');
    this.#configuration = join(folder, 'rsyslog.conf');
    writeFileSync(
      this.#configuration,
      `module(load="imuxsock" SysSock.Name="/dev/log")
template(name="lab" type="string" string="%syslogfacility-text%.%syslogseverity-text% %programname%:%msg:::sp-if-no-1st-sp%%msg:::drop-last-lf%\\n")
*.* action(type="omfile" file="${this.#file}" template="lab")
`,
    );
  }

  static async start(lab: Lab, host: Host): Promise<Syslog> {
    await host.run('sh', '-c', OWN_DEV);
    const syslog = new Syslog(lab, host);
    await syslog.start();
    return syslog;
  }

  /** Starts it, at first or after a stop. */
  async start(): Promise<void> {
    // With systemd's socket activation unset it makes the socket itself, also in place of one that is left over.
    this.#running = await this.#host.spawn(['rsyslogd', '-n', '-i', 'NONE', '-f', this.#configuration]);
    const listens = async (): Promise<boolean> =>
      (await this.#host.attempt('grep', '-q', '/dev/log$', '/proc/net/unix')).code === 0;
    await until('rsyslogd to listen on /dev/log', listens);
  }

  /** Ends it; what it has received is in its file then. */
  async stop(): Promise<void> {
    await this.#running?.end();
    this.#running = null;
  }

  /** Messages so far: `daemon.info tproxy: ready`. */
  lines(): string[] {
    return existsSync(this.#file)
      ? readFileSync(this.#file, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
      : [];
  }

  /** Waits for a message. */
  logged(pattern: RegExp): Promise<string> {
    return until(`${pattern} in syslog`, () => this.lines().find((line) => pattern.test(line))).catch((error) => {
      throw new Error(`${(error as Error).message}; there is:\n${this.lines().join('\n')}`);
    });
  }
}
