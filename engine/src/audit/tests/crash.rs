//! A crash or a failure at every step: what was acknowledged is there, and only that.

use super::*;
use crate::storage::memory::{Fault, Op};
use rustix::io::Errno;

const OPS: [Op; 9] = [
    Op::Write,
    Op::Sync,
    Op::SyncDir,
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Meta,
    Op::SetLen,
    Op::Mkdir,
];

/// Appends until something fails; the records that were acknowledged.
fn append(tree: &MemoryTree, from: u64, count: u64) -> Vec<(u64, Record)> {
    let Ok(log) = open(tree) else { return Vec::new() };
    let mut acknowledged = Vec::new();
    for n in from..from + count {
        match log.append(TIME, nth(n)) {
            Ok(appended) => acknowledged.push((appended.seq, nth(n))),
            Err(_) => break,
        }
    }
    acknowledged
}

/// After a crash the log opens, holds everything acknowledged, is whole, and goes on.
fn recover(tree: &MemoryTree, acknowledged: &[(u64, Record)], what: &str) {
    let log = open(tree).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(tree).unwrap_or_else(|error| panic!("{what}: {error}"));
    let entries = all(tree);
    for (seq, record) in acknowledged {
        let found = entries.get(*seq as usize).map(|entry| &entry.record);
        assert_eq!(found, Some(record), "{what}: record {seq} was acknowledged");
    }
    let next = log.append(TIME, nth(0)).unwrap().seq;
    assert_eq!(next, entries.len() as u64, "{what}");
    check(tree).unwrap_or_else(|error| panic!("{what}: {error}"));
}

#[test]
fn a_failure_of_any_call_and_a_power_loss_cost_nothing_that_was_acknowledged() {
    let mut met = 0;
    for op in OPS {
        for after in 0..40 {
            let tree = MemoryTree::new(1);
            tree.inject(Fault { op, after, errno: Errno::IO });
            let mut acknowledged = append(&tree, 0, 6);
            met += u32::from(acknowledged.len() < 6);
            tree.crash(u64::from(after));
            let what = format!("{op:?} {after}");
            recover(&tree, &acknowledged, &what);
            // And a second time, from a log that is not empty, without a power loss.
            tree.inject(Fault { op, after: after / 2, errno: Errno::NOSPC });
            let more = append(&tree, 20, 40);
            if more.len() == 40 {
                // The fault is still to come, and a crash makes it be forgotten.
                tree.crash(2);
            }
            acknowledged.extend(more);
            recover(&tree, &acknowledged, &what);
        }
    }
    assert!(met > 60, "{met} runs met their fault");
}

#[test]
fn a_power_loss_in_the_middle_of_an_append_leaves_the_log_as_it_was_acknowledged() {
    let mut cut = 0;
    for seed in 0..600 {
        let tree = MemoryTree::new(seed);
        let mut acknowledged = append(&tree, 0, seed % 7);
        // The append is cut short before the sync of the records, of the directory, or of the head.
        let log = open(&tree).unwrap();
        let ops = [(Op::Sync, 0), (Op::Sync, 1), (Op::Write, 0), (Op::Write, 1), (Op::SyncDir, 0)];
        let (op, after) = ops[seed as usize % ops.len()];
        let unsynced = after == 1 || op != Op::Sync;
        let before = files(&tree);
        tree.inject(Fault { op, after, errno: Errno::IO });
        if let Ok(appended) = log.append(TIME, nth(5)) {
            acknowledged.push((appended.seq, nth(5)));
        }
        drop(log);
        if !unsynced {
            // The tree's failed sync loses the bytes at once; a crash in the sync loses any part.
            let bytes = files(&tree);
            for (path, old) in &before {
                let new = bytes.iter().find(|(name, _)| name == path).map(|(_, bytes)| bytes);
                let Some(new) = new.filter(|new| new.len() > old.len()) else { continue };
                let file = tree.open_rw(path).unwrap();
                file.write_at(&new[old.len()..], old.len() as u64).unwrap();
            }
        }
        tree.crash(seed);
        let log = open(&tree).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        cut += u32::from(log.recovered().cut_bytes > 0);
        drop(log);
        recover(&tree, &acknowledged, &format!("seed {seed}"));
    }
    assert!(cut > 50, "{cut} runs left something to cut");
}

