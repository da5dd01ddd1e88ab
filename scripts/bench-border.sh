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
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=$(mktemp -d "${TMPDIR:-/tmp}/portway-border.XXXXXX")

cleanup() {
    local status=$?
    trap - EXIT
    end_nodes
    [ "$status" = 0 ] || tail -n 20 "$work"/*.log "$work"/*.err >&2 || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mapfile -t free < <("$bench" free-ports 3)
ports=([onprem]=${free[0]} [near]=${free[1]} [cloud]=${free[2]})
for node in onprem near cloud; do
    mkdir -p "$work/$node/home" "$work/$node/data"
    # What has no label may leave: this is nobody's secret. Content as it is, over QUIC.
    printf '[border]\ndefault_class = "public"\n' >"$work/$node/home/portway.toml"
done
first_node onprem onprem
member onprem near onprem private
member onprem cloud cloud public

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
