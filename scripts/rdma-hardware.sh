#!/usr/bin/env bash
# Verified transfers over RDMA beside ib_read_bw, in pairs, on real adapters.
#
#   scripts/rdma-hardware.sh local DEVICE_A DEVICE_B    two ports of this machine that reach each other
#   scripts/rdma-hardware.sh serve DEVICE               on one machine; it prints what to run on
#   TOKEN=... scripts/rdma-hardware.sh HOST DEVICE      the other, which measures
#
# The second machine reads from the first: by ib_read_bw with messages of each of SIZES, and in
# the same run by `portway pull` of a checkpoint, from files in memory to files in memory, verified.
# Portway's own messages are what they are, up to 2 MiB in READs of up to 512 KiB.
#
# SIZES, QUEUE_PAIRS, READ_BYTES and PORT must be the same on both machines.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    cat <<END

SIZES="4096 65536 1048576 2097152"  messages, bytes     QUEUE_PAIRS=4    of each device
BYTES=4GiB   content of one transfer                    RUNS=3           medians are printed
READ_BYTES=  bytes that ib_read_bw reads (4 GiB)        PORT=18515       TCP, one for each size
LISTEN=0.0.0.0:7717  where portway listens (UDP)        MEMORY_DIR=/dev/shm  where files lie
PROFILE=release      which build                        SKIP_BUILD=1     use what is built
BYTES and READ_BYTES are 64 MiB and 32 MiB for devices in software. A serving machine needs room for
BYTES in MEMORY_DIR, one that measures too.
END
}

fields() { sed -n "s/.*\"check\":\"$1\",\"level\":\"\([a-z]*\)\",\"finding\":\"\([^\"]*\)\",\"fix\":\"\([^\"]*\)\".*/\1|\2|\3/p" "$work/doctor.jsonl"; }

# examine DEVICE: asks doctor; sets `gid` to the index of the address that portway takes.
examine() {
    local level text fix wrong=''
    [ -d "/sys/class/infiniband/$1" ] ||
        die "there is no RDMA device $1" "ibv_devices lists those that there are"
    env "PORTWAY_HOME=$work/doctor" PORTWAY_RDMA_ENABLED=true "PORTWAY_RDMA_DEVICES=$1" \
        "$portway" doctor --json >"$work/doctor.jsonl" 2>"$work/doctor.err" || true
    while IFS='|' read -r level text fix; do
        say "doctor: $level: $text"
        [ "$level" = ok ] || say "hint: $fix"
        [ "$level" = ok ] || wrong=$text
    done < <(fields memlock; fields rdma; fields rdma-mtu)
    gid=$(fields rdma-gids | sed -n "s|^ok.$1/[0-9]*: takes \([0-9]*\) .*|\1|p" | head -n 1)
    [ -n "$gid" ] || die "$1 has no port that can be used" "${wrong:-doctor says nothing of it}"
    ! grep -q "\"$1/[0-9]*: [^\"]*done in software" "$work/doctor.jsonl" || software=yes
}

# settings DEVICE: sizes that were not given, by what the device is.
settings() {
    software=''
    examine "$1"
    read -r -a sizes <<<"${SIZES:-4096 65536 1048576 2097152}"
    queue_pairs=${QUEUE_PAIRS:-4} base_port=${PORT:-18515}
    bytes=${BYTES:-${software:+64MiB}} bytes=${bytes:-4GiB}
    read_bytes=${READ_BYTES:-${software:+$((32 << 20))}} read_bytes=${read_bytes:-$((4 << 30))}
}

as_node() { # NAME DEVICE ARGS...: takes the place of this shell
    local name=$1 device=$2
    shift 2
    exec env "PORTWAY_HOME=$work/$name" PORTWAY_PROGRESS_MS=100 PORTWAY_RDMA_ENABLED=true \
        "PORTWAY_RDMA_DEVICES=$device" "PORTWAY_RDMA_QUEUE_PAIRS=$queue_pairs" "$portway" "$@"
}
node() { (as_node "$@"); }

