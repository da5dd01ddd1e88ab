#!/usr/bin/env bash
# Rails go away in mid-transfer, first one and then both: the transfer goes on and ends well.
set -euo pipefail
# Long enough to be disturbed.
bytes=96MiB
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

stall_s_max=${STALL_S_MAX:-5}
for seed in 1 2 3; do data ckpt "$work/a/data/$seed" --bytes "$bytes" --seed "$seed"; done
enrol

# moving SEED: begins a transfer that lasts long enough for what is done to its rails.
moving() {
    start "$1" a push "$work/a/data/$1" "b:$1"
    part "$1" 20
}
ended() {
    local stalled_s
    kill -0 "$client_pid" || die "$1 was over before its rails were lost" "a larger BYTES gives it time"
    finish "$1"
    show_rails
    stalled_s=$(stall "$1")
    step "$1: longest time without progress $stalled_s s"
    awk -v stall="$stalled_s" -v most="$stall_s_max" 'BEGIN { exit !(stall <= most) }' ||
        die "$1 made no progress for more than $stall_s_max s"
    same "$work/a/data/$1" "$1"
}

moving 1
unplug 1
step "rail 1 has lost its carrier"
ended 1

plug 1
before=("$(rail_bytes 0)" "$(rail_bytes 1)")
transfer 2 a push "$work/a/data/2" b:2
same "$work/a/data/2" 2
for rail in "${rails[@]}"; do
    crossed=$(($(rail_bytes "$rail") - before[rail]))
    step "rail $rail carried $(mb $crossed) MB"
    [ "$TRANSPORT" != rdma ] || [ $crossed -gt 1000000 ] || die "rail $rail was not used again"
done

moving 3
cut_rail 0
cut_rail 1
step "both rails swallow everything"
any_transport=1 ended 3
