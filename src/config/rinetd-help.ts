import { LOG_LEVELS } from '../plan.js';

/** What main prints on stderr below the message of a UsageError. */
export const usage = 'usage: tproxy-rinetd [options] [-c FILE]; tproxy-rinetd --help lists the options';

export const help = `\
Usage: tproxy-rinetd [options] [-c FILE]
       tproxy --as rinetd ...

Relays TCP connections and UDP datagrams by the rules of a rinetd.conf, with the
command line of rinetd.

  -c, --conf-file FILE  read FILE (default: /etc/rinetd.conf)
  -f, --foreground      don't become a daemon; log to standard error
  -d, --debug           as --log-level debug
  --log-level LEVEL     ${LOG_LEVELS.join(', ')} (default: info)
  --syslog              log to syslog, also in the foreground
  --ident NAME          our name there and for tcp-wrappers (default: rinetd)
  -r, --user USER       after binding the ports, become USER (a name, or #UID)
  --pid-file FILE       write the process id to FILE (default: what the file
                        says; else /var/run/rinetd.pid for a daemon of root's)
  --drain SECONDS       let connections go on for so long after SIGTERM
                        (default: 0; a second SIGTERM ends them)
  --takeover PIDFILE    take the listening sockets over from the process that
                        PIDFILE names, which drains; no connection is lost
  --workers N           threads (default: one for each available core)
  -v, --version         print the version
  -h, --help            print this help

Lines of the file
  BINDADDRESS BINDPORT CONNECTADDRESS CONNECTPORT [NAME=VALUE,...]
                        a rule: addresses are names, IPv4, IPv6, 0, unix:/PATH
                        or unix:@NAME (without a port); ports are numbers or
                        service names, with /udp behind for UDP. * for
                        CONNECTADDRESS is the original destination
  allow PATTERN, deny PATTERN
                        before the first rule for all of them, behind a rule for
                        that one: addresses, with * and ?, and networks
  logfile FILE, logcommon, pidlogfile FILE, include FILES, dns-refresh SECONDS,
  connect-timeout SECONDS, listen-backlog N, max-udp-connections N,
  statusfile FILE, statusinterval SECONDS, statusformat json|text,
  statsloginterval SECONDS
  # a comment

Examples
  Two lines of /etc/rinetd.conf:
    0.0.0.0 80 www.example.net 80
    0.0.0.0 53/udp 192.0.2.53 53/udp [timeout=30]
  In the foreground, as nobody once the ports are bound:
    tproxy-rinetd -f -r nobody
`;
