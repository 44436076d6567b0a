#!/usr/bin/env bash
# Checks the dependencies against deny.toml. Advisories need the RustSec database, which is on GitHub: where it
# cannot be fetched, a line on stderr says that they were not checked, and the other checks count.
set -euo pipefail
cd "$(dirname "$0")/.."
deny=.tools/cargo-deny/bin/cargo-deny

# macOS has no timeout(1): there git's own limits have to do.
limited() {
    if command -v timeout >/dev/null; then timeout 120 "$@"; else "$@"; fi
}

"$deny" --locked check -D warnings bans licenses sources

# No prompt, and an end for a transfer that stalls.
export GIT_TERMINAL_PROMPT=0 GIT_HTTP_LOW_SPEED_LIMIT=1000 GIT_HTTP_LOW_SPEED_TIME=30
if ! output=$(limited "$deny" --locked fetch db 2>&1); then
    # Git's reason, else the last line of whoever failed.
    reason=$(grep -m1 '^fatal:' <<<"$output" || grep . <<<"$output" | tail -1 || true)
    echo "*** ADVISORIES WERE NOT CHECKED: the database could not be fetched (${reason:-it took too long}) ***" >&2
    exit 0
fi
# What was yanked, as of now.
"$deny" --locked fetch index
# From here on nothing is fetched, so whatever fails is a finding.
"$deny" --locked --offline check -D warnings advisories
