#!/bin/sh
# start.sh SERVICE LANGUAGE: runs a service in its own language, or in Node where that toolchain is absent, and says so.
cd "$(dirname "$0")/$1" || exit 1
case "$2" in
  python)
    if command -v python3 >/dev/null 2>&1; then exec python3 -B main.py; fi
    echo "$1: no python3 on this machine, running the Node version" ;;
  go)
    if [ -n "$SHOP_BIN" ] && [ -x "$SHOP_BIN/$1" ]; then exec "$SHOP_BIN/$1"; fi
    echo "$1: no binary built (that needs go and examples/shop/build.sh), running the Node version" ;;
esac
exec node main.mjs
