//! All transfers of one node, running and recent, and their text for Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Counter, RailStatus, Snapshot, TransferMeter, Work};

/// Ended transfers that a node remembers.
const RECENT_MAX: usize = 64;
/// Rails that one answer to `status` tells of: an answer has to fit a frame.
const RAILS_TOLD_MAX: usize = 256;
/// Transfers of which one answer tells where their time goes, the running and the newest ones.
const WORK_TOLD_MAX: usize = 16;
/// Rails whose ended transfers are added up; further ones are not counted.
const RAILS_COUNTED_MAX: usize = 1024;

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
    /// The last second of the node's certificate, since 1970; 0 if it does not say.
    #[serde(default)]
    pub valid_until_s: u64,
    /// The version of its roles; 0 where nothing was ever granted.
    #[serde(default)]
    pub roles: u64,
    /// What is wrong with its certificate or its roles, in words.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl NodeStatus {
    /// Leaves details out beyond a bound, those of the oldest transfers first: an answer has to fit
    /// a frame.
    pub fn bound(&mut self) {
        let mut left = RAILS_TOLD_MAX;
        let ended = self.recent.iter_mut().map(|(snapshot, _)| snapshot);
        for (place, snapshot) in self.running.iter_mut().chain(ended).enumerate() {
            snapshot.rails.truncate(left);
            left -= snapshot.rails.len();
            if place >= WORK_TOLD_MAX {
                snapshot.work = Work::default();
            }
        }
    }
}

/// Bytes, messages and errors of a rail, of all transfers together.
#[derive(Default, Clone, Copy)]
struct RailTotals([u64; 3]);

impl RailTotals {
    fn add(&mut self, rail: &RailStatus) {
        let numbers = [rail.bytes, rail.messages, rail.errors];
        for (total, number) in self.0.iter_mut().zip(numbers) {
            *total += number;
        }
    }
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
    /// What the rails of ended transfers carried, by name.
    rails: Mutex<BTreeMap<String, RailTotals>>,
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
        add_up(&mut self.rails.lock().unwrap_or_else(PoisonError::into_inner), &last.rails);
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
        self.prometheus_rails(&running, &mut text);
        text
    }

    /// The counters of rails, one line for each; nothing where no rail was used.
    fn prometheus_rails(&self, running: &[Snapshot], text: &mut String) {
        let mut totals = self.rails.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for snapshot in running {
            add_up(&mut totals, &snapshot.rails);
        }
        if totals.is_empty() {
            return;
        }
        let rows = [
            ("portway_rail_bytes_total", "Content that a rail carried, both directions"),
            ("portway_rail_messages_total", "Data messages that a rail carried"),
            ("portway_rail_errors_total", "Times that a rail failed"),
        ];
        for (i, (name, help)) in rows.into_iter().enumerate() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (rail, RailTotals(numbers)) in &totals {
                let _ = writeln!(text, "{name}{{rail=\"{}\"}} {}", label(rail), numbers[i]);
            }
        }
    }
}

fn add_up(totals: &mut BTreeMap<String, RailTotals>, rails: &[RailStatus]) {
    for rail in rails {
        if let Some(total) = totals.get_mut(&rail.name) {
            total.add(rail);
        } else if totals.len() < RAILS_COUNTED_MAX {
            totals.entry(rail.name.clone()).or_default().add(rail);
        }
    }
}

/// A label's value as the text format wants it.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RailState;

    fn meter(rails: &[(&str, u64)]) -> Arc<TransferMeter> {
        let meter = TransferMeter::new("push", "peer", "path");
        let rail = |(name, bytes): &(&str, u64)| RailStatus {
            name: (*name).to_owned(),
            state: RailState::Up,
            bytes: *bytes,
            messages: 2,
            errors: 0,
            rate_mbps: 0,
            why: String::new(),
        };
        meter.set_rails(rails.iter().map(rail).collect());
        meter
    }

    #[test]
    fn bytes_of_a_rail_add_up_over_running_and_ended_transfers() {
        let registry = Registry::default();
        assert!(!registry.prometheus(0, 0, 0).contains("rail"));
        let (ended, running) =
            (meter(&[("a/1 - b/1", 5), ("q\"\\", 1)]), meter(&[("a/1 - b/1", 7)]));
        registry.begin(&ended);
        registry.begin(&running);
        let both = registry.prometheus(0, 0, 0);
        assert!(both.contains("\nportway_rail_bytes_total{rail=\"a/1 - b/1\"} 12\n"), "{both}");
        assert!(both.contains("\nportway_rail_messages_total{rail=\"a/1 - b/1\"} 4\n"), "{both}");
        registry.end(&ended, true, "done");
        assert_eq!(registry.prometheus(0, 0, 0).lines().filter(|l| l.contains("rail")).count(), 12);
        assert!(registry.prometheus(0, 0, 0).contains("{rail=\"a/1 - b/1\"} 12\n"));
        assert!(both.contains("{rail=\"q\\\"\\\\\"} 1\n"), "{both}");
    }

    #[test]
    fn an_answer_to_status_tells_of_a_bounded_number_of_rails() {
        let registry = Registry::default();
        let names: Vec<String> = (0..16).map(|n| format!("{n:0>64}/1 - {n:0>64}/1")).collect();
        let rails: Vec<(&str, u64)> = names.iter().map(|name| (&**name, u64::MAX >> 20)).collect();
        for _ in 0..RECENT_MAX {
            let meter = meter(&rails);
            registry.begin(&meter);
            registry.end(&meter, true, "done");
        }
        let mut status = NodeStatus {
            node: "n".to_owned(),
            version: "1".to_owned(),
            uptime_ms: 1,
            running: vec![meter(&rails).snapshot()],
            recent: registry.recent(),
            index_chunks: 0,
            leases_out: (0, 0),
            disk_free_bytes: 0,
            valid_until_s: 0,
            roles: 0,
            problems: Vec::new(),
        };
        status.bound();
        assert_eq!(status.running[0].rails.len(), 16);
        let told: usize = status.recent.iter().map(|(one, _)| one.rails.len()).sum();
        assert_eq!(told, RAILS_TOLD_MAX - 16);
        assert_eq!(status.recent[0].0.rails.len(), 16);
        let text = serde_json::to_vec(&status).expect("JSON");
        assert!(text.len() + 64 <= crate::base::limits::FRAME_BYTES_MAX, "{}", text.len());
        // A node from before RDMA says nothing of rails.
        let mut old = serde_json::to_value(&status.running[0]).expect("JSON");
        old.as_object_mut().expect("an object").remove("rails");
        let old: Snapshot = serde_json::from_value(old).expect("understood");
        assert!(old.rails.is_empty());
    }
}
