//! What the decoders of this module promise; `crate::fuzzing` lists them.

use std::sync::Arc;

use super::checkpoint::{CHECKPOINT_BYTES, Checkpoint};
use super::codec::{self, RECORD_BYTES_MAX};
use super::export::{Export, Format};
use super::extents::ExtentSet;
use super::folder::LogFolder;
use super::frame::{
    self, FRAME_BYTES, Frame, Parsed, SEGMENT_HEAD_BYTES, segment_head, segment_name,
};
use super::head::{self, Head, SECTOR_BYTES};
use super::merkle::Frontier;
use super::names::{Ending, LogId, Place, Word};
use super::read::Entries;
use super::receipt::{Party, Receipt, ReceiptBody};
use super::record::{Crossing, Decision, Entry, KeyRecord, Meter, Progress, Record, Stop, Witness};
use super::verify::{Known, verify};
use crate::base::{Class, Digest, Extent, FileTime, RelPath, TransferId};
use crate::cost::{Currency, Money, Price, Tariff};
use crate::identity::{Attestation, AuditKey};
use crate::policy::{Action, PolicyVersion, Principal, Reason, Transport, Verdict};
use crate::storage::{MemoryTree, Tree};

pub(crate) fn record(data: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(data) else { return false };
    assert_eq!(encoded(&entry), data);
    true
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    entries().iter().map(encoded).collect()
}

/// Checkpoints and receipts as peers send them; an odd first byte is for a receipt.
pub(crate) fn signed(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    if kind % 2 == 1 {
        let Ok(receipt) = Receipt::decode(bytes) else { return false };
        assert_eq!(receipt.encode(), bytes);
        let _ = receipt.check();
        return true;
    }
    let Ok(checkpoint) = Checkpoint::decode(bytes) else { return false };
    assert_eq!(checkpoint.encode(), bytes);
    assert_eq!(bytes.len(), CHECKPOINT_BYTES);
    assert!(checkpoint.begins(&checkpoint, &[]) == (checkpoint.size > 0));
    true
}

pub(crate) fn signed_seeds() -> Vec<Vec<u8>> {
    let checkpoint = checkpoint(&key(1), 7).encode();
    vec![[&[0], &checkpoint[..]].concat(), [&[1], &receipt().encode()[..]].concat()]
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

/// One frame, its sum as it comes or, after a byte that is odd, as it should be.
pub(crate) fn frame(data: &[u8]) -> bool {
    let Some((mode, rest)) = data.split_first() else { return false };
    let mut bytes = Vec::new();
    if mode % 2 == 1 {
        let digest = frame::push(&mut bytes, Digest::of(b"chain"), rest);
        let (chain, bytes_in_all) = (Digest::of(b"chain"), bytes.len());
        let whole = Frame { chain, record: rest, digest, bytes: bytes_in_all };
        assert_eq!(frame::parse(&bytes), Parsed::Frame(whole));
        return true;
    }
    match frame::parse(rest) {
        Parsed::Frame(found) => {
            let digest = frame::push(&mut bytes, found.chain, found.record);
            assert_eq!((digest, &bytes[..]), (found.digest, &rest[..found.bytes]));
            true
        }
        Parsed::Short(want) => {
            assert!(want > rest.len() && want <= RECORD_BYTES_MAX + FRAME_BYTES);
            false
        }
        Parsed::Damaged => false,
    }
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let mut bytes = vec![0];
    frame::push(&mut bytes, Digest::of(b"before"), b"record");
    vec![bytes, b"\x01record".to_vec()]
}

struct Payloads<'a>(&'a [u8]);

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (payload, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.0 = rest;
        Some(payload)
    }
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

pub(super) const LOG: LogId = LogId(*b"a log of a node.");
pub(super) const TIME: FileTime = FileTime { secs: 1_780_272_000, nanos: 123_456_789 };

pub(super) fn key(seed: u8) -> AuditKey {
    AuditKey::from_seed([seed; 32])
}

pub(super) fn class(text: &str) -> Class {
    text.parse().expect("a class")
}

pub(super) fn word(text: &str) -> Word {
    text.parse().expect("a word")
}

pub(super) fn place(site: &str, node: &str) -> Place {
    Place { site: site.parse().expect("a site"), node: node.parse().expect("a node") }
}

pub(super) fn principal(tier: &str, site: &str, node: &str) -> Principal {
    let text = format!("spiffe://portway-0123456789abcdef/tier/{tier}/site/{site}/node/{node}");
    text.parse().expect("a SPIFFE id")
}

