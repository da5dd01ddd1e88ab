#!/usr/bin/env bash
# The rails work before Portway is asked to use them: devices, GIDs, and verbs over IPv4 and IPv6.
set -euo pipefail
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

rdma link
ibv_devinfo | awk '/hca_id/ { name = $2 } /active_mtu/ { print name, "active_mtu", $2 }'
for device in /sys/class/infiniband/*; do
    for index in "$index_v4" "$index_v6"; do
        kind=$(cat "$device/ports/1/gid_attrs/types/$index")
        echo "$(basename "$device") GID $index $(cat "$device/ports/1/gids/$index") $kind"
        [ "$kind" = "RoCE v2" ] || die "GID $index of $device is of $kind"
    done
done
for rail in "${rails[@]}"; do
    for index in "$index_v4" "$index_v6"; do
        before=$(rail_bytes "$rail")
        rate=$(read_bw "$rail" 65536 1 "$index")
        crossed=$(($(rail_bytes "$rail") - before))
        step "ib_read_bw on rail $rail, GID $index: $rate MB/s, $crossed bytes on the wire"
        [ $crossed -ge $((32 << 20)) ] || die "the bytes did not cross the wire"
    done
done
"$portway" version
a doctor
