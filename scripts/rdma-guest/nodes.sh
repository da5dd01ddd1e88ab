# Two nodes of one private site in the guest, for the scenarios. They meet on 127.0.0.1; TRANSPORT
# says how content is to go, and each has a device on every rail of `rails_used`.
# shellcheck shell=bash
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=../measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/../measure.sh"
# shellcheck source=network.sh
source "$(dirname "${BASH_SOURCE[0]}")/network.sh"

# shellcheck disable=SC2034
bytes=${BYTES:-${bytes:-32MiB}} message_bytes=${MESSAGE_BYTES:-1048576}
queue_pairs=${QUEUE_PAIRS:-4}
rails_used=("${rails[@]}")
transport_flags=()
[ "$TRANSPORT" = quic ] || transport_flags=(--transport "$TRANSPORT")
scenario=$(basename "$0" .sh)
work=$(mktemp -d /tmp/scenario.XXXXXX)
declare -A serve_pid=() port=()
client_pid=''

step() { printf -- '-- %s\n' "$*" >&2; }

cleanup() {
    local status=$? pid log
    trap - EXIT
    for pid in $client_pid "${serve_pid[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    mkdir -p "/mnt/out/$scenario"
    cp "$work"/*.{log,err,jsonl} "/mnt/out/$scenario/" 2>/dev/null || true
    if [ "$status" != 0 ]; then
        for log in "$work"/*.{log,err}; do
            [ ! -s "$log" ] || { say "--- $(basename "$log")"; tail -n 15 "$log" >&2; }
        done
        dmesg | tail -n 5 >&2
    fi
    chmod -R u+rwX "$work"
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

# node NAME ARGS...: takes the place of this shell; a ARGS... and b ARGS... don't.
node() {
    local name=$1 devices
    shift
    local settings=("PORTWAY_HOME=$work/$name/home" PORTWAY_PROGRESS_MS=100)
    if [ "$TRANSPORT" != quic ]; then
        devices=$(printf ",rxe_$name%s" "${rails_used[@]}")
        settings+=(PORTWAY_RDMA_ENABLED=true "PORTWAY_RDMA_DEVICES=${devices#,}"
            "PORTWAY_RDMA_QUEUE_PAIRS=$queue_pairs")
    fi
    exec env "${settings[@]}" "$portway" "$@"
}
a() { (node a "$@"); }
b() { (node b "$@"); }

serve() { # NODE
    node "$1" serve --root "$work/$1/data" --listen "127.0.0.1:${port[$1]}" >>"$work/serve-$1.log" 2>&1 &
    serve_pid[$1]=$!
    "$bench" wait-udp "${port[$1]}"
}

# enrol: node a founds the site, b joins by a token; both serve.
enrol() {
    local token='' ports
    mkdir -p "$work"/{a,b}/data
    mapfile -t ports < <("$bench" free-ports 2)
    port=([a]=${ports[0]} [b]=${ports[1]})
    a init --name a --site dc --tier private >>"$work/enrol.log" 2>&1
    serve a
    for _ in {1..50}; do
        token=$(a invite --name b --site dc --tier private 2>>"$work/enrol.log") && break
        sleep 0.1
    done
    [ -n "$token" ] || die "no invitation from a"
    b join "$(tail -n 1 <<<"$token")" >>"$work/enrol.log" 2>&1
    serve b
    a nodes add b "127.0.0.1:${port[b]}" >>"$work/enrol.log" 2>&1
    step "a and b are nodes of one private site"
}

# data KIND DIR ARGS...: a data set in memory.
data() { "$bench" data "$@" >/dev/null; }

# start NAME NODE push|pull ARGS...: begins a transfer; its events go to NAME.jsonl.
start() {
    local name=$1 who=$2 what=$3
    shift 3
    node "$who" "$what" --json "${transport_flags[@]}" "$@" >"$work/$name.jsonl" 2>"$work/$name.err" &
    client_pid=$!
}
# finish NAME: waits for the transfer; it must end well, and by the transport that was asked for.
finish() {
    local status=0
    wait "$client_pid" || status=$?
    client_pid=''
    [ "$status" = 0 ] || die "$1 ended with exit status $status"
    [ "$(sum "$1" verified)" = true ] || die "$1 was not verified"
    if [ "$TRANSPORT" = rdma ] && [ "$(sum "$1" bytes_sent)" != 0 ] && [ -z "${any_transport:-}" ]; then
        [ "$(sum "$1" transport)" = rdma ] || die "content of $1 went by $(sum "$1" transport)"
    fi
    step "$(printf '%s: %.1f of %.1f MB sent, %.1f resumed, in %.2f s by %s' "$1" \
        "$(mb "$(sum "$1" bytes_sent)")" "$(mb "$(sum "$1" bytes_total)")" \
        "$(mb "$(sum "$1" bytes_resumed)")" "$(sum "$1" elapsed_s)" "$(sum "$1" transport)")"
}
transfer() { start "$@" && finish "$1"; }
mb() { awk -v bytes="$1" 'BEGIN { print bytes / 1e6 }'; }

sum() { summary "$@"; }

# part NAME PERCENT: waits until this share has moved; the transfer must still run.
part() {
    "$bench" wait-progress "$work/$1.jsonl" "$2" "$client_pid" >"$work/part" ||
        die "$1 was over before $2 % of it were seen" "a larger BYTES gives it time"
    step "$1: $(tr ' ' / <"$work/part") bytes have moved"
}

# show_rails: what node b says of its rails.
show_rails() { b status --json 2>/dev/null | grep -o '"rails":\[[^]]*\]' >&2 || true; }

# stall NAME: the longest time without progress once content moves, in seconds.
stall() {
    awk 'function number(name) {
            if (!match($0, "\"" name "\":[0-9.]+")) return -1
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
        }
        /"event":"progress"/ {
            done = number("bytes_done"); total = number("bytes_total"); now = number("elapsed_s")
            if (done > most) { most = done; since = now }
            else if (most > 0 && done < total && now - since > longest) longest = now - since
        }
        END { printf "%.2f\n", longest }' "$work/$1.jsonl"
}

# same SOURCE TARGET: content and metadata are equal, by three judges; TARGET is of node b's root.
same() {
    "$bench" compare --meta --skip-special "$1" "$work/b/data/$2" >"$work/compare.log" ||
        { cat "$work/compare.log" >&2; die "$2 is not what $1 is"; }
    a verify "b:$2" >"$work/verify.log" 2>&1 || die "$2 does not verify"
    if [ -z "$(find "$1" -type p)" ]; then
        diff -r --no-dereference "$1" "$work/b/data/$2" || die "$2 differs from $1"
    fi
    step "$2 is equal to its source and verifies"
}

# read_bw RAIL BYTES QUEUE_PAIRS [GID_INDEX]: what ib_read_bw reaches in MB/s; node a reads from b.
read_bw() {
    local server
    read_bw_flags "$2" "$3" "${4:-$index_v4}" 18515
    timeout 60 ib_read_bw -d "rxe_b$1" "${read_bw_flags[@]}" >"$work/read_bw-server.log" 2>&1 &
    server=$!
    until tcp_listens 18515; do
        kill -0 "$server" 2>/dev/null || die "the server of ib_read_bw ended"
        sleep 0.05
    done
    read_bw_client "rxe_a$1" 127.0.0.1
    wait "$server" || die "the server of ib_read_bw failed"
}
