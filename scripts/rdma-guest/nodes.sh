# Two nodes of one private site in the guest, for the scenarios. Reads ../lib.sh and network.sh.
# shellcheck shell=bash
# shellcheck source=../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=network.sh
source "$(dirname "${BASH_SOURCE[0]}")/network.sh"

step() { printf -- '-- %s\n' "$*" >&2; }
bytes=${BYTES:-64MiB}
work=$(mktemp -d /tmp/scenario.XXXXXX)
declare -A serve_pid=() port=()
client_pid=''

# a ARGS..., b ARGS...: portway as node a or b, each with devices of its own.
node() {
    local name=$1
    shift
    local settings=("PORTWAY_HOME=$work/$name/home" "PORTWAY_PROGRESS_MS=100")
    [ "$TRANSPORT" = quic ] || settings+=(PORTWAY_RDMA_ENABLED=true
        "PORTWAY_RDMA_DEVICES=rxe_${name}0,rxe_${name}1" "PORTWAY_RDMA_QUEUE_PAIRS=${QUEUE_PAIRS:-4}")
    exec env "${settings[@]}" "$portway" "$@"
}
a() { (node a "$@"); }
b() { (node b "$@"); }

# read_bw RAIL BYTES QUEUE_PAIRS SECONDS [GID_INDEX]: what ib_read_bw reaches, in MB/s. Node a reads from b.
read_bw() {
    local server options=(-x "${5:-$index_v4}" -F -s "$2" -q "$3" -D "$4" -p "$((18500 + $1))")
    timeout 60 ib_read_bw -d "rxe_b$1" "${options[@]}" >"$work/read_bw.server" 2>&1 &
    server=$!
    sleep 0.7
    timeout 60 ib_read_bw -d "rxe_a$1" "${options[@]}" 127.0.0.1 >"$work/read_bw.client" 2>&1 || {
        cat "$work"/read_bw.* >&2
        die "ib_read_bw failed"
    }
    wait "$server" || die "the server of ib_read_bw failed"
    # The line of figures: bytes, iterations, peak, average in MiB/s, messages.
    awk -v bytes="$2" '$1 == bytes { printf "%.1f\n", $4 * 1.048576; found = 1 } END { exit !found }' \
        "$work/read_bw.client" || { cat "$work"/read_bw.* >&2; die "ib_read_bw printed no figure"; }
}
