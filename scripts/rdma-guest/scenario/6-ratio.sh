#!/usr/bin/env bash
# Content throughput of verified transfers beside ib_read_bw on the same rail, in turns. Both are
# timed from the first content on, without the time to connect. Figures of this guest mean nothing;
# ratios do. First as fast as the guest's processors go, which emulate the digests too; then with a
# wire of RATE, where the wire is what limits.
set -euo pipefail
bytes=96MiB
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

rails_used=(0)
runs=${RUNS:-3}
enrol

# compare WHAT: a table, and the median of its ratios.
compare() {
    local run seed one many rate ratio ratios=()
    printf '\n%-4s %22s %22s %12s %8s  %s\n' run "ib_read_bw -q 1 MB/s" \
        "ib_read_bw -q $queue_pairs MB/s" "portway MB/s" ratio "$1" >"$work/table"
    for run in $(seq "$runs"); do
        seed=$((++seeds))
        data ckpt "$work/a/data/$seed" --bytes "$bytes" --seed "$seed"
        one=$(read_bw 0 "$message_bytes" 1)
        many=$(read_bw 0 "$message_bytes" "$queue_pairs")
        transfer "$seed" a push "$work/a/data/$seed" "b:$seed"
        rate=$(moving_rate "$seed")
        ratio=$(ratio "$rate" "$(printf '%s\n' "$one" "$many" | sort -n | tail -n 1)")
        ratios+=("$ratio")
        printf '%-4s %22s %22s %12s %8s\n' "$run" "$one" "$many" "$rate" "$ratio" >>"$work/table"
        rm -rf "$work/a/data/$seed" "$work/b/data/$seed"
    done
    printf 'median ratio of portway (%s) to the better ib_read_bw, messages of %d bytes: %s\n' \
        "$TRANSPORT" "$message_bytes" \
        "$(median "${ratios[@]}")" >>"$work/table"
    cat "$work/table"
    cat "$work/table" >>/mnt/out/ratio
}

seeds=0
compare "processors limit"
rate=${RATE:-80mbit}
shape 0 rate "$rate" limit 20000
compare "the wire limits: $rate"
