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
    compared(ours, theirs).differences
}

fn compared(ours: Vec<Entry>, theirs: Vec<Entry>) -> Reconciled {
    let read = |log: Vec<Entry>| log.into_iter().map(Ok::<_, ReadError>);
    let found = super::reconcile(read(ours), read(theirs)).unwrap();
    let told = found.differences.iter().map(ToString::to_string);
    for text in told.chain(found.remarks.iter().map(ToString::to_string)) {
        assert!(text.starts_with("transfer 0000"), "{text}");
    }
    found
}

#[test]
fn both_ends_of_a_transfer_agree() {
    let found = compared(log(1), log(2));
    assert_eq!((found.differences, found.remarks, found.signed), (Vec::new(), Vec::new(), 1));
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
    let edits: [(&str, Edit); 7] = [
        ("the identity", |it| it.who = principal("public", "cloud", "gpu-9")),
        ("the dataset", |it| it.path = RelPath::root()),
        ("the class", |it| it.class = fuzz::class("public")),
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
fn what_moved_by_one_log_alone_is_missing_with_a_receipt_and_without() {
    let none = |end| {
        let mut none = log(end);
        none.truncate(1);
        none
    };
    let missing = |found: Vec<Difference>, at| match found[..] {
        [Difference::Missing { end, .. }] => assert_eq!(end, at),
        _ => panic!("{found:?}"),
    };
    missing(differences(log(1), none(2)), End::Theirs);
    missing(differences(without_receipt(1), none(2)), End::Theirs);
    missing(differences(none(1), without_receipt(2)), End::Ours);
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
        assert!(found[1].contains("lacks what a receipt"), "there are two receipts: {found:?}");
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

/// What is remarked, by its text after the transfer, where nothing differs.
fn remarked(ours: Vec<Entry>, theirs: Vec<Entry>) -> Vec<String> {
    let found = compared(ours, theirs);
    assert_eq!(found.differences, []);
    found.remarks.iter().map(|it| it.to_string().split_once(": ").unwrap().1.to_owned()).collect()
}

fn without_receipt(end: u8) -> Vec<Entry> {
    let mut log = log(end);
    log.pop();
    log
}

fn cut(end: u8, ending: Ending) -> Vec<Entry> {
    let mut log = without_receipt(end);
    edit(&mut log, |record| {
        if let Record::Stop(stop) = record {
            stop.ending = ending;
            stop.crossing.root = None;
        }
    });
    log
}

fn dead(end: u8) -> Vec<Entry> {
    let mut log = without_receipt(end);
    log.pop();
    log
}

/// As much more at the end of what crossed.
fn more(log: &mut [Entry]) {
    edit(log, |record| {
        if let Record::Progress(progress) = record {
            progress.bytes += 10;
            let object = RelPath::from_typed(b"z").unwrap();
            assert!(progress.left.insert(&object, Extent { offset: 0, len: 10 }));
        }
    });
}

#[test]
fn a_receipt_that_one_end_did_not_come_to_keep_is_remarked() {
    let lacks = |end| vec![format!("{end} was cut short before it had the receipt")];
    assert_eq!(remarked(without_receipt(1), log(2)), lacks("our log"));
    assert_eq!(remarked(log(1), without_receipt(2)), lacks("their log"));
    let none = remarked(without_receipt(1), without_receipt(2));
    assert_eq!(none, ["it was cut short before a receipt was signed"]);
    // One that is about a session which the other log does not have is none of these.
    let mut theirs = cut(2, Ending::Interrupted);
    theirs.retain(|entry| !matches!(entry.record, Record::Stop(_)));
    let found = compared(log(1), theirs);
    assert!(
        matches!(found.differences[0], Difference::ReceiptMissing { end: End::Theirs, .. }),
        "{found:?}"
    );
}

#[test]
fn what_was_cut_short_may_have_left_without_arriving_and_not_the_other_way_round() {
    let interrupted = |end| cut(end, Ending::Interrupted);
    assert!(remarked(interrupted(1), interrupted(2)).is_empty());
    let mut ours = interrupted(1);
    more(&mut ours);
    let found = remarked(ours.clone(), interrupted(2));
    assert!(found[0].contains("10 bytes left and are not known to have arrived, 0"), "{found:?}");
    let found = remarked(interrupted(2), ours);
    assert!(found[0].contains("10 bytes left and are not known"), "the other way: {found:?}");
    let mut theirs = interrupted(2);
    more(&mut theirs);
    let found = differences(interrupted(1), theirs.clone());
    assert!(
        matches!(found[..], [Difference::Value { .. }, Difference::Extents { .. }]),
        "{found:?}"
    );
    // A sender that died may not have come to record it.
    let found = remarked(dead(1), theirs);
    assert!(found.iter().any(|it| it.contains("10 arrived and were not recorded")), "{found:?}");
    // What completed at both ends is no matter of luck.
    let mut ours = without_receipt(1);
    more(&mut ours);
    assert_eq!(differences(ours, without_receipt(2)).len(), 2);
}

#[test]
fn one_end_may_see_an_end_that_the_other_does_not() {
    let found = remarked(dead(1), without_receipt(2));
    assert!(
        found.iter().any(|it| it == "its end is not recorded in our log and complete in their log")
    );
    let found = remarked(cut(1, Ending::Interrupted), without_receipt(2));
    assert!(
        found.iter().any(|it| it == "its end is interrupted in our log and complete in their log")
    );
    let found = differences(cut(1, Ending::Denied), without_receipt(2));
    assert!(found.iter().any(|it| it.to_string().contains("the ending is denied")), "{found:?}");
    // One that had decided and no more knows of nothing that moved.
    let mut ours = log(1);
    ours.truncate(3);
    assert_eq!(remarked(ours, log(2)[..1].to_vec()), ["only our log has it, and nothing moved"]);
}

#[test]
fn a_session_is_signed_for_alone() {
    // Before it, one was cut short, of which more left than arrived.
    let with_before = |end: u8, lost: bool| {
        let mut before = cut(end, Ending::Interrupted);
        if lost {
            more(&mut before);
        }
        let mut after = log(end).split_off(1);
        let stop = before.len() as u64 + after.len() as u64 - 2;
        edit(&mut after, |record| {
            if let Record::Receipt(receipt) = record {
                let mut body = receipt_body();
                (body.from.seq, body.to.seq) = (8, 10);
                receipt.from_signature = body.sign(&key(1));
                receipt.to_signature = body.sign(&key(2));
                receipt.body = body;
            }
        });
        assert_eq!(stop, if end == 1 { 8 } else { 10 });
        let records = before.into_iter().chain(after).map(|entry| entry.record);
        (0..).zip(records).map(|(seq, record)| Entry { seq, at: TIME, record }).collect::<Vec<_>>()
    };
    let found = remarked(with_before(1, true), with_before(2, false));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("10 bytes left and are not known"), "{found:?}");
    assert_eq!(compared(with_before(1, false), with_before(2, false)).signed, 1);
    let found = differences(with_before(1, false), with_before(2, true));
    assert!(!found.is_empty(), "more arrived than left");
}

#[test]
fn a_dispute_is_a_difference_and_another_name_of_a_link_is_none() {
    let mut ours = without_receipt(1);
    let dispute = Dispute { crossing: crossing(7), stop: 4, reason: Reason::new("other\nextents") };
    ours.push(Entry { seq: 5, at: TIME, record: Record::Dispute(dispute) });
    let found = differences(ours, without_receipt(2));
    assert!(
        matches!(&found[..], [Difference::Disputed { end: End::Ours, seq: 5, .. }]),
        "{found:?}"
    );
    let mut ours = log(1);
    edit(&mut ours, |record| {
        if let Record::Stop(stop) = record {
            stop.crossing.link = fuzz::word("other");
        }
    });
    let found = remarked(ours, log(2));
    assert_eq!(found, ["the link is called other in our log and onprem-cloud in their log"]);
}
