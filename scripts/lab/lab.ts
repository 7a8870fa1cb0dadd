import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Host } from './host.js';
import { bounded } from './until.js';

const IS_ROOT = process.getuid?.() === 0;

const interfaceTo = (host: Host): string => `to-${host.name}`.slice(0, 15);

/**
 * What a lab's keeper does. When its standard input ends, because the lab closes or because our process died in whatever
 * way, it removes the folder; while the hosts end at the same time, files may still appear there. A signal to our whole
 * process group, as a terminal sends it, must not end it before that.
 */
const KEEPER = `
trap '' HUP INT TERM
echo ready
cat
for attempt in 1 2 3 4 5; do
  rm -rf -- "$1" 2>/dev/null && exit
  sleep 0.2
done`;

/**
 * A lab: hosts in namespaces, wires between them, names and a temporary folder.
 * Needs root, or the right to make user namespaces: then an ordinary user is root inside the lab, and only root.
 * Nothing that it makes has a name outside itself, and it ends with our process, however that ends.
 */
export class Lab {
  /** Temporary folder; readable for every user, since peers drop their privileges. */
  readonly folder: string;
  /** Holds the user namespace, if there is one, and the folder. */
  readonly #keeper: ChildProcess;
  readonly #hosts: Host[] = [];
  readonly #names = new Map<string, readonly string[]>();

  private constructor(folder: string, keeper: ChildProcess) {
    this.folder = folder;
    this.#keeper = keeper;
  }

  static async open(): Promise<Lab> {
    const folder = mkdtempSync(join(tmpdir(), 'transproxy-lab-'));
    chmodSync(folder, 0o755);
    writeFileSync(join(folder, 'nsswitch.conf'), 'passwd: files\ngroup: files\nservices: files\nhosts: files\n');
    writeFileSync(join(folder, 'resolv.conf'), '');
    const shell = ['sh', '-c', KEEPER, 'keeper', folder];
    const [program, ...args] = IS_ROOT ? shell : ['unshare', '--user', '--map-root-user', ...shell];
    const keeper = spawn(program as string, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    keeper.stdin.on('error', () => {});
    await bounded('the keeper of the lab', Promise.race([once(keeper.stdout, 'data'), once(keeper, 'exit')]));
    if (keeper.exitCode !== null) {
      rmSync(folder, { recursive: true });
      throw new Error('this user may not make user namespaces');
    }
    const lab = new Lab(folder, keeper);
    lab.#writeNames();
    return lab;
  }

  /** Whether hosts have all user numbers of the machine, so that programs in them can drop their privileges. */
  get hasUsers(): boolean {
    return IS_ROOT;
  }

  /** A path in the temporary folder. */
  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  async host(name: string): Promise<Host> {
    const user = IS_ROOT ? [] : [`--user=/proc/${this.#keeper.pid}/ns/user`, '--preserve-credentials'];
    const host = await Host.start(name, this.folder, user);
    this.#hosts.push(host);
    return host;
  }

  /**
   * A wire between two hosts. Each end is named after the host at the other: `to-router`.
   * Addresses are written with their prefix length.
   */
  async link(a: Host, addressesOfA: readonly string[], b: Host, addressesOfB: readonly string[]): Promise<void> {
    // Only the network namespace is entered: the kernel reads the other end's process number in our own numbering.
    const enter = a.enter.filter((argument) => !/^--(mount|pid)=/.test(argument));
    const ip = [
      'ip',
      'link',
      'add',
      interfaceTo(b),
      'type',
      'veth',
      'peer',
      'name',
      interfaceTo(a),
      'netns',
      String(b.pid),
    ];
    const [program, ...args] = [...enter, ...ip];
    const child = spawn(program as string, args, {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    });
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`no wire between ${a.name} and ${b.name}`);
    for (const [host, peer, addresses] of [[a, b, addressesOfA] as const, [b, a, addressesOfB] as const]) {
      await host.run('ip', 'link', 'set', interfaceTo(peer), 'up');
      for (const address of addresses) await host.address(interfaceTo(peer), address);
    }
  }

  /** Lets all hosts of the lab know a name; given again, it replaces the addresses. */
  name(name: string, addresses: readonly string[]): void {
    this.#names.set(name, addresses);
    this.#writeNames();
  }

  /** The hosts file is written in place, because every host has it mounted. */
  #writeNames(): void {
    const lines = ['127.0.0.1 localhost', '::1 localhost'];
    for (const [name, addresses] of this.#names) lines.push(...addresses.map((address) => `${address} ${name}`));
    writeFileSync(join(this.folder, 'hosts'), `${lines.join('\n')}\n`);
  }

  /** Ends every process of the lab and removes the temporary folder. */
  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.close()));
    const gone = once(this.#keeper, 'exit');
    this.#keeper.stdin?.end();
    await bounded('the keeper of the lab to end', gone);
  }
}
