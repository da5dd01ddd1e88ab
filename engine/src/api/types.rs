//! What callers ask for and what they get back.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::encode::Compress;
pub use crate::runtime::snapshots::Keep;

use crate::base::{FileTime, NodeName, Parts, Priority, Rate, RelPath};
use crate::cost::{Currency, Money};

/// Which node is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAddress {
    /// A node of the configuration.
    Name(NodeName),
    /// Whoever of the trust domain answers there.
    Address(SocketAddr),
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A path at a node: `NODE:PATH` or `portway://ADDR:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The node.
    pub node: NodeAddress,
    /// The path below its root.
    pub path: RelPath,
    /// The path was typed with a slash at its end: sources land below it under their own names.
    pub into: bool,
}

/// Which transport the caller wants content to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// RDMA where both nodes are of one private site and have it, else QUIC.
    #[default]
    Auto,
    /// RDMA, or an error that says why not.
    Rdma,
    /// QUIC.
    Quic,
}

/// How a transfer is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// Read and compare content even where size and times say that nothing changed.
    pub checksum: bool,
    /// Ask only what would move; change nothing.
    pub dry_run: bool,
    /// Give up reconnecting after this many seconds; `None` takes the configured value.
    pub retry_s: Option<u64>,
    /// The transport for content.
    pub transport: TransportChoice,
    /// Whether content is made smaller on its way; `None` takes the configured value.
    pub compress: Option<Compress>,
    /// The most that is sent, headers and what is sent again included; `None` for no limit but the
    /// link's.
    pub limit: Option<Rate>,
    /// The most that the transfer may cost, all its sessions together, resumed ones too: what a push
    /// sends, or a pull receives, by the price of the link. `None` for no limit but that of budgets.
    pub max_cost: Option<Money>,
    /// When it has to be there, in seconds since 1970: what cannot is refused at once, and of several
    /// links the cheapest is taken that can. Of a pull, what is counted is what is not here with the same
    /// size and time.
    pub deadline: Option<i64>,
    /// The link to take; `None` takes the cheapest one that is open and has an address of the node.
    pub link: Option<String>,
    /// How soon it is needed: what of the link and the processors it leaves to other transfers of
    /// both nodes, and they to it.
    pub priority: Priority,
    /// Push all or nothing: an object that cannot be moved ends the transfer. Without it such
    /// objects are left out and listed in [`Outcome::failed`].
    pub whole: bool,
    /// What a push brings is one of several parts of the snapshot that is the directory around the target:
    /// nobody sees it before all are there, each under its own name. Parts are all or nothing.
    pub parts: Option<Parts>,
    /// An earlier version of the one source of a push, which the node may have beside the target under the
    /// same name: where both have it, content goes as differences to it, if it is encoded at all. `None`
    /// takes the checkpoint of the step before, if it lies beside the source.
    pub basis: Option<PathBuf>,
    /// After a push: which older checkpoints beside the pushed one, or the one that it is a part of, are
    /// kept. `None` removes none.
    pub keep: Option<Keep>,
}

/// How a transfer ended, and its numbers.
///
/// `bytes_total = bytes_sent + bytes_deduplicated + bytes_resumed`, exactly, for what was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The transfer, the same at both ends and across resumes.
    pub transfer_id: String,
    /// Root digest of the published snapshot.
    pub root: String,
    /// Files in it.
    pub files: u64,
    /// Their content in bytes.
    pub bytes_total: u64,
    /// Content that crossed between the nodes, before compression.
    pub bytes_sent: u64,
    /// Content that the receiver had already.
    pub bytes_deduplicated: u64,
    /// Content that an earlier run had made durable.
    pub bytes_resumed: u64,
    /// UDP payload bytes, both directions.
    pub bytes_wire: u64,
    /// Content that arrived and did not count.
    pub bytes_discarded: u64,
    /// Wall time in seconds.
    pub elapsed_s: f64,
    /// `rdma`, `quic` or `memory`.
    pub transport: String,
    /// Every chunk and the root were verified.
    pub verified: bool,
    /// Objects that failed alone: path (escaped) and why.
    pub failed: Vec<(String, String)>,
    /// How many objects failed alone; the list above is capped.
    pub failed_total: u64,
    /// Entries that were left out: path (escaped) and why.
    pub skipped: Vec<(String, String)>,
    /// How many entries were left out; the list above is capped.
    pub skipped_total: u64,
    /// Names (escaped) of older checkpoints that were removed at the node, as
    /// [`TransferOptions::keep`] asks.
    pub removed: Vec<String>,
    /// Names (escaped) of those that were to be removed and stay, and why: in use, or refused there.
    pub kept: Vec<(String, String)>,
    /// Between sites: why there is no receipt that both ends signed; `None` where there is one.
    pub unsigned: Option<String>,
}

/// The newest complete checkpoint of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where it is.
    pub remote: Remote,
    /// Its step: the last decimal number of its name, up to the name's first dot.
    pub step: Option<u64>,
    /// Root digest.
    pub root: String,
    /// Files in it.
    pub files: u64,
    /// Their content in bytes.
    pub bytes: u64,
}

/// What a transfer would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Files in the sources.
    pub files: u64,
    /// Files that would move at least partly.
    pub files_to_move: u64,
    /// Content in bytes.
    pub bytes_total: u64,
    /// Content that would cross between the nodes.
    pub bytes_to_send: u64,
    /// Content that the receiver has.
    pub bytes_deduplicated: u64,
    /// Content that an interrupted run has made durable.
    pub bytes_resumed: u64,
    /// Content as it would be sent, made smaller where it would be; an estimate from samples.
    pub bytes_encoded: u64,
    /// Bytes of IP packets that this node would send, all of them.
    pub bytes_wire: u64,
    /// Estimated seconds over the link that a push takes; `None` if nothing is known of its rate.
    pub estimate_s: Option<f64>,
    /// Where the estimate comes from, in words.
    pub estimate_basis: String,
    /// Free bytes at the receiver.
    pub free_bytes: u64,
    /// The transport that content would take: `rdma` or `quic`.
    pub transport: String,
    /// Why that one, in words.
    pub transport_reason: String,
    /// The class of what would move.
    pub class: String,
    /// Why it may move, in the policy's words; a plan of what may not is an error.
    pub decision: String,
    /// The links between the sites of both nodes, or `internet` where none is configured; empty
    /// inside a site.
    pub links: Vec<LinkPlan>,
}

/// What a transfer would take over one link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// The link.
    pub name: String,
    /// See [`Plan::bytes_encoded`].
    pub bytes_encoded: u64,
    /// See [`Plan::bytes_wire`].
    pub bytes_wire: u64,
    /// Its rate in bits per second, if anything is known of it.
    pub rate_bps: Option<u64>,
    /// How that is known, in words.
    pub rate_basis: String,
    /// Seconds that the transfer takes while the link is open.
    pub estimate_s: Option<f64>,
    /// When it would be done, in seconds since 1970.
    pub done_s: Option<i64>,
    /// When the link may be used, UTC.
    pub hours: Option<String>,
    /// What its provider bills: `volume`, `flat` or `p95`.
    pub billing: Option<String>,
    /// What the bytes on the wire cost; `None` if no price is known.
    pub price: Option<Money>,
    /// What the price is in.
    pub currency: Currency,
    /// It has an address of the node, so that a push can be made to take it.
    pub selectable: bool,
    /// A push takes it, if nothing else is asked for.
    pub taken: bool,
}

/// One line of `ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Name, escaped.
    pub name: String,
    /// `file`, `dir`, `symlink` or `other`.
    pub kind: String,
    /// Content length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time, seconds since 1970.
    pub mtime_s: i64,
    /// Root or object digest if a published manifest covers the entry.
    pub digest: Option<String>,
}

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Root digest of the manifest checked against.
    pub root: String,
    /// Files checked.
    pub files: u64,
    /// Content read in bytes.
    pub bytes: u64,
    /// What differs: path (escaped) and how.
    pub bad: Vec<(String, String)>,
    /// How many differ; the list above is capped.
    pub bad_total: u64,
    /// Wall time in seconds.
    pub elapsed_s: f64,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but slower or riskier than it could.
    Warn,
    /// Does not work.
    Fail,
}

/// One line of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `clock`, `udp-buffers`, `mtu`, ...
    pub check: String,
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub finding: String,
    /// What to do about it; empty if nothing.
    pub fix: String,
}

impl From<FileTime> for f64 {
    fn from(time: FileTime) -> Self {
        time.secs as Self + Self::from(time.nanos) / 1e9
    }
}
