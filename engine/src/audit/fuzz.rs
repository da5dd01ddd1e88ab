//! What the decoders of this module promise; `crate::fuzzing` lists them.

mod samples;

use std::sync::Arc;

use super::checkpoint::{CHECKPOINT_BYTES, Checkpoint};
use super::closing::{Offer, Statement};
use super::codec::{self, RECORD_BYTES_MAX};
use super::export::{Export, Format};
use super::extract::{Extract, extract};
use super::folder::LogFolder;
use super::frame::{self, FRAME_BYTES, Parsed, SEGMENT_HEAD_BYTES, segment_head, segment_name};
use super::head::{self, Head, SECTOR_BYTES};
use super::merkle::Frontier;
use super::portable::Portable;
use super::read::Entries;
use super::receipt::Receipt;
use super::record::Entry;
use super::verify::{Known, verify};
use crate::base::{Digest, RelPath};
use crate::manifest::fuzz::{Framed, Payloads, framed};
use crate::storage::{MemoryTree, Tree};

pub(super) use samples::{LOG, TIME, entries, key, receipt, whole_log};
#[cfg(test)]
pub(super) use samples::{
    attestation, class, crossing, decision, key_record, left, place, principal, receipt_body,
    records, word,
};
use samples::{checkpoint, closing};

pub(crate) fn record(data: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(data) else { return false };
    assert_eq!(encoded(&entry), data);
    true
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    entries().iter().map(encoded).collect()
}

/// What ends send each other; the first byte says what follows.
pub(crate) fn signed(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % 4 {
        0 => survives(bytes, |checkpoint: &Checkpoint| {
            assert_eq!(bytes.len(), CHECKPOINT_BYTES);
            assert!(checkpoint.begins(checkpoint, &[]) == (checkpoint.size > 0));
        }),
        1 => survives(bytes, |receipt: &Receipt| {
            let _ = receipt.check();
        }),
        2 => survives(bytes, |_: &Statement| ()),
        _ => survives(bytes, |_: &Offer| ()),
    }
}

/// What is decoded encodes to the same bytes.
fn survives<T: Portable>(bytes: &[u8], look: impl FnOnce(&T)) -> bool {
    let Ok(value) = T::decode(bytes) else { return false };
    assert_eq!(value.encode(), bytes);
    look(&value);
    true
}

pub(crate) fn signed_seeds() -> Vec<Vec<u8>> {
    let (statement, offer) = closing();
    let all =
        [checkpoint(&key(1), 7).encode(), receipt().encode(), statement.encode(), offer.encode()];
    (0..).zip(all).map(|(kind, bytes)| [&[kind], &bytes[..]].concat()).collect()
}

/// A sector of a head. One that is accepted is signed, so only the bytes of the sector itself are
/// left to vary: none.
pub(crate) fn head(data: &[u8]) -> bool {
    let Ok(head) = Head::decode(data) else { return false };
    assert_eq!(head.encode(), data);
    assert_eq!(data.len(), SECTOR_BYTES);
    true
}

pub(crate) fn head_seeds() -> Vec<Vec<u8>> {
    [0, 7].map(|size| head_of(size, &Frontier::default()).encode().to_vec()).into()
}

fn head_of(size: u64, tree: &Frontier) -> Head {
    let key = key(1);
    let checkpoint = Checkpoint::sign(&key, LOG, size, tree.root(), TIME);
    let (chain, key) = (Digest::of(b"chain"), key.public());
    Head { generation: 5, segment: 0, position: 99, chain, key, checkpoint }
}

/// A log of one segment, whatever is in it. The first byte says what follows: the frames' bytes (0),
/// or records, each after its length u16 LE, of which frames are made (1). Reading it to its end
/// never panics; if it can be read, each record is one line of each export.
pub(crate) fn log(data: &[u8]) -> bool {
    let Some((mode, rest)) = data.split_first() else { return false };
    let frames = if *mode == 0 {
        rest.to_vec()
    } else {
        let numbered = |(seq, record)| match Entry::decode(record) {
            Ok(entry) => encoded(&Entry { seq, ..entry }),
            Err(_) => record.to_vec(),
        };
        chained((0..).zip(Payloads(rest)).map(numbered))
    };
    let folder = folder_with(&frames);
    let verified = verify(&folder, &Known { receipts: true, ..Known::default() });
    let count = Entries::open(&folder).expect("the head is whole").filter_map(Result::ok).count();
    for format in [Format::JsonLines, Format::Csv] {
        let mut out = Vec::new();
        let export = Entries::open(&folder).and_then(|log| Export::new([log]));
        let written = export.map(|export| export.write(&mut out, format, |_| true));
        if let Ok(Ok(written)) = written {
            assert_eq!(written, count as u64);
            check_export(&out, format, count);
        } else {
            assert!(verified.is_err(), "a log that is whole can be exported");
        }
    }
    verified.is_ok()
}

