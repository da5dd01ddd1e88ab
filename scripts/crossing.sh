#!/usr/bin/env bash
# Runs N random histories at the border: scripts/crossing.sh N [FIRST_SEED]. A seed replays exactly.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 1 ] || { say "usage: scripts/crossing.sh N [FIRST_SEED]"; exit 2; }
need_build
cd "$repo"
PORTWAY_CROSSING_SEEDS=$1 PORTWAY_CROSSING_FIRST=${2:-0} \
    cargo test --locked --profile "$profile" -p portway --test crossing -- --nocapture
