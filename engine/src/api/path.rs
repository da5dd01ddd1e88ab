//! Which transport carries the content of a session, and why.

use super::{Error, Exit, TransportChoice};
use crate::base::{NodeName, SiteName, Tier};
use crate::config::RdmaSection;
use crate::transport::Peer;
use crate::transport::rdma::{Fabric, PortInfo, Ports};

/// Whether this build can use RDMA devices.
pub(super) const BUILT: bool = cfg!(feature = "rdma");

/// A transport for content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// One-sided reads between the nodes of a private site.
    Rdma,
    /// QUIC.
    Quic,
}

impl Transport {
    /// Its name, as programs read it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rdma => "rdma",
            Self::Quic => "quic",
        }
    }
}

/// The transport for a session's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathChoice {
    /// Which.
    pub(super) transport: Transport,
    /// Why, in words that are safe to show.
    pub(super) reason: String,
    /// What would make RDMA possible, where something would; else empty.
    pub(super) fix: String,
}

/// This node, as far as paths depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    /// Whether the build has RDMA: [`BUILT`].
    pub(super) built: bool,
    /// Its site.
    pub(super) site: &'a SiteName,
    /// The site's tier.
    pub(super) tier: Tier,
    /// What people set.
    pub(super) settings: &'a RdmaSection,
    /// The ports that work, whatever people set.
    pub(super) ports: &'a Ports,
}

/// Why content does not go by RDMA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("{node} is of site {theirs}, this node of {ours}")]
    OtherSite { node: NodeName, theirs: SiteName, ours: SiteName },
    #[error("site {site} is of the public tier")]
    PublicTier { site: SiteName },
    #[error("this build has no RDMA")]
    NotBuilt,
    #[error("rdma.enabled is false")]
    Disabled,
    #[error("rdma.plaintext is false, and RDMA does not encrypt")]
    Plaintext,
    #[error("no port for RDMA{}", after(why))]
    NoPorts { why: String },
    #[error("rdma.devices names none of the ports that work: {}", names(ports))]
    NotNamed { ports: Vec<PortInfo> },
    #[error("no port for RDMA at {node}{}", after(why))]
    NoPortsThere { node: NodeName, why: String },
    #[error("ports here are on {ours}, those of {node} on {theirs}")]
    Fabrics { node: NodeName, ours: &'static str, theirs: &'static str },
}

