#!/bin/sh
# Installs what the mesh's transparent capture and its tests use from Debian. Run as root; nothing to do when all is there.
set -eu
missing=
for pair in nft:nftables ip:iproute2 tcpdump:tcpdump setpriv:util-linux curl:curl openssl:openssl; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair#*:}"
done
# A library alone.
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "weft: these Debian packages are missing:$missing (as root: sh scripts/debian.sh)" >&2
  exit 1
fi
echo "weft: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Another one that installs is waited for, and a mirror asked again.
apt='apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5'
# shellcheck disable=SC2086
$apt update
# shellcheck disable=SC2086
$apt install -y --no-install-recommends $missing >/dev/null
