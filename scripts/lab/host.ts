import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { type Outcome, Running } from './running.js';
import { bounded, until } from './until.js';

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default: /dev/null. A number is a descriptor of ours. */
  readonly stdin?: 'pipe' | 'ignore' | number;
}

const PATH = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
  dirname(process.execPath),
].join(':');

/** What every command sees: the machine's and the test runner's settings stay outside the lab. */
const ENVIRONMENT = { PATH, LANG: 'C', TZ: 'UTC', HOME: '/' };

/**
 * What a host's first process does. It is the init of the host's process namespace: when its standard input ends,
 * because the lab closes or because the lab's process died in whatever way, the kernel ends everything in the host.
 * SIGCHLD is ignored so that orphans (daemons) don't stay as zombies.
 */
const INIT = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for file in hosts resolv.conf nsswitch.conf; do
  if [ -e "/etc/$file" ]; then mount --bind "$1/$file" "/etc/$file"; fi
done
if [ -d /proc/sys/net/ipv6 ]; then
  echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
  for which in all default; do
    echo 0 >/proc/sys/net/ipv6/conf/$which/accept_dad
    echo 0 >/proc/sys/net/ipv6/conf/$which/accept_ra
  done
fi
ip link set lo up
echo ready
trap '' CHLD
exec cat
`;

/** A machine of the lab: network, mount and process namespaces of its own, kept by one process. */
export class Host {
  readonly name: string;
  readonly #init: ChildProcess;
  /** nsenter's arguments that lead into the user namespace of the lab; none when we are root. */
  readonly #user: readonly string[];

  private constructor(name: string, init: ChildProcess, user: readonly string[]) {
    this.name = name;
    this.#init = init;
    this.#user = user;
  }

  /** `folder` holds the lab's hosts, resolv.conf and nsswitch.conf. */
  static async start(name: string, folder: string, user: readonly string[]): Promise<Host> {
    const unshare = ['unshare', '--net', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child'];
    const command = [...unshare, '--mount-proc', 'sh', '-c', INIT, name, folder];
    const [program, ...args] = user.length > 0 ? ['nsenter', ...user, '--', ...command] : command;
    const init = spawn(program as string, args, { stdio: ['pipe', 'pipe', 'pipe'], env: ENVIRONMENT, cwd: '/' });
    init.stdin.on('error', () => {});
    let said = '';
    init.stderr.on('data', (piece) => {
      said += piece;
    });
    const ready = Promise.race([once(init.stdout, 'data'), once(init, 'exit')]);
    await bounded(`host ${name} to start`, ready);
    if (init.exitCode !== null) throw new Error(`host ${name} did not start: ${said.trim()}`);
    return new Host(name, init, user);
  }

  /** The process that others name to reach our namespaces (`ip link set … netns PID`, nsenter). */
  get pid(): number {
    return this.#init.pid as number;
  }

  /** The start of a command line that runs the rest in this host. */
  get enter(): readonly string[] {
    const ns = `/proc/${this.pid}/ns`;
    return ['nsenter', ...this.#user, `--net=${ns}/net`, `--mount=${ns}/mnt`, `--pid=${ns}/pid_for_children`, '--'];
  }

  /** Starts `command` with any standard streams; for what `spawn` and `run` don't cover. */
  child(command: readonly string[], stdio: StdioOptions, env: Readonly<Record<string, string>> = {}): ChildProcess {
    const [program, ...args] = [...this.enter, ...command];
    return spawn(program as string, args, {
      stdio,
      env: { ...ENVIRONMENT, ...env },
      cwd: '/',
      serialization: 'advanced',
    });
  }

  /** Starts `command` and leaves it running; it ends with the host at the latest. */
  spawn(command: readonly string[], { env = {}, stdin = 'ignore' }: SpawnOptions = {}): Promise<Running> {
    return Running.follow(`${this.name}: ${command.join(' ')}`, this.child(command, [stdin, 'pipe', 'pipe'], env));
  }

  /** Runs a command to its end, however that is. */
  async attempt(...command: string[]): Promise<Outcome> {
    const running = await this.spawn(command);
    return running.outcome(60_000);
  }

  /** Runs a command that must succeed: anything but exit code 0 is an error that shows what it said. */
  async run(...command: string[]): Promise<Outcome> {
    const outcome = await this.attempt(...command);
    if (outcome.code !== 0) {
      throw new Error(
        `${this.name}: ${command.join(' ')}: exit ${outcome.code ?? outcome.signal}\n${outcome.stdout}${outcome.stderr}`,
      );
    }
    return outcome;
  }

  /** `key` as sysctl(8) writes it. */
  async sysctl(key: string, value: string | number): Promise<void> {
    await this.run('sh', '-c', 'echo "$1" >"/proc/sys/$2"', 'sysctl', String(value), key.replaceAll('.', '/'));
  }

  /** Gives an interface an address with its prefix length, IPv4 or IPv6. */
  async address(dev: string, address: string): Promise<void> {
    await this.run('ip', 'address', 'add', address, 'dev', dev, ...(address.includes(':') ? ['nodad'] : []));
  }

  /** `destination` is a network or `default`. */
  async route(destination: string, via: string): Promise<void> {
    await this.run('ip', via.includes(':') ? '-6' : '-4', 'route', 'add', destination, 'via', via);
  }

  /**
   * Waits until so many sockets listen on a TCP port of this host, on whatever address and of whatever family: programs
   * that open one for each family have the first before the second.
   */
  async listening(port: number, sockets = 1): Promise<void> {
    const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
    const look = async (): Promise<boolean> => {
      const { stdout } = await this.attempt('cat', '/proc/net/tcp', '/proc/net/tcp6');
      // Columns: number, local address, remote address, state; 0A is TCP_LISTEN.
      const listeners = stdout.split('\n').filter((line) => {
        const [, local, , state] = line.trim().split(/\s+/);
        return state === '0A' && local?.endsWith(hex);
      });
      return listeners.length >= sockets;
    };
    await until(`${sockets} sockets of ${this.name} to listen on port ${port}`, look);
  }

  /** Numbers of all processes of this host, as the host sees them. */
  async processes(): Promise<{ pid: number; command: string }[]> {
    const script = 'cd /proc; for p in [0-9]*; do echo "$p $(tr "\\0" " " <$p/cmdline)"; done 2>/dev/null';
    const { stdout } = await this.run('sh', '-c', script);
    return stdout
      .split('\n')
      .map((line) => /^(\d+) (.*)$/.exec(line.trim()))
      .flatMap((match) => (match ? [{ pid: Number(match[1]), command: match[2] as string }] : []))
      .filter(({ command }) => !command.includes(script.slice(0, 20)));
  }

  /** Ends everything in the host, and the host. */
  async close(): Promise<void> {
    if (this.#init.exitCode !== null || this.#init.signalCode !== null) return;
    const gone = once(this.#init, 'exit');
    this.#init.stdin?.end();
    await bounded(`host ${this.name} to end`, gone);
  }
}
