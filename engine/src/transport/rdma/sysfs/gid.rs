//! A port's addresses, and which of them serves.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;

use super::{names, text};
use crate::transport::rdma::Fabric;

/// Most entries of a port's GID table: its index is one byte in a path.
const GIDS_MAX: usize = 256;

/// An entry of a port's GID table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    /// Place in the table.
    pub index: u8,
    /// The address, network byte order.
    pub bytes: [u8; 16],
    /// What packets with it look like.
    pub kind: GidKind,
    /// The network interface that has the address.
    pub interface: Option<String>,
}

/// Kind of a GID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GidKind {
    /// InfiniBand's own, or RoCE version 1, which no router forwards.
    Infiniband,
    /// RoCE version 2: UDP.
    RoceV2,
}

/// Why an address was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Place in the table.
    pub index: u8,
    /// The address, network byte order.
    pub bytes: [u8; 16],
    /// In words.
    pub why: &'static str,
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            GidKind::Infiniband => "IB/RoCE v1",
            GidKind::RoceV2 => "RoCE v2",
        };
        write!(f, "{} {} ({kind})", self.index, Ipv6Addr::from(self.bytes))
    }
}

/// The best address of a table: one that a router forwards and that people configure.
pub(super) fn choose(fabric: Fabric, gids: &[Gid]) -> Option<Chosen> {
    if fabric == Fabric::InfiniBand {
        let gid = gids.iter().find(|gid| gid.index == 0)?;
        let why = "the port's own GID, the first of its table";
        return Some(Chosen { index: 0, bytes: gid.bytes, why });
    }
    let rank = |gid: &Gid| {
        let address = Ipv6Addr::from(gid.bytes);
        match address.to_ipv4_mapped() {
            Some(address) if !address.is_link_local() => (0, "RoCE v2 of an IPv4 address"),
            Some(_) => (2, "RoCE v2 of a link-local IPv4 address, for want of another"),
            None if !address.is_unicast_link_local() => (1, "RoCE v2 of a global IPv6 address"),
            None => (3, "RoCE v2 of a link-local IPv6 address, for want of another"),
        }
    };
    let usable = gids.iter().filter(|gid| gid.kind == GidKind::RoceV2);
    let best = usable.min_by_key(|gid| (rank(gid).0, gid.index))?;
    Some(Chosen { index: best.index, bytes: best.bytes, why: rank(best).1 })
}

/// Reads a port's table.
pub(super) fn gids(port: &Path) -> Vec<Gid> {
    let mut indices: Vec<u8> =
        names(&port.join("gids")).iter().filter_map(|index| index.parse().ok()).collect();
    indices.sort_unstable();
    indices.truncate(GIDS_MAX);
    indices.into_iter().filter_map(|index| gid(port, index)).collect()
}

fn gid(port: &Path, index: u8) -> Option<Gid> {
    let file = index.to_string();
    let address: Ipv6Addr = text(&port.join("gids").join(&file))?.parse().ok()?;
    let bytes = address.octets();
    // An InfiniBand port's prefix is there even without a subnet manager; the rest is never zero.
    if bytes[8..] == [0; 8] {
        return None;
    }
    let kind = match text(&port.join("gid_attrs/types").join(&file)).as_deref() {
        Some("RoCE v2") => GidKind::RoceV2,
        _ => GidKind::Infiniband,
    };
    let interface = text(&port.join("gid_attrs/ndevs").join(&file));
    Some(Gid { index, bytes, kind, interface })
}