pub(super) fn crossing(transfer: u128) -> Crossing {
    Crossing {
        transfer: TransferId(transfer),
        who: principal("private", "onprem", "gpu-1"),
        path: RelPath::from_bytes(b"models/\xff\n=x,\"y").expect("a path"),
        root: None,
        class: class("internal"),
        from: place("onprem", "gpu-1"),
        to: place("cloud", "gpu-7"),
        link: word("onprem-cloud"),
        transport: Transport::Quic,
        policy: PolicyVersion { number: 12, digest: Digest::of(b"policy") },
    }
}

pub(super) fn decision(transfer: u128, verdict: Verdict) -> Record {
    Record::Decision(Decision {
        crossing: crossing(transfer),
        action: Action::Push,
        verdict,
        reason: Reason::new("a rule\r\n\"allows\" it\u{2028}"),
    })
}

/// Two objects, three extents, 300 bytes.
pub(super) fn left() -> ExtentSet {
    let mut left = ExtentSet::default();
    for (object, offset) in [("a", 0), ("a", 200), ("b/\u{e4}", 7)] {
        let object = RelPath::from_bytes(object.as_bytes()).expect("a path");
        assert!(left.insert(&object, Extent { offset, len: 100 }));
    }
    left
}

pub(super) fn key_record() -> KeyRecord {
    KeyRecord {
        log: LOG,
        node: principal("private", "onprem", "gpu-1"),
        key: key(1).public(),
        attestation: attestation(),
    }
}

pub(super) fn attestation() -> Attestation {
    Attestation { scheme: 0x0403, signature: vec![7; 9], chain: vec![vec![8; 10], vec![9; 11]] }
}

fn checkpoint(key: &AuditKey, size: u64) -> Checkpoint {
    Checkpoint::sign(key, LOG, size, Digest::of(b"root"), TIME)
}

pub(super) fn receipt_body() -> ReceiptBody {
    let crossing = crossing(7);
    let party = |tier, place: Place, seed, seq| Party {
        node: principal(tier, place.site.as_str(), place.node.as_str()),
        place,
        log: LogId([seed; 16]),
        seq,
        key: key(seed).public(),
    };
    ReceiptBody {
        transfer: crossing.transfer,
        path: crossing.path,
        root: Some(Digest::of(b"root")),
        class: crossing.class,
        bytes: 300,
        left: left().sum(),
        from: party("private", crossing.from, 1, 4),
        to: party("public", crossing.to, 2, 5),
    }
}

pub(super) fn receipt() -> Receipt {
    let body = receipt_body();
    let (from_signature, to_signature) = (body.sign(&key(1)), body.sign(&key(2)));
    Receipt { body, from_signature, to_signature }
}

fn meter(tariff: Option<Tariff>) -> Meter {
    Meter { crossing: crossing(7), sent: 330, received: 40, tariff }
}

/// One record of each kind, and of a meter both forms.
pub(super) fn records() -> Vec<Record> {
    let stop = Stop {
        crossing: Crossing { root: Some(Digest::of(b"root")), ..crossing(7) },
        ending: Ending::Complete,
        reason: Reason::new("done"),
        bytes: 0,
        left: ExtentSet::default(),
    };
    vec![
        Record::Key(key_record()),
        Record::Seal(checkpoint(&key(1), 1)),
        Record::Witness(Witness {
            node: principal("public", "cloud", "gpu-7"),
            key: key(2).public(),
            checkpoint: checkpoint(&key(2), 9),
        }),
        decision(7, Verdict::Granted),
        Record::Start(crossing(7)),
        Record::Progress(Progress { crossing: crossing(7), bytes: 300, left: left() }),
        Record::Stop(stop),
        Record::Receipt(Box::new(receipt())),
        Record::Meter(meter(Some(Tariff {
            price: Price(Money(90_000)),
            currency: Currency::default(),
        }))),
        Record::Meter(meter(None)),
    ]
}

pub(super) fn entries() -> Vec<Entry> {
    (0..).zip(records()).map(|(seq, record)| Entry { seq, at: TIME, record }).collect()
}

/// Records that follow each other: those of each kind, with a seal that is right.
pub(super) fn whole_log() -> Vec<Entry> {
    let (mut tree, mut chain, mut out) = (Frontier::default(), Digest::default(), Vec::new());
    for mut entry in entries() {
        if let Record::Seal(seal) = &mut entry.record {
            *seal = Checkpoint::sign(&key(1), LOG, entry.seq, tree.root(), TIME);
        }
        let mut bytes = Vec::new();
        chain = frame::push(&mut bytes, chain, &encoded(&entry));
        tree.push(chain);
        out.push(entry);
    }
    out
}
