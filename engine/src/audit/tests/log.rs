//! Appending: order, permits, seals, segments, many threads, several processes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::audit::fuzz::{self, records};
use crate::identity::{AuditKey, Identity};
use crate::storage::memory::{Fault, Op};
use rustix::io::Errno;

#[test]
fn what_is_appended_is_read_back_in_order() {
    let tree = written(40);
    let entries = all(&tree);
    assert_eq!(entries.len(), 41);
    assert!(matches!(&entries[0].record, Record::Key(key) if key.log == LOG));
    for (n, entry) in entries.iter().enumerate().skip(1) {
        let n = n as u64;
        assert_eq!(
            (entry.seq, entry.at, &entry.record),
            (n, later(n.cast_signed() - 1), &nth(n - 1))
        );
    }
    assert!(tree.list(&dir()).unwrap().len() > 4, "there are several segments");
    let report = check(&tree).unwrap();
    assert_eq!((report.records, report.seals, report.log), (41, 0, LOG));
    assert_eq!(report.key, key(1).public());
}

#[test]
fn a_log_goes_on_where_it_stood() {
    let tree = MemoryTree::new(1);
    for n in 0..20 {
        let log = open(&tree).unwrap();
        assert_eq!(log.recovered(), Recovered::default());
        assert_eq!(log.append(later(n), nth(n as u64)).unwrap().seq, n as u64 + 1);
        assert_eq!(log.checkpoint().size, n as u64 + 2);
    }
    assert_eq!(check(&tree).unwrap().records, 21);
}

#[test]
fn only_a_granted_push_or_pull_comes_with_a_permit() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    let permit = |record| log.append(TIME, record).unwrap().permit;
    for record in records().into_iter().skip(2) {
        let granted = matches!(record, Record::Decision(_));
        assert_eq!(permit(record).is_some(), granted);
    }
    assert!(permit(decision(7, Verdict::Denied)).is_none());
    for action in Action::ALL {
        let Record::Decision(granted) = decision(7, Verdict::Granted) else { panic!() };
        let permit = permit(Record::Decision(Decision { action: *action, ..granted }));
        assert_eq!(permit.is_some(), matches!(action, Action::Push | Action::Pull), "{action}");
    }
    let appended = log.append(TIME, decision(9, Verdict::Granted)).unwrap();
    let permit = appended.permit.unwrap();
    assert_eq!((permit.seq(), permit.log()), (appended.seq, LOG));
    assert_eq!((permit.action(), permit.crossing()), (Action::Push, &crossing(9)));
}

#[test]
fn a_permit_covers_what_was_decided_and_nothing_else() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    let permit = |crossing: &Crossing| {
        let Record::Decision(granted) = decision(7, Verdict::Granted) else { panic!() };
        let granted = Decision { crossing: crossing.clone(), ..granted };
        log.append(TIME, Record::Decision(granted)).unwrap().permit.unwrap()
    };
    let (one, two) = (Some(crate::base::Digest::of(b"1")), Some(crate::base::Digest::of(b"2")));
    let crossing = crossing(7);
    let with = |root| Crossing { root, ..crossing.clone() };
    let before = permit(&crossing);
    assert!(before.covers(&crossing) && before.covers(&with(one)));
    let after = permit(&with(one));
    assert!(after.covers(&with(one)) && after.covers(&with(None)) && !after.covers(&with(two)));
    let others = [
        Crossing { transfer: crate::base::TransferId(8), ..crossing.clone() },
        Crossing { class: fuzz::class("public"), ..crossing.clone() },
        Crossing { to: crossing.from.clone(), ..crossing.clone() },
        Crossing { transport: Transport::Rdma, ..crossing.clone() },
        Crossing { policy: PolicyVersion { number: 13, ..crossing.policy }, ..crossing.clone() },
        Crossing { path: RelPath::root(), ..crossing.clone() },
    ];
    assert!(others.iter().all(|other| !before.covers(other)));
}

/// A permit that could be copied would be good for two transfers. This does not compile if it can.
#[test]
fn a_permit_cannot_be_cloned() {
    trait Unless<T> {
        fn holds() {}
    }
    impl<T> Unless<()> for T {}
    struct Cloneable;
    impl<T: Clone> Unless<Cloneable> for T {}
    struct Made;
    impl<T: Default> Unless<Made> for T {}
    <Permit as Unless<_>>::holds();
}