fn after(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

fn names(ports: &[PortInfo]) -> String {
    ports.iter().map(PortInfo::name).collect::<Vec<_>>().join(", ")
}

impl Obstacle {
    /// What takes it away; empty where nothing should.
    fn fix(&self) -> String {
        match self {
            Self::OtherSite { .. } | Self::PublicTier { .. } => String::new(),
            Self::NotBuilt => "build with the feature rdma, which is on by default".to_owned(),
            Self::Disabled => "set rdma.enabled = true in portway.toml".to_owned(),
            Self::Plaintext => {
                "set rdma.plaintext = true where the site's fabric may carry plain text".to_owned()
            }
            Self::NoPorts { .. } => "`portway doctor` says what is missing".to_owned(),
            Self::NotNamed { .. } => "correct rdma.devices, or leave it empty".to_owned(),
            Self::NoPortsThere { node, .. } => {
                format!("`portway doctor` on {node} says what is missing")
            }
            Self::Fabrics { .. } => "a rail joins two ports on one network".to_owned(),
        }
    }

    /// What a caller reads who wanted nothing but RDMA.
    fn error(&self) -> Error {
        let other = match self {
            Self::OtherSite { .. } | Self::PublicTier { .. } => {
                "RDMA stays inside one private site; "
            }
            _ => "",
        };
        let hint = match self.fix() {
            fix if fix.is_empty() => format!("{other}leave out --transport rdma"),
            fix => format!("{fix}; or leave out --transport rdma"),
        };
        Error::new("no-rdma", Exit::Failed, format!("content cannot go by RDMA: {self}")).hint(hint)
    }
}

/// The ports of this node that may be measured: those that content may use.
pub(super) fn to_measure(own: &Own<'_>) -> Result<Vec<PortInfo>, Error> {
    allowed(own).map_err(|obstacle| {
        let message = format!("RDMA cannot be measured: {obstacle}");
        Error::new("no-rdma", Exit::Failed, message).hint(obstacle.fix())
    })
}

/// What keeps two nodes from RDMA whatever devices they have.
fn border(own: &Own<'_>, peer: &Peer) -> Result<(), Obstacle> {
    if *own.site != peer.site {
        let (theirs, ours) = (peer.site.clone(), own.site.clone());
        return Err(Obstacle::OtherSite { node: peer.node.clone(), theirs, ours });
    }
    if own.tier == Tier::Public || peer.tier == Tier::Public {
        return Err(Obstacle::PublicTier { site: own.site.clone() });
    }
    Ok(())
}

/// The ports that people let this node use.
fn allowed(own: &Own<'_>) -> Result<Vec<PortInfo>, Obstacle> {
    if !own.built {
        return Err(Obstacle::NotBuilt);
    }
    if !own.settings.enabled {
        return Err(Obstacle::Disabled);
    }
    if !own.settings.plaintext {
        return Err(Obstacle::Plaintext);
    }
    let found = match own.ports {
        Ports::None { why } => return Err(Obstacle::NoPorts { why: why.clone() }),
        Ports::Usable(ports) if ports.is_empty() => {
            return Err(Obstacle::NoPorts { why: String::new() });
        }
        Ports::Usable(ports) => ports,
    };
    let named = |port: &&PortInfo| {
        let devices = &own.settings.devices;
        devices.is_empty() || devices.iter().any(|name| name.names(&port.device, port.port))
    };
    let ports: Vec<PortInfo> = found.iter().filter(named).cloned().collect();
    if ports.is_empty() { Err(Obstacle::NotNamed { ports: found.clone() }) } else { Ok(ports) }
}

/// What a greeting tells a peer: the ports that it may use, or why there are none. A peer behind
/// a border is not told of ports.
pub(super) fn offer(own: &Own<'_>, peer: &Peer) -> Ports {
    let ports = match border(own, peer) {
        Ok(()) if peer.enrolling.is_none() => allowed(own),
        Ok(()) => return Ports::none(""),
        Err(obstacle) => Err(obstacle),
    };
    match ports {
        Ok(ports) => Ports::Usable(ports),
        // The peer says itself that there is no port here.
        Err(Obstacle::NoPorts { why }) => Ports::None { why },
        Err(obstacle) => Ports::none(obstacle.to_string()),
    }
}

/// Decides how content goes between this node and `peer`, whose greeting told of the ports
/// `theirs`.
///
/// # Errors
/// RDMA was asked for and is not possible: the message says why, the hint what to do.
pub(super) fn choose(
    own: &Own<'_>,
    peer: &Peer,
    theirs: &Ports,
    choice: TransportChoice,
) -> Result<PathChoice, Error> {
    if choice == TransportChoice::Quic {
        let reason = "asked for".to_owned();
        return Ok(PathChoice { transport: Transport::Quic, reason, fix: String::new() });
    }
    match rails(own, peer, theirs) {
        Ok(reason) => Ok(PathChoice { transport: Transport::Rdma, reason, fix: String::new() }),
        Err(obstacle) if choice == TransportChoice::Rdma => Err(obstacle.error()),
        Err(obstacle) => Ok(PathChoice {
            transport: Transport::Quic,
            reason: obstacle.to_string(),
            fix: obstacle.fix(),
        }),
    }
}

/// Why RDMA is possible, or what is in the way.
fn rails(own: &Own<'_>, peer: &Peer, theirs: &Ports) -> Result<String, Obstacle> {
    border(own, peer)?;
    let ours = allowed(own)?;
    let node = peer.node.clone();
    let theirs = match theirs {
        Ports::Usable(ports) if !ports.is_empty() => ports,
        Ports::Usable(_) => return Err(Obstacle::NoPortsThere { node, why: String::new() }),
        Ports::None { why } => {
            return Err(Obstacle::NoPortsThere { node, why: why.clone() });
        }
    };
    let on = |ports: &[PortInfo], fabric| ports.iter().filter(|p| p.fabric == fabric).count();
    let common = [Fabric::InfiniBand, Fabric::Ethernet]
        .map(|fabric| (on(&ours, fabric), on(theirs, fabric), fabric))
        .into_iter()
        .find(|(here, there, _)| *here > 0 && *there > 0);
    let Some((here, there, fabric)) = common else {
        let word = |ports: &[PortInfo]| ports.first().map_or("", |port| fabric_name(port.fabric));
        return Err(Obstacle::Fabrics { ours: word(&ours), theirs: word(theirs), node });
    };
    Ok(format!(
        "both nodes are of the private site {}; ports on {}: {here} here, {there} there",
        own.site,
        fabric_name(fabric)
    ))
}

fn fabric_name(fabric: Fabric) -> &'static str {
    match fabric {
        Fabric::Ethernet => "Ethernet",
        Fabric::InfiniBand => "InfiniBand",
    }
}

#[cfg(test)]
mod tests;
