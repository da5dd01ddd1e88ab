//! Everything that somebody with the disk and without the key can do to a log is found.

use proptest::prelude::*;

use super::*;
use crate::audit::frame::{self, FRAME_HEAD_BYTES, Parsed, SEGMENT_HEAD_BYTES};
use crate::audit::fuzz;
use crate::audit::head::{Head, SECTOR_BYTES, SLOT_BYTES};
use crate::base::Digest;

type Files = Vec<(RelPath, Vec<u8>)>;

fn segments(files: &Files) -> Vec<usize> {
    let is_segment = |at: &usize| files[*at].0.as_bytes().ends_with(b".log");
    (0..files.len()).filter(is_segment).collect()
}

/// The frames of a segment, as they lie in it.
fn frames(segment: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut out) = (SEGMENT_HEAD_BYTES, Vec::new());
    while let Parsed::Frame(frame) = frame::parse(&segment[at..]) {
        out.push(segment[at..at + frame.bytes].to_vec());
        at += frame.bytes;
    }
    out
}

fn segment(head: &[u8], frames: &[Vec<u8>]) -> Vec<u8> {
    [&head[..SEGMENT_HEAD_BYTES], &frames.concat()[..]].concat()
}

fn is_found(files: &Files) -> bool {
    check(&tree_of(files)).is_err()
}

#[test]
fn every_flipped_bit_is_found() {
    let tree = written(5);
    let mut files = files(&tree);
    let mut flipped = 0;
    for at in 0..files.len() {
        for bit in 0..files[at].1.len() * 8 {
            // Of the zeros of a slot, one bit in each byte.
            let zero = files[at].1[bit / 8] == 0 && files[at].0.as_bytes().ends_with(b"head");
            if zero && bit % 8 != 3 {
                continue;
            }
            files[at].1[bit / 8] ^= 1 << (bit % 8);
            assert!(is_found(&files), "bit {bit} of {}", files[at].0);
            files[at].1[bit / 8] ^= 1 << (bit % 8);
            flipped += 1;
        }
    }
    assert!(flipped > 20_000, "{flipped} bits");
    assert!(!is_found(&files));
}

#[test]
fn every_record_that_is_dropped_doubled_or_moved_is_found() {
    let tree = written(12);
    let whole = files(&tree);
    let mut tried = 0;
    for at in segments(&whole) {
        let frames = frames(&whole[at].1);
        let mut changed = Vec::new();
        for n in 0..frames.len() {
            for to in 0..=frames.len() {
                let mut moved = frames.clone();
                let frame = moved.remove(n);
                moved.insert(to.min(moved.len()), frame.clone());
                changed.push(moved);
                let mut doubled = frames.clone();
                doubled.insert(to, frame);
                changed.push(doubled);
            }
            let mut dropped = frames.clone();
            dropped.remove(n);
            changed.push(dropped);
        }
        for changed in changed.into_iter().filter(|changed| *changed != frames) {
            let mut files = whole.clone();
            files[at].1 = segment(&whole[at].1, &changed);
            assert!(is_found(&files), "{}", files[at].0);
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} changes");
}

/// Frames with right sums and right chains, made by somebody who knows the format: the tree has
/// another root then than the one that was signed.
#[test]
fn a_chain_that_is_made_anew_without_the_key_is_found() {
    let tree = written(12);
    let whole = files(&tree);
    let at = segments(&whole).pop().unwrap();
    for change in 0..3 {
        let mut records: Vec<Vec<u8>> = frames(&whole[at].1)
            .iter()
            .map(|frame| frame[FRAME_HEAD_BYTES..frame.len() - 8].to_vec())
            .collect();
        match change {
            0 => *records[0].last_mut().unwrap() ^= 1,
            1 => drop(records.pop()),
            _ => records.reverse(),
        }
        let mut files = whole.clone();
        let mut bytes = whole[at].1[..SEGMENT_HEAD_BYTES].to_vec();
        let mut chain = Digest::from_slice(&bytes[32..]).unwrap();
        for record in &records {
            chain = frame::push(&mut bytes, chain, record);
        }
        files[at].1 = bytes;
        assert!(is_found(&files), "change {change}");
    }
}

#[test]
fn every_truncation_is_found() {
    let tree = written(7);
    let whole = files(&tree);
    for at in 0..whole.len() {
        for len in 0..whole[at].1.len() {
            let mut files = whole.clone();
            files[at].1.truncate(len);
            assert!(is_found(&files), "{} cut to {len}", whole[at].0);
        }
        let mut files = whole.clone();
        files.remove(at);
        assert!(is_found(&files), "{} removed", whole[at].0);
    }
}

#[test]
fn segments_that_are_exchanged_or_come_from_elsewhere_are_found() {
    let tree = written(20);
    let whole = files(&tree);
    let segments = segments(&whole);
    assert!(segments.len() >= 4);
    for pair in segments.windows(2) {
        let mut files = whole.clone();
        let first = files[pair[0]].1.clone();
        files[pair[0]].1 = std::mem::replace(&mut files[pair[1]].1, first);
        assert!(is_found(&files));
        let mut files = whole.clone();
        files[pair[1]].1.clone_from(&whole[pair[0]].1);
        assert!(is_found(&files));
    }
    for name in ["00000000000000000001.log", "00000000000000099999.log"] {
        let mut files = whole.clone();
        files.push((dir().join(name.as_bytes()).unwrap(), whole[segments[0]].1.clone()));
        assert!(is_found(&files), "{name}");
    }
}

/// Half of the head taken back, or made by another key.
#[test]
fn a_head_that_was_not_signed_for_the_records_is_found() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    let heads: Vec<Files> = (0..6)
        .map(|n| {
            log.append(TIME, nth(n)).unwrap();
            files(&tree)
        })
        .collect();
    let head_at = |files: &Files| {
        files.iter().position(|(path, _)| path.as_bytes().ends_with(b"/head")).unwrap()
    };
    let newest = heads.last().unwrap();
    let at = head_at(newest);
    for old in &heads[..heads.len() - 1] {
        for slots in [0..SLOT_BYTES, SLOT_BYTES..2 * SLOT_BYTES, 0..2 * SLOT_BYTES] {
            let mut files = newest.clone();
            files[at].1[slots.clone()].copy_from_slice(&old[head_at(old)].1[slots]);
            assert!(files == *newest || is_found(&files));
        }
    }
    // Signed anew by a key that the log does not name.
    let mut files = newest.clone();
    for slot in 0..2 {
        let sector = slot * SLOT_BYTES..slot * SLOT_BYTES + SECTOR_BYTES;
        let head = Head::decode(&files[at].1[sector.clone()]).unwrap();
        let Checkpoint { log, size, root, at: time, .. } = head.checkpoint;
        let checkpoint = Checkpoint::sign(&key(9), log, size, root, time);
        let forged = Head { key: key(9).public(), checkpoint, ..head };
        files[at].1[sector].copy_from_slice(&forged.encode());
    }
    assert!(matches!(
        check(&tree_of(&files)),
        Err(VerifyError::Read(ReadError::Damaged(Damage::Tree)))
    ));
}

