//! Ports as greetings carry them.

use super::{Fabric, PortInfo};
use crate::base::human;
use crate::wire::{Hello, NO_RAILS_BYTES_MAX, PORTS_MAX, Port};

/// The number of [`Fabric::Ethernet`] in a greeting.
const ETHERNET: u32 = 1;
/// The number of [`Fabric::InfiniBand`] in a greeting.
const INFINIBAND: u32 = 2;

/// The ports that a node can carry content on, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// These, at least one.
    Usable(Vec<PortInfo>),
    /// None.
    None {
        /// Why, in words that are safe to show; empty if nobody says.
        why: String,
    },
}

impl Ports {
    /// No ports, and why.
    pub fn none(why: impl Into<String>) -> Self {
        Self::None { why: why.into() }
    }

    /// What a peer's greeting says. Ports are named by their place in it: from the first on a network
    /// that this build does not know, all are left out.
    pub fn heard(hello: &Hello) -> Self {
        let ports: Vec<PortInfo> =
            hello.rails.iter().map_while(|port| PortInfo::try_from(port.clone()).ok()).collect();
        if !ports.is_empty() {
            Self::Usable(ports)
        } else if hello.rails.is_empty() {
            Self::None { why: human::escaped(hello.no_rails.as_bytes()) }
        } else {
            Self::none("its ports are on networks that this build does not know")
        }
    }

    /// Without the ports that peers would not take. Both ends name ports by their place among
    /// the rest.
    #[must_use]
    pub fn fit(self) -> Self {
        match self {
            Self::Usable(mut ports) => {
                ports.retain(|port| Port::from(port).check().is_ok());
                ports.truncate(PORTS_MAX);
                Self::Usable(ports)
            }
            none @ Self::None { .. } => none,
        }
    }

    /// Puts them into a greeting: what peers would not take of a port or a reason is left out.
    pub fn tell(&self, hello: &mut Hello) {
        match self {
            Self::Usable(ports) => {
                let ports = ports.iter().map(Port::from).filter(|port| port.check().is_ok());
                hello.rails = ports.take(PORTS_MAX).collect();
            }
            Self::None { why } => {
                let mut end = why.len().min(NO_RAILS_BYTES_MAX);
                while !why.is_char_boundary(end) {
                    end -= 1;
                }
                why[..end].clone_into(&mut hello.no_rails);
            }
        }
    }
}

impl From<&PortInfo> for Port {
    fn from(port: &PortInfo) -> Self {
        Self {
            device: port.device.clone(),
            port: port.port,
            fabric: match port.fabric {
                Fabric::Ethernet => ETHERNET,
                Fabric::InfiniBand => INFINIBAND,
            },
            gid: port.gid,
            lid: port.lid,
            mtu: port.mtu,
            rate_mbit: port.rate_mbit,
            reads_max: port.reads_max,
        }
    }
}

/// The port is on a network that this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("network {number} is not known")]
pub struct UnknownFabric {
    /// Its number in the greeting.
    pub number: u32,
}

/// A peer's port: what means something only there is zero.
impl TryFrom<Port> for PortInfo {
    type Error = UnknownFabric;

    fn try_from(port: Port) -> Result<Self, UnknownFabric> {
        Ok(Self {
            fabric: match port.fabric {
                ETHERNET => Fabric::Ethernet,
                INFINIBAND => Fabric::InfiniBand,
                number => return Err(UnknownFabric { number }),
            },
            device: port.device,
            port: port.port,
            gid: port.gid,
            gid_index: 0,
            lid: port.lid,
            mtu: port.mtu,
            rate_mbit: port.rate_mbit,
            numa: None,
            reads_max: port.reads_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, VERSIONS};

    fn port(device: &str, fabric: Fabric) -> PortInfo {
        PortInfo {
            device: device.to_owned(),
            port: 1,
            fabric,
            gid: [7; 16],
            gid_index: 3,
            lid: 5,
            mtu: 1024,
            rate_mbit: 100_000,
            numa: Some(1),
            reads_max: 16,
        }
    }

    fn hello() -> Hello {
        Hello {
            versions: VERSIONS,
            program: "p".to_owned(),
            clock_ms: 1,
            rails: Vec::new(),
            no_rails: String::new(),
            roles: None,
        }
    }

    /// What the other side makes of what this one tells.
    fn crossed(rails: &Ports) -> Ports {
        let mut told = hello();
        rails.tell(&mut told);
        match Frame::decode(&Frame::Hello(told).encode()) {
            Ok(Frame::Hello(heard)) => Ports::heard(&heard),
            other => panic!("the greeting was not understood: {other:?}"),
        }
    }

    #[test]
    fn ports_reach_the_peer_without_what_is_local() {
        let (one, two) = (port("mlx5_0", Fabric::InfiniBand), port("rxe0", Fabric::Ethernet));
        let there = |port: &PortInfo| PortInfo { gid_index: 0, numa: None, ..port.clone() };
        let expected = Ports::Usable(vec![there(&one), there(&two)]);
        assert_eq!(crossed(&Ports::Usable(vec![one, two])), expected);
    }

    #[test]
    fn what_peers_would_refuse_is_never_told() {
        let good = port("mlx5_0", Fabric::Ethernet);
        let bad = port("a name of\nanother kind", Fabric::Ethernet);
        let Ports::Usable(heard) = crossed(&Ports::Usable(vec![bad, good.clone()])) else {
            panic!("one port is good");
        };
        assert_eq!(heard.len(), 1);
        let Ports::Usable(heard) = crossed(&Ports::Usable(vec![good; PORTS_MAX + 3])) else {
            panic!("they are good");
        };
        assert_eq!(heard.len(), PORTS_MAX);
        let why = format!("x{}", "ä".repeat(NO_RAILS_BYTES_MAX));
        let Ports::None { why } = crossed(&Ports::none(why)) else { panic!("there are none") };
        assert_eq!(why.chars().count(), NO_RAILS_BYTES_MAX / 2);
    }

    #[test]
    fn a_reason_is_safe_to_show_and_unknown_networks_are_left_out() {
        assert_eq!(crossed(&Ports::none("\x1b[2J")), Ports::none("\\x1b[2J"));
        let strange = Port { fabric: 3, ..Port::from(&port("x", Fabric::Ethernet)) };
        let mut heard = Hello { rails: vec![strange.clone()], ..hello() };
        assert!(matches!(Ports::heard(&heard), Ports::None { why } if why.contains("networks")));
        // Places before it stay what they are.
        heard.rails.insert(0, Port { fabric: ETHERNET, ..strange });
        assert!(matches!(Ports::heard(&heard), Ports::Usable(ports) if ports.len() == 1));
    }
}
