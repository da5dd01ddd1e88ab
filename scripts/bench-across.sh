#!/usr/bin/env bash
# `path`, `quic` and `transfer` across an emulated link between two nodes on this machine, and a page
# of what they found.
#
#   scripts/bench-across.sh [OUTDIR] [RELAY-OPTIONS: --rate-mbit 1000 --rtt-ms 50 --loss-percent 0.1 ...]
#
# OUTDIR (across, here) gets path.json, quic.json, transfer.json, report.html. The link is a relay of
# datagrams in user space (`portway-bench relay --help`); SECONDS_EACH=5 is the time of one
# measurement, BYTES=512MiB the size of the checkpoint that is pushed. WORK=DIR holds homes, source and
# target; /dev/shm takes the disk out of the picture.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=across
case ${1:-} in
'' | --*) ;;
*) out=$1 && shift ;;
esac
seconds=${SECONDS_EACH:-5} bytes=${BYTES:-512MiB}
[ -n "${SKIP_BUILD:-}" ] || build
mkdir -p "$out"
work=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/portway-bench-across.XXXXXX")
running=()
cleanup() {
    [ ${#running[@]} = 0 ] || kill "${running[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# near COMMAND..., far COMMAND...: a command as one of the two nodes. served NODE COMMAND...: one that runs
# until the end.
near() { PORTWAY_HOME=$work/near "$@"; }
far() { PORTWAY_HOME=$work/far "$@"; }
served() {
    local node=$1
    shift
    env PORTWAY_HOME="$work/$node" "$@" >>"$work/log" 2>&1 &
    running+=($!)
}

mkdir -p "$work/near-data" "$work/far-data"
mapfile -t ports < <("$bench" free-ports 3)
near "$portway" init --name near --site lab --tier private >"$work/log" 2>&1
served near "$portway" serve --root "$work/near-data" --listen "127.0.0.1:${ports[0]}"
"$bench" wait-udp "${ports[0]}"
token=$(near "$portway" invite --name far --site lab --tier private 2>>"$work/log" | tail -n 1)
far "$portway" join "$token" >>"$work/log" 2>&1 || die "far could not join" "$(tail -n 1 "$work/log")"
served far "$portway" serve --root "$work/far-data" --listen "127.0.0.1:${ports[1]}"
served far "$bench" serve --listen "127.0.0.1:${ports[2]}"
"$bench" wait-udp "${ports[1]}"
"$bench" wait-udp "${ports[2]}"

# across PORT RELAY-OPTIONS...: sets `through` to an address that leads to the port over the link.
across() {
    local port=$1
    shift
    "$bench" relay "127.0.0.1:$port" "$@" >"$work/relay-$port" &
    running+=($!)
    until [ -s "$work/relay-$port" ]; do
        kill -0 "${running[-1]}" 2>/dev/null || die "the link did not come up" "portway-bench relay --help"
        sleep 0.05
    done
    through=$(cat "$work/relay-$port")
}
across "${ports[2]}" "$@"
measuring=$through
across "${ports[1]}" "$@"
"$bench" data ckpt "$work/near-data/ckpt" --bytes "$bytes" >/dev/null

say "path"
near "$bench" path "$measuring" --seconds "$seconds" -o "$out/path.json"
say "quic"
near "$bench" quic "$measuring" --seconds "$seconds" -o "$out/quic.json"
say "transfer"
near "$bench" transfer "$work/near-data/ckpt" "$through:ckpt" --compress never -o "$out/transfer.json"
"$bench" compare "$work/near-data/ckpt" "$work/far-data/ckpt" >/dev/null ||
    die "what arrived is not what was sent"
"$bench" report "$out"/{path,quic,transfer}.json -o "$out/report.html" >/dev/null
say "$out/report.html"
