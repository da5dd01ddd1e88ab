#!/usr/bin/env bash
# Measures pushes over an emulated link between two nodes on this machine.
#
#   scripts/bench-wan.sh [--rate-mbit 1000] [--rtt-ms 50] [--loss-percent 0,0.1,1] [--bytes 512MiB]
#   scripts/bench-wan.sh --rate-mbit 200 --rtt-ms 20 --loss-percent 0 --compress never,auto
#
# The link is a relay of datagrams in user space: a rate, a queue, a delay and losses by a seed,
# each way. It needs no rights, and takes about half a processor at 1 Gb/s. RUNS=3 runs of each,
# medians printed as Markdown. WORK=DIR holds sources (made once and kept), homes and targets;
# /dev/shm takes the disk out of the picture. `portway-bench wan --help` has all options.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-${TMPDIR:-/tmp}/portway-bench-wan}
"$bench" wan --portway "$portway" --work "$work" --runs "${RUNS:-3}" "$@"
