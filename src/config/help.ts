import { readFileSync } from 'node:fs';
import { LOG_LEVELS } from '../plan.js';

export const help = `\
Usage: tproxy [options] proxyhost proxyport
       tproxy [options] -t [HOST PORT]

Translates redirected HTTP requests for the HTTP proxy at proxyhost proxyport.
With -t, relays TCP bytes as they are. Ports are numbers or service names.

Where connections come from
  -s, --server PORT     listen on PORT; repeatable. Without -s: serve the socket
                        on standard input (inetd, tcpserver, systemd), or relay
                        standard input and output with -t HOST PORT
  -b, --bind ADDR       listen on this address or name only
                        (default: every address, IPv4 and IPv6)
  -a, --allow ACL       serve only these clients; repeatable. An address or a
                        network, as 192.168.1.0/24, 10.1/16 or 2001:db8::/32
  --exit-idle SECONDS   end when a listening socket of inetd or systemd had no
                        connection for so long (default: 60)

Where they go
  -t, --transparent     relay bytes to HOST PORT, or without them to the
                        original destination
  -p, --proxy-only      never connect past the proxy. Without it, the original
                        destination takes over when the proxy can't be reached
  -f, --force URL       send every request to URL, but not those whose Referer
                        is URL

How it runs
  -d, --foreground      don't become a daemon; log to standard error
  -r, --user USER       after binding the ports, become USER (a name, or #UID)
  -l, --log FILE        access log; opened anew on SIGHUP
  -P, --pid-file FILE   write the process id to FILE
  -w, --workers N       threads (default: one for each available core)
  --log-level LEVEL     ${LOG_LEVELS.join(', ')} (default: info)

Limits
  --connect-timeout SECONDS   for a connect to the proxy or origin (default: 10)
  --idle SECONDS              without a byte either way (default: 120)
  --first-byte SECONDS        until a client's first byte (default: 60)
  --head-timeout SECONDS      for one request head to arrive (default: 30)
  --head-bytes BYTES          of one request head (default: 65536)

  -v, --version         print the version
  -h, --help            print this help

Examples
  A gateway that sends its clients' web requests through a Squid:
    iptables -t nat -A PREROUTING -i lan0 -p tcp --dport 80 \\
      -j REDIRECT --to-ports 8081
    tproxy -s 8081 -r nobody -l /var/log/tproxy.log squid.example.net 3128
  The same from inetd, one line of /etc/inetd.conf:
    8081 stream tcp nowait nobody /usr/bin/tproxy tproxy squid.example.net 3128
  A plain TCP relay, in the foreground:
    tproxy -d -s 2525 -t mail.example.net smtp
`;

/** Reads package.json: only when asked for. */
export const version = (): string => {
  const manifest = new URL('../../../package.json', import.meta.url);
  return `tproxy ${(JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version}\n`;
};
