//! Receipts, and comparing the logs of both ends.

use super::*;
use crate::audit::fuzz::{self, receipt, receipt_body};
use crate::base::{Digest, Extent, TransferId};

#[test]
fn a_receipt_counts_with_both_signatures_and_the_keys_that_are_known() {
    let good = receipt();
    let (from, to) = (key(1).public(), key(2).public());
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.verify(from, to), Ok(()));
    assert_eq!(Receipt::decode(&good.encode()), Ok(good.clone()));
    assert_eq!(good.verify(to, to), Err(ReceiptError::FromKey));
    assert_eq!(good.verify(from, from), Err(ReceiptError::ToKey));
    let swapped = Receipt {
        from_signature: good.to_signature,
        to_signature: good.from_signature,
        ..good.clone()
    };
    assert_eq!(swapped.check(), Err(ReceiptError::From));
    let half = Receipt { to_signature: good.from_signature, ..good.clone() };
    assert_eq!(half.check(), Err(ReceiptError::To));
    // Every bit of what it says is signed.
    let bytes = good.encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let counts = Receipt::decode(&bad).is_ok_and(|receipt| receipt.verify(from, to).is_ok());
        assert!(!counts, "bit {bit}");
    }
}

/// The log of one end of a transfer that went well.
fn log(end: u8) -> Vec<Entry> {
    let root = Some(Digest::of(b"root"));
    let mut key_record = fuzz::key_record();
    key_record.log = LogId([end; 16]);
    key_record.key = key(end).public();
    if end == 2 {
        key_record.node = principal("public", "cloud", "gpu-7");
    }
    let stop = Stop {
        crossing: Crossing { root, ..crossing(7) },
        ending: Ending::Complete,
        reason: Reason::default(),
        bytes: 0,
        left: ExtentSet::default(),
    };
    let mut records = vec![Record::Key(key_record), decision(7, Verdict::Granted)];
    records.push(Record::Start(crossing(7)));
    if end == 2 {
        // This end has one more record, so its stop has another number.
        records.push(decision(8, Verdict::Denied));
    }
    records.extend([progress(7), Record::Stop(stop), Record::Receipt(Box::new(receipt()))]);
    (0..).zip(records).map(|(seq, record)| Entry { seq, at: TIME, record }).collect()
}

fn differences(ours: Vec<Entry>, theirs: Vec<Entry>) -> Vec<Difference> {
    let found = super::reconcile(ours.into_iter().map(Ok), theirs.into_iter().map(Ok)).unwrap();
    for difference in &found.differences {
        assert!(difference.to_string().starts_with("transfer 0000"), "{difference}");
    }
    found.differences
}

#[test]
fn both_ends_of_a_transfer_agree() {
    let found = super::reconcile(log(1).into_iter().map(Ok), log(2).into_iter().map(Ok)).unwrap();
    assert_eq!(found.differences, []);
    assert_eq!((found.transfers, found.bytes), (2, 300));
}

/// What differs after a change of our log, by its text after the transfer.
fn after(change: impl Fn(&mut Vec<Entry>)) -> Vec<String> {
    let mut ours = log(1);
    change(&mut ours);
    let found = differences(ours, log(2));
    found.iter().map(|it| it.to_string().split_once(": ").unwrap().1.to_owned()).collect()
}

fn edit(entries: &mut [Entry], edit: impl Fn(&mut Record)) {
    for entry in entries {
        edit(&mut entry.record);
    }
}

#[test]
fn a_byte_more_or_less_is_a_difference() {
    let found = after(|log| {
        edit(log, |record| {
            if let Record::Progress(progress) = record {
                progress.bytes -= 1;
                let object = RelPath::from_typed(b"a").unwrap();
                assert!(progress.left.insert(&object, Extent { offset: 1000, len: 1 }));
            }
        });
    });
    assert_eq!(
        found,
        [
            "the receipt has another number of bytes than the log (our log, record 5)",
            "the receipt has other extents than the log (our log, record 5)",
            "the number of bytes is 299 in our log and 300 in their log",
            "1 bytes crossed only by our log, 0 only by their log",
        ]
    );
}