begin_work() {
    work=$(mktemp -d "${MEMORY_DIR:-/dev/shm}/portway-rdma.XXXXXX")
    pids=()
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
cleanup() {
    local status=$? pid log
    trap - EXIT
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$status" != 0 ] && [ "$status" != 130 ] && [ "$status" != 143 ]; then
        for log in "$work"/*.log "$work"/*.err; do
            [ ! -s "$log" ] || { say "--- $(basename "$log")"; tail -n 10 "$log" >&2; }
        done
    fi
    rm -rf "$work"
    exit "$status"
}

# flags INDEX: sets `read_bw_flags` for the size of this place.
flags() {
    read_bw_flags "${sizes[$1]}" "$queue_pairs" "$gid" $((base_port + $1)) "$read_bytes"
    # With 512 small READs under way soft-RoCE stood still once, for minutes.
    [ -z "$software" ] || read_bw_flags+=(-o 16)
}

# read_bw INDEX DEVICE HOST: MB/s; three tries.
read_bw() {
    local _ rate
    flags "$1"
    for _ in 1 2 3; do
        wait_server $((base_port + $1))
        ! rate=$(READ_BW_TIME_LIMIT=120 read_bw_client "$2" "$3") || break
        rate=''
    done
    [ -n "$rate" ] || die "ib_read_bw with messages of ${sizes[$1]} bytes failed three times"
    echo "$rate"
}

# read_bw_servers DEVICE: one for each size, each of which serves one client after the other.
read_bw_servers() {
    local index
    for index in "${!sizes[@]}"; do
        flags "$index"
        (
            server=''
            trap '[ -z "$server" ] || kill -TERM "$server" 2>/dev/null; exit 0' TERM
            while :; do
                ib_read_bw -d "$1" "${read_bw_flags[@]}" >"$work/server-$index.log" 2>&1 &
                server=$!
                wait "$server" || sleep 0.2
            done
        ) &
        pids+=($!)
    done
}

# open_node DEVICE LISTEN: founds the site, makes the content, serves both; sets `token`.
open_node() {
    local port=${2##*:}
    mkdir -p "$work/root"
    say "making $bytes of content in $work"
    "$bench" data ckpt "$work/root/content" --bytes "$bytes" >/dev/null
    node server "$1" init --name server --site rdma-hardware --tier private >"$work/enrol.log" 2>&1
    as_node server "$1" serve --root "$work/root" --listen "$2" >"$work/serve.log" 2>&1 &
    pids+=($!)
    "$bench" wait-udp "$port"
    token=''
    for _ in {1..50}; do
        token=$(node server "$1" invite --name client --site rdma-hardware --tier private 2>>"$work/enrol.log") && break
        sleep 0.1
    done
    [ -n "$token" ] || die "the node gave no invitation"
    token=$(tail -n 1 <<<"$token")
    read_bw_servers "$1"
}

# pull NAME TRANSPORT DEVICE: a transfer to memory; its rate in MB/s.
pull() {
    rm -rf "$work/target"
    node client "$3" pull --json --transport "$2" server:content "$work/target" \
        >"$work/$1.jsonl" 2>"$work/$1.err" || die "pull over $2 failed"
    [ "$(summary "$1" verified)" = true ] || die "the content was not verified"
    [ "$(summary "$1" transport)" = "$2" ] || die "the content went by $(summary "$1" transport)"
    [ "$(summary "$1" bytes_sent)" = "$(summary "$1" bytes_total)" ] || die "not all content was sent"
    moving_rate "$1"
}

# row TITLE RAW RATE LIMIT: one line of the table; RAW and RATE are medians.
row() { printf '%10s %18s %14s %8s  %s\n' "$1" "$2" "$3" "$(ratio "$3" "$2")" "$4"; }

# lower RAW: which is lower, what the wire gives or what can be digested.
lower() {
    awk -v raw="$1" -v core="$digest" -v cores="$cores" 'BEGIN {
        print (raw < core * cores) ? "the wire" : "digests" }'
}

# measure HOST PORT DEVICE: runs in turns; prints the table.
measure() {
    local index size run raw rate raws rates last_raw quics=()
    node client "$3" join "$TOKEN" >>"$work/enrol.log" 2>&1 || die "cannot join" "is the TOKEN of this hour?"
    node client "$3" nodes add server "$1:$2" >>"$work/enrol.log" 2>&1
    digest=$("$bench" digest-rate)
    # Both ends digest all content; in the role `local` they share the processors.
    cores=$(($(nproc) / ends))
    cores=$((cores < 1 ? 1 : cores))
    : >"$work/table"
    for index in "${!sizes[@]}"; do
        size=${sizes[index]} raws=() rates=()
        for run in $(seq "${RUNS:-3}"); do
            raw=$(read_bw "$index" "$3" "$1")
            rate=$(pull "rdma-$size-$run" rdma "$3")
            say "messages of $size bytes, run $run: ib_read_bw $raw MB/s, portway $rate MB/s"
            raws+=("$raw") rates+=("$rate")
        done
        last_raw=$(median "${raws[@]}")
        row "$size" "$last_raw" "$(median "${rates[@]}")" "$(lower "$last_raw")" >>"$work/table"
    done
    for run in $(seq "${RUNS:-3}"); do
        rate=$(pull "quic-$run" quic "$3")
        say "over QUIC, run $run: portway $rate MB/s"
        quics+=("$rate")
    done
    row software "$last_raw" "$(median "${quics[@]}")" "the kernel's UDP" >>"$work/table"
    cat <<END

$(uname -sr), $(nproc) processors, $3, GID ${gid:-none}, $queue_pairs queue pairs, medians of ${RUNS:-3}
one core digests $digest MB/s; $cores for this end: $(awk -v d="$digest" -v c="$cores" 'BEGIN { printf "%.1f", d * c }') MB/s
$(printf '%10s %18s %14s %8s  %s' "size" "ib_read_bw MB/s" "portway MB/s" ratio "what limits")
$(cat "$work/table")
"software" is the same transfer over QUIC, beside the last line's ib_read_bw.
END
}

# wait_server PORT: on this machine a server can be seen; elsewhere it gets a moment to begin anew.
wait_server() {
    local _
    if [ "$ends" = 2 ]; then
        for _ in {1..200}; do
            ! tcp_listens "$1" || return 0
            sleep 0.05
        done
        die "no server of ib_read_bw at port $1"
    fi
    sleep 1
}

role=${1:-}
case $role in
'' | -h | --help) usage && exit 0 ;;
esac
need ib_read_bw=perftest
[ -n "${SKIP_BUILD:-}" ] || build
[ -x "$bench" ] || die "there is no $bench" "build it, without SKIP_BUILD"
begin_work
ends=1
case $role in
local)
    [ $# = 3 ] || die "which two devices?" "scripts/rdma-hardware.sh local DEVICE_A DEVICE_B"
    ends=2
    settings "$2"
    listen=127.0.0.1:$("$bench" free-ports)
    open_node "$2" "$listen"
    TOKEN=$token
    examine "$3"
    measure 127.0.0.1 "${listen##*:}" "$3"
    ;;
serve)
    [ $# = 2 ] || die "which device?" "scripts/rdma-hardware.sh serve DEVICE"
    settings "$2"
    listen=${LISTEN:-0.0.0.0:7717}
    open_node "$2" "$listen"
    say "on the other machine, within an hour; HOST is this one, DEVICE is its own:"
    echo "TOKEN=$token ${SIZES:+SIZES=\"$SIZES\" }QUEUE_PAIRS=$queue_pairs READ_BYTES=$read_bytes PORT=$base_port SERVE_PORT=${listen##*:} scripts/rdma-hardware.sh HOST DEVICE"
    wait "${pids[0]}" || die "the node ended"
    ;;
*)
    [ $# = 2 ] || die "which device?" "TOKEN=... scripts/rdma-hardware.sh HOST DEVICE"
    [ -n "${TOKEN:-}" ] || die "TOKEN is not set" "scripts/rdma-hardware.sh serve prints it on the other machine"
    settings "$2"
    measure "$1" "${SERVE_PORT:-7717}" "$2"
    ;;
esac
