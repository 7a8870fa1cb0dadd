import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatAddress, type SocketAddress } from '../../src/address.js';

/** A program that can relay TCP from one address to another. */
export interface Peer {
  readonly name: string;
  /** What must be installed for it; null for what comes with this project, whose program is node. */
  readonly needs: {
    readonly program: string;
    readonly debianPackage: string;
  } | null;
  /** It serves each connection by a process of its own. */
  readonly forks?: boolean;
  /** Arguments that make the program tell its version. */
  readonly version?: readonly string[];
  /** The command that relays `listen` to `target` in the foreground; it may write its configuration to `directory`. */
  command(program: string, listen: SocketAddress, target: SocketAddress, directory: string): readonly string[];
}

export const built = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

const configured = (directory: string, name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

/** Where Debian and others keep nginx's modules; one that is built in needs no file. */
const NGINX_STREAM = ['/usr/lib/nginx/modules/ngx_stream_module.so', '/usr/lib64/nginx/modules/ngx_stream_module.so'];

/** Every relay has one thread or process for traffic, or one process a connection, and its default buffers. */
export const RELAYS: readonly Peer[] = [
  {
    name: 'tproxy',
    needs: null,
    command: (node, listen, target) => [
      ...[node, built('src/main.js'), '-d', '-w', '1', '-b', listen.ip, '-s', `${listen.port}`],
      ...['-t', target.ip, `${target.port}`],
    ],
  },
  {
    name: 'haproxy',
    needs: { program: 'haproxy', debianPackage: 'haproxy' },
    version: ['-v'],
    command: (program, listen, target, directory) => [
      ...[program, '-db', '-q', '-f'],
      configured(
        directory,
        'haproxy.cfg',
        `global
  nbthread 1
  maxconn 400
defaults
  mode tcp
  timeout connect 10s
  timeout client 1m
  timeout server 1m
  option splice-auto
  option splice-request
  option splice-response
listen relay
  bind ${formatAddress(listen)}
  server target ${formatAddress(target)}
`,
      ),
    ],
  },
  {
    name: 'nginx',
    needs: { program: 'nginx', debianPackage: 'nginx libnginx-mod-stream' },
    version: ['-v'],
    command: (program, listen, target, directory) => [
      ...[program, '-p', directory, '-e', 'stderr', '-c'],
      configured(
        directory,
        'nginx.conf',
        `${NGINX_STREAM.filter((path) => existsSync(path)).map((path) => `load_module ${path};`)}
daemon off;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
stream {
  server {
    listen ${formatAddress(listen)};
    proxy_pass ${formatAddress(target)};
  }
}
`,
      ),
    ],
  },
  {
    name: 'rinetd',
    needs: { program: 'rinetd', debianPackage: 'rinetd' },
    version: ['--version'],
    command: (program, listen, target, directory) => [
      ...[program, '-f', '-c'],
      configured(
        directory,
        'rinetd.conf',
        `pidlogfile "${directory}/rinetd.pid"\n${listen.ip} ${listen.port} ${target.ip} ${target.port}\n`,
      ),
    ],
  },
  {
    name: 'redir',
    forks: true,
    needs: { program: 'redir', debianPackage: 'redir' },
    version: ['-v'],
    command: (program, listen, target) => [
      ...[program, '-n', '-l', 'err', formatAddress(listen), formatAddress(target)],
    ],
  },
  {
    name: 'socat',
    forks: true,
    needs: { program: 'socat', debianPackage: 'socat' },
    version: ['-V'],
    // The backlog of 5 that it has otherwise drops connections, which then wait a second to try again.
    command: (program, listen, target) => [
      program,
      `TCP4-LISTEN:${listen.port},bind=${listen.ip},reuseaddr,fork,backlog=1024`,
      `TCP4:${formatAddress(target)}`,
    ],
  },
  {
    name: 'node',
    needs: null,
    command: (node, listen, target) => [
      ...[node, built('scripts/bench/node-pipe.js'), `${listen.port}`, `${target.port}`],
    ],
  },
];

/** The path of a program, also where only root's PATH leads; null if it is not installed. */
export const findProgram = (name: string): string | null => {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  for (const directory of directories.filter(Boolean)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // In another directory, then.
    }
  }
  return null;
};

/** The first version number that a program tells. */
export const versionOf = (program: string, args: readonly string[]): string | null => {
  const { stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    timeout: 5000,
  });
  return /\bv?(\d+\.\d+[\w.+-]*)/.exec(`${stdout}${stderr}`)?.[1] ?? null;
};