#[test]
fn an_old_copy_that_is_put_back_is_found_by_a_checkpoint_that_a_peer_holds() {
    let tree = MemoryTree::new(1);
    let log = open(&tree).unwrap();
    let mut copies = Vec::new();
    for n in 0..8 {
        log.append(later(n), nth(n as u64)).unwrap();
        copies.push((files(&tree), log.checkpoint()));
    }
    let verify_with = |files: &Files, held: &[Checkpoint]| {
        verify(&folder(&tree_of(files)), &Known { held, ..Known::default() })
    };
    let (newest, last) = copies.last().unwrap();
    let held: Vec<Checkpoint> = copies.iter().map(|(_, checkpoint)| *checkpoint).collect();
    assert_eq!(verify_with(newest, &held).unwrap().held, held.len());
    for (n, (copy, _)) in copies.iter().enumerate() {
        assert!(verify_with(copy, &[]).is_ok(), "by itself an old copy is a log as any other");
        let found = verify_with(copy, &[*last]);
        let old = n + 1 < copies.len();
        assert_eq!(matches!(found, Err(VerifyError::RolledBack { held: 9, .. })), old);
        assert_eq!(found.is_ok(), !old);
    }
    // The old copy went on, and is as long as the peer's again: another history.
    let forked = tree_of(&copies[3].0);
    let log = open(&forked).unwrap();
    for n in 0..9 {
        log.append(later(n), nth(77)).unwrap();
    }
    let found = verify_with(&files(&forked), &[*last]);
    assert!(matches!(found, Err(VerifyError::Forked { size: 9 })));
    assert!(verify_with(&files(&forked), &held[..3]).is_ok());
    // Another log, and a checkpoint that nobody signed.
    let other = Checkpoint::sign(&key(1), LogId([5; 16]), last.size, last.root, TIME);
    assert!(matches!(verify_with(newest, &[other]), Err(VerifyError::OtherLog { .. })));
    let unsigned = Checkpoint::sign(&key(9), LOG, last.size, last.root, TIME);
    assert!(matches!(verify_with(newest, &[unsigned]), Err(VerifyError::HeldKey { size: 9 })));
}

/// Verifies a log of all kinds of records after a change: the chain and the head are right, what is
/// said in it may not be.
fn verify_with(change: impl Fn(&mut Entry)) -> Result<Report, VerifyError> {
    let mut entries = fuzz::whole_log();
    entries.iter_mut().for_each(change);
    let folder = fuzz::folder_with(&fuzz::chained(entries.iter().map(fuzz::encoded)));
    verify(&folder, &Known { receipts: true, ..Known::default() })
}