#[test]
fn keys_and_seals_are_the_logs_own() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    for record in &records()[..2] {
        let refused = log.append(TIME, record.clone());
        assert!(matches!(refused, Err(LogError::Reserved)));
    }
    assert_eq!(log.seal(TIME).unwrap(), 1);
    assert_eq!(check(&tree).unwrap().seals, 1);
}

#[test]
fn a_record_over_a_limit_is_refused_and_stops_nothing() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    let mut left = ExtentSet::default();
    for n in 0..=EXTENTS_PER_RECORD_MAX as u64 {
        assert!(left.insert(&dir(), crate::base::Extent { offset: n * 2, len: 1 }));
    }
    let record = |left| Record::Progress(Progress { crossing: crossing(7), bytes: 1, left });
    let refused = log.append(TIME, record(left.clone())).unwrap_err();
    assert!(matches!(refused, LogError::Record(_)), "{refused}");
    assert!(refused.hint().contains("split"));
    for part in left.split() {
        log.append(TIME, record(part)).unwrap();
    }
    // A time that is none is written as one that is.
    log.append(FileTime { secs: i64::MIN, nanos: u32::MAX }, nth(0)).unwrap();
    assert_eq!(check(&tree).unwrap().records, 4);
}

#[test]
fn a_key_with_more_certificates_than_a_record_takes_begins_no_log() {
    let tree = MemoryTree::new(1);
    for chain in [vec![vec![1]; CERTS_MAX + 1], vec![vec![1; CERT_BYTES_MAX + 1]]] {
        let attestation = crate::identity::Attestation { chain, ..attestation() };
        let refused = AuditLog::open(folder(&tree), Setup { attestation, ..setup(1) }, TIME);
        assert!(matches!(refused.err(), Some(LogError::Record(_))));
    }
    let most = crate::identity::Attestation {
        chain: vec![vec![1; CERT_BYTES_MAX]; CERTS_MAX],
        ..attestation()
    };
    AuditLog::open(folder(&tree), Setup { attestation: most, ..setup(1) }, TIME).unwrap();
    check(&tree).unwrap();
}

#[test]
fn a_seal_comes_with_each_thousand_records() {
    let tree = MemoryTree::new(1);
    let log = AuditLog::open(folder(&tree), setup(1), TIME).unwrap();
    for n in 0..2100 {
        log.append(later(n), decision(n as u128, Verdict::Denied)).unwrap();
    }
    let entries = all(&tree);
    let seals: Vec<u64> = entries
        .iter()
        .filter(|entry| matches!(entry.record, Record::Seal(_)))
        .map(|entry| entry.seq)
        .collect();
    assert_eq!(seals, [1024, 2048]);
    assert_eq!(check(&tree).unwrap().seals, 2);
    let seals = entries.iter().filter_map(|entry| match &entry.record {
        Record::Seal(seal) => Some(*seal),
        _ => None,
    });
    let head = log.checkpoint();
    for seal in seals {
        let proof = prove_consistency(&folder(&tree), seal.size, head.size).unwrap();
        assert!(seal.begins(&head, &proof));
        assert!(!head.begins(&seal, &proof));
    }
    let (leaf, proof) = prove_inclusion(&folder(&tree), 1500, head.size).unwrap();
    assert!(inclusion_holds(leaf, 1500, head.size, &proof, head.root));
    assert!(prove_inclusion(&folder(&tree), 1500, head.size + 1).is_err());
    assert!(prove_consistency(&folder(&tree), 0, head.size).is_err());
}

