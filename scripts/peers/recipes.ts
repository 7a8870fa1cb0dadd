import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Recipe } from '../lab/peers.js';
import { ADDRESS } from '../lab/topology.js';

/** Where every peer listens for what was redirected. */
export const PORT = 8081;
/** Where every peer finds its upstream, an HTTP proxy. */
export const UPSTREAM_PORT = 3128;

const [UPSTREAM] = ADDRESS.proxy;

const PROXY_USER = 13;
const WWW_DATA_USER = 33;

export interface Contestant extends Omit<Recipe, 'port'> {
  /** Whose version is told; null: this package. */
  readonly debianPackage: string | null;
  /** How it is set up for this use, in one sentence. */
  readonly setUp: string;
}

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

const APACHE_MODULES = ['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'rewrite'];
const apacheModule = (name: string): string => `/usr/lib/apache2/modules/mod_${name}.so`;

export const CONTESTANTS: readonly Contestant[] = [
  {
    name: 'tproxy',
    debianPackage: null,
    setUp: `\`tproxy -s ${PORT} proxyhost ${UPSTREAM_PORT}\`.`,
    configuration: () => '',
    command: () => [process.execPath, MAIN, '-d', '-s', String(PORT), UPSTREAM, String(UPSTREAM_PORT)],
  },
  {
    name: 'nginx',
    debianPackage: 'nginx-light',
    setUp: '`rewrite` makes the URL absolute from `$http_host`, `proxy_pass` goes to the upstream with HTTP/1.1.',
    configuration: (folder) => `
daemon off;
user root root;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path ${folder};
  proxy_temp_path ${folder};
  fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder};
  scgi_temp_path ${folder};
  upstream proxy { server ${UPSTREAM}:${UPSTREAM_PORT}; keepalive 16; }
  server {
    listen ${PORT};
    listen [::]:${PORT};
    location / {
      rewrite ^(.*)$ "://$http_host$1";
      rewrite ^(.*)$ "http$1" break;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_pass http://proxy;
    }
  }
}
`,
    command: (file) => ['nginx', '-c', file],
  },
  {
    name: 'HAProxy',
    debianPackage: 'haproxy',
    setUp: '`mode http`, `http-request set-uri http://%[req.hdr(host)]%[pathq]`.',
    configuration: () => `
defaults
  mode http
  timeout connect 10s
  timeout client 1m
  timeout server 1m
frontend redirected
  bind :::${PORT} v4v6
  http-request set-uri http://%[req.hdr(host)]%[pathq]
  default_backend proxy
backend proxy
  server proxy ${UPSTREAM}:${UPSTREAM_PORT}
`,
    command: (file) => ['haproxy', '-db', '-q', '-f', file],
  },
  {
    name: 'redsocks',
    debianPackage: 'redsocks',
    setUp: '`type = http-relay`.',
    configuration: () => `
base { log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables; }
redsocks { local_ip = 0.0.0.0; local_port = ${PORT}; ip = ${UPSTREAM}; port = ${UPSTREAM_PORT}; type = http-relay; }
`,
    command: (file) => ['redsocks', '-c', file],
  },
  {
    name: 'Privoxy',
    debianPackage: 'privoxy',
    setUp: '`accept-intercepted-requests 1`, `forward` to the upstream, no actions or filters.',
    configuration: (folder) => `
confdir /etc/privoxy
logdir ${folder}
listen-address [::]:${PORT}
accept-intercepted-requests 1
forward / ${UPSTREAM}:${UPSTREAM_PORT}
toggle 1
buffer-limit 4096
keep-alive-timeout 5
tolerate-pipelining 1
socket-timeout 300
`,
    command: (file) => ['privoxy', '--no-daemon', file],
  },
  {
    name: 'Tinyproxy',
    debianPackage: 'tinyproxy',
    setUp: '`Upstream http`; its support for redirected connections is built in.',
    configuration: (folder) => `
Port ${PORT}
Timeout 600
MaxClients 100
LogFile "${folder}/tinyproxy.log"
LogLevel Info
PidFile "${folder}/tinyproxy.pid"
Upstream http ${UPSTREAM}:${UPSTREAM_PORT}
`,
    command: (file) => ['tinyproxy', '-d', '-c', file],
  },
  {
    name: 'Squid',
    debianPackage: 'squid',
    setUp:
      '`http_port … intercept`, the upstream as `cache_peer … parent` with `never_direct allow all`, ' +
      '`on_unsupported_protocol tunnel all`, `http_upgrade_request_protocols OTHER allow all`.',
    user: PROXY_USER,
    configuration: (folder) => `
http_port ${PORT} intercept
http_port 3130
http_access allow all
cache deny all
cache_peer ${UPSTREAM} parent ${UPSTREAM_PORT} 0 no-query default
never_direct allow all
on_unsupported_protocol tunnel all
http_upgrade_request_protocols OTHER allow all
access_log none
cache_log ${folder}/cache.log
pid_filename ${folder}/squid.pid
coredump_dir ${folder}
hosts_file /etc/hosts
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname router
cache_effective_user proxy
`,
    command: (file) => ['squid', '-N', '-f', file],
  },
  {
    name: 'Apache',
    debianPackage: 'apache2',
    setUp: '`RewriteRule ^ http://%{HTTP_HOST}%{REQUEST_URI} [P,NE]` with `ProxyRemote *` and `ProxyPreserveHost On`.',
    user: WWW_DATA_USER,
    configuration: (folder) => `
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache.pid
${APACHE_MODULES.filter((name) => existsSync(apacheModule(name)))
  .map((name) => `LoadModule ${name}_module ${apacheModule(name)}`)
  .join('\n')}
ServerName router
Listen ${PORT}
User www-data
Group www-data
ErrorLog ${folder}/error.log
ProxyRequests Off
ProxyRemote * http://${UPSTREAM}:${UPSTREAM_PORT}
ProxyPreserveHost On
RewriteEngine On
RewriteRule ^ http://%{HTTP_HOST}%{REQUEST_URI} [P,NE]
<Proxy *>
  Require all granted
</Proxy>
`,
    command: (file) => ['apache2', '-D', 'FOREGROUND', '-f', file],
  },
];
