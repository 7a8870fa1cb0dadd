import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './host.js';
import type { Lab } from './lab.js';
import type { Running } from './running.js';
import { until } from './until.js';

/** A program that serves a port of a host, with a folder of its own for configuration and logs. */
export interface Peer {
  readonly host: Host;
  readonly port: number;
  readonly running: Running;
  readonly folder: string;
  /** Lines of its access log so far. */
  log(): string[];
  /** Waits for lines of the access log that contain `text`, and returns all that there are once there are `count`. */
  logged(text: string, count?: number): Promise<string[]>;
}

export interface Recipe {
  readonly name: string;
  readonly port: number;
  /** Number of the user that it drops its privileges to; it must be able to write to its folder. */
  readonly user?: number;
  readonly configuration: (folder: string) => string;
  readonly command: (configurationFile: string) => readonly string[];
}

export const startPeer = async (lab: Lab, host: Host, recipe: Recipe): Promise<Peer> => {
  const folder = mkdtempSync(lab.path(`${recipe.name}-`));
  const file = join(folder, 'configuration');
  writeFileSync(file, recipe.configuration(folder));
  if (lab.hasUsers && recipe.user !== undefined) chownSync(folder, recipe.user, recipe.user);
  // Where no other user exists, one more user namespace shows the program a user that is not root.
  const asUser =
    lab.hasUsers || recipe.user === undefined
      ? []
      : ['unshare', '--user', `--map-user=${recipe.user}`, `--map-group=${recipe.user}`];
  const running = await host.spawn([...asUser, ...recipe.command(file)]);
  const accessLog = join(folder, 'access.log');
  const log = (): string[] =>
    existsSync(accessLog)
      ? readFileSync(accessLog, 'latin1')
          .split('\n')
          .filter((line) => line !== '')
      : [];
  const logged = (text: string, count = 1): Promise<string[]> =>
    until(`${recipe.name} to log ${text} ${count} times`, () => {
      const lines = log().filter((line) => line.includes(text));
      return lines.length >= count ? lines : null;
    });
  await Promise.race([
    host.listening(recipe.port),
    running.exited.then(({ stdout, stderr }) => {
      throw new Error(`${recipe.name} ended: ${stdout}${stderr}`);
    }),
  ]);
  return { host, port: recipe.port, running, folder, log, logged };
};

const PROXY_USER = 13;
const WWW_DATA_USER = 33;

export interface SquidSettings {
  /** Behind the port on its http_port line. */
  readonly portOptions?: string;
  /** Lines before the rule that allows everything. */
  readonly rules?: string;
}

/** Squid with a cache in memory. Log lines: `client squid-status/http-status method url hierarchy user-agent`. */
export const startSquid = (
  lab: Lab,
  host: Host,
  port = 3128,
  { portOptions = '', rules = '' }: SquidSettings = {},
): Promise<Peer> =>
  startPeer(lab, host, {
    name: 'squid',
    port,
    user: PROXY_USER,
    configuration: (folder) => `
http_port ${port} ${portOptions}
${rules}
http_access allow all
cache_mem 64 MB
maximum_object_size_in_memory 16 MB
logformat lab %>a %Ss/%03>Hs %rm %ru %Sh/%<a "%{User-Agent}>h"
access_log stdio:${folder}/access.log lab
cache_log ${folder}/cache.log
pid_filename ${folder}/squid.pid
coredump_dir ${folder}
hosts_file /etc/hosts
strip_query_terms off
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname proxy.lab
cache_effective_user proxy
`,
    // Squids of one host share /dev/shm, where files are named after the service.
    command: (file) => ['squid', '-N', '-n', `squid${port}`, '-f', file],
  });

const APACHE_MODULES = [
  'mpm_event',
  'authz_core',
  'proxy',
  'proxy_http',
  'proxy_connect',
  'socache_shmcb',
  'cache',
  'cache_socache',
];

