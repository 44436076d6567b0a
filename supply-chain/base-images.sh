#!/usr/bin/env bash
# Writes the digests into the Dockerfile (or the one that is named) that its base images' tags have now. A stage of
# its own, as in `FROM chef AS builder`, has no tag and stays.
set -euo pipefail
dockerfile=$(realpath "${1:-Dockerfile}")
cd "$(dirname "$0")/.."
helm/tests/tools.sh

images=$(sed -nE 's/^FROM ([^ @]+:[^ @]+).*/\1/p' "$dockerfile" | sort -u)
if [ -z "$images" ]; then
    echo "$dockerfile names no base image with a tag" >&2
    exit 1
fi
# All of them first: with one that cannot be had nothing changes.
edits=()
for image in $images; do
    # Of the index, which has the image for each platform.
    digest=$(.tools/bin/crane digest "$image")
    edits+=(-e "s|^(FROM ${image//./\\.})(@[^ ]+)?( .*)?\$|\1@$digest\3|")
    echo "$image@$digest"
done
rewritten=$(sed -E "${edits[@]}" "$dockerfile")
printf '%s\n' "$rewritten" >"$dockerfile"
