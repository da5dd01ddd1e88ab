#!/usr/bin/env bash
# `portway-bench rdma` beside perftest on the same rail, in turns: READ, WRITE and SEND, with as many
# messages under way. With a wire of RATE both must agree within 10 %. Then as fast as the guest's
# processors go, which are emulated and do the work of both ends: for looking at.
set -euo pipefail
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

rails_used=(0)
runs=${RUNS:-3} depth=16 off=0
enrol
# Only their identities are wanted, and what else runs would be seen in the figures.
for node in a b; do
    kill -TERM "${serve_pid[$node]}" && wait "${serve_pid[$node]}" || true
    unset "serve_pid[$node]"
done
mapfile -t ports < <("$bench" free-ports)
(portway=$bench && node b serve --listen "127.0.0.1:${ports[0]}") \
    >"$work/bench-serve.log" 2>&1 &
serve_pid[bench]=$!
"$bench" wait-udp "${ports[0]}"

# perftest OP BYTES TOTAL: MB/s that ib_OP_bw reaches; node a asks and b answers.
perftest() {
    local server flags count=$(($3 / $2))
    flags=(-F -s "$2" -q 1 -t "$depth" -n "$count" -p 18515 -x "$index_v4" -u 18)
    timeout 60 "ib_$1_bw" -d rxe_b0 "${flags[@]}" >"$work/perftest-server.log" 2>&1 &
    server=$!
    until tcp_listens 18515; do
        kill -0 "$server" 2>/dev/null || die "the server of ib_$1_bw ended"
        sleep 0.05
    done
    timeout 60 "ib_$1_bw" -d rxe_a0 "${flags[@]}" 127.0.0.1 >"$work/perftest.log" 2>&1 ||
        die "ib_$1_bw failed" "$(tail -n 1 "$work/perftest.log")"
    wait "$server" || die "the server of ib_$1_bw failed"
    awk -v bytes="$2" '$1 == bytes { printf "%.2f\n", $4 * 1.048576; found = 1 } END { exit !found }' \
        "$work/perftest.log" || die "ib_$1_bw printed no figure"
}

# ours OP BYTES: the same of portway-bench.
ours() {
    (portway=$bench && node a rdma "127.0.0.1:${ports[0]}" --op "$1" --sizes "$2" \
        --depth "$depth" --seconds 2 --json) >"$work/rdma.json" 2>"$work/rdma.err" ||
        die "portway-bench rdma failed" "$(tail -n 2 "$work/rdma.err")"
    cat "$work/rdma.json" >>"$work/rdma.log"
    # The first median is that of throughput, in bytes a second.
    awk '/"median":/ { printf "%.2f\n", $2 / 1e6; exit }' "$work/rdma.json"
}

# compare WHAT BYTES TOTAL [STRICT]: a table; with STRICT the two must agree.
compare() {
    local op ratio theirs mine
    printf '\n%-6s %9s %15s %20s %8s  %s\n' op bytes "perftest MB/s" "portway-bench MB/s" ratio "$1" >"$work/table"
    for op in read write send; do
        theirs=() mine=()
        for ((run = 0; run < runs; run++)); do
            theirs+=("$(perftest "$op" "$2" "$3")")
            mine+=("$(ours "$op" "$2")")
        done
        ratio=$(ratio "$(median "${mine[@]}")" "$(median "${theirs[@]}")")
        printf '%-6s %9d %15s %20s %8s\n' "$op" "$2" "$(median "${theirs[@]}")" \
            "$(median "${mine[@]}")" "$ratio" >>"$work/table"
        [ -z "${4:-}" ] || awk -v r="$ratio" 'BEGIN { exit !(r >= 0.9 && r <= 1.1) }' || off=1
    done
    cat "$work/table"
    cat "$work/table" >>/mnt/out/perftest
}

rate=${RATE:-80mbit}
shape 0 rate "$rate" limit 20000
compare "the wire limits: $rate" 65536 $((16 << 20)) strict
mend_rails
compare "processors limit" 65536 $((48 << 20))
compare "processors limit" 4096 $((16 << 20))
# The whole table, as an operator has it; the result stays with the logs.
(portway=$bench && node a rdma "127.0.0.1:${ports[0]}" --op read,write,send --depth "$depth" \
    --seconds 1 -o /mnt/out/rdma.json) 2>"$work/rdma.err" ||
    die "portway-bench rdma failed" "$(tail -n 2 "$work/rdma.err")"
[ "$off" = 0 ] || die "the two do not agree where the wire limits"