/** Apache's mod_proxy as a forward proxy with a cache. Log lines: `client "request line" status cache-status`. */
export const startApache = (lab: Lab, host: Host, port = 3128): Promise<Peer> =>
  startPeer(lab, host, {
    name: 'apache',
    port,
    user: WWW_DATA_USER,
    configuration: (folder) => `
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache.pid
${APACHE_MODULES.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
ServerName proxy.lab
Listen ${port}
User www-data
Group www-data
StartServers 1
ThreadsPerChild 25
ProxyRequests On
AllowCONNECT 443 80 8080
CacheSocache shmcb
CacheEnable socache http://
CacheQuickHandler On
LogFormat "%h \\"%r\\" %>s %{cache-status}e" lab
CustomLog ${folder}/access.log lab
ErrorLog ${folder}/error.log
<Proxy *>
  Require all granted
</Proxy>
`,
    command: (file) => ['apache2', '-D', 'FOREGROUND', '-f', file],
  });

/**
 * nginx as an origin that serves the folder `files` inside its own, for a day in any cache. `servers`: more server blocks.
 * Log lines: `client "request line" status host user-agent`.
 */
export const startNginx = async (
  lab: Lab,
  host: Host,
  ports: readonly [number, ...number[]] = [80],
  servers = '',
): Promise<Peer> => {
  const listen = ports.map((port) => `listen ${port}; listen [::]:${port};`).join(' ');
  const peer = await startPeer(lab, host, {
    name: 'nginx',
    port: ports[0],
    configuration: (folder) => {
      mkdirSync(join(folder, 'files'));
      return `
daemon off;
user root root;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 512; }
http {
  log_format lab '$remote_addr "$request" $status $http_host "$http_user_agent"';
  access_log ${folder}/access.log lab;
  client_body_temp_path ${folder};
  proxy_temp_path ${folder};
  fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder};
  scgi_temp_path ${folder};
  keepalive_requests 100000;
  root ${folder}/files;
  expires 1d;
  ${servers}
  server {
    ${listen}
    location = /whoami { default_type text/plain; return 200 "$server_addr:$server_port $http_host $request\\n"; }
  }
}
`;
    },
    command: (file) => ['nginx', '-c', file],
  });
  return peer;
};

/** microsocks, a SOCKS5 server. It says `connected to HOST:PORT` on standard error; `options` as `-u USER -P PASSWORD`. */
export const startSocks = (lab: Lab, host: Host, port = 1080, ...options: readonly string[]): Promise<Peer> =>
  startPeer(lab, host, {
    name: 'microsocks',
    port,
    configuration: () => '',
    command: () => ['microsocks', '-p', String(port), ...options],
  });

export interface UnboundSettings {
  /** More of its `server:` section: local data above all. */
  readonly server: string;
  /** More sections. */
  readonly sections?: string;
  /** Has PROXY version 2 before what it is asked, by UDP and TCP. */
  readonly proxied?: boolean;
}

/** unbound, a name server, over UDP and TCP. It knows what its settings tell it, and asks nobody. */
export const startUnbound = (
  lab: Lab,
  host: Host,
  port: number,
  { server, sections = '', proxied = false }: UnboundSettings,
): Promise<Peer> =>
  startPeer(lab, host, {
    name: 'unbound',
    port,
    configuration: (folder) => `
server:
  interface: 0.0.0.0@${port}
  interface: ::0@${port}
  ${proxied ? `proxy-protocol-port: ${port}` : ''}
  access-control: 0.0.0.0/0 allow
  access-control: ::0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "${folder}"
  pidfile: "${folder}/unbound.pid"
  use-syslog: no
  module-config: "iterator"
${server}
${sections}
remote-control:
  control-enable: no
`,
    command: (file) => ['unbound', '-d', '-c', file],
  });

/**
 * vsftpd for anonymous users, who may list and read its folder `files`, and write to `files/incoming`. Log lines have what
 * was said on control connections. `configuration`: more lines of it.
 */
export const startVsftpd = (lab: Lab, host: Host, port = 21, configuration = ''): Promise<Peer> =>
  startPeer(lab, host, {
    name: 'vsftpd',
    port,
    configuration: (folder) => {
      mkdirSync(join(folder, 'files', 'incoming'), { recursive: true });
      return `
listen=NO
listen_ipv6=YES
listen_port=${port}
background=NO
run_as_launching_user=YES
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_root=${folder}/files
use_localtime=NO
xferlog_enable=YES
xferlog_std_format=NO
log_ftp_protocol=YES
vsftpd_log_file=${folder}/access.log
${configuration}
`;
    },
    command: (file) => ['vsftpd', file],
  });