/// Frames of these records.
pub(super) fn chained(records: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let (mut bytes, mut chain) = (Vec::new(), Digest::default());
    for record in records {
        chain = frame::push(&mut bytes, chain, &record);
    }
    bytes
}

/// A log of one segment with these frames, and a head that was signed for them.
pub(super) fn folder_with(frames: &[u8]) -> LogFolder {
    let segment = [&segment_head(LOG, 0, Digest::default())[..], frames].concat();
    let tree = MemoryTree::new(1);
    write(&tree, &segment_name(&RelPath::root(), 0), &segment);
    write(&tree, &head::head_name(&RelPath::root()), &heads_over(&segment));
    LogFolder::on(Arc::new(tree), RelPath::root())
}

/// Each record is one line, without anything that could end it or move a cursor.
fn check_export(out: &[u8], format: Format, count: usize) {
    let text = std::str::from_utf8(out).expect("an export is UTF-8");
    let (end, titles) = if format == Format::Csv { ("\r\n", 1) } else { ("\n", 0) };
    let lines: Vec<&str> = text.split_terminator(end).collect();
    assert_eq!(lines.len(), count + titles);
    for line in lines {
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!line.contains(breaks), "{line:?}");
        if format == Format::JsonLines {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            assert!(line.get("transfer").is_some());
        }
    }
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = whole_log().iter().map(encoded).collect();
    let mut packed = vec![1];
    for record in &records {
        packed.extend_from_slice(&(record.len() as u16).to_le_bytes());
        packed.extend_from_slice(record);
    }
    vec![packed, [vec![0], chained(records)].concat()]
}

/// One frame, its sum as it comes or as it should be.
pub(crate) fn frame(data: &[u8]) -> bool {
    let chained = |chain, record: &[u8]| {
        let mut bytes = Vec::new();
        frame::push(&mut bytes, chain, record);
        bytes
    };
    framed(
        data,
        |record| chained(Digest::of(b"chain"), record),
        |bytes| match frame::parse(bytes) {
            Parsed::Frame(found) => Framed::Whole(chained(found.chain, found.record)),
            Parsed::Short(want) => Framed::Short(want),
            Parsed::Damaged => Framed::Damaged,
        },
        RECORD_BYTES_MAX + FRAME_BYTES,
    )
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let mut bytes = vec![0];
    frame::push(&mut bytes, Digest::of(b"before"), b"record");
    vec![bytes, b"\x01record".to_vec()]
}

/// An extract, in parts of the size that the first byte says. Reading it never panics, whatever the parts
/// are; what proves itself has as many records as its checkpoint says.
pub(crate) fn extracted(data: &[u8]) -> bool {
    let Some((&size, rest)) = data.split_first() else { return false };
    let mut extract = Extract::new(2);
    let mut told = 0;
    for part in rest.chunks(usize::from(size).max(1)) {
        extract.push(part);
        loop {
            match extract.next() {
                Ok(Some(_)) => told += 1,
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    let Ok((checkpoint, pinned)) = extract.finish() else { return false };
    assert!(told <= checkpoint.size);
    assert!(pinned.is_none() || checkpoint.size >= 2);
    true
}

pub(crate) fn extracted_seeds() -> Vec<Vec<u8>> {
    let folder = folder_with(&chained(whole_log().iter().map(encoded)));
    let seed = |wanted: fn(&Entry) -> bool| {
        let mut out = vec![200];
        let told = extract(&folder, 2, wanted, &mut |part| {
            out.extend(part);
            true
        });
        told.expect("the log is whole");
        out
    };
    vec![seed(|_| true), seed(|_| false), seed(|entry| entry.seq % 3 == 0)]
}

fn write(tree: &MemoryTree, path: &RelPath, bytes: &[u8]) {
    let file = tree.create(path).expect("an empty tree takes a file");
    file.write_at(bytes, 0).expect("a file without faults takes bytes");
}

/// Both slots of a head over as many frames as there are in a segment, with its position at the
/// segment's end.
fn heads_over(segment: &[u8]) -> Vec<u8> {
    let (mut tree, mut chain, mut at) =
        (Frontier::default(), Digest::default(), SEGMENT_HEAD_BYTES);
    while let Parsed::Frame(frame) = frame::parse(&segment[at..]) {
        chain = frame.digest;
        tree.push(chain);
        at += frame.bytes;
    }
    let head = Head { chain, position: segment.len() as u64, ..head_of(tree.size(), &tree) };
    let slot = |generation| Head { generation, ..head.clone() }.slot(&tree);
    [slot(0), slot(1)].concat()
}

/// The bytes of a record.
pub(super) fn encoded(entry: &Entry) -> Vec<u8> {
    codec::encode(entry.seq, entry.at, &entry.record)
}
