#!/usr/bin/env bash
# Checks the dependencies against deny.toml. Advisories need the RustSec database, which is on GitHub: where it
# cannot be fetched, they are checked against the one that was fetched last, and where there is none, a line on
# stderr says that they were not checked, and the other checks count. With REQUIRE_ADVISORIES=true that fails.
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
    reason=${reason:-it took too long}
    if [[ ${REQUIRE_ADVISORIES:-false} == true ]]; then
        echo "the database of advisories could not be fetched: $reason" >&2
        exit 1
    fi
    if "$deny" --locked --offline check -D warnings advisories 2>/dev/null; then
        echo "*** ADVISORIES WERE CHECKED AS OF THE LAST TIME: the database could not be fetched ($reason) ***" >&2
        exit 0
    fi
    if compgen -G "${GRANTEX_ADVISORY_DBS:-.tools/advisory-dbs}/*/.git" >/dev/null; then
        # What the last one says is a finding.
        exec "$deny" --locked --offline check -D warnings advisories
    fi
    echo "*** ADVISORIES WERE NOT CHECKED: the database could not be fetched ($reason) ***" >&2
    exit 0
fi
# What was yanked, as of now.
"$deny" --locked fetch index
# From here on nothing is fetched, so whatever fails is a finding.
"$deny" --locked --offline check -D warnings advisories