#[test]
fn the_first_failure_stops_the_log_for_good() {
    for op in [Op::Write, Op::Sync] {
        for after in [0, 1] {
            let tree = written(3);
            let log = open(&tree).unwrap();
            tree.inject(Fault { op, after, errno: Errno::NOSPC });
            let failed = log.append(TIME, decision(7, Verdict::Granted)).unwrap_err();
            assert!(matches!(failed, LogError::Stopped(_)), "{op:?} {after}");
            assert!(failed.hint().contains("free space"), "{}", failed.hint());
            let before = files(&tree);
            for _ in 0..3 {
                let again = log.append(TIME, decision(8, Verdict::Granted)).unwrap_err();
                assert!(matches!(again, LogError::Stopped(_)));
                assert!(again.to_string().contains("stopped"), "{again}");
            }
            assert!(log.stopped().is_some() && log.seal(TIME).is_err());
            assert_eq!(files(&tree), before, "a stopped log touches nothing");
            // After a start it goes on; only if the head was written all but for the error, the
            // record is there, though nobody got a permit for it.
            let log = open(&tree).unwrap();
            let there = log.append(TIME, nth(0)).unwrap().seq - 4;
            assert!(there == 0 || (there == 1 && after == 1), "{op:?} {after}");
            tree.crash(1);
            open(&tree).unwrap();
            assert_eq!(check(&tree).unwrap().records, 5 + there, "{op:?} {after}");
        }
    }
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    tree.set_capacity(Some(24 << 10));
    let mut acknowledged = Vec::new();
    let failed = loop {
        match log.append(TIME, nth(acknowledged.len() as u64)) {
            Ok(appended) => acknowledged.push(appended.seq),
            Err(error) => break error,
        }
    };
    assert!(acknowledged.len() > 10);
    assert!(failed.hint().contains("free space"), "{failed}");
    tree.crash(3);
    tree.set_capacity(None);
    let log = open(&tree).unwrap();
    let entries = all(&tree);
    for (n, seq) in acknowledged.iter().enumerate() {
        assert_eq!(entries[*seq as usize].record, nth(n as u64));
    }
    log.append(TIME, nth(0)).unwrap();
    check(&tree).unwrap();
}

#[test]
fn records_of_many_threads_share_syncs_and_are_all_there() {
    const THREADS: u64 = 8;
    const EACH: u64 = 50;
    let home = tempfile::tempdir().unwrap();
    let folder = LogFolder::open(&home.path().join("audit")).unwrap();
    let log = AuditLog::open(folder.clone(), setup(1), TIME).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                let mut before = 0;
                for n in 0..EACH {
                    let record = decision((thread * EACH + n).into(), Verdict::Granted);
                    let appended = log.append(TIME, record).unwrap();
                    let permit = appended.permit.unwrap();
                    assert!(appended.seq > before, "each thread's records keep their order");
                    assert_eq!(u64::try_from(permit.crossing().transfer.0), Ok(thread * EACH + n));
                    before = appended.seq;
                }
            });
        }
    });
    assert_eq!(verify(&folder, &Known::default()).unwrap().records, THREADS * EACH + 1);
    let mut seen: Vec<u128> = Entries::open(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().record.transfer())
        .map(|transfer| transfer.0)
        .collect();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..u128::from(THREADS * EACH)));
}

