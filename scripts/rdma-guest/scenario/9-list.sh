#!/usr/bin/env bash
# What is run over every transport, over real verbs and both rails: whole transfers by the real
# drivers, the list of the link, and what a kept grant is worth after its session.
set -euo pipefail
# shellcheck source=../../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../lib.sh"

test_binary portway ::real_verbs:: --lib
# Each test over software devices has its like over real ones.
expected=$("$test" --list | grep -c '::rdma::[a-z0-9_]*: test$')
export PORTWAY_TEST_RDMA=rxe_a0,rxe_b0,rxe_a1,rxe_b1
mkdir -p /mnt/out/list
log=/mnt/out/list/tests.log
run() {
    RUST_BACKTRACE=0 "$test" "$@" --nocapture >>"$log" 2>&1 || { cat "$log"; exit 1; }
}
# Those of the grants wait for devices that are patient; the others have the processors to themselves.
run ::real_verbs:: --skip ::grants:: --test-threads=1
run ::grants::real_verbs:: --test-threads=5
! grep SKIPPED "$log" || die "a test was skipped"
passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed; 0 failed; 0 ignored; .*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
awk -v passed="$passed" '/rails: / {
        sub(/.*rails: /, ""); sessions += $1; messages += $3; bytes += $5
    }
    END {
        printf "%d tests, %d transfers over real verbs: %d messages of %.0f MB\n", passed, sessions, messages, bytes / 1e6
    }' "$log"
[ "$passed" = "$expected" ] || die "$passed tests passed, and there are $expected"
