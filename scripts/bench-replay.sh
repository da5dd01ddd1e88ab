#!/usr/bin/env bash
# Replays the busiest stretch of a workload over an emulated link of the size that the model says,
# where every deadline must hold, and over one that is 10 % smaller, where not all may.
#
#   scripts/bench-replay.sh [WORKLOAD.toml]
#
# Real nodes and transfers, by the clock; about two minutes. WORK=DIR holds sources, homes and targets;
# /dev/shm takes the disk out of the picture. Exit status 1 if it went otherwise.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-${TMPDIR:-/tmp}/portway-bench-replay}
"$bench" replay --portway "$portway" --work "$work" "${1:-$repo/examples/sizing/replay.toml}"
