#!/bin/sh
# Makes a Python environment: of the tests, or of the given requirements. Debian ships Python without venv: then it
# is installed.
set -eu
venv=$1
requirements=${2:-$(dirname "$0")/requirements.txt}

if ! python3 -m venv "$venv" >/dev/null 2>&1; then
    rm -rf "$venv"
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "python3 with its venv module is needed" >&2
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then root=; else root=sudo; fi
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
