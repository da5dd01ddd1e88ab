//! Tests of the audit log, over trees in memory and on disk.

mod codec;
mod crash;
mod export;
mod extents;
mod extract;
mod log;
mod merkle;
mod reconcile;
mod tamper;

use std::sync::Arc;

use super::fuzz::{LOG, TIME, attestation, crossing, decision, key, left, principal};
use super::*;
use crate::base::{FileTime, RelPath};
use crate::policy::{Action, PolicyVersion, Principal, Reason, Transport, Verdict};
use crate::storage::{MemoryTree, Tree};

fn dir() -> RelPath {
    RelPath::from_typed(b"audit").unwrap()
}

fn folder(tree: &MemoryTree) -> LogFolder {
    LogFolder::on(Arc::new(tree.clone()), dir())
}

fn setup(seed: u8) -> Setup {
    let node = principal("private", "onprem", "gpu-1");
    Setup { key: key(seed), node, attestation: attestation(), new_log: LOG }
}

/// Opens the log of a tree, with small segments.
fn open(tree: &MemoryTree) -> Result<AuditLog, LogError> {
    AuditLog::open_with(folder(tree), setup(1), TIME, 1500)
}

fn progress(transfer: u128) -> Record {
    Record::Progress(Progress { crossing: crossing(transfer), bytes: 300, left: left() })
}

/// Record number `n` of a test.
fn nth(n: u64) -> Record {
    match n % 3 {
        0 => {
            decision(n.into(), if n.is_multiple_of(2) { Verdict::Granted } else { Verdict::Denied })
        }
        1 => Record::Start(crossing(n.into())),
        _ => progress(n.into()),
    }
}

fn later(secs: i64) -> FileTime {
    FileTime { secs: TIME.secs + secs, ..TIME }
}

/// A tree with a log of `count` records and the key record before them, in several segments.
fn written(count: u64) -> MemoryTree {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    for n in 0..count {
        assert_eq!(log.append(later(n.cast_signed()), nth(n)).unwrap().seq, n + 1);
    }
    tree
}

fn files(tree: &MemoryTree) -> Vec<(RelPath, Vec<u8>)> {
    let mut names = tree.list(&dir()).unwrap();
    names.sort_by(|one, other| one.0.cmp(&other.0));
    let read = |name: &[u8]| {
        let path = dir().join(name).unwrap();
        let file = tree.open(&path).unwrap();
        let mut bytes = vec![0; file.meta().unwrap().len as usize];
        file.read_at(&mut bytes, 0).unwrap();
        (path, bytes)
    };
    names.iter().map(|(name, _)| read(name)).collect()
}

fn tree_of(files: &[(RelPath, Vec<u8>)]) -> MemoryTree {
    let tree = MemoryTree::new(1);
    tree.mkdir(&dir()).unwrap();
    for (path, bytes) in files {
        tree.create(path).unwrap().write_at(bytes, 0).unwrap();
    }
    tree.sync_all().unwrap();
    tree
}

fn check(tree: &MemoryTree) -> Result<Report, VerifyError> {
    verify(&folder(tree), &Known::default())
}

fn all(tree: &MemoryTree) -> Vec<Entry> {
    Entries::open(&folder(tree)).unwrap().collect::<Result<_, _>>().unwrap()
}
