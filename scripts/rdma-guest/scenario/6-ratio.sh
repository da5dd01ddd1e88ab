#!/usr/bin/env bash
# Content throughput of verified transfers beside ib_read_bw on the same rail, in turns. Figures of
# this guest mean nothing; ratios do.
set -euo pipefail
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
    row=$(awk -v sent="$(sum "$run" bytes_sent)" -v s="$(sum "$run" elapsed_s)" -v one="$one" -v many="$many" '
        BEGIN { best = one > many ? one : many; printf "%.1f %.3f", sent / s / 1e6, sent / s / 1e6 / best }')
    ratios+=("${row#* }")
    printf '%-4s %22s %22s %12s %8s\n' "$run" "$one" "$many" "${row% *}" "${row#* }" >>"$work/table"
    rm -rf "$work/a/data/$run" "$work/b/data/$run"
done
cat "$work/table"
median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")
printf 'median ratio of portway (%s) to the better ib_read_bw, messages of %d bytes: %s\n' \
    "$TRANSPORT" "$message_bytes" "$median"
cp "$work/table" /mnt/out/ratio