#[test]
fn every_field_is_compared() {
    type Edit = fn(&mut Crossing);
    let edits: [(&str, Edit); 8] = [
        ("the identity", |it| it.who = principal("public", "cloud", "gpu-9")),
        ("the dataset", |it| it.path = RelPath::root()),
        ("the class", |it| it.class = fuzz::class("public")),
        ("the link", |it| it.link = fuzz::word("other")),
        ("the transport", |it| it.transport = Transport::Rdma),
        ("the root digest", |it| it.root = it.root.map(|_| Digest::of(b"other"))),
        ("the source", |it| it.from = fuzz::place("onprem", "gpu-2")),
        ("the target", |it| it.to = fuzz::place("cloud", "gpu-8")),
    ];
    for (what, change) in edits {
        let found = after(|log| {
            edit(log, |record| match record {
                Record::Start(crossing) => change(crossing),
                Record::Decision(decision) => change(&mut decision.crossing),
                Record::Progress(progress) => change(&mut progress.crossing),
                Record::Stop(stop) => change(&mut stop.crossing),
                _ => {}
            });
        });
        assert!(
            found.iter().any(|text| text.starts_with(&format!("{what} is "))),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn what_one_log_lacks_is_a_difference() {
    let missing = after(|log| log.truncate(1));
    assert_eq!(missing, ["our log knows nothing of it"]);
    let missing = after(|log| drop(log.pop()));
    assert_eq!(missing, ["our log lacks a receipt that the other one has"]);
    let found = differences(log(1), log(2)[..6].to_vec());
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0], Difference::ReceiptMissing { end: End::Theirs, .. }));
    let ungranted = after(|log| drop(log.remove(1)));
    assert!(
        ungranted[0].contains("without a grant before it (our log, record 3)"),
        "{ungranted:?}"
    );
    let revoked = after(|log| {
        let revoked = Entry { seq: 9, at: TIME, record: decision(7, Verdict::Denied) };
        log.insert(3, revoked);
    });
    assert!(revoked[0].contains("without a grant before it"), "{revoked:?}");
}

#[test]
fn a_receipt_that_says_something_else_than_the_log_is_a_difference() {
    let with = |body: ReceiptBody| {
        let (from_signature, to_signature) = (body.sign(&key(1)), body.sign(&key(2)));
        let receipt = Receipt { body, from_signature, to_signature };
        after(move |log| {
            log.last_mut().unwrap().record = Record::Receipt(Box::new(receipt.clone()));
        })
    };
    let body = receipt_body;
    let wrong_seq = Party { seq: 2, ..body().from };
    for (body, words) in [
        (ReceiptBody { bytes: 301, ..body() }, "another number of bytes"),
        (ReceiptBody { root: None, ..body() }, "another root digest"),
        (ReceiptBody { left: ExtentSet::default().sum(), ..body() }, "other extents"),
        (ReceiptBody { path: RelPath::root(), ..body() }, "another dataset"),
        (ReceiptBody { from: wrong_seq, ..body() }, "does not stop the transfer"),
        (
            ReceiptBody { from: Party { log: LogId([9; 16]), ..body().from }, ..body() },
            "does not name this log",
        ),
    ] {
        let found = with(body);
        assert!(found[0].contains(words), "{words}: {found:?}");
        assert_eq!(found.len(), 3, "and neither log has the other's receipt: {found:?}");
    }
    let found = after(|log| {
        edit(log, |record| {
            if let Record::Receipt(receipt) = record {
                receipt.to_signature = receipt.from_signature;
            }
        });
    });
    assert!(found[0].contains("not signed by both ends"), "{found:?}");
}

#[test]
fn transfers_with_other_nodes_are_not_compared() {
    let mut ours = log(1);
    let mut other = crossing(99);
    other.transfer = TransferId(99);
    other.to = fuzz::place("cloud", "gpu-8");
    ours.push(Entry { seq: 6, at: TIME, record: Record::Start(other) });
    assert_eq!(differences(ours, log(2)), []);
}

#[test]
fn logs_on_disk_are_reconciled_as_they_are_read() {
    let ours = written(9);
    let theirs = MemoryTree::new(1);
    let node = principal("public", "cloud", "gpu-7");
    let log = AuditLog::open(folder(&theirs), Setup { node, ..setup(2) }, TIME).unwrap();
    for n in 0..9 {
        log.append(TIME, nth(n)).unwrap();
    }
    let read = |tree| Entries::open(&folder(tree)).unwrap();
    let found = super::reconcile(read(&ours), read(&theirs)).unwrap();
    assert_eq!(found.transfers, 9);
    // A test's records have no grants before their progress; both logs say the same.
    let doubts = |it: &Difference| matches!(it, Difference::NotGranted { .. });
    assert!(found.differences.iter().all(doubts));
    assert_eq!(found.differences.len(), 6);
}
