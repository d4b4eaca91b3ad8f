#!/bin/sh
# Install the Debian packages that the integration tests run, without starting any of their services.
# Run as root: sh tests/integration/install.sh. It does nothing when all of them are installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
packages=$(cat "$here/packages.txt")
# CPython's own tests, which Debian keeps apart from its Python and names by the version.
packages="$packages $(/usr/bin/python3 -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])')"
# What not every Debian has (12 has it in its backports alone); tests go without where it is not.
optional=valkey-server
policy=/usr/sbin/policy-rc.d

known() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

wanted=$packages
if known "$optional"; then wanted="$packages $optional"; fi
# shellcheck disable=SC2086 # one word per package
states=$(dpkg-query -W -f '${db:Status-Abbrev}\n' $wanted 2>/dev/null) || states=missing
if [ -z "$(printf '%s\n' "$states" | grep -v '^ii' || true)" ]; then
    echo "integration packages: all installed"
    exit 0
fi

scratch=$(mktemp -d)
restore() {
    rm -f "$policy"
    if [ -e "$scratch/policy-rc.d" ]; then cp -p "$scratch/policy-rc.d" "$policy"; fi
    rm -rf "$scratch"
}
if [ -e "$policy" ]; then cp -p "$policy" "$scratch/policy-rc.d"; fi
trap restore EXIT
trap 'exit 1' INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy" # 101 = "action forbidden by policy": no service is started
chmod 755 "$policy"

# inn2's post-installation script fails on a host whose own name has no domain, unless its configuration names one.
cat >"$scratch/inn.conf" <<END
domain: outgate.test
pathhost: news.outgate.test
mta: "/usr/sbin/sendmail -oi -oem %s"
pathnews: /usr/lib/news
pathdb: /var/lib/news
pathetc: /etc/news
pathlog: /var/log/news
pathrun: /run/news
pathspool: /var/spool/news
hismethod: hisv6
ovmethod: tradindexed
enableoverview: true
END
chmod 755 "$scratch"

export DEBIAN_FRONTEND=noninteractive INNCONF="$scratch/inn.conf"
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $packages
if known "$optional"; then
    apt-get install -y -qq --no-install-recommends "$optional" || echo "integration packages: without $optional"
fi
