#!/bin/sh
# Installs Postgres' server programs where the system has none and a package manager is at hand.
set -eu

found() {
    [ -n "${GRANTEX_VAULT_PG_BIN:-}" ] && return 0
    for program in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/libexec/postgresql*/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    command -v initdb >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

found && exit 0
echo "Installing Postgres' server programs…" >&2
if command -v apt-get >/dev/null 2>&1; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
elif command -v dnf >/dev/null 2>&1; then
    as_root dnf install -y -q postgresql-server
elif command -v apk >/dev/null 2>&1; then
    as_root apk add --quiet postgresql
elif command -v brew >/dev/null 2>&1; then
    brew install --quiet postgresql
fi
found && exit 0
echo "Postgres' server programs (initdb, postgres) were not found and could not be installed." >&2
echo "Install them, or name their directory in GRANTEX_VAULT_PG_BIN." >&2
exit 1
