//! Records that are right, to begin from.

use super::encoded;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::closing::{Offer, Statement};
use crate::audit::extents::ExtentSet;
use crate::audit::frame;
use crate::audit::merkle::Frontier;
use crate::audit::names::{Ending, LogId, Place, Word};
use crate::audit::receipt::{Party, Receipt, ReceiptBody};
use crate::audit::record::{
    Crossing, Decision, Dispute, Entry, KeyRecord, Meter, Progress, Record, Stop, Witness,
};
use crate::base::{Class, Digest, Extent, FileTime, RelPath, TransferId};
use crate::cost::{Currency, Money, Price, Tariff};
use crate::identity::{Attestation, AuditKey};
use crate::policy::{Action, PolicyVersion, Principal, Reason, Transport, Verdict};

/// What the ends of a transfer say before its receipt.
pub(in crate::audit) fn closing() -> (Statement, Offer) {
    let Receipt { body, from_signature, .. } = receipt();
    let statement = Statement {
        party: body.to.clone(),
        attestation: attestation(),
        root: body.root,
        class: body.class.clone(),
        bytes: body.bytes,
        left: body.left,
        checkpoint: checkpoint(&key(2), 9),
    };
    let (attestation, checkpoint) = (attestation(), checkpoint(&key(1), 7));
    (statement, Offer { body, signature: from_signature, attestation, checkpoint })
}

pub(in crate::audit) const LOG: LogId = LogId(*b"a log of a node.");
pub(in crate::audit) const TIME: FileTime = FileTime { secs: 1_780_272_000, nanos: 123_456_789 };

pub(in crate::audit) fn key(seed: u8) -> AuditKey {
    AuditKey::from_seed([seed; 32])
}

pub(in crate::audit) fn class(text: &str) -> Class {
    text.parse().expect("a class")
}

pub(in crate::audit) fn word(text: &str) -> Word {
    text.parse().expect("a word")
}

pub(in crate::audit) fn place(site: &str, node: &str) -> Place {
    Place { site: site.parse().expect("a site"), node: node.parse().expect("a node") }
}

pub(in crate::audit) fn principal(tier: &str, site: &str, node: &str) -> Principal {
    let text = format!("spiffe://portway-0123456789abcdef/tier/{tier}/site/{site}/node/{node}");
    text.parse().expect("a SPIFFE id")
}

pub(in crate::audit) fn crossing(transfer: u128) -> Crossing {
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

pub(in crate::audit) fn decision(transfer: u128, verdict: Verdict) -> Record {
    Record::Decision(Decision {
        crossing: crossing(transfer),
        action: Action::Push,
        verdict,
        reason: Reason::new("a rule\r\n\"allows\" it\u{2028}"),
    })
}

/// Two objects, three extents, 300 bytes.
pub(in crate::audit) fn left() -> ExtentSet {
    let mut left = ExtentSet::default();
    for (object, offset) in [("a", 0), ("a", 200), ("b/\u{e4}", 7)] {
        let object = RelPath::from_bytes(object.as_bytes()).expect("a path");
        assert!(left.insert(&object, Extent { offset, len: 100 }));
    }
    left
}

pub(in crate::audit) fn key_record() -> KeyRecord {
    KeyRecord {
        log: LOG,
        node: principal("private", "onprem", "gpu-1"),
        key: key(1).public(),
        attestation: attestation(),
    }
}

pub(in crate::audit) fn attestation() -> Attestation {
    Attestation { scheme: 0x0403, signature: vec![7; 9], chain: vec![vec![8; 10], vec![9; 11]] }
}

pub(super) fn checkpoint(key: &AuditKey, size: u64) -> Checkpoint {
    Checkpoint::sign(key, LOG, size, Digest::of(b"root"), TIME)
}

pub(in crate::audit) fn receipt_body() -> ReceiptBody {
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

pub(in crate::audit) fn receipt() -> Receipt {
    let body = receipt_body();
    let (from_signature, to_signature) = (body.sign(&key(1)), body.sign(&key(2)));
    Receipt { body, from_signature, to_signature }
}

fn meter(tariff: Option<Tariff>) -> Meter {
    Meter { crossing: crossing(7), sent: 330, received: 40, tariff }
}

/// One record of each kind, and of a meter both forms.
pub(in crate::audit) fn records() -> Vec<Record> {
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
        Record::Dispute(Dispute {
            crossing: crossing(7),
            stop: 6,
            reason: Reason::new("299 bytes crossed there and 300 here"),
        }),
        Record::Meter(meter(Some(Tariff {
            price: Price(Money(90_000)),
            currency: Currency::default(),
        }))),
        Record::Meter(meter(None)),
    ]
}

pub(in crate::audit) fn entries() -> Vec<Entry> {
    (0..).zip(records()).map(|(seq, record)| Entry { seq, at: TIME, record }).collect()
}

/// Records that follow each other: those of each kind, with a seal that is right.
pub(in crate::audit) fn whole_log() -> Vec<Entry> {
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
