#!/bin/sh
# Installs the load generators of the benchmarks, wrk and h2load, where the system has none.
set -eu

found() {
    command -v wrk >/dev/null 2>&1 && command -v h2load >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

found && exit 0
echo "Installing wrk and h2load…" >&2
if command -v apt-get >/dev/null 2>&1; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nghttp2-client wrk >/dev/null
elif command -v brew >/dev/null 2>&1; then
    brew install --quiet nghttp2 wrk
fi
found && exit 0
echo "wrk and h2load (of nghttp2) were not found and could not be installed." >&2
exit 1
