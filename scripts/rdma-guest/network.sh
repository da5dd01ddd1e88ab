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
other() { case $1 in a) echo b ;; b) echo a ;; esac; }
setting() { echo "$2" >"/proc/sys/net/$1"; }

# Both ends of a rail are in one namespace, as rxe knows but the first. Routing by interface keeps
# the kernel from taking the short way: what arrives is local, what leaves goes to the wire.
make_rails() {
    local rail node
    ip link set lo up
    ip netns add wire
    for node in all default; do
        setting "ipv4/conf/$node/rp_filter" 0
        setting "ipv4/conf/$node/accept_local" 1
        setting "ipv4/conf/$node/arp_ignore" 1
        setting "ipv4/conf/$node/arp_announce" 2
        setting "ipv6/conf/$node/disable_ipv6" 0
        setting "ipv6/conf/$node/accept_dad" 0
    done
    for rail in "${rails[@]}"; do make_wire "$rail"; done
    for rail in "${rails[@]}"; do
        for node in a b; do make_route "$node" "$rail"; done
    done
    ip rule add pref 30 from 10.0.0.0/16 to 10.0.0.0/16 prohibit
    ip -6 rule add pref 30 from fd00::/16 to fd00::/16 prohibit
    ip rule add pref 100 lookup local
    ip -6 rule add pref 100 lookup local
    ip rule del pref 0
    ip -6 rule del pref 0
    for rail in "${rails[@]}"; do
        for node in a b; do
            rdma link add "rxe_$node$rail" type rxe netdev "v$node$rail"
        done
    done
}

make_wire() { # RAIL
    local node dev
    ip -n wire link add "br$1" mtu $rail_mtu type bridge
    ip -n wire link set "br$1" up
    for node in a b; do
        dev=v$node$1
        ip link add "$dev" mtu $rail_mtu type veth peer name "w$node$1" mtu $rail_mtu netns wire
        ip -n wire link set "w$node$1" master "br$1" up
        ip address add "$(address "$node" "$1")/24" dev "$dev"
        ip -6 address add "$(address6 "$node" "$1")/64" dev "$dev" nodad
        ip link set "$dev" up
    done
}

make_route() { # NODE RAIL
    local far dev=v$1$2 table lladdr
    far=$(other "$1")
    lladdr=$(cat "/sys/class/net/v$far$2/address")
    table=$((100 + 10 * $2 + $(address "$1" 0 | cut -d. -f4)))
    ip route add "$(address "$far" "$2")" dev "$dev" src "$(address "$1" "$2")" table $table
    ip rule add pref 10 iif "$dev" lookup local
    ip rule add pref 20 from "$(address "$1" "$2")" to "$(address "$far" "$2")" lookup $table
    ip rule add pref 21 oif "$dev" lookup $table
    ip neighbour replace "$(address "$far" "$2")" lladdr "$lladdr" dev "$dev" nud permanent
    ip -6 route add "$(address6 "$far" "$2")" dev "$dev" table $table
    ip -6 rule add pref 10 iif "$dev" lookup local
    ip -6 rule add pref 20 from "$(address6 "$1" "$2")" to "$(address6 "$far" "$2")" lookup $table
    ip -6 rule add pref 21 oif "$dev" lookup $table
    ip -6 neighbour replace "$(address6 "$far" "$2")" lladdr "$lladdr" dev "$dev" nud permanent
}

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
