//! Counters of transfers, and the one snapshot struct behind progress, `status`, JSON and metrics.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::TransferId;

/// What a transfer does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// Dialling, or waiting to dial again.
    Connecting,
    /// Another transfer holds the target.
    Queued,
    /// Objects are scanned and chunks move.
    Moving,
    /// Everything is here and becomes visible.
    Publishing,
    /// Ended, well or badly.
    Ended,
}

impl Phase {
    const ALL: [Self; 5] =
        [Self::Connecting, Self::Queued, Self::Moving, Self::Publishing, Self::Ended];
}

/// A transfer seen at one moment. Rates and ETA are for a reader to derive from two of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The transfer, the same at both ends and across resumes.
    pub transfer_id: String,
    /// `push` or `pull`, seen from the node that asked.
    pub action: String,
    /// The peer's name.
    pub peer: String,
    /// The target path at the receiving node, escaped.
    pub path: String,
    /// What it does now.
    pub phase: Phase,
    /// What it waits for, in words; empty when it waits for nothing.
    pub waits_for: String,
    /// `rdma`, `quic` or `memory`.
    pub transport: String,
    /// Files known so far, and whether the scan is through.
    pub files_total: u64,
    /// Files that are durable at the receiver.
    pub files_done: u64,
    /// Files that failed alone.
    pub files_failed: u64,
    /// Entries that were skipped with a reason.
    pub skipped: u64,
    /// Content bytes of the files known so far; holes count as content here.
    pub bytes_total: u64,
    /// Whether `files_total` and `bytes_total` are final.
    pub scan_done: bool,
    /// Content bytes that crossed between the nodes, before compression.
    pub bytes_sent: u64,
    /// Content bytes that the receiver had already: under its root, or as a hole.
    pub bytes_deduplicated: u64,
    /// Content bytes that an earlier run of this transfer had made durable.
    pub bytes_resumed: u64,
    /// UDP payload bytes, both directions.
    pub bytes_wire: u64,
    /// Content bytes that arrived and did not count: wrong, twice, or for an object that changed.
    pub bytes_discarded: u64,
    /// Milliseconds since the transfer began at this node.
    pub elapsed_ms: u64,
    /// Times that the transfer reconnected.
    pub reconnects: u64,
    /// Smoothed round trip in microseconds.
    pub rtt_us: u64,
    /// Rails that carry content or did, at most 16; empty without RDMA.
    #[serde(default)]
    pub rails: Vec<RailStatus>,
    /// Where the time goes at this end.
    #[serde(default)]
    pub work: Work,
}

impl Snapshot {
    /// Content bytes that are settled, whichever way.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_sent + self.bytes_deduplicated + self.bytes_resumed
    }
}

macro_rules! meters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters of one transfer; shared by whoever moves and whoever watches.
        #[derive(Default)]
        pub struct TransferMeter {
            $($(#[$doc])* pub $name: Counter,)*
            phase: AtomicU8,
            text: Mutex<Texts>,
            rails: Mutex<Vec<RailStatus>>,
            work: Mutex<Work>,
        }
    };
}

meters! {
    /// See [`Snapshot::files_total`].
    files_total,
    /// See [`Snapshot::files_done`].
    files_done,
    /// See [`Snapshot::files_failed`].
    files_failed,
    /// See [`Snapshot::skipped`].
    skipped,
    /// See [`Snapshot::bytes_total`].
    bytes_total,
    /// One once the scan is through.
    scan_done,
    /// See [`Snapshot::bytes_sent`].
    bytes_sent,
    /// See [`Snapshot::bytes_deduplicated`].
    bytes_deduplicated,
    /// See [`Snapshot::bytes_resumed`].
    bytes_resumed,
    /// See [`Snapshot::bytes_wire`].
    bytes_wire,
    /// See [`Snapshot::bytes_discarded`].
    bytes_discarded,
    /// See [`Snapshot::elapsed_ms`].
    elapsed_ms,
    /// See [`Snapshot::reconnects`].
    reconnects,
    /// See [`Snapshot::rtt_us`].
    rtt_us,
}

#[derive(Default, Clone)]
struct Texts {
    transfer_id: String,
    action: String,
    peer: String,
    path: String,
    transport: String,
    waits_for: String,
}

/// A number that many threads add to and anyone reads.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes `n` away.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// Sets the value.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl TransferMeter {
    /// Counters at zero for a transfer that is known by name only.
    pub fn new(action: &str, peer: &str, path: &str) -> Arc<Self> {
        let meter = Self::default();
        meter.texts(|t| {
            action.clone_into(&mut t.action);
            peer.clone_into(&mut t.peer);
            path.clone_into(&mut t.path);
        });
        Arc::new(meter)
    }

    fn texts<R>(&self, with: impl FnOnce(&mut Texts) -> R) -> R {
        with(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the transfer id once it is known.
    pub fn set_id(&self, id: TransferId) {
        self.texts(|t| t.transfer_id = id.to_string());
    }

    /// Sets the peer's name once it is known.
    pub fn set_peer(&self, peer: &str) {
        self.texts(|t| peer.clone_into(&mut t.peer));
    }

    /// Sets the transport in use.
    pub fn set_transport(&self, name: &str) {
        self.texts(|t| name.clone_into(&mut t.transport));
    }

    /// Says what the transfer does now, and what it waits for (empty: nothing).
    pub fn set_phase(&self, phase: Phase, waits_for: &str) {
        self.phase.store(phase as u8, Relaxed);
        self.texts(|t| waits_for.clone_into(&mut t.waits_for));
    }

    /// Sets how the rails stand.
    pub fn set_rails(&self, rails: Vec<RailStatus>) {
        *self.rails.lock().unwrap_or_else(PoisonError::into_inner) = rails;
    }

    /// How the rails stand.
    pub fn rails(&self) -> Vec<RailStatus> {
        self.rails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets where the time goes.
    pub fn set_work(&self, work: Work) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    /// Where the time goes.
    pub fn work(&self) -> Work {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let texts = self.texts(|t| t.clone());
        Snapshot {
            transfer_id: texts.transfer_id,
            action: texts.action,
            peer: texts.peer,
            path: texts.path,
            phase: Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)],
            waits_for: texts.waits_for,
            transport: texts.transport,
            files_total: self.files_total.value(),
            files_done: self.files_done.value(),
            files_failed: self.files_failed.value(),
            skipped: self.skipped.value(),
            bytes_total: self.bytes_total.value(),
            scan_done: self.scan_done.value() > 0,
            bytes_sent: self.bytes_sent.value(),
            bytes_deduplicated: self.bytes_deduplicated.value(),
            bytes_resumed: self.bytes_resumed.value(),
            bytes_wire: self.bytes_wire.value(),
            bytes_discarded: self.bytes_discarded.value(),
            elapsed_ms: self.elapsed_ms.value(),
            reconnects: self.reconnects.value(),
            rtt_us: self.rtt_us.value(),
            rails: self.rails(),
            work: self.work(),
        }
    }
}

mod rail;
mod registry;
mod work;
pub use rail::{RailState, RailStatus, add_rails};
pub use registry::{NodeStatus, Registry};
pub use work::{HostTime, LinkTime, Stage, StageTime, Stages, Work};
