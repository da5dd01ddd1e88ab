//! All transfers of one node, running and recent, and their text for Prometheus.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Counter, Snapshot, TransferMeter};

/// Ended transfers that a node remembers.
const RECENT_MAX: usize = 64;

/// What `status` tells of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Version of its program.
    pub version: String,
    /// Milliseconds since it began to serve.
    pub uptime_ms: u64,
    /// Transfers under way.
    pub running: Vec<Snapshot>,
    /// Transfers that ended, newest first, with how they ended in words.
    pub recent: Vec<(Snapshot, String)>,
    /// Chunks that the index knows.
    pub index_chunks: u64,
    /// Leases of the slab that are out, of how many.
    pub leases_out: (u64, u64),
    /// Free bytes on the root's file system.
    pub disk_free_bytes: u64,
}

/// The transfers of one node.
#[derive(Default)]
pub struct Registry {
    running: Mutex<Vec<Arc<TransferMeter>>>,
    recent: Mutex<VecDeque<(Snapshot, String)>>,
    /// Transfers that ended well.
    pub done: Counter,
    /// Transfers that failed or were refused.
    pub failed: Counter,
    /// Content bytes of ended transfers that crossed between nodes.
    pub bytes_sent: Counter,
    /// Content bytes of ended transfers that were there already.
    pub bytes_deduplicated: Counter,
    /// Content bytes of ended transfers that an earlier run had made durable.
    pub bytes_resumed: Counter,
    /// UDP payload of ended transfers.
    pub bytes_wire: Counter,
    /// Content bytes of ended transfers that did not count.
    pub bytes_discarded: Counter,
}

impl Registry {
    /// Adds a running transfer.
    pub fn begin(&self, meter: &Arc<TransferMeter>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(meter));
    }

    /// Moves a transfer to the recent ones.
    pub fn end(&self, meter: &Arc<TransferMeter>, ok: bool, how: &str) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| !Arc::ptr_eq(other, meter));
        let last = meter.snapshot();
        if ok {
            self.done.add(1);
        } else {
            self.failed.add(1);
        }
        self.bytes_sent.add(last.bytes_sent);
        self.bytes_deduplicated.add(last.bytes_deduplicated);
        self.bytes_resumed.add(last.bytes_resumed);
        self.bytes_wire.add(last.bytes_wire);
        self.bytes_discarded.add(last.bytes_discarded);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front((last, how.to_owned()));
        recent.truncate(RECENT_MAX);
    }

    /// Snapshots of the running transfers.
    pub fn running(&self) -> Vec<Snapshot> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|meter| meter.snapshot()).collect()
    }

    /// Ended transfers, newest first, and how each ended.
    pub fn recent(&self) -> Vec<(Snapshot, String)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn prometheus(&self, leases_out: u64, leases: u64, index_chunks: u64) -> String {
        let running = self.running();
        let live = |pick: fn(&Snapshot) -> u64| running.iter().map(pick).sum::<u64>();
        let rows: [(&str, &str, &str, u64); 11] = [
            ("portway_transfers_running", "gauge", "Transfers under way", running.len() as u64),
            (
                "portway_transfers_done_total",
                "counter",
                "Transfers that ended well",
                self.done.value(),
            ),
            (
                "portway_transfers_failed_total",
                "counter",
                "Transfers that failed",
                self.failed.value(),
            ),
            (
                "portway_content_sent_bytes_total",
                "counter",
                "Content that crossed between nodes",
                self.bytes_sent.value() + live(|s| s.bytes_sent),
            ),
            (
                "portway_content_deduplicated_bytes_total",
                "counter",
                "Content that the receiver had",
                self.bytes_deduplicated.value() + live(|s| s.bytes_deduplicated),
            ),
            (
                "portway_content_resumed_bytes_total",
                "counter",
                "Content durable from an earlier run",
                self.bytes_resumed.value() + live(|s| s.bytes_resumed),
            ),
            (
                "portway_content_discarded_bytes_total",
                "counter",
                "Content that arrived and did not count",
                self.bytes_discarded.value() + live(|s| s.bytes_discarded),
            ),
            (
                "portway_wire_bytes_total",
                "counter",
                "UDP payload, both directions",
                self.bytes_wire.value() + live(|s| s.bytes_wire),
            ),
            ("portway_slab_leases_out", "gauge", "Leases in use", leases_out),
            ("portway_slab_leases", "gauge", "Leases of the slab", leases),
            ("portway_index_chunks", "gauge", "Chunks that the index knows", index_chunks),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in rows {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}
