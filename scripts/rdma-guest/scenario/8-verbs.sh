#!/usr/bin/env bash
# The port to the devices, engine/tests/verbs.rs, between the two ends of a rail.
set -euo pipefail
# shellcheck source=../../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../lib.sh"

test_binary verbs "" --test verbs
wire() { printf 'ip -n wire link set %s; ' "$@"; }
export PORTWAY_TEST_RDMA=rxe_a0,rxe_b0
export PORTWAY_TEST_RDMA_UNPLUG PORTWAY_TEST_RDMA_PLUG PORTWAY_TEST_RDMA_CUT PORTWAY_TEST_RDMA_MEND
PORTWAY_TEST_RDMA_UNPLUG=$(wire "wa0 down" "wb0 down") PORTWAY_TEST_RDMA_PLUG=$(wire "wa0 up" "wb0 up")
PORTWAY_TEST_RDMA_CUT=$(wire "br0 down") PORTWAY_TEST_RDMA_MEND=$(wire "br0 up")
log=$(mktemp)
RUST_BACKTRACE=0 "$test" --test-threads=1 --nocapture >"$log" 2>&1 || { cat "$log"; exit 1; }
grep -E '^test ' "$log"
! grep 'SKIPPED: no RDMA' "$log" || die "a test was skipped"
