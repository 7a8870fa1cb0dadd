import { BALANCES, LOG_LEVELS } from '../plan.js';

/** What main prints on stderr below the message of a UsageError. */
export const usage =
  'usage: tproxy [options] proxyhost proxyport, or tproxy -t [options] [HOST PORT]; tproxy --help lists the options';

export const help = `\
Usage: tproxy [options] proxyhost proxyport
       tproxy [options] -t [HOST PORT]
       tproxy [options] -c FILE

Sends redirected connections through the HTTP proxy at proxyhost proxyport: HTTP
requests translated for it, TLS by CONNECT; other protocols go past it.
With -t, relays TCP bytes as they are. Ports are numbers or service names.

Where connections come from
  -s, --server PORT     listen on PORT, or on unix:/PATH or unix:@NAME;
                        repeatable. Without -s: serve the socket on standard
                        input (inetd, tcpserver, systemd), or relay standard
                        input and output with -t HOST PORT
  -b, --bind ADDR       listen on this address or name only
                        (default: every address, IPv4 and IPv6)
  -a, --allow ACL       serve only these clients; repeatable. An address or a
                        network, as 192.168.1.0/24, 10.1/16 or 2001:db8::/32
  --socket-mode MODE    permissions of unix:/PATH, as 660
  --intercept HOW       how the firewall sends them here: redirect (the default)
                        or tproxy
  --tcp-wrappers        serve only whom hosts.allow and hosts.deny admit
  --exit-idle SECONDS   end when a listening socket of inetd or systemd had no
                        connection for so long (default: 60)

Where they go
  -t, --transparent     relay bytes to HOST PORT, unix:/PATH or unix:@NAME, or
                        without them to the original destination
  -p, --proxy-only      never connect past the proxy. Without it, the original
                        destination takes over when no proxy can be reached
  --tls PASSAGE         TLS: connect (the default: through the proxy, by the
                        name in it), direct (past it) or close
  --ech HOW             TLS whose name may be encrypted, as that of browsers: by
                        its address (the default), or by the name outside it
  --unknown PASSAGE     neither HTTP nor TLS, or the server speaks first: direct
                        (the default), connect (the default with -p) or close
  --source ADDR         connect from this address of ours
  --spoof               connect from the client's own address
  --ftp TYPE            with -t, follow FTP so that data connections pass: those
                        that the server makes (port), the client (pasv) or both
  --ftp-ports LOW-HIGH  take FTP's data connections on these ports

Proxies
  --upstream URL        another proxy; repeatable. HOST:PORT, http://HOST:PORT,
                        or socks5://HOST:PORT for all but HTTP requests, each
                        with user:password@ in front of HOST if needed
  --balance HOW         ${BALANCES.join(', ')}
                        (default: ${BALANCES[0]})
  --check SECONDS       try to connect to each proxy, or target, so often
  --proxy-auth FILE     user:password for the proxies, in FILE's first line
  --proxy-protocol V    begin connections with a PROXY header: v1 or v2

HTTP
  -f, --force URL       send every request to URL, but not those whose Referer
                        is URL
  --upgrade HOW         requests for web sockets and the like: connect (through
                        CONNECT, the default) or pass (as any other request)
  --via NAME            our name in Via (default: made for this command line)
  --no-via              no Via; loops through us are not known by it then
  --forwarded-for       tell the proxy the client's address in X-Forwarded-For
  --trust ACL           keep what these clients say in it; repeatable
  --verify-host HOW     Host must resolve to the original destination, or else
                        that address goes into the URL (HOW is address) or the
                        request is refused (strict)

How it runs
  -c, --conf-file FILE  all services from FILE: YAML if its name ends in .yaml,
                        .yml or .json, else a rinetd.conf; only what stands here
                        may be beside it, but for --log, and goes before it
  --check               start nothing: say what is wrong, or print the plan;
                        with a number behind it, it is the option above
  --to-yaml             start nothing: print a file for -c that means the same
  -d, --foreground      don't become a daemon; log to standard error
  --syslog              log to syslog, also in the foreground
  --ident NAME          our name there and for --tcp-wrappers (default: tproxy)
  -r, --user USER       after binding the ports, become USER (a name, or #UID)
  -l, --log FILE        access log; opened anew on SIGHUP
  -P, --pid-file FILE   write the process id to FILE
  --drain SECONDS       let connections go on for so long after SIGTERM
                        (default: 0; a second SIGTERM ends them)
  --takeover PIDFILE    take the listening sockets over from the process that
                        PIDFILE names, which drains; no connection is lost
  -w, --workers N       threads (default: one for each available core)
  --log-level LEVEL     ${LOG_LEVELS.join(', ')} (default: info)
  --log-connections     log each connection's beginning and end, as redir does

Limits
  --connect-timeout SECONDS   for a connect to the proxy or origin (default: 10)
  --timeout SECONDS           without a byte either way (default: 120; 0: none)
  --first-byte SECONDS        until a client's first byte; then the server is to
                              speak first (default: 1)
  --head-timeout SECONDS      for one request head to arrive (default: 30)
  --head-bytes BYTES          of one request head (default: 65536)

Slowing down, for each connection and each direction
  --max-bandwidth BPS   bits per second
  --random-wait MSEC    hold each piece back for up to twice so long
  --wait-in-out WHICH   only what goes to the client (1), only what comes from
                        it (2), or both (3, the default)
  --bufsize BYTES       of a piece, at most

  -v, --version         print the version
  -h, --help            print this help
  --as DIALECT          as the first argument: what follows is a command line of
                        redir or rinetd (as with the names tproxy-redir and
                        tproxy-rinetd) or of transproxy

Examples
  A gateway that sends its clients' web requests through a Squid:
    iptables -t nat -A PREROUTING -i lan0 -p tcp --dport 80 \\
      -j REDIRECT --to-ports 8081
    tproxy -s 8081 -r nobody -l /var/log/tproxy.log squid.example.net 3128
  Port 443 too: one more such rule with --dport 443.
  The same from inetd, one line of /etc/inetd.conf:
    8081 stream tcp nowait nobody /usr/bin/tproxy tproxy squid.example.net 3128
  A plain TCP relay, in the foreground:
    tproxy -d -s 2525 -t mail.example.net smtp
`;