#[test]
fn records_that_are_wrong_in_a_chain_that_is_right_are_found() {
    let report = verify_with(|_| ()).unwrap();
    assert_eq!((report.records, report.seals, report.receipts), (11, 1, 1));
    let seal = |forge: fn(&Checkpoint) -> Checkpoint| {
        let found = verify_with(move |entry| {
            if let Record::Seal(seal) = &mut entry.record {
                *seal = forge(seal);
            }
        });
        assert!(matches!(found, Err(VerifyError::Seal { seq: 1 })), "{found:?}");
    };
    seal(|it| Checkpoint::sign(&key(1), it.log, it.size, Digest::of(b"other"), it.at));
    seal(|it| Checkpoint::sign(&key(1), it.log, it.size + 1, it.root, it.at));
    seal(|it| Checkpoint::sign(&key(1), LogId([5; 16]), it.size, it.root, it.at));
    seal(|it| Checkpoint::sign(&key(2), it.log, it.size, it.root, it.at));
    let found = verify_with(|entry| {
        if let Record::Receipt(receipt) = &mut entry.record {
            receipt.body.bytes += 1;
        }
    });
    assert!(matches!(found, Err(VerifyError::Receipt { seq: 7, .. })), "{found:?}");
    let found = verify_with(|entry| {
        if let Record::Witness(witness) = &mut entry.record {
            witness.checkpoint.size += 1;
        }
    });
    assert!(matches!(found, Err(VerifyError::Witness { seq: 2 })), "{found:?}");
    let found = verify_with(|entry| {
        if let Record::Key(key) = &mut entry.record {
            key.log = LogId([5; 16]);
        }
    });
    assert!(matches!(found, Err(VerifyError::Key { seq: 0 })), "{found:?}");
    let found = verify_with(|entry| {
        if entry.seq == 0 {
            entry.record = nth(0);
        }
    });
    assert!(matches!(found, Err(VerifyError::Key { seq: 0 })), "{found:?}");
    // The key that the head was signed with is not the one that the log names.
    let found = verify_with(|entry| match &mut entry.record {
        Record::Key(record) => record.key = key(2).public(),
        Record::Seal(_) => entry.record = nth(0),
        _ => {}
    });
    assert!(matches!(found, Err(VerifyError::Read(ReadError::Damaged(Damage::Tree)))), "{found:?}");
    // A number that is another one's, and what a newer version wrote.
    let found = verify_with(|entry| entry.seq += u64::from(entry.seq == 4));
    let chain = ReadError::Damaged(Damage::Chain { seq: 4 });
    assert_eq!(found.unwrap_err().to_string(), chain.to_string());
    for (at, byte, newer) in [(0, 9, true), (1, 99, true), (1, 6, false)] {
        let mut records: Vec<Vec<u8>> = fuzz::whole_log().iter().map(fuzz::encoded).collect();
        records[4][at] = byte;
        let folder = fuzz::folder_with(&fuzz::chained(records));
        let found = verify(&folder, &Known::default());
        let told = matches!(found, Err(VerifyError::Read(ReadError::Newer { seq: 4 })));
        assert!(told == newer && found.is_err(), "{found:?}");
        let read: Vec<_> = Entries::open(&folder).unwrap().collect();
        assert_eq!(read.len(), 5, "reading ends at the first error");
        assert!(read[4].is_err());
    }
}

#[test]
fn opening_finds_what_was_done_to_the_last_segment() {
    let tree = written(12);
    let whole = files(&tree);
    let segments = segments(&whole);
    let flipped = |at: usize, byte: usize| {
        let mut files = whole.clone();
        files[at].1[byte] ^= 1;
        open(&tree_of(&files)).err()
    };
    let last = *segments.last().unwrap();
    for byte in (0..whole[last].1.len()).step_by(7) {
        let refused = flipped(last, byte).expect("it was changed");
        assert!(refused.hint().contains("evidence"), "{refused}");
    }
    assert!(flipped(segments[0], 99).is_none(), "that is for verify to find");
    let head = whole.len() - 1;
    assert!(whole[head].0.as_bytes().ends_with(b"/head"));
    for byte in (0..SECTOR_BYTES).chain(SLOT_BYTES..SLOT_BYTES + SECTOR_BYTES) {
        let refused = flipped(head, byte).expect("it was changed");
        assert!(refused.to_string().contains("head"), "{refused}");
    }
    let mut files = whole.clone();
    files.remove(head);
    assert!(open(&tree_of(&files)).err().unwrap().to_string().contains("head"));
    let mut files = whole.clone();
    files.remove(last);
    let refused = open(&tree_of(&files)).err().unwrap();
    assert!(refused.to_string().contains("no segment"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any bytes anywhere: written over, put in or taken out.
    #[test]
    fn random_tampering_is_found(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        take in 0_usize..200,
        put in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let tree = written(9);
        let whole = files(&tree);
        let mut changed = whole.clone();
        let bytes = &mut changed[file.index(whole.len())].1;
        let at = at.index(bytes.len());
        let to = (at + take).min(bytes.len());
        bytes.splice(at..to, put);
        prop_assert!(changed == whole || is_found(&changed));
        // Opening never panics, and what it accepts holds every record.
        if let Ok(log) = open(&tree_of(&changed)) {
            prop_assert!(log.checkpoint().size >= 10);
        }
    }
}
