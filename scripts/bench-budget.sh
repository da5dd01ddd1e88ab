#!/usr/bin/env bash
# Measures what a push costs the processors of both ends beside the sum of what no push can do without: quinn
# alone, two digests, a read from the cache, a write.
#
#   scripts/bench-budget.sh [--mtu 1452] [--at-most 1.25] ...
#
# RUNS=5 rounds, in each of which everything is measured once; medians printed as Markdown, exit status 1 if
# the push takes more than 1.25 times the sum. BYTES=2GiB is the size of the checkpoint. WORK=DIR holds the
# source (made once and kept), TARGET=DIR the targets; /dev/shm takes the disk out of the picture.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -z "${SKIP_BUILD:-}" ]; then
    build
    (cd "$repo" && cargo build --locked --profile "$profile" -p portway-bench --example raw_quinn)
fi
work=${WORK:-${TMPDIR:-/tmp}/portway-bench-budget}
options=(--portway "$portway" --raw-quinn "$bin/examples/raw_quinn" --work "$work")
options+=(--runs "${RUNS:-5}" --bytes "${BYTES:-2GiB}")
[ -z "${TARGET:-}" ] || options+=(--target "$TARGET")
"$bench" budget "${options[@]}" "$@"
