//! What the two ends of an RDMA measurement say to each other, beside `talk`.

use portway::transport::rdma::{Endpoint, Fabric, Operation, Plan, PortInfo, QpAddress};
use serde::{Deserialize, Serialize};

/// A question of the end that asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rdma", rename_all = "lowercase")]
pub(in crate::measure::net) enum Ask {
    /// Which ports are there?
    Ports,
    /// Open a port to what is measured.
    Open(Open),
    /// It is over: was all as it should be?
    Close,
}

/// An answer of the end that serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rdma", rename_all = "lowercase")]
pub(in crate::measure::net) enum Answer {
    /// To `Ports`.
    Ports {
        /// All that may be used, at least one.
        ports: Vec<Port>,
    },
    /// To `Open`: its queue pairs are connected and wait.
    Opened {
        /// One for each of those that asked.
        ends: Vec<End>,
    },
    /// To `Close`.
    Closed {
        /// Memory that was written and is not as it was sent, in queue pairs.
        wrong: usize,
        /// CPU seconds of this end since `Open`.
        cpu_s: f64,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        why: String,
    },
}

/// A measurement that is to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::measure::net) struct Open {
    /// Place of the serving end's port in its list.
    pub(super) port: usize,
    /// The port of the end that asks.
    pub(super) peer: Port,
    /// What is measured.
    pub(super) op: Op,
    /// Messages under way in a queue pair.
    pub(super) depth: usize,
    /// Bytes of a message.
    pub(super) bytes: usize,
    /// The queue pairs of the end that asks.
    pub(super) ends: Vec<End>,
}

/// The operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// RDMA READ: this end takes content from the other one's memory, as transfers do
    Read,
    /// RDMA WRITE: it puts content into the other one's memory
    Write,
    /// SEND: the other end has receives posted
    Send,
}

/// A port, as the other end has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::measure::net) struct Port {
    device: String,
    number: u8,
    infiniband: bool,
    gid: [u8; 16],
    lid: u16,
    mtu: u16,
    rate_mbit: u32,
    reads_max: u8,
}

/// A queue pair with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::measure::net) struct End {
    number: u32,
    psn: u32,
    base: u64,
    rkey: u32,
}

impl Op {
    /// Its name, as the results have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Send => "send",
        }
    }
}

impl From<Op> for Operation {
    fn from(op: Op) -> Self {
        match op {
            Op::Read => Self::Read,
            Op::Write => Self::Write,
            Op::Send => Self::Send,
        }
    }
}

impl Open {
    /// What is measured.
    pub(super) fn plan(&self) -> Plan {
        let (operation, queue_pairs) = (self.op.into(), self.ends.len());
        Plan { operation, queue_pairs, depth: self.depth, bytes: self.bytes }
    }
}

impl From<&PortInfo> for Port {
    fn from(port: &PortInfo) -> Self {
        Self {
            device: port.device.clone(),
            number: port.port,
            infiniband: port.fabric == Fabric::InfiniBand,
            gid: port.gid,
            lid: port.lid,
            mtu: port.mtu,
            rate_mbit: port.rate_mbit,
            reads_max: port.reads_max,
        }
    }
}

impl From<&Port> for PortInfo {
    /// What means something only at the other end is zero.
    fn from(port: &Port) -> Self {
        Self {
            device: port.device.clone(),
            port: port.number,
            fabric: if port.infiniband { Fabric::InfiniBand } else { Fabric::Ethernet },
            gid: port.gid,
            gid_index: 0,
            lid: port.lid,
            mtu: port.mtu,
            rate_mbit: port.rate_mbit,
            numa: None,
            reads_max: port.reads_max,
        }
    }
}

impl From<Endpoint> for End {
    fn from(end: Endpoint) -> Self {
        let Endpoint { pair: QpAddress { number, psn }, base, rkey } = end;
        Self { number, psn, base, rkey }
    }
}

impl From<End> for Endpoint {
    fn from(end: End) -> Self {
        let End { number, psn, base, rkey } = end;
        Self { pair: QpAddress { number, psn }, base, rkey }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::talk;
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let port = PortInfo {
            device: "mlx5_0".to_owned(),
            port: 1,
            fabric: Fabric::InfiniBand,
            gid: [7; 16],
            gid_index: 0,
            lid: 9,
            mtu: 4096,
            rate_mbit: 100_000,
            numa: None,
            reads_max: 16,
        };
        assert_eq!(PortInfo::from(&Port::from(&port)), port);
        let end = End { number: 1, psn: 2, base: u64::MAX, rkey: 3 };
        assert_eq!(End::from(Endpoint::from(end)), end);
        let (peer, ends) = (Port::from(&port), vec![end]);
        let open = Open { port: 0, peer, op: Op::Send, depth: 128, bytes: 4096, ends };
        assert_eq!(open.plan().queue_pairs, 1);
        for ask in [Ask::Ports, Ask::Open(open), Ask::Close] {
            let ask = talk::Ask::Rdma(ask);
            let frame = serde_json::to_vec(&ask).expect("words");
            assert_eq!(talk::heard::<talk::Ask>(&frame).expect("words"), ask);
        }
        let closed = talk::Answer::Rdma(Answer::Closed { wrong: 0, cpu_s: 1.5 });
        let frame = serde_json::to_vec(&closed).expect("words");
        assert_eq!(talk::heard::<talk::Answer>(&frame).expect("words"), closed);
    }
}
