#!/usr/bin/env bash
# Kills real transfers N times at random moments, resumes them and judges what is left.
#
#   scripts/kill-loop.sh N [--seed S] [--first SERIES] [--bytes SIZE] [--keep]
#
# WORK=DIR puts data and targets elsewhere than $TMPDIR: WORK=/dev/shm/kill-loop is about twice as
# fast, as SIGKILL loses no page that was written. Ends with a table; exit status 1 if
# anything wrong or partial was visible, needed repair, or was sent again beyond the bound.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 1 ] || { say "usage: scripts/kill-loop.sh N [--seed S] [--first SERIES]"; exit 2; }
[ -n "${SKIP_BUILD:-}" ] || build
work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/portway-kill-loop.XXXXXX")}
own_network "$bench" kill-loop --portway "$portway" --work "$work" "$@"
