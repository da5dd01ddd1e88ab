#!/usr/bin/env bash
# Makes one thing scarce in many transfers between two nodes on this machine, and counts how often
# `portway-bench transfer` names it: a disk, processors, the link's rate, windows, loss, small files.
#
#   scripts/bench-bottleneck.sh [--cases 60] [--first 1] [--size 1.0] [--kinds source-disk,...]
#
# Cases are drawn from their number, so one can be repeated: --first N --cases 1. --size makes them
# longer. The link is a relay in user space, a scarce processor one that others keep busy; a slow
# disk needs root and cgroup v1. WORK=DIR lies on a disk. Exit status 1 below 95 % named right.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need taskset=util-linux
[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-$target/bench-bottleneck}
"$bench" bottlenecks --portway "$portway" --work "$work" "$@"
