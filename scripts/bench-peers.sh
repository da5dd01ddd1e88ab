#!/usr/bin/env bash
# Measures Portway beside `rsync -a` to an rsync daemon, on the same work in one run; beside qcp, sendme and borg
# where they are named (docs/benchmarks.md says how each is run and installed).
#
#   scripts/bench-peers.sh [--movers rsync,portway] [--workloads ckpt,ckpt-next,shards,small]
#   RUNS=1 scripts/bench-peers.sh --movers portway --workloads million,sparse   # peak memory
#   scripts/bench-peers.sh --movers rsync,qcp,sendme,portway --workloads ckpt --mtu 1452
#
# RUNS=3 runs of each, movers in turns, medians printed as Markdown. BYTES=2GiB is the size of the
# checkpoint. WORK=DIR holds sources (made once and kept), TARGET=DIR the targets; /dev/shm takes
# the disk out of the picture. `--mtu 1452` makes datagrams no larger, and loopback as narrow as Ethernet.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need rsync=rsync ip=iproute2
[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-${TMPDIR:-/tmp}/portway-bench-peers}
options=(--portway "$portway" --work "$work" --runs "${RUNS:-3}" --bytes "${BYTES:-2GiB}")
[ -z "${TARGET:-}" ] || options+=(--target "$TARGET")
own_network "$bench" peers "${options[@]}" "$@"
