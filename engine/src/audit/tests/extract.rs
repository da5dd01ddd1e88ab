//! The part of a log that a peer is told: whole, proven, and nothing else.

use super::*;
use crate::audit::fuzz::{chained, encoded, folder_with};

/// A log of so many records.
fn folder(count: u64) -> LogFolder {
    let records = (0..count).map(|seq| encoded(&Entry { seq, at: TIME, record: nth(seq) }));
    folder_with(&chained(records))
}

fn extracted(folder: &LogFolder, pin: u64, wanted: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let told = extract(folder, pin, |entry| wanted(entry.seq), &mut |part| {
        out.extend(part);
        true
    });
    told.unwrap();
    out
}

/// Reads an extract in parts of a size: the numbers that it tells, its checkpoint and the pinned root.
fn read(
    bytes: &[u8],
    part: usize,
    pin: u64,
) -> Result<(Vec<u64>, Checkpoint, Option<crate::base::Digest>), ExtractError> {
    let (mut reader, mut told) = (Extract::new(pin), Vec::new());
    for part in bytes.chunks(part) {
        reader.push(part);
        while let Some(entry) = reader.next()? {
            told.push(entry.seq);
        }
    }
    let (checkpoint, pinned) = reader.finish()?;
    Ok((told, checkpoint, pinned))
}

#[test]
fn whatever_is_told_is_proven_with_every_beginning() {
    for count in 1..34 {
        let folder = folder(count);
        let root_of = |size| prove_consistency(&folder, size, count).unwrap();
        for every in [1, 2, 3, 5, 100] {
            let bytes = extracted(&folder, count / 2, |seq| seq % every == 0);
            for part in [1, 7, bytes.len()] {
                let (told, checkpoint, pinned) = read(&bytes, part, count / 2).unwrap();
                assert_eq!(told, (0..count).filter(|seq| seq % every == 0).collect::<Vec<_>>());
                assert_eq!(checkpoint.size, count);
                if let Some(pinned) = pinned {
                    let (size, proof) = (count / 2, root_of(count / 2));
                    let (root, all) = (checkpoint.root, checkpoint.size);
                    assert!(consistency_holds(size, pinned, all, root, &proof), "{count}");
                } else {
                    assert_eq!(count / 2, 0);
                }
            }
        }
    }
}

#[test]
fn what_is_not_told_takes_few_digests() {
    let folder = folder(1000);
    let bytes = extracted(&folder, 0, |seq| seq == 500);
    assert!(bytes.len() < 132 + 2 * 10 * 34 + 600, "{} bytes", bytes.len());
}

/// More than is read at once, in one segment.
#[test]
fn long_segments_are_read_in_several_turns() {
    let count = 9000;
    let folder = folder(count);
    let bytes = extracted(&folder, 0, |seq| seq % 1000 == 0);
    let (told, checkpoint, _) = read(&bytes, bytes.len(), 0).unwrap();
    assert_eq!((told.len(), checkpoint.size), (9, count));
    assert_eq!(Entries::open(&folder).unwrap().map(Result::unwrap).count() as u64, count);
}

#[test]
fn it_is_given_in_parts_until_nobody_takes_them() {
    let parts = |count, takes: usize| {
        let mut parts = Vec::new();
        let told = extract(&folder(count), 0, |_| true, &mut |part| {
            parts.push(part.len());
            parts.len() < takes
        });
        told.unwrap();
        parts
    };
    assert_eq!(parts(9, 9).len(), 1);
    let some = parts(2000, 99);
    let (last, full) = some.split_last().unwrap();
    assert!(full.len() > 2 && full.iter().all(|len| (128 << 10..136 << 10).contains(len)));
    assert!(*last < 128 << 10);
    assert_eq!(parts(2000, 2), full[..2]);
}

#[test]
fn a_changed_bit_a_missing_part_and_more_behind_it_are_found() {
    let folder = folder(9);
    let bytes = extracted(&folder, 4, |seq| seq % 4 == 1);
    read(&bytes, 100, 4).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Its name, time and signature are for whoever judges the checkpoint.
        let judged = bit / 8 < 16 || (56..132).contains(&(bit / 8));
        assert!(judged || read(&bad, 100, 4).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(read(&bytes[..cut], 100, 4).is_err(), "{cut}");
    }
    assert!(read(&[&bytes[..], &[0]].concat(), 100, 4).is_err());
}
