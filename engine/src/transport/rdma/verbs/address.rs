//! The way to the peer's port, in the words that queue pairs take.

use rdma_sys::{ibv_ah_attr, ibv_gid, ibv_mtu};

use super::library::Plain;
use crate::transport::rdma::{Fabric, PortInfo, RailError};

/// Routers on the way at most: that of Linux for IP.
const HOP_LIMIT: u8 = 64;
/// Traffic class of packets, whose upper six bits are the DSCP: 0 is the network's default. Where
/// RoCE has a lossless class of its own, the device is told which (`cma_roce_tos` or the vendor's
/// tool), since the number differs between sites.
const TRAFFIC_CLASS: u8 = 0;
/// Flow label: with 0 the device takes a UDP source port for each queue pair, which spreads them
/// over equal paths.
const FLOW_LABEL: u32 = 0;

// SAFETY: plain numbers and a union of them.
unsafe impl Plain for ibv_ah_attr {}

/// The way from `port` to `peer`.
pub(super) fn address(port: &PortInfo, peer: &PortInfo) -> Result<ibv_ah_attr, RailError> {
    if port.fabric != peer.fabric {
        return Err(RailError::new(format!(
            "{} here is on {:?} and {} there on {:?}",
            port.name(),
            port.fabric,
            peer.name(),
            peer.fabric
        )));
    }
    let mut address = ibv_ah_attr::zeroed();
    let same_subnet = port.gid[..8] == peer.gid[..8];
    if port.fabric == Fabric::Ethernet || !same_subnet {
        address.is_global = 1;
        address.grh.dgid = ibv_gid { raw: peer.gid };
        address.grh.sgid_index = port.gid_index;
        address.grh.hop_limit = HOP_LIMIT;
        address.grh.traffic_class = TRAFFIC_CLASS;
        address.grh.flow_label = FLOW_LABEL;
    }
    if port.fabric == Fabric::InfiniBand {
        if peer.lid == 0 {
            return Err(RailError::new(format!("{} there has no LID", peer.name())));
        }
        address.dlid = peer.lid;
    }
    address.port_num = port.port;
    Ok(address)
}

/// The largest payload that both ports carry.
pub(super) fn path_mtu(port: &PortInfo, peer: &PortInfo) -> Result<ibv_mtu::Type, RailError> {
    match port.mtu.min(peer.mtu) {
        4096.. => Ok(ibv_mtu::IBV_MTU_4096),
        2048.. => Ok(ibv_mtu::IBV_MTU_2048),
        1024.. => Ok(ibv_mtu::IBV_MTU_1024),
        512.. => Ok(ibv_mtu::IBV_MTU_512),
        256.. => Ok(ibv_mtu::IBV_MTU_256),
        small => Err(RailError::new(format!("packets of {small} bytes are too small"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(fabric: Fabric, lid: u16, mtu: u16, subnet: u8) -> PortInfo {
        let mut gid = [7; 16];
        gid[0] = subnet;
        PortInfo {
            device: "mlx5_0".into(),
            port: 2,
            fabric,
            gid,
            gid_index: 3,
            lid,
            mtu,
            rate_mbit: 0,
            numa: None,
            reads_max: 16,
        }
    }

    #[test]
    fn ethernet_goes_by_gid_and_infiniband_by_lid_within_a_subnet() {
        let here = port(Fabric::Ethernet, 0, 4096, 1);
        let way = address(&here, &port(Fabric::Ethernet, 0, 1024, 1)).unwrap();
        assert_eq!((way.is_global, way.dlid, way.port_num), (1, 0, 2));
        assert_eq!((way.grh.sgid_index, way.grh.hop_limit), (3, 64));
        let here = port(Fabric::InfiniBand, 9, 4096, 1);
        let way = address(&here, &port(Fabric::InfiniBand, 8, 4096, 1)).unwrap();
        assert_eq!((way.is_global, way.dlid), (0, 8));
        let way = address(&here, &port(Fabric::InfiniBand, 8, 4096, 2)).unwrap();
        assert_eq!((way.is_global, way.dlid), (1, 8));
        assert!(address(&here, &port(Fabric::InfiniBand, 0, 4096, 1)).is_err());
        assert!(address(&here, &port(Fabric::Ethernet, 8, 4096, 1)).is_err());
    }

    #[test]
    fn the_smaller_payload_counts() {
        let with = |mtu| port(Fabric::Ethernet, 0, mtu, 1);
        assert_eq!(path_mtu(&with(4096), &with(1024)).unwrap(), ibv_mtu::IBV_MTU_1024);
        assert_eq!(path_mtu(&with(3000), &with(4096)).unwrap(), ibv_mtu::IBV_MTU_2048);
        assert!(path_mtu(&with(0), &with(4096)).is_err());
    }
}
