# The guest's rails. Rail N joins rxe_aN of node a and rxe_bN of node b, over a wire of its own: two
# veth pairs and a bridge in the namespace `wire`. Nothing leads from one rail to the other.
# shellcheck shell=bash

rails=(0 1)
# Room for RoCE's headers around a path MTU of 4096.
rail_mtu=4200
# index_v4, index_v6: places of the addresses below in a device's GID table; 0 is link-local.
# shellcheck disable=SC2034
index_v4=1 index_v6=2

# address NODE RAIL, address6 NODE RAIL: node a is 1 and b is 2 on every rail.
address() { case $1 in a) echo "10.0.$2.1" ;; b) echo "10.0.$2.2" ;; esac; }
address6() { case $1 in a) echo "fd00:$2::1" ;; b) echo "fd00:$2::2" ;; esac; }
mac() { echo "02:00:00:00:0$2:0$1"; }
other() { case $1 in a) echo b ;; b) echo a ;; esac; }
setting() { echo "$2" >"/proc/sys/net/$1"; }

# Both ends of a rail are in one namespace, as rxe knows but the first. Routing by interface keeps
# the kernel from taking the short way: what arrives is local, what leaves goes to the wire. All in
# batches, since every process takes a moment here.
make_rails() {
    local rail node
    ip netns add wire
    # A fabric neither loses nor reorders. Here a queue drops what is over its bound, and packets of
    # one rail would overtake each other on two processors, which costs verbs a retry each time.
    setting core/netdev_max_backlog 65536
    for node in all default; do
        setting "ipv4/conf/$node/rp_filter" 0
        setting "ipv4/conf/$node/accept_local" 1
        setting "ipv4/conf/$node/arp_ignore" 1
        setting "ipv4/conf/$node/arp_announce" 2
        setting "ipv6/conf/$node/accept_dad" 0
    done
    {
        echo "link set lo up"
        on_each_device device_lines
        on_each_device route_lines
    } | ip -batch -
    {
        for rail in "${rails[@]}"; do
            echo "link add br$rail mtu $rail_mtu type bridge"
            echo "link set br$rail up"
        done
        on_each_device wire_lines
    } | ip -n wire -batch -
    in_order
    # shellcheck disable=SC2016
    ip netns exec wire bash -c "$(declare -f in_order); in_order"
    { on_each_device rule_lines address && last_rules 10.0.0.0/16; } | ip -batch -
    { on_each_device rule_lines address6 && last_rules fd00::/16; } | ip -6 -batch -
    on_each_device rdma_lines | rdma -b -
}

# in_order: each rail has one processor for what arrives.
in_order() {
    local queue cpu
    for queue in /sys/class/net/[vw][ab]*/queues/rx-0/rps_cpus; do
        cpu=$(cut -d/ -f5 <<<"$queue")
        echo $((1 << ${cpu: -1} % $(nproc))) >"$queue"
    done
}

# on_each_device COMMAND...: COMMAND... NODE RAIL, for each.
on_each_device() {
    local rail node
    for rail in "${rails[@]}"; do
        for node in a b; do "$@" "$node" "$rail"; done
    done
}
device_lines() {
    echo "link add v$1$2 mtu $rail_mtu address $(mac "$1" "$2") type veth" \
        "peer name w$1$2 mtu $rail_mtu netns wire"
    echo "address add $(address "$1" "$2")/24 dev v$1$2"
    echo "address add $(address6 "$1" "$2")/64 dev v$1$2 nodad"
    echo "link set v$1$2 up"
}
wire_lines() { echo "link set w$1$2 master br$2 up"; }
table() { case $1 in a) echo "1${2}1" ;; b) echo "1${2}2" ;; esac; }
route_lines() {
    local far kind
    far=$(other "$1")
    for kind in address address6; do
        echo "route add $($kind "$far" "$2") dev v$1$2 table $(table "$1" "$2")"
        echo "neighbour replace $($kind "$far" "$2") lladdr $(mac "$far" "$2") dev v$1$2 nud permanent"
    done
}
rule_lines() {
    echo "rule add pref 10 iif v$2$3 lookup local"
    echo "rule add pref 20 from $($1 "$2" "$3") to $($1 "$(other "$2")" "$3") lookup $(table "$2" "$3")"
    echo "rule add pref 21 oif v$2$3 lookup $(table "$2" "$3")"
}
# The table `local` comes last, and between the rails and nodes there is no other way.
last_rules() {
    echo "rule add pref 30 from $1 to $1 prohibit"
    echo "rule add pref 100 lookup local"
    echo "rule del pref 0"
}
rdma_lines() { echo "link add rxe_$1$2 type rxe netdev v$1$2"; }

# unplug RAIL: both devices lose their carrier, which they are told. plug RAIL undoes it.
unplug() { ip -n wire link set "wa$1" down && ip -n wire link set "wb$1" down; }
plug() { ip -n wire link set "wa$1" up && ip -n wire link set "wb$1" up; }
# cut RAIL: packets vanish on the way; both devices think that all is well. mend RAIL undoes it.
cut_rail() { ip -n wire link set "br$1" down; }
mend() { ip -n wire link set "br$1" up; }

# shape RAIL NETEM...: what both ends of a rail send is delayed, lost, or slowed.
shape() {
    local rail=$1 node
    shift
    for node in a b; do tc qdisc replace dev "v$node$rail" root netem "$@" limit 10000; done
}

# mend_rails: every rail is as it was made.
mend_rails() {
    local rail node
    for rail in "${rails[@]}"; do
        mend "$rail"
        plug "$rail"
        for node in a b; do tc qdisc del dev "v$node$rail" root 2>/dev/null || true; done
    done
}

# rail_bytes RAIL: what both ends have sent so far.
rail_bytes() {
    echo $(($(cat "/sys/class/net/va$1/statistics/tx_bytes") + $(cat "/sys/class/net/vb$1/statistics/tx_bytes")))
}
