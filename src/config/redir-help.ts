/** What main prints on stderr below the message of a UsageError. */
export const usage = 'usage: tproxy-redir [options] [SRC]:PORT [DST]:PORT; tproxy-redir --help lists the options';

export const help = `\
Usage: tproxy-redir [options] [SRC]:PORT [DST]:PORT
       tproxy-redir [options] --inetd [DST]:PORT
       tproxy --as redir ...

Relays TCP connections that come to SRC:PORT to DST:PORT, with the command line
of redir 3 and 2. SRC and DST are names or addresses, IPv6 in brackets; ports
are numbers or service names. Without SRC: every address, IPv4 and IPv6. Without
DST: this host.

Where connections come from
  -i, --inetd           from inetd or the like, as standard input
  --tcp-wrappers        serve only whom hosts.allow and hosts.deny admit

Where they go
  -b, --bind ADDR       connect from this address of ours
                        (also --bind_addr, --source)
  -p, --transproxy      connect from the client's own address (also --spoof)
  -x, --connect HOST:PORT
                        to HOST:PORT, by CONNECT through the HTTP proxy DST:PORT
  --proxy-auth FILE     user:password for that proxy, in FILE's first line
  -f, --ftp TYPE        follow FTP, so that data connections pass: those that
                        the server makes (port), the client (pasv) or both
  --ftp-ports LOW-HIGH  take FTP's data connections on these ports

How it runs
  -n, --foreground      don't become a daemon; log to standard error
  -s, --syslog          log to syslog, also in the foreground
  -I, --ident NAME      our name there and for --tcp-wrappers (default: redir;
                        also --name)
  -l, --loglevel LEVEL  none, err, warning, notice, info, debug
                        (default: notice; also --log-level)
  --debug               as -l debug
  -t, --timeout SECONDS end a connection without a byte either way for so long
                        (default: 0, never)
  --user USER           after binding the port, become USER (a name, or #UID)
  --pid-file FILE       write the process id to FILE
  --workers N           threads (default: one for each available core)

Slowing down, for each connection and each direction
  -m, --max-bandwidth BPS
                        bits per second (also --max_bandwidth)
  -w, --random-wait MSEC
                        hold each piece back for up to twice so long
                        (also --random_wait)
  -o, --wait-in-out WHICH
                        only what goes to the client (1), only what comes from
                        it (2), or both (3, the default; also --wait_in_out)
  -z, --bufsize BYTES   of a piece, at most

As redir 2 has it; these stay in the foreground
  --lport PORT          PORT of SRC
  --laddr ADDR          SRC
  --cport PORT          PORT of DST
  --caddr ADDR          DST

  -v, --version         print the version
  -h, --help            print this help

Examples
  Port 80 of this host is another's:
    tproxy-redir --user nobody :80 www.example.net:http
  From inetd, one line of /etc/inetd.conf:
    80 stream tcp nowait nobody /usr/bin/tproxy-redir redir -i 192.0.2.1:80
`;
