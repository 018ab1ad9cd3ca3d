#!/bin/sh
# build.sh DIR: builds the shop's Go service into DIR, with Go's caches below it, so that nothing is left elsewhere.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null 2>&1 || { echo "shop: no go on this machine, inventory will run its Node version"; exit 0; }
mkdir -p "$out"
cd "$here/apps/inventory"
HOME="$out" GOCACHE="$out/.gocache" GOPATH="$out/.gopath" GOFLAGS=-mod=mod GOTOOLCHAIN=local CGO_ENABLED=0 go build -o "$out/inventory" main.go
chmod 755 "$out" "$out/inventory"
