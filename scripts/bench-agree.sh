#!/usr/bin/env bash
# Holds portway-bench against others on the same machine in the same run: digests against b3sum,
# the disk against fio, QUIC against quinn with nothing around it.
#
#   scripts/bench-agree.sh [digest] [quic] [disk]     all by default
#
# Prints both and the ratio, a line each; exit status 1 if one is off by more than 10 %. Both sides
# take turns, ROUNDS=5 of each; what counts is the median of the ratios of each round. SECONDS_EACH=3 is
# the time of one turn.
# Where the processor is all that there is (digests, reads of what is cached, QUIC on one machine) rates
# are those of a second of CPU time, of all threads and both ends, so that others on the machine do not
# count; what a second on the clock gives is printed too.
# DIR=. names the file system of the disk, FILE_MIB=1024 the size of the file. Both read it from
# ordinary memory; a last line, that is not judged, has what the engine's huge pages bring. Writes are
# not judged either: what a write takes depends on what was written before it.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

parts=("$@")
[ $# -gt 0 ] || parts=(digest disk quic)
rounds=${ROUNDS:-5} dir=${DIR:-.} mib=${FILE_MIB:-1024} seconds=${SECONDS_EACH:-3}
need jq=jq
if [ -z "${SKIP_BUILD:-}" ]; then
    build
    (cd "$repo" && cargo build --locked --profile "$profile" -p portway-bench --example raw_quinn)
fi
work=$(mktemp -d)
servers=()
cleanup() {
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
    rm -rf "$work" "$dir/portway-bench-agree.tmp"
}
trap cleanup EXIT

median() { sort -g | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }
off=0
# agree NAME OURS THEIRS [look]: files of one number a line, in GB/s, of one round each; what is judged is the
# median of the rounds' ratios. With `look` it is not.
agree() {
    local ours theirs ratio word="" in=1
    ours=$(median <"$2") theirs=$(median <"$3")
    ratio=$(paste "$2" "$3" | awk '{ print $1 / $2 }' | median)
    [ -z "${4:-}" ] || word="  not judged"
    awk -v name="$1" -v a="$ours" -v b="$theirs" -v ratio="$ratio" -v word="$word" 'BEGIN {
        printf "%-44s %8.3f %8.3f %8.3f%s\n", name, a, b, ratio, word; exit !(ratio >= 0.9 && ratio <= 1.1) }' || in=0
    [ "$in" = 1 ] || [ -n "$word" ] || off=1
}
# row FILE STAGE CASE: a median of a result in GB/s; rates of links are in bits.
row() {
    jq -re --arg stage "$2" --arg case "$3" '.results[] | select(.stage == $stage and .case == $case)
        | .median / (if .unit == "bits/s" then 8e9 else 1e9 end)' "$1"
}

# cpu_row FILE STAGE CASE: GB in a second of CPU time.
cpu_row() {
    jq -re --arg stage "$2" --arg case "$3" \
        '.results[] | select(.stage == $stage and .case == $case) | 1 / .cpu_s_per_gb' "$1"
}

digest() {
    local b3sum=${B3SUM:-b3sum} bytes=$((2 << 30)) name="BLAKE3 of 64 KiB, in cache, 1 thread" user
    command -v "$b3sum" >/dev/null || die "b3sum is missing" "cargo install b3sum, or B3SUM=its path"
    # Its user time alone: reading the file, 64 KiB at a time, is the kernel's.
    head -c "$bytes" /dev/urandom >/dev/shm/portway-bench-agree.tmp
    for ((i = 0; i < rounds; i++)); do
        "$bench" local --stages digest --seconds "$seconds" --runs 3 -o "$work/r" >/dev/null 2>&1
        cpu_row "$work/r" digest "$name" >>"$work/digest.ours"
        user=$( { TIMEFORMAT=%U; time "$b3sum" --num-threads 1 --no-mmap /dev/shm/portway-bench-agree.tmp >/dev/null; } 2>&1)
        awk -v b="$bytes" -v s="$user" 'BEGIN { print b / s / 1e9 }' >>"$work/digest.theirs"
    done
    rm -f /dev/shm/portway-bench-agree.tmp
    agree "BLAKE3, a CPU second (b3sum)" "$work/digest.ours" "$work/digest.theirs"
}

# fio on a file of the same size: OPTIONS...
fio_rate() {
    local kind=$1
    shift
    fio --name=agree --filename="$dir/portway-bench-agree.tmp" --size="${mib}M" --bs=2M --rw="$kind" \
        --ioengine=psync --output-format=json "$@" |
        jq -re --arg kind "$kind" '.jobs[0] | (.[$kind].io_bytes / (.job_runtime / 1e3) / 1e9)'
}

# The same of reading what is cached, in a second of CPU time.
fio_cached() {
    fio --name=agree --filename="$dir/portway-bench-agree.tmp" --size="${mib}M" --bs=2M --rw=read \
        --ioengine=psync --output-format=json --invalidate=0 --time_based --runtime="$seconds" |
        jq -re '.jobs[0] | .read.io_bytes / 1e9 / ((.usr_cpu + .sys_cpu) / 100 * .job_runtime / 1e3)'
}