#[test]
fn what_lies_behind_the_head_is_cut_whatever_it_is_up_to_an_append() {
    for tail in [&b"x"[..], &[0; 5000], &vec![0xff; 1 << 20]] {
        let tree = written(2);
        let (path, bytes) = files(&tree).into_iter().find(|(path, _)| is_segment(path)).unwrap();
        tree.open_rw(&path).unwrap().write_at(tail, bytes.len() as u64).unwrap();
        let added = tail.len() as u64;
        let found = check(&tree);
        assert!(matches!(found, Err(VerifyError::Unacknowledged { bytes }) if bytes == added));
        let log = open(&tree).unwrap();
        assert_eq!(log.recovered().cut_bytes, added);
        assert_eq!(check(&tree).unwrap().records, 3);
    }
    // No append leaves that much.
    let tree = written(2);
    let (path, _) = files(&tree).into_iter().find(|(path, _)| is_segment(path)).unwrap();
    tree.open_rw(&path).unwrap().set_len(8 << 20).unwrap();
    let refused = open(&tree).err().expect("this is no crash");
    assert!(refused.to_string().contains("follow the end"), "{refused}");
}

#[test]
fn a_segment_that_was_begun_and_never_acknowledged_is_begun_again() {
    let tree = written(4);
    let size = check(&tree).unwrap().records;
    let name = |first: u64| dir().join(format!("{first:020}.log").as_bytes()).unwrap();
    tree.create(&name(size)).unwrap().write_at(b"PWAUDIT1 and no more", 0).unwrap();
    assert!(matches!(check(&tree), Err(VerifyError::Unacknowledged { bytes: 20 })));
    let log = open(&tree).unwrap();
    assert_eq!(log.recovered().cut_bytes, 20);
    // Left by another process that died, under a log that is open and about to do the same.
    let mut left = 0;
    for n in 0..20 {
        let last = files(&tree).into_iter().rfind(|(path, _)| is_segment(path)).unwrap();
        if last.1.len() >= 1500 {
            let torn = tree.create(&name(log.checkpoint().size)).unwrap();
            torn.write_at(b"torn", 0).unwrap();
            left += 1;
        }
        log.append(TIME, nth(n)).unwrap();
    }
    assert!(left > 2);
    check(&tree).unwrap();
    // The name of any other record is no crash.
    let tree = written(4);
    tree.create(&name(size + 1)).unwrap();
    let refused = open(&tree).err().expect("this is no crash");
    assert!(refused.to_string().contains("does not belong"), "{refused}");
}

#[test]
fn a_torn_tree_beside_the_head_is_found_again_from_the_records() {
    for slot in [0, 4096] {
        let tree = written(11);
        let head = dir().join(b"head").unwrap();
        tree.open_rw(&head).unwrap().write_at(&[0; 64], slot + 512).unwrap();
        assert!(matches!(check(&tree), Err(VerifyError::Torn)));
        let log = open(&tree).unwrap();
        assert_eq!(check(&tree).unwrap().records, 12);
        log.append(TIME, nth(0)).unwrap();
        assert_eq!(check(&tree).unwrap().records, 13);
    }
}

fn is_segment(path: &RelPath) -> bool {
    path.name().is_some_and(|name| name.ends_with(b".log"))
}

#[test]
fn a_head_that_was_never_made_whole_does_not_keep_a_log_from_beginning() {
    for garbage in [0, 1, 100, 4096, 100_000] {
        let tree = MemoryTree::new(1);
        tree.mkdir(&dir()).unwrap();
        let head = tree.create(&dir().join(b"head").unwrap()).unwrap();
        head.write_at(&vec![7; garbage], 0).unwrap();
        let log = open(&tree).unwrap_or_else(|error| panic!("{garbage}: {error}"));
        log.append(TIME, nth(0)).unwrap();
        drop(log);
        assert_eq!(check(&tree).unwrap().records, 2, "{garbage}");
        assert_eq!(open(&tree).unwrap().recovered(), Recovered::default());
    }
}
