#!/usr/bin/env bash
# Content throughput of verified transfers beside ib_read_bw on the same rail, in turns. Both are
# timed from the first content on, without the time to connect. Figures of this guest mean nothing;
# ratios do.
set -euo pipefail
bytes=96MiB
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

rails_used=(0)
runs=${RUNS:-3}
enrol
ratios=()
printf '\n%-4s %22s %22s %12s %8s\n' run "ib_read_bw -q 1 MB/s" "ib_read_bw -q $queue_pairs MB/s" "portway MB/s" ratio >"$work/table"
for run in $(seq "$runs"); do
    data ckpt "$work/a/data/$run" --bytes "$bytes" --seed "$run"
    one=$(read_bw 0 "$message_bytes" 1)
    many=$(read_bw 0 "$message_bytes" "$queue_pairs")
    transfer "$run" a push "$work/a/data/$run" "b:$run"
    rate=$(moving_rate "$run")
    ratio=$(awk -v rate="$rate" -v one="$one" -v many="$many" '
        BEGIN { printf "%.3f", rate / (one > many ? one : many) }')
    ratios+=("$ratio")
    printf '%-4s %22s %22s %12s %8s\n' "$run" "$one" "$many" "$rate" "$ratio" >>"$work/table"
    rm -rf "$work/a/data/$run" "$work/b/data/$run"
done
cat "$work/table"
median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")
printf 'median ratio of portway (%s) to the better ib_read_bw, messages of %d bytes: %s\n' \
    "$TRANSPORT" "$message_bytes" "$median"
cp "$work/table" /mnt/out/ratio