disk() {
    need fio=fio
    local i
    # The file is written before, as ours is: both overwrite.
    fio_rate write --end_fsync=1 >/dev/null
    for ((i = 0; i < rounds; i++)); do
        "$bench" local --stages read --dir "$dir" --file "${mib}MiB" --runs 3 -o "$work/r" >/dev/null 2>&1
        row "$work/r" read "O_DIRECT, 1 thread" >>"$work/rh.ours"
        "$bench" local --stages read,write --dir "$dir" --file "${mib}MiB" --runs 3 --ordinary-memory \
            -o "$work/r" >/dev/null 2>&1
        row "$work/r" read "O_DIRECT, 1 thread" >>"$work/rd.ours"
        cpu_row "$work/r" read "buffered, cached, 1 thread" >>"$work/rc.ours"
        row "$work/r" write "O_DIRECT, synced, 1 thread" >>"$work/wd.ours"
        row "$work/r" write "buffered, synced, 1 thread" >>"$work/wb.ours"
        fio_rate read --direct=1 --time_based --runtime="$seconds" >>"$work/rd.theirs"
        # As ours: the sizes of the cache's pages depend on how it was filled, and the rate on them.
        dd if="$dir/portway-bench-agree.tmp" of=/dev/null bs=8K status=none
        fio_cached >>"$work/rc.theirs"
        fio_rate write --direct=1 --overwrite=1 --end_fsync=1 >>"$work/wd.theirs"
        fio_rate write --overwrite=1 --end_fsync=1 --invalidate=0 >>"$work/wb.theirs"
    done
    agree "read, O_DIRECT (fio)" "$work/rd.ours" "$work/rd.theirs"
    agree "read, cached, a CPU second (fio)" "$work/rc.ours" "$work/rc.theirs"
    agree "write, O_DIRECT (fio)" "$work/wd.ours" "$work/wd.theirs" look
    agree "write, buffered, synced (fio)" "$work/wb.ours" "$work/wb.theirs" look
    agree "read, O_DIRECT, huge pages (fio, small)" "$work/rh.ours" "$work/rd.theirs" look
}

# ticks PID: CPU time of a process so far.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

quic() {
    local i mtu port address certificate raw=$bin/examples/raw_quinn raw_pid before cpu
    [ -x "$raw" ] || die "quinn's example is not built" \
        "cargo build --profile $profile -p portway-bench --example raw_quinn"
    export PORTWAY_HOME=$work/home
    "$portway" init --name agree --site lab --tier private >/dev/null 2>&1
    port=$("$bench" free-ports)
    "$bench" serve --listen "127.0.0.1:$port" >/dev/null &
    servers+=($!)
    "$raw" serve 8952 >"$work/raw" &
    raw_pid=$!
    servers+=("$raw_pid")
    "$bench" wait-udp "$port"
    until [ -s "$work/raw" ]; do
        kill -0 "$raw_pid" 2>/dev/null || die "quinn's example ended before it listened"
        sleep 0.05
    done
    read -r address certificate <"$work/raw"
    for mtu in 1452 8952; do
        for ((i = 0; i < rounds; i++)); do
            "$bench" quic "127.0.0.1:$port" --connections 2 --streams 1 --mtu "$mtu" --congestion cubic \
                --seconds "$seconds" --runs 3 -o "$work/r" >/dev/null
            row "$work/r" link "2 connections, 1 streams, cubic" >>"$work/q$mtu.ours"
            cpu_row "$work/r" link "2 connections, 1 streams, cubic" >>"$work/c$mtu.ours"
            before=$(ticks "$raw_pid")
            cpu=$( { TIMEFORMAT='%U %S'; time "$raw" send "$address" "$certificate" "$seconds" "$mtu" >"$work/sent"; } 2>&1)
            cut -d' ' -f1 "$work/sent" >>"$work/q$mtu.theirs"
            echo "$(cut -d' ' -f2 "$work/sent") $cpu $(($(ticks "$raw_pid") - before)) $(getconf CLK_TCK)" |
                awk '{ print $1 / ($2 + $3 + $4 / $5) }' >>"$work/c$mtu.theirs"
        done
        agree "QUIC, $mtu bytes, a CPU second (quinn)" "$work/c$mtu.ours" "$work/c$mtu.theirs"
        agree "QUIC, $mtu bytes, by the clock (quinn)" "$work/q$mtu.ours" "$work/q$mtu.theirs" look
    done
}

printf '%-44s %8s %8s %8s\n' "GB/s, medians of $rounds" ours theirs ratio
for part in "${parts[@]}"; do
    case $part in
    digest | disk | quic) "$part" ;;
    *) die "there is nothing called $part" "digest, quic or disk" ;;
    esac
done
exit "$off"
