#!/usr/bin/env bash
# Two nodes on this machine: a checkpoint crosses, dies half way, resumes, and the next checkpoint
# costs only what changed.
#
#   scripts/quickstart.sh        BYTES=1GiB: size of the checkpoint   KEEP=1: leave everything
#   FILES=2000: small files beside it
#
#   TRANSPORT=rdma: how content is to go (rdma, auto, quic); both nodes are then of one private site
#   ONPREM_DEVICES, CLOUD_DEVICES: RDMA devices of the nodes, with commas; all that are usable
#
# Builds what is needed, uses a temporary directory and loopback only, and cleans up after itself.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=$(mktemp -d "${TMPDIR:-/tmp}/portway-quickstart.XXXXXX")
onprem_pid='' cloud_pid='' push_pid=''

cleanup() {
    local status=$? pid
    trap - EXIT
    for pid in $push_pid $cloud_pid $onprem_pid; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "${KEEP:-}" ]; then
        say "homes, data and logs are in $work"
    else
        if [ "$status" != 0 ]; then
            for log in "$work"/*.err "$work"/*.log; do
                [ ! -s "$log" ] || { say "--- $(basename "$log")"; tail -n 20 "$log" >&2; }
            done
        fi
        chmod -R u+rwX "$work"
        rm -rf "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

as_onprem=(env "PORTWAY_HOME=$work/onprem/home"
    ${ONPREM_DEVICES:+"PORTWAY_RDMA_DEVICES=$ONPREM_DEVICES"} "$portway")
as_cloud=(env "PORTWAY_HOME=$work/cloud/home"
    ${CLOUD_DEVICES:+"PORTWAY_RDMA_DEVICES=$CLOUD_DEVICES"} "$portway")
onprem() { "${as_onprem[@]}" "$@"; }
cloud() { "${as_cloud[@]}" "$@"; }
transport=() cloud_site=(--site cloud --tier public)
if [ -n "${TRANSPORT:-}" ]; then
    transport=(--transport "$TRANSPORT") cloud_site=(--site onprem --tier private)
fi
# field NAME FILE: what the closing summary of a command says.
field() { "$bench" field "$1" --event summary <"$2"; }
now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }

serve_onprem() {
    "${as_onprem[@]}" serve --root "$work/onprem/data" \
        --listen "127.0.0.1:$onprem_port" >>"$work/serve-onprem.log" 2>&1 &
    onprem_pid=$!
    "$bench" wait-udp "$onprem_port"
}
serve_cloud() {
    "${as_cloud[@]}" serve --root "$work/cloud/data" \
        --listen "127.0.0.1:$cloud_port" >>"$work/serve-cloud.log" 2>&1 &
    cloud_pid=$!
    "$bench" wait-udp "$cloud_port"
}

# push NAME SOURCE PATH: pushes and keeps the events in NAME.jsonl.
push() {
    local status=0
    onprem push --json "${transport[@]}" "$2" "cloud:$3" >"$work/$1.jsonl" 2>"$work/$1.err" || status=$?
    [ "$status" = 0 ] || die "push of $2 ended with exit status $status"
}

rows=()
row() { rows+=("$1"); }
# add_row TITLE NAME MILLISECONDS: a row from a summary.
add_row() {
    local file=$work/$2.jsonl
    row "$(printf '%s\t%d\t%s\t%s\t%s\t%s\t%s' "$1" "$3" "$(field bytes_total "$file")" \
        "$(field bytes_sent "$file")" "$(field bytes_deduplicated "$file")" \
        "$(field bytes_resumed "$file")" "$(field bytes_wire "$file")")"
}

say "making two checkpoints in $work"
mkdir -p "$work/onprem/data" "$work/cloud/data"
first=$work/onprem/data/step-1000 next=$work/onprem/data/step-2000
bytes=${BYTES:-1GiB}
"$bench" data ckpt "$first" --bytes "$bytes" >"$work/data.json"
"$bench" data ckpt-next "$next" --bytes "$bytes" >"$work/data-next.json"
for step in "$first" "$next"; do
    "$bench" data shards "$step/shards" --files "${FILES:-2000}" --file-bytes 16KiB >/dev/null
done
new_bytes=$("$bench" field new_bytes <"$work/data-next.json")

SECONDS=0
say "enrolling onprem and cloud (${cloud_site[3]})"
mapfile -t ports < <("$bench" free-ports 2)
onprem_port=${ports[0]} cloud_port=${ports[1]}
# What has no label may leave the private site: this is nobody's secret.
mkdir -p "$work/onprem/home"
printf '[border]\ndefault_class = "public"\n' >"$work/onprem/home/portway.toml"
onprem init --name onprem --site onprem --tier private >>"$work/enrol.log" 2>&1
serve_onprem
# The node answers invitations a moment after it is bound to its port.
token=''
for _ in {1..50}; do
    token=$(onprem invite --name cloud "${cloud_site[@]}" 2>>"$work/enrol.log") && break
    sleep 0.1
done
[ -n "$token" ] || die "no invitation from onprem"
cloud join "$(tail -n 1 <<<"$token")" >>"$work/enrol.log" 2>&1
serve_cloud
onprem nodes add cloud "127.0.0.1:$cloud_port" >>"$work/enrol.log" 2>&1

say "pushing step-1000, and killing the receiver on the way"
start=$(now_ms)
"${as_onprem[@]}" push --json "${transport[@]}" "$first" cloud:step-1000 \
    >"$work/killed.jsonl" 2>"$work/killed.err" &
push_pid=$!
if moved=$("$bench" wait-progress "$work/killed.jsonl" "${KILL_PERCENT:-40}" "$push_pid"); then
    kill -KILL "$cloud_pid"
    killed_ms=$(($(now_ms) - start))
    wait "$cloud_pid" 2>/dev/null || true
    cloud_pid=''
    read -r done_bytes total_bytes <<<"$moved"
    say "killed with $done_bytes of $total_bytes bytes settled"
    if [ -e "$work/cloud/data/step-1000" ]; then
        # All of it may have been published between the last word of the sender and the kill.
        "$bench" compare "$first" "$work/cloud/data/step-1000" >"$work/visible.log" 2>&1 ||
            die "half a checkpoint is visible at the target"
        say "all of it had been published before"
    fi
    # The sender may wait for its peer to come back; it is stopped too, which loses nothing.
    for _ in {1..20}; do
        kill -0 "$push_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -TERM "$push_pid" 2>/dev/null || true
    status=0
    wait "$push_pid" || status=$?
    push_pid=''
    row "$(printf 'step-1000, receiver killed\t%d\t%s\t%s\t\t\t' "$killed_ms" \
        "$total_bytes" "$done_bytes")"
    say "the sender ended $(($(now_ms) - start - killed_ms)) ms later with exit status $status;" \
        "the same command again"
    serve_cloud
else
    wait "$push_pid" || die "push of $first ended with exit status $?"
    push_pid=''
    row "$(printf 'step-1000, over before the kill\t%d\t\t\t\t\t' $(($(now_ms) - start)))"
    say "the transfer was over before it could be killed; a larger BYTES gives it time"
fi

start=$(now_ms)
push resumed "$first" step-1000
add_row "step-1000, resumed" resumed $(($(now_ms) - start))

say "verifying from the medium, and comparing without Portway"
start=$(now_ms)
onprem verify cloud:step-1000 >"$work/verify.log" 2>&1
row "$(printf 'step-1000, verified\t%d\t\t\t\t\t' $(($(now_ms) - start)))"
"$bench" compare --meta "$first" "$work/cloud/data/step-1000"
diff -r "$first" "$work/cloud/data/step-1000"

say "pushing step-2000: $new_bytes bytes of it are new"
start=$(now_ms)
push next "$next" step-2000
add_row "step-2000" next $(($(now_ms) - start))
"$bench" compare --meta "$next" "$work/cloud/data/step-2000"

printf '\n%-32s %8s %9s %9s %9s %9s %9s\n' "" seconds "total MB" "sent MB" "dedup MB" \
    "resumed" "wire MB"
printf '%s\n' "${rows[@]}" | awk -F'\t' '
    function mb(bytes) { return bytes == "" ? "-" : sprintf("%.1f", bytes / 1e6) }
    { printf "%-32s %8.2f %9s %9s %9s %9s %9s\n",
        $1, $2 / 1000, mb($3), mb($4), mb($5), mb($6), mb($7) }'
awk -v new="$new_bytes" -v sent="$(field bytes_sent "$work/next.jsonl")" \
    'BEGIN { printf "\nnew in step-2000: %.1f MB, sent: %.1f MB\n", new / 1e6, sent / 1e6 }'
printf 'quickstart done in %d s after build and data\n' "$SECONDS"
