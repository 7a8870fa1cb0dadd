import type { SocketAddress } from '../../src/address.js';
import { formatAddress } from '../../src/address.js';
import type { HttpKind } from './http-work.js';
import { built } from './peers.js';

/** A program that takes redirected HTTP connections and sends their requests on to an upstream. */
export interface HttpPeer {
  readonly name: string;
  /** What must be installed for it; null for tproxy, whose program is node. */
  readonly needs: { readonly program: string; readonly debianPackage: string } | null;
  /** Arguments that make the program tell its version. */
  readonly version?: readonly string[];
  /** Takes part in these rows only. */
  readonly kinds?: readonly HttpKind[];
  /** Number of the user that it drops its privileges to. */
  readonly user?: number;
  configuration(job: HttpSetup): string;
  command(program: string, file: string, setup: HttpSetup): readonly string[];
}

interface HttpSetup {
  readonly kind: HttpKind;
  /** On every IPv4 address. */
  readonly port: number;
  readonly upstream: SocketAddress;
  /** For configuration and whatever the program writes. */
  readonly directory: string;
}

const PROXY_USER = 13;

const isBulk = (kind: HttpKind): boolean => kind === 'download' || kind === 'upload';

/** Splice is for the bulk rows: it would cost the others an attempt for each message. */
const haproxy =
  (reuse: 'never' | 'always') =>
  ({ kind, port, upstream }: HttpSetup): string =>
    `global
  nbthread 1
  maxconn 400
defaults
  mode http
  timeout connect 10s
  timeout client 1m
  timeout server 1m
  ${isBulk(kind) ? 'option splice-request\n  option splice-response' : ''}
frontend redirected
  bind :${port}
  http-request set-uri http://%[req.hdr(host)]%[pathq]
  default_backend upstream
backend upstream
  http-reuse ${reuse}
  server upstream ${formatAddress(upstream)}
`;

const HAPROXY = {
  needs: { program: 'haproxy', debianPackage: 'haproxy' },
  version: ['-v'],
  command: (program: string, file: string) => [program, '-db', '-q', '-f', file],
} as const;

/** Each has one thread or process for traffic, or one a connection; nothing is logged or cached. */
export const HTTP_PEERS: readonly HttpPeer[] = [
  {
    name: 'tproxy',
    needs: null,
    configuration: () => '',
    command: (node, _file, { port, upstream }) => [
      ...[node, built('src/main.js'), '-d', '-w', '1', '-s', `${port}`],
      ...[upstream.ip, `${upstream.port}`],
    ],
  },
  {
    name: 'nginx',
    needs: { program: 'nginx', debianPackage: 'nginx-light' },
    version: ['-v'],
    // A literal http:// in the rewrite would make it an answer: a redirection.
    configuration: ({ port, upstream, directory }) => `
daemon off;
user root root;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${directory};
  proxy_temp_path ${directory};
  fastcgi_temp_path ${directory};
  uwsgi_temp_path ${directory};
  scgi_temp_path ${directory};
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream proxy {
    server ${formatAddress(upstream)};
    keepalive 64;
    keepalive_requests 1000000000;
  }
  server {
    listen ${port};
    location / {
      set $url http://$http_host$request_uri;
      rewrite ^ $url break;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_pass http://proxy;
    }
  }
}
`,
    command: (program, file, { directory }) => [program, '-p', directory, '-e', 'stderr', '-c', file],
  },
  { name: 'haproxy', ...HAPROXY, configuration: haproxy('never') },
  {
    name: 'haproxy-reuse',
    ...HAPROXY,
    kinds: ['keepalive', 'connection'],
    configuration: haproxy('always'),
  },
  {
    name: 'redsocks',
    needs: { program: 'redsocks', debianPackage: 'redsocks' },
    version: ['-v'],
    configuration: ({ port, upstream }) => `
base { log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables; }
redsocks { local_ip = 0.0.0.0; local_port = ${port}; ip = ${upstream.ip}; port = ${upstream.port}; type = http-relay; }
`,
    command: (program, file) => [program, '-c', file],
  },
  {
    name: 'privoxy',
    needs: { program: 'privoxy', debianPackage: 'privoxy' },
    version: ['--version'],
    configuration: ({ port, upstream, directory }) => `
confdir /etc/privoxy
logdir ${directory}
listen-address 0.0.0.0:${port}
accept-intercepted-requests 1
forward / ${formatAddress(upstream)}
toggle 0
keep-alive-timeout 60
tolerate-pipelining 1
socket-timeout 300
`,
    command: (program, file) => [program, '--no-daemon', file],
  },
  {
    name: 'tinyproxy',
    needs: { program: 'tinyproxy', debianPackage: 'tinyproxy' },
    version: ['-v'],
    configuration: ({ port, upstream, directory }) => `
Port ${port}
Timeout 600
MaxClients 100
LogFile "${directory}/tinyproxy.log"
LogLevel Critical
PidFile "${directory}/tinyproxy.pid"
Upstream http ${formatAddress(upstream)}
`,
    command: (program, file) => [program, '-d', '-c', file],
  },
  {
    name: 'squid',
    needs: { program: 'squid', debianPackage: 'squid' },
    version: ['-v'],
    user: PROXY_USER,
    configuration: ({ port, upstream, directory }) => `
http_port ${port} intercept
http_port ${port + 1000}
http_access allow all
cache deny all
cache_mem 8 MB
cache_peer ${upstream.ip} parent ${upstream.port} 0 no-query default
never_direct allow all
access_log none
cache_log ${directory}/cache.log
pid_filename ${directory}/squid.pid
coredump_dir ${directory}
hosts_file /etc/hosts
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname router
cache_effective_user proxy
`,
    command: (program, file, { port }) => [program, '-N', '-n', `bench${port}`, '-f', file],
  },
];
