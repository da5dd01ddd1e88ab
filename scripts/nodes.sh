# Nodes of a script: homes, roots and logs below `work`, each served by a process of its own. The caller
# sets `work` and `ports`, and calls `end_nodes` when it is done.
# shellcheck shell=bash disable=SC2154

declare -A pids=() ports=()

# at NODE COMMAND...: runs portway as that node.
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

# first_node NODE SITE: begins the trust domain, private.
first_node() {
    at "$1" init --name "$1" --site "$2" --tier private >>"$work/enrol.log" 2>&1
    serve "$1"
}

# member FIRST NODE SITE TIER: has a node join the domain of the first, which then knows where it is.
member() {
    local token=''
    # A node answers invitations a moment after it is bound to its port.
    for _ in {1..50}; do
        token=$(at "$1" invite --name "$2" --site "$3" --tier "$4" 2>>"$work/enrol.log") && break
        sleep 0.1
    done
    [ -n "$token" ] || die "no invitation from $1"
    at "$2" join "$(tail -n 1 <<<"$token")" >>"$work/enrol.log" 2>&1
    serve "$2"
    at "$1" nodes add "$2" "127.0.0.1:${ports[$2]}" >>"$work/enrol.log" 2>&1
}

end_nodes() {
    local pid
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