#[test]
fn processes_take_turns_in_one_log() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("audit");
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // As three processes: each opens the folder for itself.
                for _ in 0..4 {
                    let folder = LogFolder::open(&path).unwrap();
                    let log = AuditLog::open_with(folder, setup(1), TIME, 3000).unwrap();
                    for n in 0..10 {
                        log.append(TIME, nth(n)).unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // And one that only looks.
        scope.spawn(|| {
            while count.load(Ordering::Relaxed) < 120 {
                let folder = LogFolder::open(&path).unwrap();
                match verify(&folder, &Known::default()) {
                    // The last one: begun, and not yet with a first record.
                    Ok(_)
                    | Err(VerifyError::Read(ReadError::Missing) | VerifyError::Key { seq: 0 }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    let folder = LogFolder::open(&path).unwrap();
    assert_eq!(verify(&folder, &Known::default()).unwrap().records, 121);
}

#[test]
fn a_log_that_goes_back_under_its_writer_stops_it() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    log.append(TIME, nth(0)).unwrap();
    let old = files(&tree);
    log.append(TIME, nth(1)).unwrap();
    put_back(&tree, &old);
    let stopped = log.append(TIME, nth(2)).unwrap_err();
    assert!(stopped.to_string().contains("head"), "{stopped}");
    assert!(stopped.hint().contains("evidence"));
}

#[test]
fn what_another_process_left_behind_its_last_record_is_cut_before_more_is_written() {
    let tree = MemoryTree::new(1);
    let (one, other) = (open(&tree).unwrap(), open(&tree).unwrap());
    one.append(TIME, nth(0)).unwrap();
    let (path, bytes) =
        files(&tree).into_iter().rfind(|(path, _)| path.name() != Some(b"head")).unwrap();
    tree.open_rw(&path).unwrap().write_at(&[7; 5000], bytes.len() as u64).unwrap();
    other.append(TIME, nth(1)).unwrap();
    drop((one, other));
    assert_eq!(open(&tree).unwrap().recovered(), Recovered::default(), "nothing is behind it");
    assert_eq!(check(&tree).unwrap().records, 3);
}

/// Writes the files of one tree into another, under a log that is open.
fn put_back(tree: &MemoryTree, files: &[(RelPath, Vec<u8>)]) {
    for (path, bytes) in files {
        let file = tree.open_rw(path).or_else(|_| tree.create(path)).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
}

#[test]
fn another_log_under_its_writer_stops_it() {
    let (tree, other) = (written(1), written(9));
    let log = open(&tree).unwrap();
    put_back(&tree, &files(&other));
    // A longer one of the same name is what another process of this node would have made.
    assert_eq!(log.append(TIME, nth(0)).unwrap().seq, 10);
    check(&tree).unwrap();
    for setup in [Setup { new_log: LogId([5; 16]), ..setup(1) }, setup(9)] {
        let other = MemoryTree::new(1);
        let theirs = AuditLog::open(folder(&other), setup, TIME).unwrap();
        for n in 0..40 {
            theirs.append(TIME, nth(n)).unwrap();
        }
        let tree = written(1);
        let log = open(&tree).unwrap();
        put_back(&tree, &files(&other));
        assert!(matches!(log.append(TIME, nth(0)), Err(LogError::Stopped(_))));
    }
}

#[test]
fn a_new_key_is_recorded_before_it_is_used() {
    let tree = written(3);
    let log = AuditLog::open(folder(&tree), setup(9), TIME).unwrap();
    log.append(TIME, nth(0)).unwrap();
    log.seal(TIME).unwrap();
    let report = check(&tree).unwrap();
    assert_eq!((report.records, report.key), (7, key(9).public()));
    assert!(matches!(all(&tree)[4].record, Record::Key(_)));
}

#[test]
fn a_log_is_its_nodes_by_the_word_of_its_certificate() {
    let home = tempfile::tempdir().unwrap();
    let at = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        TIME.secs as u64,
    ));
    let (name, site) = ("gpu-1".parse().unwrap(), "onprem".parse().unwrap());
    let identity = Identity::init(home.path(), name, site, crate::base::Tier::Private, at).unwrap();
    let key = AuditKey::load_or_create(&Identity::folder(home.path())).unwrap();
    let attestation = identity.attest(key.public()).unwrap();
    let node = Principal::from(identity.id());
    let setup = Setup { key, node: node.clone(), attestation, new_log: LogId::random().unwrap() };
    let folder = LogFolder::open(&home.path().join("audit")).unwrap();
    AuditLog::open(folder.clone(), setup, TIME).unwrap().append(TIME, nth(0)).unwrap();
    let judge = |record: &KeyRecord, _: FileTime| {
        let judged = identity.judge_attestation(record.key, &record.attestation, at);
        judged.map(|id| Principal::from(&id))
    };
    let known = Known { judge: Some(&judge), node: Some(&node), ..Known::default() };
    assert_eq!(verify(&folder, &known).unwrap().node, node);
    let other = principal("public", "cloud", "gpu-7");
    let wrong = verify(&folder, &Known { node: Some(&other), ..Known::default() });
    assert!(matches!(wrong, Err(VerifyError::Node { seq: 0, .. })));

    // A log whose key nobody vouches for.
    let tree = written(1);
    let known = Known { judge: Some(&judge), ..Known::default() };
    let wrong = verify(&super::folder(&tree), &known);
    assert!(matches!(wrong, Err(VerifyError::Attestation { seq: 0, .. })));
}
