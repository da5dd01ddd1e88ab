//! What `portway-bench local` measured on a node, as limits of the model.

use anyhow::{Result, bail};

use super::path::{Engine, Stage};
use super::unit::ByteRate;
use super::workload::NodeLimits;
use crate::result::{Document, Kind, Row, Unit};

/// Stages of `local` that every byte passes at an end, besides its disk.
const STAGES: [&str; 3] = ["cut", "digest", "aead"];

/// Takes limits from a result: disks where the workload says nothing, and the slowest stage.
///
/// # Errors
/// If it is not of `local`, or has no stage that the model knows.
pub(crate) fn apply(document: &Document, node: &mut NodeLimits, engine: &mut Engine) -> Result<()> {
    if document.kind != Kind::Local {
        bail!("the model takes results of `portway-bench local`, measured on a node");
    }
    // The engine goes through the page cache unless told otherwise, with as many threads as help.
    let best = |stage: &str, case: &str| {
        let of = |row: &&Row| {
            row.stage == stage && row.case.starts_with(case) && row.unit == Unit::BytesPerSecond
        };
        document.results.iter().filter(of).map(|row| row.median).max_by(f64::total_cmp)
    };
    let (read, write) = (best("read", "buffered"), best("write", "buffered"));
    node.disk_read = node.disk_read.or(read.map(ByteRate));
    node.disk_write = node.disk_write.or(write.map(ByteRate));
    let stages = STAGES
        .iter()
        .filter_map(|&name| best(name, "").map(|rate| Stage { name, rate: ByteRate(rate) }));
    let slowest = stages.min_by(|a, b| a.rate.0.total_cmp(&b.rate.0));
    if slowest.is_none() && read.is_none() && write.is_none() {
        bail!("it has none of the stages {}, read, write", STAGES.join(", "));
    }
    engine.stage = slowest;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: Kind, rows: &[(&str, &str, f64)]) -> Document {
        let row = |(stage, case, rate): &(&str, &str, f64)| {
            Row::of_runs(stage, case, Unit::BytesPerSecond, vec![*rate])
        };
        Document::new(kind, 0, Vec::new(), rows.iter().map(row).collect())
    }

    #[test]
    fn the_slowest_stage_and_the_disks_limit_a_node() {
        let rows = [
            ("copy", "memory, 1 thread", 1e6),
            ("digest", "BLAKE3 of 1 MiB, 1 thread", 4e9),
            ("digest", "BLAKE3 of 1 MiB, 2 threads", 7e9),
            ("cut", "content, 2 threads", 5e9),
            ("read", "O_DIRECT, 1 thread", 9e9),
            ("read", "buffered, 1 thread", 3e9),
            ("write", "buffered, synced, 1 thread", 1e9),
        ];
        let mut node = NodeLimits { disk_write: Some(ByteRate(2e9)), ..NodeLimits::default() };
        let mut engine = Engine::default();
        apply(&document(Kind::Local, &rows), &mut node, &mut engine).unwrap();
        assert_eq!(node.disk_read, Some(ByteRate(3e9)));
        assert_eq!(node.disk_write, Some(ByteRate(2e9)), "the workload's own number counts");
        assert_eq!(engine.stage, Some(Stage { name: "cut", rate: ByteRate(5e9) }));
    }

    #[test]
    fn other_results_are_refused() {
        let refused = |document: &Document| {
            let (mut node, mut engine) = (NodeLimits::default(), Engine::default());
            apply(document, &mut node, &mut engine).unwrap_err().to_string()
        };
        let quic = refused(&document(Kind::Quic, &[("link", "", 1e9)]));
        assert!(quic.starts_with("the model takes results of `portway-bench local`"));
        let none = refused(&document(Kind::Local, &[("copy", "memory", 1e9)]));
        assert_eq!(none, "it has none of the stages cut, digest, aead, read, write");
    }
}
