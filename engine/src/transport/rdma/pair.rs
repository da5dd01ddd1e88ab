//! Which port of one node goes with which of the other.

use super::message::RAILS_MAX;
use super::port::{Fabric, PortInfo};

/// Leading bits that two addresses share.
fn common_bits(a: [u8; 16], b: [u8; 16]) -> u32 {
    (u128::from_be_bytes(a) ^ u128::from_be_bytes(b)).leading_zeros()
}

/// How well two ports go together; `None` if they cannot reach each other.
///
/// `InfiniBand` ports must be of one subnet: the upper half of a GID names it. RoCE can be routed,
/// so any two can be tried; those that share most of their address are most likely one network.
fn fit(mine: &PortInfo, yours: &PortInfo) -> Option<u32> {
    let bits = common_bits(mine.gid, yours.gid);
    let reachable = match (mine.fabric, yours.fabric) {
        (Fabric::InfiniBand, Fabric::InfiniBand) => bits >= 64,
        // Both IPv4 in IPv6 or neither: the kinds do not reach each other.
        (Fabric::Ethernet, Fabric::Ethernet) => is_ipv4(mine.gid) == is_ipv4(yours.gid),
        _ => false,
    };
    reachable.then_some(bits)
}

/// Whether a GID is an IPv4 address (`::ffff:a.b.c.d`).
fn is_ipv4(gid: [u8; 16]) -> bool {
    gid[..10] == [0; 10] && gid[10..12] == [0xff; 2]
}

/// Pairs ports, each in one rail at most: the best fitting first, among equals those near the
/// memory (`near` is its node), then in the order of the lists. Gives places in the lists.
pub(crate) fn pair(
    mine: &[PortInfo],
    yours: &[PortInfo],
    near: Option<u16>,
) -> Vec<(usize, usize)> {
    let mut candidates = Vec::new();
    for (i, a) in mine.iter().enumerate() {
        for (j, b) in yours.iter().enumerate() {
            if let Some(bits) = fit(a, b) {
                let far = near.is_some() && a.numa.is_some() && a.numa != near;
                candidates.push((std::cmp::Reverse(bits), far, i.abs_diff(j), i, j));
            }
        }
    }
    candidates.sort_unstable();
    let (mut used_mine, mut used_yours) = (vec![false; mine.len()], vec![false; yours.len()]);
    let mut rails = Vec::new();
    for (_, far, _, i, j) in candidates {
        if !used_mine[i] && !used_yours[j] && rails.len() < RAILS_MAX {
            used_mine[i] = true;
            used_yours[j] = true;
            rails.push((far, i, j));
        }
    }
    rails.sort_unstable();
    rails.into_iter().map(|(_, i, j)| (i, j)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn port(device: &str, ip: [u8; 4]) -> PortInfo {
        let mut gid = [0; 16];
        gid[10..12].fill(0xff);
        gid[12..].copy_from_slice(&ip);
        PortInfo {
            device: device.to_owned(),
            port: 1,
            fabric: Fabric::Ethernet,
            gid,
            gid_index: 1,
            lid: 0,
            mtu: 4096,
            rate_mbit: 100_000,
            numa: None,
            reads_max: 16,
        }
    }

    #[test]
    fn ports_of_one_network_go_together_whatever_their_order() {
        let mine = [port("a0", [10, 0, 0, 1]), port("a1", [10, 0, 1, 1])];
        let yours = [port("b1", [10, 0, 1, 2]), port("b0", [10, 0, 0, 2])];
        let mut rails = pair(&mine, &yours, None);
        rails.sort_unstable();
        assert_eq!(rails, [(0, 1), (1, 0)]);
        assert_eq!(pair(&mine, &yours[..1], None), [(1, 0)]);
        assert!(pair(&mine, &[], None).is_empty());
    }

    #[test]
    fn kinds_of_networks_do_not_mix_and_subnets_of_infiniband_neither() {
        let mut infiniband = port("i", [0; 4]);
        (infiniband.fabric, infiniband.gid) = (Fabric::InfiniBand, [0xfe; 16]);
        let roce = port("r", [10, 0, 0, 1]);
        assert!(
            pair(std::slice::from_ref(&infiniband), std::slice::from_ref(&roce), None).is_empty()
        );
        let mut other = infiniband.clone();
        other.gid[15] = 1;
        assert_eq!(pair(std::slice::from_ref(&infiniband), &[other.clone()], None), [(0, 0)]);
        other.gid[7] = 1;
        assert!(pair(&[infiniband], &[other], None).is_empty());
        let mut ipv6 = roce.clone();
        ipv6.gid = [0xfd; 16];
        assert!(pair(&[roce], &[ipv6], None).is_empty());
    }

    #[test]
    fn ports_near_the_memory_come_first() {
        let mut mine = [port("far", [10, 0, 0, 1]), port("near", [10, 0, 1, 1])];
        (mine[0].numa, mine[1].numa) = (Some(1), Some(0));
        let yours = [port("b0", [10, 0, 0, 2]), port("b1", [10, 0, 1, 2])];
        assert_eq!(pair(&mine, &yours, Some(0)), [(1, 1), (0, 0)]);
    }
}
