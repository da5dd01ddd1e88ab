#!/usr/bin/env bash
# The rails work before Portway is asked to use them: devices, GIDs, and verbs over IPv4 and IPv6.
set -euo pipefail
# shellcheck source=../nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

step "devices"
rdma link
ibv_devinfo | grep -E 'hca_id|state|active_mtu'
step "RoCE v2 addresses"
for device in /sys/class/infiniband/*; do
    for index in "$index_v4" "$index_v6"; do
        [ "$(cat "$device/ports/1/gid_attrs/types/$index")" = "RoCE v2" ] || die "GID $index of $device is not of RoCE v2"
        echo "$(basename "$device") $index $(cat "$device/ports/1/gids/$index")"
    done
done
for rail in "${rails[@]}"; do
    for index in "$index_v4" "$index_v6"; do
        before=$(rail_bytes "$rail")
        rate=$(read_bw "$rail" 65536 1 2 "$index")
        step "ib_read_bw on rail $rail, GID $index: $rate MB/s"
        [ $(($(rail_bytes "$rail") - before)) -ge $((64 * 65536)) ] || die "the bytes did not cross the wire"
    done
done
step "portway doctor"
"$portway" version
a doctor || true
