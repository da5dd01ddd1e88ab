#!/usr/bin/env bash
# Measures what each checkpoint of a training run takes on an emulated link, when the receiver keeps those
# before it.
#
#   scripts/bench-training.sh [--compress never,auto,always] [--rate-mbit 200] [--rtt-ms 20] ...
#
# A model of 10 M parameters is trained once (`scripts/make-training.py`, minutes on two processors) and its
# checkpoints are kept in WORK=DIR; STEPS=100,110,... says which, SERIES=DIR uses another series instead.
# Then each is pushed, one after the other, to a receiver that keeps them; each mode begins with an empty one.
# RUNS=1 runs of each, medians printed as Markdown. PYTHON=PATH is a Python that has PyTorch; without it
# PyTorch comes from PyPI, several GB with what it brings. `portway-bench wan --help` has all options.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-${TMPDIR:-/tmp}/portway-bench-training}
series=${SERIES:-$work/checkpoints}
if [ ! -d "$series" ]; then
    [ -z "${SERIES:-}" ] || die "$series is no directory" "each directory in it is a step"
    python=${PYTHON:-}
    if [ -z "$python" ]; then
        need_python numpy torch
        python=$venv/bin/python
    fi
    rm -rf "$series.part"
    mkdir -p "$work"
    steps=()
    [ -z "${STEPS:-}" ] || steps=(--steps "$STEPS")
    "$python" "$repo/scripts/make-training.py" "$series.part" "${steps[@]}"
    mv "$series.part" "$series"
fi
"$bench" wan --series "$series" --portway "$portway" --work "$work" --runs "${RUNS:-1}" "$@"
