#!/bin/sh
# Installs the JavaScript library that tests sign tokens with, and Node.js where the system has none.
set -eu
target=$1
here=$(dirname "$0")

if ! command -v npm >/dev/null 2>&1; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Node.js 20 or later with npm is needed for the tests" >&2
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then root=; else root=sudo; fi
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm >/dev/null
fi
mkdir -p "$target"
cp "$here/tokens/package.json" "$target/"
npm install --prefix "$target" --silent --no-audit --no-fund --no-package-lock
