#!/bin/sh
# Installs the Debian packages that the lab tests, the demo and the measurements use, and what `npm ci` compiles with.
# No service is started, now or at the next boot, by a package that this script brought. Needs root; quick when
# everything is there.
set -eu

packages='iproute2 iptables nftables procps util-linux
  squid apache2 nginx-light libnginx-mod-stream
  openbsd-inetd ucspi-tcp systemd logrotate
  curl netcat-openbsd openssl strace redsocks privoxy tinyproxy
  haproxy rinetd redir socat hyperfine
  microsocks chromium
  vsftpd lftp openssh-server openssh-client rsyslog libwrap0
  unbound bind9-dnsutils iperf3'

missing=
for package in $packages; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || :)
  [ "$status" = installed ] || missing="$missing $package"
done
# Any compiler will do; these packages only where there is none.
command -v c++ >/dev/null || missing="$missing g++"
command -v make >/dev/null || missing="$missing make"
command -v python3 >/dev/null || missing="$missing python3"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-lab: root is needed to install$missing" >&2
  exit 77
fi

# invoke-rc.d(8) asks this program before it starts a service; 101 is "don't".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
elif ! grep -qx 'exit 101' "$policy"; then
  echo "install-lab: $policy is there and may let services start; not touching it" >&2
  exit 78
fi

installed() {
  dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p'
}
before=$(installed)
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # words are meant to be split
apt-get install -q -y --no-install-recommends $missing

# Both kinds of services, those of dependencies too: some packages have init scripts, some systemd units, some both under
# different names. A unit without [Install] starts only with others, and systemctl(1) leaves it alone.
installed | grep -vxF -e "$before" | while read -r package; do
  case $package in
  # Where it was not, nothing boots by it; where it is brought in for good, its own units are wanted.
  systemd | systemd-* | udev) continue ;;
  esac
  dpkg-query --listfiles "$package" | while read -r file; do
    case $file in
    /etc/init.d/*) update-rc.d "${file##*/}" disable ;;
    */systemd/system/*/*) ;;
    */systemd/system/*.service | */systemd/system/*.socket | */systemd/system/*.timer | */systemd/system/*.path)
      systemctl --quiet disable "${file##*/}" 2>/dev/null || :
      ;;
    esac
  done
done
