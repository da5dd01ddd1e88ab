#!/usr/bin/env bash
# What the border costs: the same push to a node of this site, where nothing is decided by policy or
# recorded, and to one of another site, in turns.
#
#   scripts/bench-border.sh      BYTES=1GiB: size of the checkpoint   FILES=5000: small files beside it
#                                RUNS=7: pairs
#
# Builds what is needed, uses a temporary directory and loopback only, and cleans up after itself.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=$(mktemp -d "${TMPDIR:-/tmp}/portway-border.XXXXXX")
declare -A pids=() ports=()

cleanup() {
    local status=$? pid
    trap - EXIT
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ "$status" = 0 ] || tail -n 20 "$work"/*.log "$work"/*.err >&2 || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

at() {
    local node=$1
    shift
    PORTWAY_HOME=$work/$node/home "$portway" "$@"
}
serve() {
    PORTWAY_HOME=$work/$1/home "$portway" serve --root "$work/$1/data" --admin off \
        --listen "127.0.0.1:${ports[$1]}" >>"$work/serve-$1.log" 2>&1 &
    pids[$1]=$!
    "$bench" wait-udp "${ports[$1]}"
}

mapfile -t free < <("$bench" free-ports 3)
ports=([onprem]=${free[0]} [near]=${free[1]} [cloud]=${free[2]})
for node in onprem near cloud; do
    mkdir -p "$work/$node/home" "$work/$node/data"
    # What has no label may leave: this is nobody's secret. Content as it is, over QUIC.
    printf '[border]\ndefault_class = "public"\n' >"$work/$node/home/portway.toml"
done
at onprem init --name onprem --site onprem --tier private >>"$work/enrol.log" 2>&1
serve onprem
for place in "near onprem private" "cloud cloud public"; do
    read -r node site tier <<<"$place"
    token=''
    for _ in {1..50}; do
        token=$(at onprem invite --name "$node" --site "$site" --tier "$tier" 2>>"$work/enrol.log") && break
        sleep 0.1
    done
    [ -n "$token" ] || die "no invitation from onprem"
    at "$node" join "$(tail -n 1 <<<"$token")" >>"$work/enrol.log" 2>&1
    serve "$node"
    at onprem nodes add "$node" "127.0.0.1:${ports[$node]}" >>"$work/enrol.log" 2>&1
done

say "making a checkpoint and small files in $work"
"$bench" data ckpt "$work/large" --bytes "${BYTES:-1GiB}" >/dev/null
"$bench" data shards "$work/small" --files "${FILES:-5000}" --file-bytes 4KiB >/dev/null

# push WORKLOAD NODE RUN: milliseconds that the whole push takes.
push() {
    at onprem push --json --transport quic --compress never "$work/$1" "$2:$1-$3" \
        >"$work/push.jsonl" 2>"$work/push.err" || die "the push of $1 to $2 failed"
    "$bench" field elapsed_s --event summary <"$work/push.jsonl" | awk '{ printf "%.0f\n", $1 * 1000 }'
    rm -rf "$work/$2/data/$1-$3"
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

printf 'workload\tinside the site\tacross the border\tmedian of the ratios of each pair\n'
for workload in large small; do
    inside=() across=() ratios=()
    push "$workload" near warm >/dev/null
    push "$workload" cloud warm >/dev/null
    for ((run = 0; run < ${RUNS:-7}; run++)); do
        # Neither is always the first of a pair.
        if ((run % 2)); then
            one=$(push "$workload" near "$run") other=$(push "$workload" cloud "$run")
        else
            other=$(push "$workload" cloud "$run") one=$(push "$workload" near "$run")
        fi
        inside+=("$one") across+=("$other")
        ratios+=("$(awk -v one="$one" -v other="$other" 'BEGIN { printf "%.3f", other / one }')")
    done
    printf '%s\t%d ms\t%d ms\t%s (%s)\n' "$workload" "$(median "${inside[@]}")" \
        "$(median "${across[@]}")" "$(median "${ratios[@]}")" "${ratios[*]}"
done
