#!/usr/bin/env bash
# SIGKILL to the sender, then to the receiver, in mid-transfer: the same command resumes.
set -euo pipefail
# Long enough to be disturbed.
bytes=96MiB
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

data ckpt "$work/a/data/one" --bytes "$bytes"
data ckpt "$work/a/data/two" --bytes "$bytes" --seed 2
enrol

resumed() { # SOURCE
    transfer "$1-resumed" a push "$work/a/data/$1" "b:$1"
    [ "$(sum "$1-resumed" bytes_resumed)" -gt 0 ] || die "nothing of $1 was resumed"
    same "$work/a/data/$1" "$1"
}

start one a push "$work/a/data/one" b:one
part one 40
kill -KILL "$client_pid"
wait "$client_pid" || step "the sender is dead"
client_pid=''
[ ! -e "$work/b/data/one" ] || die "half a transfer is visible"
resumed one

start two a push "$work/a/data/two" b:two
part two 40
kill -KILL "${serve_pid[b]}"
wait "${serve_pid[b]}" || step "the receiver is dead"
[ ! -e "$work/b/data/two" ] || die "half a transfer is visible"
kill -TERM "$client_pid"
wait "$client_pid" || step "the sender ended with exit status $?"
client_pid=''
serve b
resumed two
