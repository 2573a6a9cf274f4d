#!/usr/bin/env bash
# usage: ./sanity.sh URL…   Sends one prompt twice to each engine: the second time must hit.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 URL…" >&2; exit 2; }
replicas=()
for url in "$@"; do replicas+=(--replica "$url"); done
exec kvproxy doctor --probe "${replicas[@]}"
