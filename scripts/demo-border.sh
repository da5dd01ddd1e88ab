#!/usr/bin/env bash
# The border at work: three sites, three policies, what passes and what is refused, transfers that are
# stopped on their way, and audit logs that prove it.
#
#   scripts/demo-border.sh       BYTES=64MiB: size of a dataset   KEEP=1: leave everything
#
# onprem is private and in the US, vault is private and in Germany, cloud is public and in the US.
# Builds what is needed, uses a temporary directory and loopback only, and cleans up after itself.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

[ -n "${SKIP_BUILD:-}" ] || build
work=$(mktemp -d "${TMPDIR:-/tmp}/portway-demo.XXXXXX")
push_pid=''

cleanup() {
    local status=$?
    trap - EXIT
    if [ -n "$push_pid" ]; then
        kill -KILL "$push_pid" 2>/dev/null || true
        wait "$push_pid" 2>/dev/null || true
    fi
    end_nodes
    if [ -n "${KEEP:-}" ]; then
        say "homes, data and logs are in $work"
    else
        [ "$status" = 0 ] || tail -n 20 "$work"/*.log "$work"/*.err >&2 || true
        rm -rf "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

checks=0
# step WHAT: a heading.
step() { printf '\n== %s\n' "$*"; }
# expect STATUS WORDS COMMAND...: the command must end with this status and say these words (an
# extended regular expression); what it said last is shown.
expect() {
    local wanted=$1 words=$2 status=0
    shift 2
    "$@" >"$work/said" 2>&1 </dev/null || status=$?
    checks=$((checks + 1))
    printf '   status %d: %s\n' "$status" "$(grep -v '^$' "$work/said" | tail -n "${LINES_SHOWN:-2}" |
        cut -c1-150 | paste -sd'~' | sed 's/~/\n             /g')"
    [ "$status" = "$wanted" ] || die "expected status $wanted" "$(cat "$work/said")"
    grep -qE "$words" "$work/said" || die "nothing was said of: $words" "$(cat "$work/said")"
}
# policy NAME: the policy of all three nodes from now on; `ready` is the one that is there without any.
policy() {
    local node
    for node in onprem vault cloud; do
        mkdir -p "$work/$node/home/policy"
        if [ "$1" = ready ]; then
            rm -f "$work/$node/home/policy/policy.cedar"
        else
            cp "$repo/examples/policies/$1.cedar" "$work/$node/home/policy/policy.cedar"
        fi
    done
    # A change counts within a quarter of a second.
    sleep 0.4
}
data() { "$bench" data ckpt "$work/onprem/data/$1" --bytes "${2:-1MiB}" --seed "$((++seed))" >/dev/null; }
seed=0
# slow_push PATH LIMIT: begins a push to the cloud and waits until a quarter of it is there.
slow_push() {
    PORTWAY_HOME=$work/onprem/home "$portway" push --json --limit "$2" \
        "$work/onprem/data/open/$1" "cloud:$1" >"$work/$1.jsonl" 2>"$work/$1.err" &
    push_pid=$!
    "$bench" wait-progress "$work/$1.jsonl" 25 "$push_pid" >/dev/null || die "the push was over too soon"
}
# ends STATUS WORDS NAME: the push that was begun must end so, within a minute.
ends() {
    local status=0 began=$SECONDS
    wait "$push_pid" || status=$?
    push_pid=''
    checks=$((checks + 1))
    printf '   %d s later, status %d: %s\n' "$((SECONDS - began))" "$status" "$(tail -n 2 "$work/$3.err" | cut -c1-150 | paste -sd' ')"
    [ "$status" = "$1" ] || die "expected status $1" "$(cat "$work/$3.err")"
    grep -qE "$2" "$work/$3.err" "$work/$3.jsonl" || die "nothing was said of: $2"
    [ $((SECONDS - began)) -le 60 ] || die "it took longer than a minute"
    [ ! -e "$work/cloud/data/$3" ] || die "half a dataset is visible"
}

step "three sites: onprem (private, us), vault (private, de), cloud (public, us)"
mapfile -t free < <("$bench" free-ports 3)
ports=([onprem]=${free[0]} [vault]=${free[1]} [cloud]=${free[2]})
bytes=${BYTES:-64MiB}
for node in onprem vault cloud; do
    mkdir -p "$work/$node/home" "$work/$node/data"
    cat >"$work/$node/home/portway.toml" <<END
[sites.onprem]
tier = "private"
jurisdiction = "us"
[sites.vault]
tier = "private"
jurisdiction = "de"
[sites.cloud]
tier = "public"
jurisdiction = "us"
[links.wan]
sites = ["onprem", "cloud"]
rate_mbps = 1000
price_per_gb = 0.09
[identity]
look_every_s = 2
END
done
first_node onprem onprem
member onprem vault vault private
member onprem cloud cloud public

step "the ready policy: what has no label stays; what two stewards call public may leave"
mkdir -p "$work/onprem/data/open"
data open/results
me=$(grep -oE 'spiffe://[^ ,]*/node/onprem' "$work/enrol.log" | head -n 1)
vault_id=${me/site\/onprem\/node\/onprem/site\/vault\/node\/vault}
cloud_id=${me/private\/site\/onprem\/node\/onprem/public\/site\/cloud\/node\/cloud}
expect 4 "private-stays-private" at onprem push "$work/onprem/data/open/results" cloud:results
expect 4 "two identities" at onprem label "$work/onprem/data/open" --class public
expect 0 "steward" at onprem grant "$me" steward
expect 0 "steward" at onprem grant "$vault_id" steward
expect 0 "approve" at onprem label "$work/onprem/data/open" --class public --lower
id=$(grep -oE '[0-9a-f]{32}' "$work/said" | head -n 1)
# Roles travel by themselves.
sleep 3
expect 0 "public" at vault label "$work/onprem/data/open" --class public --approve "$id" --at onprem
expect 0 "verified" at onprem push "$work/onprem/data/open/results" cloud:results
expect 0 "verified" at onprem push "$work/onprem/data/open/results" vault:results

step "public burst: internal data leaves for an exporter, confidential data for nobody"
policy public-burst
mkdir -p "$work/onprem/data/burst"
data burst/job
expect 0 "internal" at onprem label "$work/onprem/data/burst" --class internal
expect 4 "denied" at onprem push "$work/onprem/data/burst/job" cloud:burst/job
expect 0 "exporter" at onprem grant "$me" exporter --dataset burst --until 2099-01-01
sleep 3
expect 0 "verified" at onprem push "$work/onprem/data/burst/job" cloud:burst/job
expect 0 "confidential" at onprem label "$work/onprem/data/burst" --class confidential
expect 4 "confidential" at onprem push "$work/onprem/data/burst/job" cloud:burst/again

step "residency: personal data stays where its law allows"
policy residency
mkdir -p "$work/onprem/data/personal"
data personal/patients
expect 0 "confidential" at onprem label "$work/onprem/data/personal" --class confidential
expect 4 "personal-data-stays-in-the-eu|European Union" \
    at onprem push "$work/onprem/data/personal/patients" cloud:personal/patients
expect 0 "verified" at onprem push "$work/onprem/data/personal/patients" vault:personal/patients

step "a label is raised while data leaves"
policy ready
data open/raised "$bytes"
slow_push raised 40Mb/s
expect 0 "restricted" at onprem label "$work/onprem/data/open/raised" --class restricted
ends 4 "private-stays-private" raised

step "a price before, a budget meanwhile"
data open/costly "$bytes"
LINES_SHOWN=6 expect 0 "wan" at onprem plan "$work/onprem/data/open/costly" cloud:costly
expect 4 "max-cost|budget" at onprem push --max-cost 0.002 "$work/onprem/data/open/costly" cloud:costly
[ ! -e "$work/cloud/data/costly" ] || die "half a dataset is visible"
expect 0 "verified" at onprem push "$work/onprem/data/open/costly" cloud:costly
LINES_SHOWN=6 expect 0 "wan" at onprem cost report

step "the cloud's identity is revoked while data leaves"
data open/revoked "$bytes"
slow_push revoked 40Mb/s
expect 0 "revoked" at onprem revoke "$cloud_id"
ends 4 "revoked" revoked
expect 4 "revoked" at onprem ls cloud:results
expect 0 "." at onprem grant "$cloud_id"
sleep 3
expect 0 "verified" at onprem push "$work/onprem/data/open/revoked" cloud:revoked

step "both logs are whole, and say the same to the byte"
for node in onprem vault cloud; do
    expect 0 "whole|records" at "$node" audit verify
done
LINES_SHOWN=4 expect 0 "both logs say the same" at onprem audit verify --peer cloud
LINES_SHOWN=4 expect 0 "both logs say the same" at onprem audit verify --peer vault
LINES_SHOWN=12 expect 0 "receipt" at onprem audit show --peer cloud

step "one byte of one record is changed"
log=$(find "$work/onprem/home" -path '*audit/*.log' | sort | head -n 1)
offset=$(($(stat -c %s "$log") / 2))
byte=$(dd if="$log" bs=1 skip="$offset" count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$log" bs=1 seek="$offset" conv=notrunc 2>/dev/null
expect 1 "changed|damage|digest|record" at onprem audit verify

printf '\ndemo-border: %d checks as expected in %d s\n' "$checks" "$SECONDS"
